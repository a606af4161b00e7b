"""crowsonkb/k-diffusion, ``sample_*``. States are unscaled."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

from scoresde.adaptive import PID, AdaptiveDPM
from scoresde.plan import plan_steps
from scoresde.rows import Solver
from scoresde.solvers import DDIM, Adams, Churn, DPMppSDE, MultistepDPM, RungeKutta, SinglestepDPM
from tests.golden.processes import NotYet, process_of, times_at
from tests.golden.reading import Options, Reading, Rule, a_draw_each_step, lazily, no_churn, on_grid, running
from tests.golden.store import Case

SHOWN = ("sigmas", "n", "sigma_min", "sigma_max")


def churned(case: Case, o: Options, solver: Solver) -> Reading:
    reading = on_grid(case, solver)
    if not o.get("s_churn", 0.0):
        no_churn(o)
        return reading
    inf = float("inf")
    churn = Churn(solver, o.get("s_churn", 0.0), o.get("s_tmin", 0.0), o.get("s_tmax", inf), o.get("s_noise", 1.0))
    times = times_at(reading.sde, case.grid)
    return a_draw_each_step(replace(reading, plan=plan_steps(churn, reading.sde, pairwise(times))))


def k_euler(case: Case, o: Options) -> Reading:
    return churned(case, o, RungeKutta("euler"))


def k_heun(case: Case, o: Options) -> Reading:
    return churned(case, o, RungeKutta("heun"))


def k_dpm_2(case: Case, o: Options) -> Reading:
    return churned(case, o, SinglestepDPM(2))


def eta_of(o: Options, most: float = 1.0) -> dict[str, Any]:
    """The two options of noise."""
    eta, s_noise = o.get("eta", 1.0), o.get("s_noise", 1.0)
    if not 0 <= eta <= most:
        raise NotYet(f"eta={eta}")
    return {"eta": eta, "s_noise": s_noise}


def k_dpm_fast(case: Case, o: Options) -> Reading:
    o.need("eta", 0.0, 0.0)
    o.ignore("s_noise")
    solver = SinglestepDPM(3, fast=True).for_budget(o.get("n", None), to_data=False)
    assert isinstance(solver, SinglestepDPM)
    split = solver.order_of_last_steps
    orders = [3] * (len(case.grid) - 1 - len(split)) + list(split)
    return replace(on_grid(case, solver), states=running(orders))


def k_dpmpp_2m(case: Case, o: Options) -> Reading:
    return on_grid(case, MultistepDPM(2))


def k_dpm_2_ancestral(case: Case, o: Options) -> Reading:
    return on_grid(case, SinglestepDPM(2, **eta_of(o)))


def k_dpmpp_2s_ancestral(case: Case, o: Options) -> Reading:
    return on_grid(case, SinglestepDPM(2, kind="x0", **eta_of(o)))


def k_dpmpp_sde(case: Case, o: Options) -> Reading:
    # Without a word on it, the two requests of a step get independent draws.
    path = o.get("noise_coupling", None)
    if path is not None and not path.endswith("one Brownian path with time sigma"):
        raise NotYet(f"noise_coupling={path!r}")
    solver = DPMppSDE(r=o.get("r", 0.5), coupling="sigma" if path else "independent", **eta_of(o))
    return on_grid(case, solver)


def k_dpmpp_2m_sde(case: Case, o: Options) -> Reading:
    kinds = {"midpoint": "midpoint", "heun": "taylor"}
    solver_type = kinds[o.need("solver_type", "midpoint", *kinds)]
    return on_grid(case, MultistepDPM(2, solver_type=solver_type, **eta_of(o, most=math.inf)))


def k_dpmpp_3m_sde(case: Case, o: Options) -> Reading:
    return on_grid(case, MultistepDPM(3, solver_type="taylor", official=True, **eta_of(o, most=math.inf)))


def k_euler_ancestral(case: Case, o: Options) -> Reading:
    return on_grid(case, DDIM(**eta_of(o)))


def k_lms(case: Case, o: Options) -> Reading:
    return on_grid(case, Adams(o.get("order", 4), "epsilon", "clock"))


def k_dpm_adaptive(case: Case, o: Options) -> Reading:
    o.ignore("note", "step_info_columns", "info", *case.options.get("info", ()))
    order = o.need("order", 3, 2, 3)
    controller = PID(o.get("pcoeff", 0.0), o.get("icoeff", 1.0), o.get("dcoeff", 0.0), o.get("accept_safety", 0.81))
    solver = AdaptiveDPM(
        order,
        rtol=o.get("rtol", 0.05),
        atol=o.get("atol", 0.0078),
        h_init=o.get("h_init", 0.05),
        controller=controller,
        norm="batch",
        eta=o.get("eta", 0.0),
        s_noise=o.get("s_noise", 1.0),
        reuse=False,
    )
    sde = process_of(case)
    times = times_at(sde, case.grid)
    # The first error estimates are differences of nearly equal results, whose rounding shows in the steps.
    return lazily(case, solver, sde, (times[0], times[-1]), every=order, level_rtol=1e-9)


RULES: dict[str, Rule] = {
    "euler": k_euler,
    "heun": k_heun,
    "dpm_2": k_dpm_2,
    "dpm_2_ancestral": k_dpm_2_ancestral,
    "dpm_fast": k_dpm_fast,
    "dpmpp_2m": k_dpmpp_2m,
    "dpmpp_2s_ancestral": k_dpmpp_2s_ancestral,
    "dpmpp_sde": k_dpmpp_sde,
    "dpmpp_2m_sde": k_dpmpp_2m_sde,
    "dpmpp_3m_sde": k_dpmpp_3m_sde,
    "euler_ancestral": k_euler_ancestral,
    "lms": k_lms,
    "dpm_adaptive": k_dpm_adaptive,
}
