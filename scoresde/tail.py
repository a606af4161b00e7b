r"""The rest of a plan from one of its evaluations, for pipelines that begin part of the way (image-to-image,
inpainting, refiners).

They slice the list of timesteps anywhere, noise an image to the first that is left, and go through them one by one. So
the rest has to evaluate at the very times that were announced, from a state that has no past.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

from scoresde.plan import Plan, ddim_row
from scoresde.rows import Mix, Row
from scoresde.sde import Point


def tail(plan: Plan, first: int, nodes: Sequence[float], replan: Callable[[Sequence[float]], Plan]) -> Plan:
    """A plan that starts at evaluation ``first`` of another one and evaluates at the same times from there on.

    Where a step begins it is the same method, started there without a past. Evaluations inside a step come too late to
    be of use to it; up to the next step they are used for DDIM between their own times.

    Args:
        plan: the whole.
        first: which evaluation to begin at, from 0.
        nodes: the grid that it was planned on.
        replan: plans the same solver on another grid.

    Raises:
        ValueError: the plan has no such evaluation.
    """
    if not 0 <= first < plan.nfe:
        raise ValueError(f"first must be an evaluation of the plan, 0 to {plan.nfe - 1}, got {first}")
    points = [row.at for row in plan.rows if row.at is not None]
    for i in range(first, plan.nfe):
        rest = _cut(plan, i) or _planned_anew(plan.times[i:], nodes, replan)
        if rest is not None:
            return rest if i == first else _joined([*points[first:i], rest.begin], rest.rows, plan)
    return _joined([*points[first:], plan.end], (), plan)


def _cut(plan: Plan, evaluation: int) -> Plan | None:
    """The rows from an evaluation on, if they need nothing from before it; without rows that mix before it."""
    begin = [i for i, row in enumerate(plan.rows) if row.at is not None][evaluation]
    rows = plan.rows[begin:]
    made = 0
    earlier = {k for row in plan.rows[:begin] for k in _noises(row)}
    if begin and plan.rows[begin - 1].anchor is not None:
        return None
    for row in rows:
        made += row.made
        if any(len(m.d) > made for m in (row.x, row.anchor) if m is not None) or earlier.intersection(_noises(row)):
            return None
    at = rows[0].at
    assert at is not None  # it is the row of an evaluation
    drawn = sorted({k for row in rows for k in _noises(row)})
    places = {k: i for i, k in enumerate(drawn)}
    spans = tuple(plan.spans[k] for k in drawn)
    return Plan(tuple(_renumbered(row, places) for row in rows), at, plan.end, plan.solver, spans)


def _planned_anew(
    times: Sequence[float], nodes: Sequence[float], replan: Callable[[Sequence[float]], Plan]
) -> Plan | None:
    """The solver on the end of its grid, if its evaluations are then at these times."""
    for k, node in enumerate(nodes[:-1]):
        if node <= times[0] or math.isclose(node, times[0], rel_tol=1e-12):
            rest = replan(nodes[k:])
            if rest.nfe == len(times) and all(
                math.isclose(a, b, rel_tol=1e-12, abs_tol=1e-15) for a, b in zip(rest.times, times, strict=True)
            ):
                return _cut(rest, 0)
            return None
    return None


def _joined(points: Sequence[Point], rows: Sequence[Row], whole: Plan) -> Plan:
    """DDIM through the points, then the rows. Where a point is noisier than the one before, noise is added."""
    further = 1 + max((k for row in rows for k in _noises(row)), default=-1)
    prefix: list[Row] = []
    for s, t in pairwise(points):
        if t.t < s.t:
            row = ddim_row(s, t)
        else:
            kept = t.alpha / s.alpha if t.t > s.t else 1.0
            added = math.sqrt(max(0.0, t.sigma**2 - (kept * s.sigma) ** 2))
            row = Row(s, "x0", Mix(x=kept, z=((further, added),) if added else ()))
            further += bool(added)
        prefix.append(row)
    return Plan((*prefix, *rows), points[0], whole.end, whole.solver)


def _noises(row: Row) -> set[int]:
    return {k for m in (row.x, row.anchor) if m is not None for k, _ in m.z}


def _renumbered(row: Row, places: dict[int, int]) -> Row:
    def mix(m: Mix) -> Mix:
        return m._replace(z=tuple((places[k], c) for k, c in m.z))

    return row._replace(x=mix(row.x), anchor=None if row.anchor is None else mix(row.anchor))
