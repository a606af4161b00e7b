"""Every solver x process x grid x number of steps x end x prediction x dtype on a mixture: is anything ever bad?

    python -m benchmarks.robustness --out results/robustness.jsonl            # the whole product, resumable; see --help
    python -m benchmarks.robustness --out results/robustness.jsonl --summary  # of what is there

A sample is bad if it is not finite, if making it raised an error other than "needs at least k steps", or if its error
is above FACTOR times that of one Euler step (which gives the mean of the data, nearly) with the same network. The error
is the root-mean-square distance to the exact flow; of solvers that draw noise, which do not follow it, it is the sliced
2-Wasserstein distance to where the flow takes the same starting points. The network is exact, and states what it
predicts in the dtype of the state. One that predicts noise says nothing about the data at alpha = 0, and sampling with
it starts sde.eps later there; in bfloat16 it says nothing where the data are below the rounding of the noise, and
sampling starts at sigma/alpha = 100 at most.

Lines of the output are one for each (process, grid, steps, end, dtype), with all solvers and predictions in it.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import re
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.progress import track
from torch import Tensor

import scoresde as ss
from scoresde.predictions import PREDICTIONS, convert
from scoresde.targets import GaussianMixture


def ddpm_table(zero_snr: bool) -> list[float]:
    """The table of DDPM; rescaled to end in exactly 0 (Lin et al. 2023, arXiv:2305.08891, Algorithm 1) if asked."""
    table = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)
    root = table.sqrt()
    return ((root - root[-1]) * root[0] / (root[0] - root[-1])).square().tolist() if zero_snr else table.tolist()


# A new process: one row. Every test of processes runs over it.
PROCESSES = {
    "vp": ss.VP(),
    "vp-steep": ss.VP(beta_min=0.02, beta_max=40.0),
    "subvp": ss.SubVP(),
    "cosine": ss.CosineVP(),
    "ve": ss.VE(),
    "edm": ss.EDM(),
    "flow": ss.RectifiedFlow(),
    "flow-shift-3": ss.RectifiedFlow(shift=3.0),
    "discrete": ss.DiscreteVP(ddpm_table(zero_snr=False)),
    "discrete-zero-snr": ss.DiscreteVP(ddpm_table(zero_snr=True)),
}
SOLVERS = {name: solver for name, solver in ss.solvers().items() if isinstance(solver, ss.Solver)}
STEPS = (1, 2, 3, 5, 10, 20, 50)
ENDS = ("zero", "eps")
DTYPES = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16}
FACTOR = 5.0  # the limit on the gain is 4; nearly all combinations are below 1
DOCUMENTED = re.compile(r"needs at least \d+ steps")
OF_NOISE = ("epsilon", "score")
LOUDEST = (
    100.0  # sigma/alpha from which noise predictions in bfloat16 are used: their rounding is 0.2 to 0.4 of x0 there
)
TARGET = GaussianMixture.five()
N = 16  # samples of each prediction
ANGLES = torch.arange(8, dtype=torch.float64) * math.pi / 8
DIRECTIONS = torch.stack([ANGLES.cos(), ANGLES.sin()])


class Setting(NamedTuple):
    """What all solvers are tried on at once."""

    process: str
    grid: str
    steps: int
    end: str
    dtype: str


@dataclass(frozen=True)
class Problem:
    """Starting points at a time of a process, and where the exact flow takes them."""

    process: str
    start: float
    end: float

    @property
    def sde(self) -> ss.SDE:
        """The process."""
        return PROCESSES[self.process]

    @cached_property
    def x_T(self) -> Tensor:
        """Starting points, (N, 2)."""
        normal = torch.randn(N, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        return normal * self.sde.prior_std(self.start)

    @cached_property
    def exact(self) -> Tensor:
        """Where the flow takes them."""
        return TARGET.flow(self.x_T, self.sde.point(self.start), self.sde.point(self.end))

    def samples(self, plan: ss.Plan, kinds: Sequence[str], dtype: torch.dtype) -> Tensor:
        """Samples of networks that predict these kinds, (kind, N, 2) in float64."""
        exact = TARGET.denoiser(self.sde)
        run = plan.start(self.x_T.repeat(len(kinds), 1).to(dtype), seed=3, check="off")
        while not run.done:
            x = run.x.to(torch.float64)
            run.tell(_told(kinds, x, exact(x, run.t), run.point, dtype))
        return run.sample.to(torch.float64).reshape(len(kinds), N, 2)

    def errors(self, samples: Tensor, noisy: bool) -> list[float]:
        """One for each prediction; inf if not finite."""
        if noisy:
            off = (samples @ DIRECTIONS).sort(1).values - (self.exact @ DIRECTIONS).sort(0).values
        else:
            off = samples - self.exact
        return off.square().mean((1, 2)).sqrt().nan_to_num(math.inf, math.inf).tolist()


@cache
def problem(process: str, start: float, end: float) -> Problem:
    """The problem, with its exact solution kept."""
    return Problem(process, start, end)


@cache
def one_euler_step(it: Problem, kinds: tuple[str, ...], dtype: str, noisy: bool) -> list[float]:
    """Its errors, for each kind of prediction."""
    plan = ss.make_plan("euler", it.sde, (it.start, it.end))
    return it.errors(it.samples(plan, kinds, DTYPES[dtype]), noisy)


def _told(kinds: Sequence[str], x: Tensor, x0: Tensor, at: ss.Point, dtype: torch.dtype) -> Tensor:
    """The predictions of x0 that come of predictions of these kinds, N samples each, in this dtype."""
    wide = torch.promote_types(dtype, torch.float32)
    if dtype == torch.float64 or at.sigma == 0.0:  # nothing is lost, or there is nothing to predict
        return x0.to(wide)

    def coefficients(ways: list[tuple[float, float]]) -> Tensor:
        return torch.tensor(ways, dtype=torch.float64).T.repeat_interleave(N, 1)[..., None]

    on_x, on_x0 = coefficients([convert("x0", kind, at.alpha, at.sigma) for kind in kinds])
    said = (on_x * x + on_x0 * x0).to(dtype)
    on_x, on_said = coefficients([convert(kind, "x0", at.alpha, at.sigma) for kind in kinds])
    return (on_x * x + on_said * said).to(wide)


def starts(sde: ss.SDE, dtype: str) -> list[tuple[tuple[str, ...], float]]:
    """Kinds of prediction, and the time at which sampling starts with them."""
    if dtype == "bfloat16" and sde.rho(sde.T) > LOUDEST:
        noise_from = sde.t_at_lam(-math.log(LOUDEST))
    else:
        noise_from = sde.T if sde.alpha(sde.T) > 0.0 else sde.T - sde.eps
    if noise_from == sde.T:
        return [(tuple(PREDICTIONS), sde.T)]
    return [(tuple(kind for kind in PREDICTIONS if kind not in OF_NOISE), sde.T), (OF_NOISE, noise_from)]


def ratios(solver: ss.Solver, setting: Setting) -> dict[str, float | str]:
    """For each kind of prediction the error of the solver over that of one Euler step, or what it raised.

    Where a grid or a solver says that it needs more steps, as documented, there is nothing.
    """
    result: dict[str, float | str] = {}
    sde = PROCESSES[setting.process]
    for kinds, start in starts(sde, setting.dtype):
        try:
            times = ss.get_grid(setting.grid, sde, setting.steps, start=start, end=setting.end)
            it = problem(setting.process, times[0], times[-1])  # some grids have levels of their own
            plan = ss.plan_for(solver, sde, grid=times)  # as scoresde.sample makes it
            errors = it.errors(it.samples(plan, kinds, DTYPES[setting.dtype]), not solver.deterministic)
        except Exception as error:  # whatever it is, it is a finding
            if not DOCUMENTED.search(str(error)):
                result |= dict.fromkeys(kinds, f"{type(error).__name__}: {error}")
            continue
        euler = one_euler_step(it, kinds, setting.dtype, not solver.deterministic)
        result |= {kind: e / r for kind, e, r in zip(kinds, errors, euler, strict=True)}
    return result


def is_bad(ratio: float | str) -> bool:
    """Whether this is a failure."""
    return isinstance(ratio, str) or not ratio <= FACTOR


def settings() -> list[Setting]:
    """The whole product."""
    return [Setting(*each) for each in product(PROCESSES, ss.grids(), STEPS, ENDS, DTYPES)]


def try_all(setting: Setting) -> dict[str, Any]:
    """A line of the output: failures, and the largest ratio of each solver."""
    torch.set_num_threads(1)
    found = {name: ratios(solver, setting) for name, solver in SOLVERS.items()}
    bad = [[name, kind, r] for name, kinds in found.items() for kind, r in kinds.items() if is_bad(r)]
    worst = {
        name: max((r for r in kinds.values() if not isinstance(r, str)), default=0.0) for name, kinds in found.items()
    }
    return {"setting": setting, "cells": sum(map(len, found.values())), "bad": bad, "worst": worst}


def summary(lines: Iterable[dict[str, Any]]) -> str:
    """Counts, the failures, and the worst solvers."""
    cells, bad, worst = 0, [], {}
    for line in lines:
        cells += line["cells"]
        bad += [(*line["setting"], *failure) for failure in line["bad"] if is_bad(failure[-1])]
        for name, ratio in line["worst"].items():
            worst[name] = max(worst.get(name, (0.0,)), (ratio, *line["setting"]))
    text = [f"{cells} combinations, {len(bad)} bad: an exception, or above {FACTOR} times the error of one Euler step"]
    text += [f"  bad: {' '.join(map(str, failure))}" for failure in bad[:50]]
    text += ["largest ratios:"]
    for name, (ratio, *at) in sorted(worst.items(), key=lambda item: -item[1][0])[:15]:
        text.append(f"  {name}: {ratio:.2f} on {' '.join(map(str, at))}")
    return "\n".join(text)


def main() -> None:
    """Run what is missing in the output, then print the summary of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="JSON lines; settings that are in it are not run again")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--part", type=float, default=1.0, help="a share of the settings, drawn with a fixed seed")
    parser.add_argument("--summary", action="store_true", help="run nothing")
    arguments = parser.parse_args()
    lines = [json.loads(line) for line in arguments.out.read_text().splitlines()] if arguments.out.exists() else []
    done = {Setting(*line["setting"]) for line in lines}
    wanted = settings()
    wanted = random.Random(0).sample(wanted, round(arguments.part * len(wanted)))
    missing = [] if arguments.summary else [setting for setting in wanted if setting not in done]
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    if missing:
        with arguments.out.open("a") as out, ProcessPoolExecutor(arguments.jobs) as pool:
            for line in track(pool.map(try_all, missing), "settings", total=len(missing)):
                out.write(json.dumps(line) + "\n")
                out.flush()
                lines.append(line)
    sys.stdout.write(summary(lines) + "\n")


if __name__ == "__main__":
    main()
