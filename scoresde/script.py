"""A plan made ready to run: what it does with the prediction of each row, all arithmetic on coefficients done.

The prediction that a run is told may be of another kind than the row mixes. Where the history has no use for it, the
conversion is part of the mixes: no tensor is made for it.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from scoresde.mix import ZERO, Ordered, ordered
from scoresde.predictions import Kind, convert
from scoresde.rows import Mix, Row

if TYPE_CHECKING:
    from scoresde.plan import Plan

# What a line mixes, by number: zero, state and anchor, then the predictions of its row, the history and the noises.
STATE, ANCHOR, FIRST = ZERO + 1, ZERO + 2, ZERO + 3
Scales = tuple[float, ...]


class Line(NamedTuple):
    """What to do at one row, told a prediction of one kind.

    Attributes:
        kind: of the prediction told.
        t: the time of the evaluation; NaN if there is none.
        pair: the row takes the unconditional prediction too.
        converts: for each prediction of the row, the mix that takes its place, as the history keeps it; () if it keeps
            none.
        draws: the noises that are used for the first time.
        noises: all noises of the mixes, in the order of their numbers there.
        x: the new state.
        anchor: the new anchor; None makes the new state the anchor too.
        keep: how many of the newest predictions to keep.
        scales: what each prediction in the history is multiplied by (see :meth:`Script.scales`).
        leaves: the same after the row.
        drops: noises that no later row uses.
    """

    kind: Kind
    t: float
    pair: bool
    converts: tuple[Ordered, ...]
    draws: tuple[int, ...]
    noises: tuple[int, ...]
    x: Ordered
    anchor: Ordered | None
    keep: int
    scales: Scales
    leaves: Scales
    drops: tuple[int, ...]


class Script(dict[tuple[int, Kind], Line]):
    """The lines of a plan: ``script[i, kind]`` is what to do at row i, told a prediction of this kind.

    They are made when first asked for.

    Raises:
        ValueError: the plan has no such row, or there is no such kind, or it cannot be converted at this row.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._scales: dict[Kind, tuple[Scales, ...]] = {}
        self.silent = frozenset(i for i, row in enumerate(plan.rows) if row.at is None)

    def __missing__(self, key: tuple[int, Kind]) -> Line:
        line = self[key] = self._line(*key)
        return line

    def _line(self, i: int, kind: Kind) -> Line:
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
        kept = plan.keep[i] > 0
        own = [_scale(row, j, kind) if kept else 1.0 for j in range(made)]
        converted = [[(c * on_x, STATE), (c * on_told, j)] for j, c in enumerate(own, FIRST)]
        scales = [*own, *self.scales(kind)[i]]
        as_they_are = [[(1.0, FIRST + j)] for j in range(len(scales))]
        predictions = as_they_are if kept else [*converted, *as_they_are[made:]]

        def mix(m: Mix) -> Ordered:
            used = zip(m.d, scales, predictions, strict=False)
            of_predictions = ((d / scale * c, j) for d, scale, terms in used for c, j in terms)
            of_noises = ((c, where[k]) for k, c in m.z)
            return ordered([(m.x, STATE), (m.anchor, anchor_at), *of_predictions, *of_noises])

        return Line(
            kind=kind,
            t=float("nan") if row.at is None else row.at.t,
            pair=row.pair,
            converts=tuple(map(ordered, converted)) if kept else (),
            draws=tuple(draws),
            noises=tuple(noises),
            x=mix(row.x),
            anchor=None if row.anchor is None else mix(row.anchor),
            keep=plan.keep[i],
            scales=self.scales(kind)[i],
            leaves=self.scales(kind)[i + 1],
            drops=tuple(k for k in noises if k not in plan.held[i]),
        )

    def scales(self, kind: Kind) -> tuple[Scales, ...]:
        """For each row, what each prediction in the history is multiplied by, newest first, if all are of this kind.

        A prediction that is converted is kept times its coefficient in the state that its row makes. So it is converted
        for that state and for the history at once, and the state needs no multiplication of it. One that is not
        converted is kept as it was told.
        """
        if kind not in self._scales:
            now: Scales = ()
            scales: list[Scales] = [now]
            for i, row in enumerate(self.plan.rows):
                now = (*(_scale(row, j, kind) for j in range(row.made)), *now)[: self.plan.keep[i]]
                scales.append(now)
            self._scales[kind] = tuple(scales)
        return self._scales[kind]

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


def _scale(row: Row, j: int, kind: Kind) -> float:
    """What prediction j of a row is multiplied by in the history; 1 if its coefficient could over- or underflow."""
    d = row.x.d[j] if j < len(row.x.d) else 0.0
    return d if kind != row.kind and 1e-3 < abs(d) < 1e3 else 1.0
