"""What many tests share: every solver of the catalogue, and problems whose exact solution is known."""

from __future__ import annotations

import torch
from torch import Tensor

import scoresde as ss
from scoresde.theory import FlowProblem as OnMixture
from scoresde.theory import slopes

__all__ = ["DETERMINISTIC", "FIXED", "STOCHASTIC", "OnMixture", "slopes", "starts"]

# Every fixed-step solver of the catalogue, by name. A new solver is here by being in the catalogue.
FIXED = {name: solver for name, solver in ss.solvers().items() if isinstance(solver, ss.Solver)}
DETERMINISTIC = {name: solver for name, solver in FIXED.items() if not solver.noises}
STOCHASTIC = {name: solver for name, solver in FIXED.items() if solver.noises}


def starts(n: int = 24) -> Tensor:
    """Standard normal starting points in the plane, float64."""
    return torch.randn(n, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
