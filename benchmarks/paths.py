"""The measurements behind docs/noise.md: how far does the step count move a sample, and what does a path cost?

    python -m benchmarks.paths             # both questions; writes docs/measured/paths-*.json and paths-*.md
    python -m benchmarks.paths cost        # one of them; the other's results stay

Public API only. About a minute on one core.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

import scoresde as ss
from benchmarks.measured import answer, markdown
from scoresde.noise import normal
from scoresde.targets import GaussianMixture

Rows = list[dict[str, Any]]

SDE, TARGET, SAMPLES, MANY = ss.EDM(), GaussianMixture.five(), 1000, 2560
SOLVERS = {
    "sde-dpmpp-2m": {},
    "ddpm": {},
    "sa-solver": {},
    "dpmpp-sde": {},
    "dpmpp-sde, coupling=path": {"coupling": "path"},
    "er-sde-3, phi=x^2": {"phi": "x^2"},
}


def draw(solver: ss.Solver, steps: int, noise: str) -> Tensor:
    """Samples of the five-Gaussian mixture in the plane, Karras grid down to the data."""
    return ss.sample(
        TARGET.denoiser(SDE), (SAMPLES, 2), solver=solver, steps=steps, grid="karras", noise=noise, dtype=torch.float64
    )


def mode(x: Tensor) -> Tensor:
    """The nearest mode of the mixture."""
    return torch.cdist(x, TARGET.means).argmin(1)


def distance() -> Rows:
    """Mean distance of samples to those of 2560 steps of SDE-DPM-Solver++(2M), and how many are in the same mode."""
    rows: Rows = []
    reference = {noise: draw(ss.get_solver("sde-dpmpp-2m"), MANY, noise) for noise in ("path", "independent")}
    for label, options in SOLVERS.items():
        solver = ss.get_solver(label.partition(",")[0], **options)
        for steps in (10, 20, 80):
            row: dict[str, Any] = {"solver": label, "steps": steps}
            for noise, exact in reference.items():
                got = draw(solver, steps, noise)
                row[f"{noise}: distance"] = round((got - exact).norm(dim=1).mean().item(), 3)
                row[f"{noise}: same mode"] = f"{(mode(got) == mode(exact)).double().mean().item():.0%}"
            rows.append(row)
    return rows


def cost() -> Rows:
    """Time of the noises of a run of 16 x 3 x 64 x 64 floats on one core, a step."""
    shape, rows = (16, 3, 64, 64), []
    for steps in (10, 50):
        points = [SDE.point(t) for t in ss.get_grid("karras", SDE, steps, end="eps")]
        spans = [*pairwise(points)]

        def increments(path: ss.BrownianPath | ss.BrownianGrid, spans: list = spans) -> Iterable[Tensor]:
            return (path.increment(s, t) for s, t in spans)

        sources: dict[str, Callable[[], Iterable[Tensor]]] = {
            "torch.randn": lambda spans=spans: (torch.randn(shape) for _ in spans),
            "independent": lambda spans=spans: (normal(shape, 0, 0, 1 + k) for k in range(len(spans))),
            "BrownianGrid": lambda points=points, f=increments: f(ss.BrownianGrid(points, shape)),
            "BrownianPath": lambda f=increments: f(ss.BrownianPath(shape)),
        }
        for name, source in sources.items():
            took = min(seconds(source) for _ in range(3))
            rows.append({"noise": name, "steps": steps, "ms a step": round(1e3 * took / steps, 1)})
    return rows


def seconds(source: Callable[[], Iterable[Tensor]]) -> float:
    """Processor time of one run: what else the machine does is not in it."""
    start = time.process_time()
    for _noise in source():
        pass
    return time.process_time() - start


QUESTIONS: dict[str, Callable[[], Rows]] = {"distance": distance, "cost": cost}


def table(rows: Rows) -> str:
    """A Markdown table."""
    return markdown([list(rows[0]), *(list(map(str, row.values())) for row in rows)])


if __name__ == "__main__":
    answer("paths", __doc__, QUESTIONS, table)
