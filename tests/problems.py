"""What many tests share: every solver of the catalogue, and problems whose exact solution is known."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import scoresde as ss
from scoresde.theory import FlowProblem as OnMixture
from scoresde.theory import slopes

__all__ = ["DETERMINISTIC", "FIXED", "SOME_SLOW", "STOCHASTIC", "OnMixture", "drive", "slopes", "starts"]

# Every fixed-step solver of the catalogue, by name. A new solver is here by being in the catalogue.
FIXED = {name: solver for name, solver in ss.solvers().items() if isinstance(solver, ss.Solver)}
DETERMINISTIC = {name: solver for name, solver in FIXED.items() if solver.deterministic}
STOCHASTIC = {name: solver for name, solver in FIXED.items() if not solver.deterministic}
# The same as parameters of a test, with those of many stages, whose plans take time, among the slow ones.
SOME_SLOW = [
    pytest.param(solver, id=name, marks=pytest.mark.slow if solver.evaluations > 4 else ())
    for name, solver in FIXED.items()
]


def starts(n: int = 24) -> Tensor:
    """Standard normal starting points in the plane, float64."""
    return torch.randn(n, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def drive(plan: ss.Plan, denoiser: ss.BaseDenoiser, x: Tensor, noise: Callable[[int], Tensor] | None = None) -> Tensor:
    """The sample of a plan, its rows as they are."""
    run = plan.start(x, noise=noise)
    while not run.done:
        run.tell(denoiser(run.x, run.t))
    return run.sample
