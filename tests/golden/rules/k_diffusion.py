"""crowsonkb/k-diffusion, ``sample_*``. States are unscaled."""

from __future__ import annotations

from dataclasses import replace

from scoresde.solvers import DDIM, MultistepDPM, RungeKutta, SinglestepDPM
from tests.golden.processes import NotYet
from tests.golden.reading import Options, Reading, Rule, no_churn, on_grid, running
from tests.golden.store import Case

SHOWN = ("sigmas", "n", "sigma_min", "sigma_max")


def k_euler(case: Case, o: Options) -> Reading:
    no_churn(o)
    return on_grid(case, RungeKutta("euler"))


def k_heun(case: Case, o: Options) -> Reading:
    no_churn(o)
    return on_grid(case, RungeKutta("heun"))


def k_dpm_2(case: Case, o: Options) -> Reading:
    no_churn(o)
    return on_grid(case, SinglestepDPM(2))


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


def k_dpmpp_2s_ancestral(case: Case, o: Options) -> Reading:
    o.need("eta", 1.0, 0.0)
    o.ignore("s_noise")
    return on_grid(case, SinglestepDPM(2, kind="x0"))


def k_dpmpp_sde(case: Case, o: Options) -> Reading:
    o.need("eta", 1.0, 0.0)
    o.ignore("s_noise", "noise_coupling")
    return on_grid(case, SinglestepDPM(2, kind="x0", r1=o.get("r", 0.5)))


def k_dpmpp_2m_sde(case: Case, o: Options) -> Reading:
    o.need("eta", 1.0, 0.0)
    o.ignore("s_noise")
    kinds = {"midpoint": "midpoint", "heun": "taylor"}
    return on_grid(case, MultistepDPM(2, solver_type=kinds[o.need("solver_type", "midpoint", *kinds)]))


def k_dpmpp_3m_sde(case: Case, o: Options) -> Reading:
    o.need("eta", 1.0, 0.0)
    o.ignore("s_noise")
    return on_grid(case, MultistepDPM(3, solver_type="taylor", official=True))


def k_euler_ancestral(case: Case, o: Options) -> Reading:
    o.need("s_noise", 1.0, 1.0)
    eta = o.get("eta", 1.0)
    if not 0 <= eta <= 1:
        raise NotYet(f"eta={eta}")
    return on_grid(case, DDIM(eta))


def k_lms(case: Case, o: Options) -> Reading:
    o.need("order", 4, 1)  # of order 1 it is Euler
    return on_grid(case, RungeKutta("euler"))


RULES: dict[str, Rule] = {
    "euler": k_euler,
    "heun": k_heun,
    "dpm_2": k_dpm_2,
    "dpm_fast": k_dpm_fast,
    "dpmpp_2m": k_dpmpp_2m,
    "dpmpp_2s_ancestral": k_dpmpp_2s_ancestral,
    "dpmpp_sde": k_dpmpp_sde,
    "dpmpp_2m_sde": k_dpmpp_2m_sde,
    "dpmpp_3m_sde": k_dpmpp_3m_sde,
    "euler_ancestral": k_euler_ancestral,
    "lms": k_lms,
}
