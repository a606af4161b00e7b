"""Methods that are one method under several names: equal canonical matrices, on several processes and at both ends."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch

import scoresde as ss
from scoresde.solvers import (
    DDIM,
    DEIS,
    ERSDE,
    PNDM,
    Adams,
    GradientEstimation,
    MultistepDPM,
    OfficialIPNDMv,
    RungeKutta,
    SASolver,
    SinglestepDPM,
    UniPC,
)
from tests.problems import DETERMINISTIC, FIXED

PROCESSES = {"vp": ss.VP(), "cosine": ss.CosineVP(), "subvp": ss.SubVP(), "edm": ss.EDM(), "flow": ss.RectifiedFlow()}
RK: dict[str, Any] = {"start": "runge-kutta"}


def unip(order: int, variant: str = "bh2", kind: str = "x0", **options: Any) -> UniPC:
    return UniPC(order, variant, kind, corrector=False, **options)


def sa(predictor: int, corrector: int = 0, tau: float = 0.0, **options: Any) -> SASolver:
    return SASolver(predictor, corrector, tau, **options)


# Groups of solvers that are the same on every process and grid.
SAME: dict[str, Sequence[str | ss.Solver]] = {
    "ddim": [
        *("ddim", "dpm-solver-1", "dpmpp-1", "euler", "euler-flow", DDIM(0.0), GradientEstimation(1.0)),
        *(unip(1), unip(1, "bh1", "epsilon"), sa(1), DEIS(1), PNDM(1), OfficialIPNDMv(1)),
        *(Adams(1), Adams(1, "epsilon"), Adams(1, "epsilon", "clock"), Adams(1, "flow", "clock")),
        *(ERSDE(1, "x"), ERSDE(1, "x", official=True), MultistepDPM(1, "epsilon"), SinglestepDPM(1, "x0")),
    ],
    "ancestral": [
        *("ddpm", DDIM(1.0), "sde-dpmpp-1", ERSDE(1, "x^2")),
        *(SinglestepDPM(1, eta=1.0), SinglestepDPM(1, "x0", eta=1.0)),
        *(sa(1, tau=1.0), GradientEstimation(1.0, mu=0.5), ERSDE(3, "x^2", order_of_last_steps=(1,) * 8)),
    ],
    "heun": ["heun", SinglestepDPM(2, r1=1.0)],
    "dpmpp-2m": ["dpmpp-2m", unip(2), MultistepDPM(2, **RK)],
    "dpmpp-3m": ["dpmpp-3m", unip(3)],
    "dpmpp-3m-rk": ["dpmpp-3m-rk", Adams(3, **RK), unip(3, **RK), unip(3, "vary", **RK)],
    "dpm-solver-2m": ["dpm-solver-2m", unip(2, "bh2", "epsilon")],
    "dpm-solver-3m-rk": ["dpm-solver-3m-rk", Adams(3, "epsilon", **RK), unip(3, "bh1", "epsilon", **RK)],
    "adams-2": ["adams-2", MultistepDPM(2, solver_type="taylor"), unip(2, "vary"), sa(2)],
    "adams-3": ["adams-3", MultistepDPM(3, solver_type="taylor"), unip(3, "vary"), sa(3)],
    "adams-4": [Adams(4), unip(4, "vary"), sa(4)],
    "adams-4-rk": ["adams-4-rk", "unip-4-rk", unip(4, "vary", **RK)],
    "adams-2-epsilon": ["adams-2-epsilon", MultistepDPM(2, "epsilon", "taylor"), unip(2, "vary", "epsilon")],
    "adams-3-epsilon": ["adams-3-epsilon", MultistepDPM(3, "epsilon", "taylor"), unip(3, "vary", "epsilon")],
    "lms-2": [Adams(2, "epsilon", "clock", order_of_last_steps=(1,)), OfficialIPNDMv(2, order_of_last_steps=(1,))],
    **{f"unipc-{p}-vary": [UniPC(p, "vary"), sa(p, p + 1)] for p in (1, 2, 3)},
    **{f"unipc-{p}-bh1": [UniPC(p, "bh1"), sa(p, p + 1, line="bh1")] for p in (1, 2, 3)},
    "unipc-3 from lower orders at the end": [
        UniPC(3, "vary", order_of_last_steps=(2, 1)),
        sa(3, 4, order_of_last_steps=(2, 1)),
    ],
}
# So that nothing above is equal because everything is.
DIFFERENT: list[tuple[str, str | ss.Solver]] = [
    *(("ddim", "dpmpp-2m"), ("ddim", Adams(1, "unit-v", "clock")), ("ddpm", DDIM(0.9)), ("heun", "dpm-solver-2")),
    *(("dpmpp-2m", "adams-2"), ("dpmpp-3m", "dpmpp-3m-official"), ("dpmpp-3m", "dpmpp-3m-rk"), ("unipc-2", "unip-2")),
    *(("adams-3", "adams-3-epsilon"), ("lms-3", "adams-3-epsilon"), ("unipc-3", "unipc-3-bh1"), ("lms-2", "ipndm-2")),
    *(("reab-2", "adams-2-v"), ("reab-2", "reab-2-official"), ("gradient-estimation", "lms-2"), ("heun", "heun-flow")),
]


def plan_of(solver: str | ss.Solver, sde: ss.SDE, end: str = "zero", steps: int = 8) -> ss.Plan:
    plan = ss.make_plan(solver, sde, ss.get_grid("karras", sde, steps, end=end))
    assert isinstance(plan, ss.Plan)
    return plan


def distance(a: ss.Plan, b: ss.Plan) -> float:
    """The largest difference of an entry of the canonical matrices, in units of the largest entry, or of 1."""
    if (a.nfe, a.noises) != (b.nfe, b.noises) or a.times != pytest.approx(b.times, rel=1e-11):
        return math.inf
    of_a, of_b = _joined(a), _joined(b)
    return ((of_a - of_b).abs().max() / of_a.abs().max().clamp(min=1.0)).item()


def _joined(plan: ss.Plan) -> torch.Tensor:
    A, B, C = plan.matrices()
    return torch.cat([A[:, None], B, C], dim=1)


@pytest.mark.parametrize("sde", PROCESSES.values(), ids=PROCESSES)
@pytest.mark.parametrize("group", SAME)
def test_one_method_under_several_names(group: str, sde: ss.SDE) -> None:
    first, *others = SAME[group]
    for end in ("zero", "eps"):
        reference = plan_of(first, sde, end)
        for other in others:
            assert distance(reference, plan_of(other, sde, end)) < 1e-12, (other, end)


@pytest.mark.parametrize(("a", "b"), DIFFERENT, ids=str)
def test_others_are_not(a: str, b: str | ss.Solver) -> None:
    assert distance(plan_of(a, ss.VP()), plan_of(b, ss.VP())) > 1e-4


# -- on some processes or grids only ---------------------------------------------------------------

# Where time is the clock of the method.
EDM, FLOW = ss.EDM(0.01, 50.0), ss.RectifiedFlow(T=0.99)
IN_TIME = [
    *((EDM, "euler", "pf-euler"), (EDM, "heun", "pf-heun"), *((EDM, f"lms-{k}", DEIS(k)) for k in (2, 3, 4))),
    *((FLOW, "euler-flow", "pf-euler"), (FLOW, "heun-flow", "pf-heun")),
]
# Where the steps in sigma/alpha are equal.
ON_EQUAL_STEPS = [
    *((f"lms-{k}", f"ipndm-{k}") for k in (2, 3, 4)),
    ("lms-2", GradientEstimation(1.5)),
    ("lms-3", OfficialIPNDMv(3)),
]
# A plan of as many steps as the start has.
WHILE_STARTING = [
    *(("dpmpp-3m-rk", RungeKutta("heun", "x0"), 2), ("deis-tab3-rk", RungeKutta("kutta3"), 3)),
    *(("adams-5-rk", RungeKutta("rk4", "x0"), 4), ("unipc-3-rk", RungeKutta("kutta3", "x0"), 2)),
]


@pytest.mark.parametrize(("sde", "a", "b"), IN_TIME, ids=str)
def test_in_time(sde: ss.SDE, a: str, b: str | ss.Solver) -> None:
    assert distance(plan_of(a, sde, "eps"), plan_of(b, sde, "eps")) < 1e-12
    assert distance(plan_of(a, ss.VP(), "eps"), plan_of(b, ss.VP(), "eps")) > 1e-3


@pytest.mark.parametrize(("a", "b"), ON_EQUAL_STEPS, ids=str)
def test_on_equal_steps(a: str, b: str | ss.Solver) -> None:
    times = torch.linspace(80.0, 2.0, 9, dtype=torch.float64).tolist()
    a_plan, b_plan = (ss.make_plan(ss.get_solver(m) if isinstance(m, str) else m, ss.EDM(), times) for m in (a, b))
    assert distance(a_plan, b_plan) < 1e-12
    assert distance(plan_of(a, ss.EDM()), plan_of(b, ss.EDM())) > 1e-4


@pytest.mark.parametrize(("name", "one_step", "steps"), WHILE_STARTING, ids=str)
def test_while_starting(name: str, one_step: ss.Solver, steps: int) -> None:
    a, b = (plan_of(m, ss.VP(), "eps", steps) for m in (name, one_step))
    assert distance(a, b) < 1e-12


# -- of the catalogue as a whole -------------------------------------------------------------------

# Not methods in sigma/alpha: these have a polynomial, inner points or steps in the process's own time, and azula's slip
# mixes alpha and sigma of different times.
TIED_TO_THE_PROCESS = {
    *("pf-euler", "pf-heun", "reverse-diffusion-ode", "deis-tab1", "deis-tab2", "deis-tab3", "deis-tab2-rk"),
    *("deis-tab3-rk", "pndm", "reab-2-official"),
}


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_processes_share_one_flow(name: str) -> None:
    """On one grid of log-SNR, VP, EDM and rectified flow are one method up to the scale of the state."""
    edm, *others = ss.EDM(), ss.VP(), ss.RectifiedFlow()
    lams = torch.linspace(-3.0, 4.0, 8, dtype=torch.float64).tolist()
    reference = _unscaled(ss.make_plan(ss.get_solver(name), edm, [edm.t_at_lam(lam) for lam in lams]))
    size = reference.abs().max().clamp(min=1.0)
    plans = [ss.make_plan(ss.get_solver(name), sde, [sde.t_at_lam(lam) for lam in lams]) for sde in others]
    off = max((_unscaled(plan) - reference).abs().max() / size for plan in plans)
    assert off > 1e-4 if name in TIED_TO_THE_PROCESS else off < 1e-12


def _unscaled(plan: ss.Plan) -> torch.Tensor:
    """The matrices for x/alpha, started from x_T/alpha."""
    A, B, _ = plan.matrices()
    scale = torch.tensor([*(row.at.alpha for row in plan.rows if row.at), plan.end.alpha], dtype=torch.float64)
    return torch.cat([(A * plan.begin.alpha)[:, None], B], dim=1) / scale[:, None]


@pytest.mark.parametrize("name", [n for n, s in FIXED.items() if s.keeps_constant_data])
def test_constant_data_is_exact(name: str) -> None:
    """Every exponential method is exact where the prediction of x0 does not change: A and B sum to the exact flow."""
    for sde in (ss.VP(), ss.EDM(), ss.RectifiedFlow()):
        for end in ("zero", "eps"):
            plan = ss.make_plan(ss.get_solver(name), sde, ss.get_grid("log-snr", sde, 5, end=end))
            A, B, _ = plan.matrices()
            tolerance = 1e-12 * max(1.0, B.abs().max().item())
            if plan.noises == 0:
                assert A[-1].item() == pytest.approx(plan.end.sigma / plan.begin.sigma, abs=tolerance)
            assert B[-1].sum().item() == pytest.approx(plan.end.alpha - A[-1].item() * plan.begin.alpha, abs=tolerance)
