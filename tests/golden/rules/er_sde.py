"""QinpengCui/ER-SDE-Solver."""

from __future__ import annotations

from scoresde.solvers import ERSDE
from scoresde.solvers.er_sde import DEFAULT_PHI, LOG_PHI_OVER_X
from tests.golden.processes import NotYet
from tests.golden.reading import Options, Reading, Rule, a_draw_each_step, on_grid
from tests.golden.store import Case

SHOWN = ("n",)


def er_sde(case: Case, o: Options) -> Reading:
    name = o.get("noise_scale_function", DEFAULT_PHI).split(": ")[-1]
    if name not in LOG_PHI_OVER_X:
        raise NotYet(f"noise_scale_function={name!r}")
    solver = ERSDE(o.need("order", 3, 1, 2, 3), name, official=True)
    return a_draw_each_step(on_grid(case, solver))


RULES: dict[str, Rule] = {
    "er_sde": er_sde,
}
