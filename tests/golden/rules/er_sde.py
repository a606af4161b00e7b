"""QinpengCui/ER-SDE-Solver."""

from __future__ import annotations

from scoresde.solvers import DDIM
from tests.golden.reading import Options, Reading, Rule, on_grid
from tests.golden.store import Case

SHOWN = ("n",)


def er_sde(case: Case, o: Options) -> Reading:
    o.need("order", 3, 1)
    o.need("noise_scale_function", None, "ODE: x")
    return on_grid(case, DDIM())


RULES: dict[str, Rule] = {
    "er_sde": er_sde,
}
