"""What many tests share: every solver with its declared order, and errors on an exactly known target."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

import scoresde as ss
from scoresde.targets import GaussianMixture

# Every fixed-step solver of the catalogue, by name. A new solver is here by being in the catalogue.
FIXED = {name: solver for name, solver in ss.solvers().items() if isinstance(solver, ss.Solver)}
DETERMINISTIC = {name: solver for name, solver in FIXED.items() if solver.deterministic}
STOCHASTIC = {name: solver for name, solver in FIXED.items() if not solver.deterministic}


def starts(n: int = 24) -> Tensor:
    """Standard normal starting points in the plane, float64."""
    return torch.randn(n, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def drive(plan: ss.Plan, denoiser: ss.BaseDenoiser, x: Tensor, noise: Callable[[int], Tensor] | None = None) -> Tensor:
    """The sample of a plan, its rows as they are."""
    run = plan.start(x, noise=noise)
    while not run.done:
        run.tell(denoiser(run.x, run.t))
    return run.sample


class OnMixture:
    """RMS errors on the five-Gaussian mixture, against its exact probability-flow solution."""

    def __init__(self, sde: ss.SDE, end: str | float = "eps") -> None:
        self.sde, self.end = sde, end
        target = GaussianMixture.five()
        self.denoiser = target.denoiser(sde)
        self.x_T = starts() * sde.prior_std()
        last = sde.point(sde.eps if end == "eps" else 0.0 if end == "zero" else float(end))
        self.exact = target.flow(self.x_T, sde.point(sde.T), last)

    def error(self, solver: ss.Solver, steps: int, grid: str = "log-snr") -> float:
        got = ss.sample(
            self.denoiser, self.x_T.shape, solver=solver, steps=steps, grid=grid, end=self.end, x_T=self.x_T
        )
        return (got - self.exact).square().mean().sqrt().item()

    def slopes(self, solver: ss.Solver, steps: Sequence[int], grid: str = "log-snr") -> list[float]:
        return slopes([self.error(solver, n, grid) for n in steps], steps)


def slopes(errors: Sequence[float], steps: Sequence[int]) -> list[float]:
    """Observed orders between consecutive step counts."""
    return [math.log(errors[i] / errors[i + 1]) / math.log(steps[i + 1] / steps[i]) for i in range(len(errors) - 1)]
