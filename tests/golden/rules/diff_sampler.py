"""zju-pi/diff-sampler. States are unscaled."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from scoresde.guidance import DynamicThreshold
from scoresde.plan import plan_steps
from scoresde.rows import Solver
from scoresde.sde import SDE
from scoresde.solvers import PNDM, AnalyticalFirstStep, MultistepDPM, OfficialIPNDMv, RungeKutta, SinglestepDPM, UniPC
from tests.golden.processes import Ablation, NotYet, times_at, vp_through
from tests.golden.reading import Options, Reading, Rule, lower_last, on_grid
from tests.golden.rules.deis import SummedDEIS
from tests.golden.rules.predictor_corrector import on_corrected_points
from tests.golden.store import Case

SHOWN = ("num_steps", "sigma_min", "sigma_max", "schedule_type", "schedule_rho")


def sampled(case: Case, o: Options, solver: Solver, sde: SDE | None = None) -> Reading:
    """The solver along the recorded grid, or with an analytical first step."""
    o.ignore("denoise_to_zero")  # one more row in the grid, and a step into the data for us
    reading = on_grid(case, solver, sde)
    if not o.get("afs", False):
        return reading
    plan = plan_steps(AnalyticalFirstStep(solver), reading.sde, pairwise(times_at(reading.sde, case.grid)))
    states = (None, *(k - 1 for k in reading.states if k))  # one evaluation fewer, and none at the first state
    return replace(reading, plan=plan, states=states)


def zju_euler(case: Case, o: Options) -> Reading:
    return sampled(case, o, RungeKutta("euler"))


def zju_heun(case: Case, o: Options) -> Reading:
    return sampled(case, o, RungeKutta("heun"))


def zju_dpm_2(case: Case, o: Options) -> Reading:
    return sampled(case, o, SinglestepDPM(2, r1=o.get("r", 0.5)))


def of_kind(reading: Reading, kind: str, o: Options) -> Reading:
    """The source thresholds predictions of x0, but not the last one that it denoises to zero with."""
    if kind == "epsilon":
        return reading
    if o.get("denoise_to_zero", False):
        raise NotYet("predict_x0=True, denoise_to_zero=True: thresholding of every prediction but the last")
    return replace(reading, wrap=DynamicThreshold)


def zju_dpm_pp(case: Case, o: Options) -> Reading:
    kind = "x0" if o.get("predict_x0", True) else "epsilon"
    order = o.need("max_order", 3, 1, 2, 3)
    last = lower_last(order) if o.get("lower_order_final", True) else ()
    if last and o.get("denoise_to_zero", False):
        last = (*last, 1)
    if kind == "x0":
        o.need("afs", False, False)  # it would be thresholded, which is no multiple of the state any more
    solver = MultistepDPM(order, kind, official=True, order_of_last_steps=last)
    return of_kind(sampled(case, o, solver), kind, o)


def zju_ipndm(case: Case, o: Options) -> Reading:
    return sampled(case, o, PNDM(o.need("max_order", 4, 1, 2, 3, 4)))


def zju_ipndm_v(case: Case, o: Options) -> Reading:
    return sampled(case, o, OfficialIPNDMv(o.need("max_order", 4, 1, 2, 3, 4)))


def zju_deis(case: Case, o: Options) -> Reading:
    order = o.need("max_order", 4, 1, 2, 3, 4)
    o.need("deis_mode", "tab", "tab")
    # Its time is that of the VP process with sigma/alpha from 0.002 to 80, whatever the grid.
    sde = Ablation("vp", False, *vp_through(0.002, 80.0))
    return sampled(case, o, SummedDEIS(order, both_ends=True), sde)


def zju_unipc(case: Case, o: Options) -> Reading:
    if o.get("afs", False):
        raise NotYet("afs=True: corrections of recorded states by a prediction that is none of ours")
    o.ignore("denoise_to_zero")
    kind = "x0" if o.get("predict_x0", True) else "epsilon"
    order = o.need("max_order", 3, 1, 2, 3)
    last = lower_last(order, o.get("num_steps", len(case.grid)) - 1) if o.get("lower_order_final", True) else ()
    if last and o.get("denoise_to_zero", False):
        last = (*last, 1)
    solver = UniPC(order, o.need("variant", "bh2", "bh1", "bh2"), kind, order_of_last_steps=last)
    return of_kind(on_corrected_points(case, solver), kind, o)


RULES: dict[str, Rule] = {
    "euler": zju_euler,
    "heun": zju_heun,
    "dpm_2": zju_dpm_2,
    "dpm_pp": zju_dpm_pp,
    "ipndm": zju_ipndm,
    "unipc": zju_unipc,
    "ipndm_v": zju_ipndm_v,
    "deis": zju_deis,
}
