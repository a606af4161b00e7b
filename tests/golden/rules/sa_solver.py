"""scxue/SA-Solver."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from scoresde.plan import plan_steps
from scoresde.rows import KEEP_STATE, Row
from scoresde.solvers import DDIM, SASolver
from tests.golden.processes import NotYet, process_of, times_at
from tests.golden.reading import Options, Reading, Rule, along, lower_last
from tests.golden.rules.predictor_corrector import correcting
from tests.golden.store import Case

SHOWN = ("steps", "skip_type", "skip_order", "t_start", "t_end")
SA_KINDS = {"data_prediction": "x0", "noise_prediction": "epsilon"}


def sa_solver(case: Case, o: Options) -> Reading:
    o.ignore("noise_note")  # one draw before the first step is not used: see below
    kind = SA_KINDS[o.need("algorithm_type", "data_prediction", *SA_KINDS)]
    few = o.need("mode", "few_steps", "few_steps", "more_steps") == "few_steps"
    predictor, corrector = o.get("predictor_order", 3), o.get("corrector_order", 4)
    mode = o.need("pc_mode", "PEC", "PEC", "PECE")
    tau = o.get("tau", 1.0)
    if not isinstance(tau, int | float):
        raise NotYet(f"tau={tau!r}")
    solver = SASolver(
        predictor,
        corrector,
        tau,
        mode=mode if corrector else "PEC",
        line="bh1" if few and kind == "x0" else "exact",
        kind=kind,
        order_of_last_steps=lower_last(max(predictor, corrector - 1), o.get("steps", None)),
        ode_last=few,
        correct_last=not few,
    )
    sde = process_of(case)
    pairs = list(pairwise(times_at(sde, case.grid)))
    into_data = [] if few else [pairs.pop()]
    reading = along(sde, solver, pairs)
    plan, n = reading.plan, len(pairs)
    if solver.mode == "PEC":
        reading = correcting(reading, solver, pairs)
    rows = list(plan.rows)
    if into_data:
        if not corrector:  # the model is called all the same, for a corrector that is not there
            rows.append(Row(plan.end, kind, KEEP_STATE))
        rows += plan_steps(DDIM(), sde, into_data).rows
    plan = replace(plan, rows=tuple(rows), end=sde.point(into_data[0][1]) if into_data else plan.end)
    at_nodes = range(n) if solver.mode == "PEC" else range(0, 2 * n, 2)
    return replace(
        reading,
        plan=plan,
        states=(*at_nodes, *range(plan.nfe - len(into_data), plan.nfe + 1)),
        corrections=(*reading.corrections, (), ()) if reading.corrections else (),
        draws=tuple(range(1, 1 + plan.noises)),
    )


RULES: dict[str, Rule] = {
    "sa_solver": sa_solver,
}
