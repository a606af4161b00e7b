"""zju-pi/diff-sampler. States are unscaled."""

from __future__ import annotations

from scoresde.guidance import DynamicThreshold
from scoresde.solvers import PNDM, MultistepDPM, OfficialIPNDMv, RungeKutta, SinglestepDPM, UniPC
from tests.golden.processes import Ablation, NotYet, vp_through
from tests.golden.reading import Options, Reading, Rule, lower_last, on_grid
from tests.golden.rules.deis import SummedDEIS
from tests.golden.rules.predictor_corrector import on_corrected_points
from tests.golden.store import Case

SHOWN = ("num_steps", "sigma_min", "sigma_max", "schedule_type", "schedule_rho")


def _no_afs(o: Options) -> None:
    o.need("afs", False, False)
    o.ignore("denoise_to_zero")  # one more row in the grid, and a step into the data for us


def zju_euler(case: Case, o: Options) -> Reading:
    _no_afs(o)
    return on_grid(case, RungeKutta("euler"))


def zju_heun(case: Case, o: Options) -> Reading:
    _no_afs(o)
    return on_grid(case, RungeKutta("heun"))


def zju_dpm_2(case: Case, o: Options) -> Reading:
    _no_afs(o)
    return on_grid(case, SinglestepDPM(2, r1=o.get("r", 0.5)))


def zju_dpm_pp(case: Case, o: Options) -> Reading:
    _no_afs(o)
    data = o.get("predict_x0", True)
    order = o.need("max_order", 3, 1, 2, 3)
    last = lower_last(order) if o.get("lower_order_final", True) else ()
    if last and o.get("denoise_to_zero", False):
        last = (*last, 1)
    solver = MultistepDPM(order, "x0" if data else "epsilon", official=True, order_of_last_steps=last)
    return on_grid(case, solver, wrap=DynamicThreshold if data else None)  # the source thresholds predictions of x0


def zju_ipndm(case: Case, o: Options) -> Reading:
    _no_afs(o)
    return on_grid(case, PNDM(o.need("max_order", 4, 1, 2, 3, 4)))


def zju_ipndm_v(case: Case, o: Options) -> Reading:
    _no_afs(o)
    return on_grid(case, OfficialIPNDMv(o.need("max_order", 4, 1, 2, 3, 4)))


def zju_deis(case: Case, o: Options) -> Reading:
    _no_afs(o)
    order = o.need("max_order", 4, 1, 2, 3, 4)
    o.need("deis_mode", "tab", "tab")
    # Its time is that of the VP process with sigma/alpha from 0.002 to 80, whatever the grid.
    sde = Ablation("vp", False, *vp_through(0.002, 80.0))
    return on_grid(case, SummedDEIS(order, both_ends=True), sde)


def zju_unipc(case: Case, o: Options) -> Reading:
    _no_afs(o)
    if o.get("predict_x0", True):
        raise NotYet("predict_x0=True: dynamic thresholding of every prediction")
    order = o.need("max_order", 3, 1, 2, 3)
    last = lower_last(order, o.get("num_steps", len(case.grid)) - 1) if o.get("lower_order_final", True) else ()
    if last and o.get("denoise_to_zero", False):
        last = (*last, 1)
    solver = UniPC(order, o.need("variant", "bh2", "bh1", "bh2"), "epsilon", order_of_last_steps=last)
    return on_corrected_points(case, solver)


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
