"""Solvers whose evaluations are not known beforehand, behind the same ask/tell as a plan.

Adaptive step sizes (:class:`RK45`, :class:`AdaptiveDPM`) and Langevin steps scaled by the samples themselves
(:class:`Langevin`). A solver is a frozen dataclass with one method, :meth:`LazySolver.integrate`, that calls the
network; :class:`LazyRun` lets the caller answer those calls.
"""

from __future__ import annotations

from scoresde.adaptive.base import LazyPlan, LazySolver
from scoresde.adaptive.control import PID, Controller, Elementary
from scoresde.adaptive.dpm_adaptive import AdaptiveDPM
from scoresde.adaptive.langevin import Langevin
from scoresde.adaptive.rk45 import RK45
from scoresde.adaptive.run import Ask, LazyRun
from scoresde.solvers import Entry

TABLE: dict[str, Entry] = {
    "rk45": Entry(RK45, {}, ("dopri5",), "adaptive, black box (torchdiffeq)"),
    "dpm-solver-12": Entry(AdaptiveDPM, {"order": 2}, (), "adaptive, noise prediction"),
    "dpm-solver-23": Entry(AdaptiveDPM, {"order": 3}, (), "adaptive, noise prediction"),
    "dpm-solver-23-pid": Entry(
        AdaptiveDPM,
        {"order": 3, "controller": PID(), "norm": "batch"},
        ("dpm_adaptive", "sample_dpm_adaptive"),
        "adaptive, noise prediction, k-diffusion's controller",
    ),
    "dpmpp-12": Entry(AdaptiveDPM, {"order": 2, "kind": "x0"}, (), "adaptive, data prediction"),
    "dpmpp-23": Entry(AdaptiveDPM, {"order": 3, "kind": "x0"}, (), "adaptive, data prediction"),
    "pc-langevin": Entry(Langevin, {}, ("pc",), "reverse diffusion, Langevin steps scaled by their norms"),
    "langevin": Entry(Langevin, {"predictor": None}, (), "Langevin steps alone, scaled by their norms"),
}

__all__ = [
    "PID",
    "RK45",
    "TABLE",
    "AdaptiveDPM",
    "Ask",
    "Controller",
    "Elementary",
    "Langevin",
    "LazyPlan",
    "LazyRun",
    "LazySolver",
]
