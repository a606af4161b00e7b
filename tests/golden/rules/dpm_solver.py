"""LuChengTHU/dpm-solver: ``DPM_Solver.sample``."""

from __future__ import annotations

from itertools import pairwise

import scoresde as ss
from scoresde.adaptive import AdaptiveDPM
from scoresde.rows import Solver
from scoresde.solvers import MultistepDPM, SinglestepDPM
from tests.golden.processes import NotYet, process_of, times_at
from tests.golden.reading import Options, Pairs, Reading, Rule, inner_points, joined, lazily, lower_last, on_grid
from tests.golden.store import Case

SHOWN = ("steps", "skip_type", "method", "t_start", "t_end")
DPM_KINDS = {"dpmsolver": "epsilon", "dpmsolver++": "x0"}
DPM_TYPES = {"dpmsolver": "midpoint", "taylor": "taylor"}
DPM_GRIDS = {"logSNR": "log-snr", "time_uniform": "uniform", "time_quadratic": "quadratic"}


def _dpm_options(o: Options) -> tuple[int, str, str, bool]:
    order = o.need("order", 2, 1, 2, 3)
    kind = DPM_KINDS[o.need("algorithm_type", "dpmsolver++", *DPM_KINDS)]
    solver_type = DPM_TYPES[o.need("solver_type", "dpmsolver", *DPM_TYPES)]
    return order, kind, solver_type, o.get("denoise_to_zero", False)


def dpm_multistep(case: Case, o: Options) -> Reading:
    order, kind, solver_type, to_zero = _dpm_options(o)
    lower = o.get("lower_order_final", True) and o.get("steps", 20) < 10
    last = (*lower_last(order), *([1] if to_zero else [])) if lower else ()
    return on_grid(case, MultistepDPM(order, kind, solver_type, official=True, order_of_last_steps=last))


def dpm_singlestep(case: Case, o: Options) -> Reading:
    order, kind, solver_type, to_zero = _dpm_options(o)
    o.ignore("lower_order_final")
    grid = DPM_GRIDS[o.need("skip_type", "time_uniform", *DPM_GRIDS)]
    fixed = o.need("method", "singlestep", "singlestep", "singlestep_fixed") == "singlestep_fixed"
    steps = o.get("steps", 20)
    orders: list[int] = [order] * (steps // order) if fixed else split_singlestep(steps, order)
    if to_zero:
        orders = [*orders, 1]
    sde = process_of(case)
    times = times_at(sde, case.grid)
    parts: list[tuple[Solver, Pairs]] = []
    for p, (s, t) in zip(orders, pairwise(times), strict=True):
        # Inner points are spaced as the grid is, not in half log-SNR. (A step into the data has none.)
        inner = ss.get_grid(grid, sde, p, start=s, end=t)[1:-1]
        r1, r2 = inner_points(sde, s, inner, t)
        parts.append((SinglestepDPM(p, kind, r1, r2, solver_type), [(s, t)]))
    return joined(sde, parts)


def split_singlestep(steps: int, order: int) -> list[int]:
    """Orders of the steps that spend ``steps`` evaluations."""
    if order < 3:
        return [order] * (steps // order) + [1] * (steps % order)
    return [3] * (steps // 3 - (steps % 3 == 0)) + [[2, 1], [1], [2]][steps % 3]


def dpm_adaptive(case: Case, o: Options) -> Reading:
    o.need("order", 2, 2, 3)
    order, kind, solver_type, to_zero = _dpm_options(o)
    if to_zero:
        raise NotYet("denoise_to_zero after a time that is not sde.eps")
    o.ignore("lower_order_final")
    solver = AdaptiveDPM(order, kind, solver_type, o.get("rtol", 0.05), o.get("atol", 0.0078), reuse=False)
    sde = process_of(case)
    # The source's formulas cancel in short steps, which shows in its smallest error estimates and so in its steps.
    return lazily(case, solver, sde, times_at(sde, case.grid), every=case.info["nfe"], level_rtol=1e-8)


RULES: dict[str, Rule] = {
    "dpm_solver_multistep": dpm_multistep,
    "dpm_solver_singlestep": dpm_singlestep,
    "dpm_solver_singlestep_fixed": dpm_singlestep,
    "dpm_solver_adaptive": dpm_adaptive,
}
