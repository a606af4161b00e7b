"""A plan made ready to run: what it does with the prediction of each row, all arithmetic on coefficients done.

The prediction that a run is told may be of another kind than the row mixes. Where the history has no use for it, the
conversion is part of the mixes: no tensor is made for it.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from scoresde.mix import ZERO, Ordered, ordered
from scoresde.predictions import convert
from scoresde.rows import Mix

if TYPE_CHECKING:
    from scoresde.plan import Plan

# What a line mixes, by number: zero, state and anchor, then the predictions of its row, the history and the noises.
STATE, ANCHOR, FIRST = ZERO + 1, ZERO + 2, ZERO + 3


class Line(NamedTuple):
    """What to do at one row, told a prediction of one kind.

    Attributes:
        kind: of the prediction told.
        t: the time of the evaluation; NaN if there is none.
        pair: the row takes the unconditional prediction too.
        converts: for each prediction of the row, the mix that takes its place, as the history keeps it; () if no
            conversion is needed.
        draws: the noises that are used for the first time.
        noises: all noises of the mixes, in the order of their numbers there.
        x: the new state.
        anchor: the new anchor; None makes the new state the anchor too.
        keep: how many of the newest predictions to keep.
        drops: noises that no later row uses.
    """

    kind: str
    t: float
    pair: bool
    converts: tuple[Ordered, ...]
    draws: tuple[int, ...]
    noises: tuple[int, ...]
    x: Ordered
    anchor: Ordered | None
    keep: int
    drops: tuple[int, ...]


class Script(dict[tuple[int, str], Line]):
    """The lines of a plan: ``script[i, kind]`` is what to do at row i, told a prediction of this kind.

    They are made when first asked for.

    Raises:
        ValueError: the plan has no such row, or there is no such kind, or it cannot be converted at this row.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.silent = frozenset(i for i, row in enumerate(plan.rows) if row.at is None)

    def __missing__(self, key: tuple[int, str]) -> Line:
        line = self[key] = self._line(*key)
        return line

    def _line(self, i: int, kind: str) -> Line:
        plan = self.plan
        if i == len(plan.rows):
            raise ValueError("the run is done: there is nothing to evaluate; read run.sample")
        row, made = plan.rows[i], plan.rows[i].made
        known, held = (plan.keep[i - 1], sorted(plan.held[i - 1])) if i else (0, [])
        mixes = [row.x] if row.anchor is None else [row.x, row.anchor]
        draws = [k for k in dict.fromkeys(k for m in mixes for k, _ in m.z) if k not in held]
        noises = [*held, *draws]
        where = {k: FIRST + made + known + n for n, k in enumerate(noises)}
        anchor_at = STATE if i == 0 or plan.rows[i - 1].anchor is None else ANCHOR

        on_x, on_told = (0.0, 1.0) if row.at is None else convert(kind, row.kind, row.at.alpha, row.at.sigma)
        converted = [[(on_x, STATE), (on_told, j)] for j in range(FIRST, FIRST + made)]
        keep_any = plan.keep[i] > 0
        told = [[(1.0, j)] for j in range(FIRST, FIRST + made)] if keep_any else converted

        def mix(m: Mix) -> Ordered:
            predictions = [*told, *([(1.0, FIRST + made + j)] for j in range(known))]
            return ordered(
                [
                    (m.x, STATE),
                    (m.anchor, anchor_at),
                    *((d * c, j) for d, terms in zip(m.d, predictions, strict=False) for c, j in terms),
                    *((c, where[k]) for k, c in m.z),
                ]
            )

        return Line(
            kind=kind,
            t=float("nan") if row.at is None else row.at.t,
            pair=row.pair,
            converts=tuple(map(ordered, converted)) if keep_any and kind != row.kind else (),
            draws=tuple(draws),
            noises=tuple(noises),
            x=mix(row.x),
            anchor=None if row.anchor is None else mix(row.anchor),
            keep=plan.keep[i],
            drops=tuple(k for k in noises if k not in plan.held[i]),
        )

    @cached_property
    def shares(self) -> tuple[float, ...]:
        """For each row, by how much the anchor differs if the state does by 1, as both follow from one earlier state.

        The predictions in between are held fixed, in the kinds that the plan mixes. 0 where the state does not follow
        from an earlier one; 1 where the anchor is the state.
        """
        x = anchor = 1.0
        shares = [1.0]
        for row in self.plan.rows:
            parts = x, anchor
            x = row.x.x * parts[0] + row.x.anchor * parts[1]
            anchor = x if row.anchor is None else row.anchor.x * parts[0] + row.anchor.anchor * parts[1]
            if row.anchor is None:
                x = anchor = 1.0
            shares.append(anchor / x if x != 0.0 else 0.0)
        return tuple(shares)
