"""The measurements behind docs/choose-a-solver.md: which solver is nearest to the converged sample for its calls?

    python -m benchmarks.choose            # all questions; writes docs/measured/choose.json and choose-*.md
    python -m benchmarks.choose exact      # one of them; the others' results stay

Every number is a root mean square difference to the converged sample of the same seed, or a Fréchet distance, at equal
network calls; each solver has the best of the grids that are named, as a user who tries them would find. Public API
only. Needs scoresde[bench]; about ten minutes on one core.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from rich.progress import track
from torch import Tensor

import scoresde as ss
from benchmarks.measured import answer, markdown
from scoresde import models, noise, theory
from scoresde.data import digits
from scoresde.denoiser import BaseDenoiser
from scoresde.guidance import ClassifierFree
from scoresde.metrics import frechet
from scoresde.targets import GaussianMixture

GRIDS = ("karras", "log-snr", "arctan")
FIXED = {name: solver for name, solver in ss.solvers().items() if isinstance(solver, ss.Solver)}
# Other names of DDIM, methods of more than four evaluations a step, and what is shipped wrong on purpose would only
# crowd the tables; LCM and TCD need a network of their own kind, and CFG++ is another method of guidance.
LEFT_OUT = ("official", "diffusers", "cfgpp", "lcm", "tcd", "consistency", "pf-", "reverse-diffusion", "ddpm-large")
LEFT_OUT += (
    "lawson",
    "-afs",
    "houwen",
    "ssprk",
    "rk38",
    "ralston",
    "restart",
    "dpm-solver-1",
    "dpmpp-1",
    "unipc-3-vary",
)
SHOWN = {n: s for n, s in FIXED.items() if s.evaluations <= 4 and not any(word in n for word in LEFT_OUT)}
WELL_KNOWN = ("ddim", "heun", "dpmpp-2m", "dpmpp-2s", "ddpm")  # in every table, however they do
DETERMINISTIC = [name for name, solver in SHOWN.items() if solver.deterministic]
STOCHASTIC = [name for name, solver in SHOWN.items() if not solver.deterministic]


@dataclass(frozen=True)
class Setting:
    """A denoiser, where it starts, and the converged samples."""

    denoiser: BaseDenoiser
    x_T: Tensor
    converged: Tensor
    cond: dict[str, Tensor]

    def error(self, solver: str, nfe: int, grid: str) -> float:
        """Root mean square difference to the converged samples; inf if the budget is too small or it overflows."""
        try:
            got = self.sample(solver, nfe, grid)
        except ValueError:
            return math.inf
        return float((got - self.converged).square().mean().sqrt())

    def sample(self, solver: str, nfe: int, grid: str, seed: int = 0) -> Tensor:
        """Samples from x_T."""
        return ss.sample(
            self.denoiser, self.x_T.shape, solver=solver, grid=grid, nfe=nfe, x_T=self.x_T, cond=self.cond, seed=seed
        )


def digits_setting(n: int = 100, scale: float = 1.0, seed: int = 0) -> Setting:
    """The shipped digits network, all classes in turn, with classifier-free guidance if the scale is not 1."""
    plain = models.digits()
    cond = {"class_labels": torch.arange(n) % 10}
    denoiser = plain if scale == 1.0 else ClassifierFree(plain, scale, null={"class_labels": 10})
    x_T = noise.normal((n, 1, 8, 8), seed) * plain.sde.prior_std()
    fine = ss.sample(denoiser, x_T.shape, solver="dpmpp-3m", grid="log-snr", steps=300, x_T=x_T, cond=cond)
    return Setting(denoiser, x_T, fine, cond)


def mixture_setting(sde: ss.SDE) -> Setting:
    """Five Gaussians in the plane, everything exact, float64."""
    target = GaussianMixture.five()
    x_T = noise.normal((200, 2), 1, dtype=torch.float64) * sde.prior_std()
    return Setting(target.denoiser(sde), x_T, target.flow(x_T, sde.point(sde.T), sde.point(0.0)), {})


def best(measure: Callable[[str], float], grids: Iterable[str] = GRIDS) -> tuple[float, str]:
    """The smallest value over the grids, and its grid."""
    return min((measure(grid), grid) for grid in grids)


def ladder(setting: Setting, solvers: Sequence[str], nfes: Sequence[int], what: str) -> dict[str, dict[str, Any]]:
    """For each solver and budget the smallest error over the grids, and that grid."""
    return {
        name: {str(nfe): best(partial(setting.error, name, nfe)) for nfe in nfes}
        for name in track(solvers, description=what)
    }


# ---- the questions ---------------------------------------------------------------------------------------------------


def network() -> dict[str, Any]:
    """The digits network: deterministic solvers at 5 to 30 calls."""
    return ladder(digits_setting(), DETERMINISTIC, (5, 8, 10, 15, 20, 30), "digits network")


def exact() -> dict[str, Any]:
    """The exact mixture under VP: deterministic solvers at 10 to 160 calls."""
    return ladder(mixture_setting(ss.VP()), DETERMINISTIC, (10, 20, 40, 80, 160), "exact mixture, VP")


def flow() -> dict[str, Any]:
    """The exact mixture under a rectified flow: deterministic solvers at 5 to 40 calls."""
    return ladder(mixture_setting(ss.RectifiedFlow()), DETERMINISTIC, (5, 10, 20, 40), "exact mixture, flow")


def guided() -> dict[str, Any]:
    """Guidance on the digits network: the same method in data, noise and flow prediction."""
    methods = ("ddim", "dpmpp-2m", "dpm-solver-2m", "adams-2-flow", "dpmpp-3m", "dpm-solver-3m", "adams-3-flow")
    methods += ("unipc-2", "unipc-3", "heun", "dpmpp-2s", "res-2s")
    methods = tuple(name for name in methods if name in FIXED)
    rows: dict[str, Any] = {name: {} for name in methods}
    for scale in (1.0, 3.0, 6.0):
        for name, found in ladder(digits_setting(scale=scale), methods, (8, 12, 20), f"guidance {scale:g}").items():
            rows[name] |= {f"{scale:g} @ {nfe}": value for nfe, value in found.items()}
    return rows


def closed_form() -> dict[str, Any]:
    """The Gaussian with the covariance of the digits: exact Fréchet distance of every stochastic solver."""
    images = digits("all").images.double().flatten(1)
    variance = torch.linalg.eigvalsh(torch.cov(images.T)).clamp_min(0.0)
    sde = ss.VP()

    def distance(name: str, nfe: int, grid: str) -> float:
        try:
            plan = ss.plan_for(name, sde, nfe=nfe, grid=grid)
        except ValueError:
            return math.inf
        return float(theory.gaussian_frechet(plan, variance))

    names = (*STOCHASTIC, "ddim", "dpmpp-2m", "dpmpp-3m")
    return {
        name: {str(nfe): best(partial(distance, name, nfe), ("karras", "log-snr")) for nfe in (10, 20, 50, 100)}
        for name in track(names, description="closed form")
    }


def to_data() -> dict[str, Any]:
    """The digits network: Fréchet distance to held-out digits ± two standard errors, 900 samples."""
    features, reference = models.digit_features(), models.digit_reference()
    setting = digits_setting(900)
    nfes, floor = (10, 20, 50), (reference.floor.value, 2 * reference.floor.se)
    rows: dict[str, Any] = {"real against real": dict.fromkeys(map(str, nfes), floor)}
    methods = ("ddim", "dpmpp-2m", "unipc-3", "heun", "ddpm", "sde-dpmpp-2m", "sa-solver", "er-sde-3", "dpmpp-sde")
    for name in track([*methods, "heun-churn", "seeds-2"], description="to data"):
        rows[name] = {}
        for nfe in nfes:
            with torch.inference_mode():
                found = features(setting.sample(name, nfe, "karras"))
            got = frechet(found.double(), reference.stats)
            rows[name][str(nfe)] = (got.value, 2 * got.se)
    return rows


QUESTIONS = {f.__name__: f for f in (network, exact, flow, guided, closed_form, to_data)}


# ---- writing ---------------------------------------------------------------------------------------------------------


def table(rows: dict[str, dict[str, Any]], most: int = 24) -> str:
    """Markdown: the best solvers and well-known ones by columns, best first by the middle one, the least in bold."""
    columns = list(next(iter(rows.values())))
    middle = columns[len(columns) // 2]
    order = sorted(rows, key=lambda name: rows[name][middle][0])
    order = [name for i, name in enumerate(order) if i < most or name in WELL_KNOWN]
    least = {c: min(row[c][0] for name, row in rows.items() if name in FIXED) for c in columns}

    def cell(name: str, column: str) -> str:
        value, other = rows[name][column]
        if not math.isfinite(value):
            return "–"
        text = f"{value:.3g}"
        text = f"**{text}**" if value == least[column] else text
        return f"{text} {other}" if isinstance(other, str) else f"{text} ± {other:.2g}"

    named = [[f"`{name}`" if name in FIXED else name, *(cell(name, c) for c in columns)] for name in order]
    return markdown([["solver", *columns], *named])


if __name__ == "__main__":
    answer("choose", __doc__, QUESTIONS, table)
