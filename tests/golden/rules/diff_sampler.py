"""zju-pi/diff-sampler. States are unscaled."""

from __future__ import annotations

from scoresde.solvers import MultistepDPM, RungeKutta, SinglestepDPM
from tests.golden.processes import NotYet
from tests.golden.reading import Options, Reading, Rule, lower_last, on_grid
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
    if o.get("predict_x0", True):
        raise NotYet("predict_x0=True: dynamic thresholding of every prediction")
    order = o.need("max_order", 3, 1, 2, 3)
    last = lower_last(order) if o.get("lower_order_final", True) else ()
    if last and o.get("denoise_to_zero", False):
        last = (*last, 1)
    return on_grid(case, MultistepDPM(order, "epsilon", official=True, order_of_last_steps=last))


def zju_first_order(case: Case, o: Options) -> Reading:
    """Adams-Bashforth of order 1 is Euler, in every one of these solvers."""
    _no_afs(o)
    o.need("max_order", 4, 1)
    o.ignore("deis_mode")
    return on_grid(case, RungeKutta("euler"))


RULES: dict[str, Rule] = {
    "euler": zju_euler,
    "heun": zju_heun,
    "dpm_2": zju_dpm_2,
    "dpm_pp": zju_dpm_pp,
    "ipndm": zju_first_order,
    "ipndm_v": zju_first_order,
}
