"""A first step without the network, where its prediction is known well enough."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from scoresde.predictions import PREDICTIONS
from scoresde.rows import KEEP_ANCHOR, KEEP_STATE, Mix, Row, Solver, Step
from scoresde.solvers.runge_kutta import RungeKutta
from scoresde.solvers.wrapper import Wrapper


@dataclass(frozen=True)
class AnalyticalFirstStep(Wrapper):
    r"""Analytical first step (Dockhorn, Vahdat & Kreis 2022, arXiv:2210.05475; in the form of Zhou et al. 2024,
    arXiv:2312.00094): the first evaluation of a run is replaced by :math:`\hat\epsilon = x/\sqrt{\alpha^2+\sigma^2}`.

    At high noise the state is nearly noise, of variance 1 in a variance-preserving scale. That saves one evaluation,
    and an error of first order in the first step remains, with a constant that falls with the noise level at which the
    run starts. A run of a single evaluation keeps it.

    The inner solver may not keep predictions across steps. The authors' multistep samplers do; the closed form then
    enters their later steps as a multiple of the initial state.

    Args:
        inner: the deterministic solver.
    """

    inner: Solver = field(default_factory=lambda: RungeKutta("euler"))

    paper: ClassVar[str] = "Dockhorn, Vahdat & Kreis 2022, arXiv:2210.05475"
    keeps_constant_data: ClassVar[bool] = False
    starts_at_zero_snr: ClassVar[bool] = True

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
        """The inner solver's; in the first step with the closed form for the first prediction."""
        first, *others = rows = self.inner_rows(step)
        if step.index or (step.steps == 1 and not others):
            return rows
        if others and [row.anchor for row in rows[:-1]] != [KEEP_STATE, *[KEEP_ANCHOR] * (len(rows) - 2)]:
            raise ValueError(f"inner must keep the start of its step for all of it, got {self.inner!r}")
        alpha, sigma = step.s.alpha, step.s.sigma
        on_data, on_noise = PREDICTIONS[first.kind](alpha, sigma)
        norm = math.hypot(alpha, sigma)
        # The noise prediction is x / norm, and so (x - sigma x / norm) / alpha the prediction of the data.
        share = (on_noise + on_data * alpha / (norm + sigma)) / norm
        return [_with_share(row, i, share) for i, row in enumerate(rows)]


def _with_share(row: Row, i: int, share: float) -> Row:
    """Row i of a step, with the first prediction of the step a multiple of the state there (later: of the anchor)."""

    def known(m: Mix) -> Mix:
        if i >= len(m.d):
            return m
        m, d = m._replace(d=(*m.d[:i], *m.d[i + 1 :])), m.d[i]
        return m._replace(anchor=m.anchor + d * share) if i else m._replace(x=m.x + d * share)

    anchor = None if row.anchor is None else known(row.anchor)
    return Row(row.at if i else None, row.kind, known(row.x), anchor)
