r"""The first steps of a multistep method at its own order, by a Runge–Kutta method.

k - 1 steps of a method of order k - 1, each with a local error of order k, leave a multistep method of order k its
order; with first steps of lower order the global order is 2 in the end, however small the constant. These steps are
explicit Runge–Kutta methods in a variable in which :math:`d(x/S) = m\,dc` (see :mod:`scoresde.solvers.adams`), all
with their last stage where the step ends, and all their stages but the first are forgotten.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from scoresde.rows import KEEP_ANCHOR, KEEP_STATE, Mix, Row, Step
from scoresde.sde import Point


class Clock(NamedTuple):
    """S and c at a noise level, and the half log-SNR at a value of c."""

    scale: Callable[[Point], float]
    value: Callable[[Point], float]
    lam_at: Callable[[float], float]


CLOCKS = {
    "x0": Clock(lambda p: p.sigma, lambda p: p.alpha / p.sigma, math.log),
    "epsilon": Clock(lambda p: p.alpha, lambda p: p.rho, lambda c: -math.log(c)),
    "flow": Clock(
        lambda p: p.alpha + p.sigma, lambda p: p.sigma / (p.alpha + p.sigma), lambda c: math.log1p(-c) - math.log(c)
    ),
}
# Order of the multistep method -> (stages, weights) of a Runge–Kutta method of one order less: Euler, Heun, Kutta's of
# order 3, and the classical one.
METHODS: dict[int, tuple[tuple[tuple[float, ...], ...], tuple[float, ...]]] = {
    2: (((),), (1.0,)),
    3: (((), (1.0,)), (1 / 2, 1 / 2)),
    4: (((), (1 / 2,), (-1.0, 2.0)), (1 / 6, 4 / 6, 1 / 6)),
    5: (((), (1 / 2,), (0.0, 1 / 2), (0.0, 0.0, 1.0)), (1 / 6, 2 / 6, 2 / 6, 1 / 6)),
}


def start_step(kind: str, order: int, step: Step) -> list[Row]:
    """One of the first steps of a multistep method of this order: the rows of a Runge–Kutta step."""
    clock, (stages, weights) = CLOCKS[kind], METHODS[order]
    c0, dc = clock.value(step.s), clock.value(step.t) - clock.value(step.s)

    def at(fraction: float) -> Point:
        if fraction in (0.0, 1.0):
            return step.t if fraction else step.s
        return step.sde.point_at_lam(clock.lam_at(c0 + fraction * dc))

    points = [*(at(sum(stage)) for stage in stages), step.t]
    rows = []
    for i, on in enumerate((*stages[1:], weights)):
        scale, last = clock.scale(points[i + 1]), i + 1 == len(stages)
        a, d = scale / clock.scale(step.s), tuple(scale * dc * w for w in reversed(on))
        mix = Mix(x=a, d=d) if i == 0 else Mix(anchor=a, d=d)
        rows.append(Row(points[i], kind, mix, None if last else KEEP_ANCHOR if i else KEEP_STATE))
    return rows


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
