"""The catalogue of fixed-step solvers. To add one: a small frozen dataclass in a file here, and a row in the table
below."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from scoresde.rows import Solver
from scoresde.solvers.ddim import DDIM
from scoresde.solvers.dpm_solver import SinglestepDPM
from scoresde.solvers.dpmpp import MultistepDPM
from scoresde.solvers.runge_kutta import RungeKutta
from scoresde.solvers.score_sde import EulerMaruyama, ProbabilityFlow


@dataclass(frozen=True)
class Entry:
    """A row of the catalogue: how a name becomes a solver, and the other names that people know it by."""

    make: type
    preset: Mapping[str, Any] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    summary: str = ""


TABLE: dict[str, Entry] = {
    "euler": Entry(
        RungeKutta,
        {"method": "euler"},
        ("EulerDiscreteScheduler", "sample_euler"),
        "Euler in the EDM variable (= DDIM)",
    ),
    "heun": Entry(RungeKutta, {"method": "heun"}, ("HeunDiscreteScheduler", "sample_heun", "edm"), "EDM's Heun"),
    "euler-flow": Entry(
        RungeKutta,
        {"method": "euler", "kind": "flow"},
        ("FlowMatchEulerDiscreteScheduler",),
        "Euler of flow matching (= DDIM)",
    ),
    "heun-flow": Entry(
        RungeKutta, {"method": "heun", "kind": "flow"}, ("FlowMatchHeunDiscreteScheduler",), "Heun of flow matching"
    ),
    "pf-euler": Entry(ProbabilityFlow, {"method": "euler"}, (), "Euler on the probability flow in time"),
    "pf-heun": Entry(ProbabilityFlow, {"method": "heun"}, (), "Heun on the probability flow in time"),
    "euler-maruyama": Entry(EulerMaruyama, {}, ("em",), "Euler–Maruyama on the reverse SDE"),
    "ddim": Entry(DDIM, {}, ("DDIMScheduler",), "deterministic; eta > 0 renews noise"),
    "ddpm": Entry(DDIM, {"eta": 1.0}, ("DDPMScheduler", "ancestral"), "DDIM with eta = 1, ancestral sampling"),
    "dpm-solver-1": Entry(SinglestepDPM, {"order": 1}, (), "DPM-Solver-1 (= DDIM)"),
    "dpm-solver-2": Entry(
        SinglestepDPM, {"order": 2}, ("dpm_2", "sample_dpm_2", "KDPM2DiscreteScheduler"), "singlestep"
    ),
    "dpm-solver-3": Entry(SinglestepDPM, {"order": 3}, (), "singlestep"),
    "dpm-solver-fast": Entry(
        SinglestepDPM,
        {"order": 3, "fast": True},
        ("dpm_fast", "sample_dpm_fast"),
        "order 3, the last steps fill the budget",
    ),
    "dpm-solver-2m": Entry(MultistepDPM, {"order": 2, "kind": "epsilon"}, (), "multistep, noise prediction"),
    "dpm-solver-3m": Entry(MultistepDPM, {"order": 3, "kind": "epsilon"}, (), "multistep, noise prediction, corrected"),
    "dpmpp-1": Entry(MultistepDPM, {"order": 1}, (), "DPM-Solver++ 1 (= DDIM)"),
    "dpmpp-2s": Entry(SinglestepDPM, {"order": 2, "kind": "x0"}, (), "singlestep, data prediction"),
    "dpmpp-3s": Entry(
        SinglestepDPM, {"order": 3, "kind": "x0"}, ("DPMSolverSinglestepScheduler",), "singlestep, data prediction"
    ),
    "dpmpp-2m": Entry(
        MultistepDPM, {"order": 2}, ("sample_dpmpp_2m", "DPMSolverMultistepScheduler"), "multistep; the usual choice"
    ),
    "dpmpp-3m": Entry(MultistepDPM, {"order": 3}, (), "multistep, corrected to order 3"),
    "dpmpp-3m-official": Entry(
        MultistepDPM, {"order": 3, "official": True}, (), "multistep, as everyone ships it (order 2)"
    ),
}

__all__ = ["DDIM", "EulerMaruyama", "MultistepDPM", "ProbabilityFlow", "RungeKutta", "SinglestepDPM", "Solver", "TABLE"]
