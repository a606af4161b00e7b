"""A first step without the network, where its prediction is known well enough."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from scoresde.predictions import PREDICTIONS
from scoresde.rows import KEEP_ANCHOR, KEEP_STATE, Mix, Row, Solver, Step
from scoresde.sde import Point
from scoresde.solvers.runge_kutta import RungeKutta
from scoresde.solvers.wrapper import Wrapper


@dataclass(frozen=True)
class AnalyticalFirstStep(Wrapper):
    r"""Analytical first step (Dockhorn, Vahdat & Kreis 2022, arXiv:2210.05475; in the form of Zhou et al. 2024,
    arXiv:2312.00094): the first evaluation of a run is replaced by :math:`\hat\epsilon = x/\sqrt{\alpha^2+\sigma^2}`.

    At high noise the state is nearly noise, of variance 1 in a variance-preserving scale. That saves one evaluation,
    and an error of first order in the first step remains, with a constant that falls with the noise level at which the
    run starts. A run of a single evaluation keeps it.

    A multistep method keeps the closed form in its history, as a multiple of the state from which the run began. Those
    that begin with several evaluations a step cannot.

    Args:
        inner: the deterministic solver.
    """

    inner: Solver = field(default_factory=lambda: RungeKutta("euler"))

    paper: ClassVar[str] = "Dockhorn, Vahdat & Kreis 2022, arXiv:2210.05475"
    keeps_constant_data: ClassVar[bool] = False
    starts_at_zero_snr: ClassVar[bool] = True

    def __post_init__(self) -> None:
        one = self.inner.evaluations + self.inner.further_evaluations == 1
        if not self.inner.deterministic or self.inner.pairs or (self._multistep and not one):
            raise ValueError(
                "inner must be deterministic, singlestep or with one evaluation, and not keep pairs (CFG++); "
                f"got {self.inner!r}"
            )

    @property
    def _multistep(self) -> bool:
        return self.inner.memory >= self.inner.evaluations

    @property
    def name(self) -> str:
        """For example "euler-afs"."""
        return f"{self.inner.name}-afs"

    @property
    def converges(self) -> int:
        """1: the closed form is not exact."""
        return min(1, self.inner.converges)

    @property
    def further_evaluations(self) -> int:  # type: ignore[override]
        """One fewer."""
        return self.inner.further_evaluations - 1

    def rows(self, step: Step) -> Sequence[Row]:
        """The inner solver's, with the closed form for the first prediction wherever that is used."""
        i, begin = step.index, step.route[0][0] if step.route else step.s
        if i and not self._remembers(begin, i):
            return self.inner_rows(step)
        rows = self.inner_rows(replace(step, past=(*step.past, begin)) if i else step)
        if step.steps == len(rows) == 1:
            return rows
        if self._multistep:
            rows = [row._replace(anchor=KEEP_ANCHOR if i else KEEP_STATE) for row in rows]
        elif len(rows) > 1 and [row.anchor for row in rows[:-1]] != [KEEP_STATE, *[KEEP_ANCHOR] * (len(rows) - 2)]:
            raise ValueError(f"inner must keep the start of its step for all of it, got {self.inner!r}")
        share = closed_form(rows[0].kind, begin)
        return [_with_share(row, i + k, share) for k, row in enumerate(rows)]

    def _remembers(self, begin: Point, i: int) -> bool:
        """Whether the first prediction is in the history of step i."""
        usable = begin.alpha > 0.0 or self.inner.starts_at_zero_snr
        return usable and self._multistep and i <= self.inner.memory


def closed_form(kind: str, at: Point) -> float:
    """A prediction of this kind, as a multiple of the state."""
    on_data, on_noise = PREDICTIONS[kind](at.alpha, at.sigma)
    norm = math.hypot(at.alpha, at.sigma)
    # The noise prediction is x / norm, and so (x - sigma x / norm) / alpha the prediction of the data.
    return (on_noise + on_data * at.alpha / (norm + at.sigma)) / norm


def _with_share(row: Row, i: int, share: float) -> Row:
    """The row after i more predictions, with the first one a multiple of the state (later: of the anchor)."""

    def known(m: Mix) -> Mix:
        if i >= len(m.d):
            return m
        m, d = m._replace(d=(*m.d[:i], *m.d[i + 1 :])), m.d[i]
        return m._replace(anchor=m.anchor + d * share) if i else m._replace(x=m.x + d * share)

    anchor = None if row.anchor is None else known(row.anchor)
    return row._replace(at=row.at if i else None, x=known(row.x), anchor=anchor)
