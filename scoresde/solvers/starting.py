r"""The first steps of a multistep method at its own order, by a Runge–Kutta method.

k - 1 steps of a method of order k - 1, each with a local error of order k, leave a multistep method of order k its
order; with first steps of lower order the global order is 2 in the end, however small the constant. These steps are
explicit Runge–Kutta methods in a variable in which :math:`d(x/S) = m\,dc` (see :mod:`scoresde.solvers.adams`), all
with their last stage where the step ends, and all their stages but the first are forgotten.
"""

from __future__ import annotations

from collections.abc import Sequence

from scoresde.rows import Row, Step
from scoresde.sde import Point
from scoresde.solvers.runge_kutta import TABLEAUX, tableau_rows

# Order of the multistep method -> a Runge–Kutta method of one order less.
METHODS = {2: TABLEAUX["euler"], 3: TABLEAUX["heun"], 4: TABLEAUX["kutta3"], 5: TABLEAUX["rk4"]}


def start_step(kind: str, order: int, step: Step) -> list[Row]:
    """One of the first steps of a multistep method of this order: the rows of a Runge–Kutta step."""
    return tableau_rows(kind, METHODS[order], step)


def steps_begin(step: Step, stages: int) -> list[int]:
    """Which predictions (0: the one to come; 1 + i: that of ``step.past[i]``) were made where a step begins.

    Args:
        step: the step to come.
        stages: evaluations of one of the first steps, the last of them where the next step begins.
    """
    points: Sequence[Point] = (step.s, *step.past)
    used = [0]
    while (i := used[-1] + 1) < len(points):
        of_start = stages > 1 and points[i].t == points[used[-1]].t
        used.append(i + stages - 1 if of_start else i)
    return [i for i in used if i < len(points)]
