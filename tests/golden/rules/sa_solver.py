"""scxue/SA-Solver."""

from __future__ import annotations

from dataclasses import replace

from scoresde.rows import KEEP_STATE, Row
from scoresde.solvers import MultistepDPM
from tests.golden.processes import NotYet
from tests.golden.reading import Options, Reading, Rule, lower_last, on_grid
from tests.golden.store import Case

SHOWN = ("steps", "skip_type", "skip_order", "t_start", "t_end")


def sa_solver(case: Case, o: Options) -> Reading:
    o.need("tau", 1.0, 0.0)
    o.need("corrector_order", 4, 0)
    o.need("algorithm_type", "data_prediction", "data_prediction")
    o.ignore("pc_mode", "noise_note")  # without a corrector, without noise
    order = o.need("predictor_order", 3, 1, 2, 3)
    if order > 1 and o.get("mode", "few_steps") == "few_steps":
        raise NotYet("mode='few_steps': its own weight in steps of order 2")
    last = lower_last(order)
    if o.get("mode", "few_steps") == "few_steps":
        return on_grid(case, MultistepDPM(order, "x0", "taylor", order_of_last_steps=last))
    # Then the model is called once more, for a corrector that is not there, and once for a step into the data.
    reading = on_grid(case, MultistepDPM(order, "x0", "taylor", order_of_last_steps=(*last, 1)))
    *rows, into_data = reading.plan.rows
    plan = replace(reading.plan, rows=(*rows, Row(into_data.at, "x0", KEEP_STATE), into_data))
    return replace(reading, plan=plan, states=(*range(len(rows) + 1), len(rows) + 2))


RULES: dict[str, Rule] = {
    "sa_solver": sa_solver,
}
