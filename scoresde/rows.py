"""What a solver writes: rows of coefficients. Plain data, no tensors.

A plan is executed on a state of ``x`` (the sample, and where the network is evaluated next), ``anchor`` (a state kept
from earlier, such as the start of a step with inner stages) and a short history of predictions, newest first. One
:class:`Row` evaluates the network at ``x`` (or nowhere), and replaces ``x`` and ``anchor`` by linear mixes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from scoresde.sde import SDE, Point


class Mix(NamedTuple):
    """``x * state + anchor * anchor + sum_j d[j] * prediction[j] + sum (c of (k, c) in z) * noise[k]``.

    Attributes:
        x: coefficient of the current state.
        anchor: coefficient of the anchor.
        d: coefficients of the predictions, newest first; d[0] belongs to the evaluation of this row, if it has one.
        z: pairs (k, coefficient) of independent standard normal noises; a solver counts k from 0 within its step.
    """

    x: float = 0.0
    anchor: float = 0.0
    d: tuple[float, ...] = ()
    z: tuple[tuple[int, float], ...] = ()


KEEP_STATE = Mix(x=1.0)  # as the anchor of a row: remember the state as it was before the row
KEEP_ANCHOR = Mix(anchor=1.0)  # as the anchor of a row: leave it as it is


# From a noise level to a less noisy one.
Span = tuple[Point, Point]


class Row(NamedTuple):
    """One evaluation of the network, or none, followed by one linear mix.

    Attributes:
        at: the noise level at which the network is evaluated; None for a row that only mixes (churn, restart).
        kind: the kind of prediction (see :mod:`scoresde.predictions`) that this row's d[0] multiplies.
        x: the new state.
        anchor: the new anchor; None makes the new state the anchor too.
        pair: the unconditional prediction of a guided network is kept too, just behind the guided one: d[0] is guided,
            d[1] unconditional (CFG++).
    """

    at: Point | None
    kind: str
    x: Mix
    anchor: Mix | None = None
    pair: bool = False

    @property
    def made(self) -> int:
        """Predictions that this row adds to the history."""
        return 0 if self.at is None else 1 + self.pair


@dataclass(frozen=True)
class Step:
    """What a solver knows when it plans the step from s to the less noisy t.

    Attributes:
        sde: the process.
        s, t: the noise levels at the two ends.
        past: where earlier predictions of this solver's kind were made that are still usable, newest first; Mix.d[1 +
            i] of the first row of the step multiplies the prediction made at past[i].
        index, steps: this is step ``index`` (from 0) of ``steps``.
        route: the two ends of every step of the plan, for the few methods that look beyond their own step.
    """

    sde: SDE
    s: Point
    t: Point
    past: tuple[Point, ...] = ()
    index: int = 0
    steps: int = 1
    route: tuple[tuple[Point, Point], ...] = ()

    @property
    def h(self) -> float:
        """The step in half log-SNR, lam(t) - lam(s) > 0; inf if a step leaves alpha = 0 or reaches sigma = 0."""
        return self.t.lam - self.s.lam

    @property
    def remaining(self) -> int:
        """Steps from this one to the end: 1 for the last."""
        return self.steps - self.index

    def within(self, r: float) -> Point:
        """The noise level at the fraction r of the step in half log-SNR: exactly s at r = 0 and t at r = 1."""
        if r in (0.0, 1.0):
            return self.t if r else self.s
        return self.sde.point_at_lam(self.s.lam + r * self.h)


class Solver(ABC):
    """A fixed-step sampler: a small frozen dataclass of options with one pure function, :meth:`rows`.

    What a solver declares is tested: ``order`` and ``converges`` (see there), ``kind`` (the prediction that it
    mixes), ``memory`` (predictions kept between evaluations), ``noises`` and ``evaluations`` (of the
    network) in a full step.

    Attributes:
        starts_at_zero_snr: it can step from alpha = 0 (pure noise) itself. Otherwise such a step is DDIM, which is the
            limit of every exponential method there and costs one evaluation; its error is of second order in the step.
        ends_at_data: it can step into sigma = 0 itself. Otherwise such a step is DDIM: the sample is the denoiser's
            output.
        keeps_constant_data: if the prediction of x0 does not change, its part of the step is exact. True of solvers in
            which the linear part of the equation is solved, not of those in the process's own time.
        further_evaluations: of the network, whatever the number of steps: for first steps of a multistep method that
            starts with several evaluations a step, or for restarts; less than 0 if some are saved. A plan of n full
            steps takes n * evaluations + further_evaluations.
        further_noises: likewise, n * noises + further_noises.
        pairs: it keeps pairs of a guided and an unconditional prediction (see :class:`Row`); each counts in its memory.
        strong_order: if its noises follow a Brownian path (:meth:`noise_spans`), the order in which a sample approaches
            the solution of its stochastic equation on that path: 1, as of every method with one noise a stage.
        most_gain: what a step may amplify (see :mod:`scoresde.gain`) where :func:`scoresde.plan_for` and
            :func:`scoresde.sample` plan it. A step that amplifies more is too long for the method: there are few steps,
            or one is suddenly long in half log-SNR, as the last one of a grid uniform in time is. It is taken with a
            shorter past, that is with a lower order, as far as that takes, or else as DDIM. This replaces the rules by
            which other libraries lower the order of the last steps below some number of steps. 4 gave the smallest
            errors over the catalogue on a mixture with an exact denoiser (3000 combinations of solver, process, grid
            and steps whose gain exceeds 2.5; geometric means for limits of 3, 4, 5, 7, 10: 0.138, 0.137, 0.141, 0.151,
            0.163 of the error of one Euler step, and 0.436 without a limit). math.inf turns it off.
        shows_order_at: steps, over some 8 units of half log-SNR, from which doubling them shows ``converges`` to 0.15.
    """

    kind: str
    order: int
    noises: int = 0
    evaluations: int = 1
    further_evaluations: int = 0
    further_noises: int = 0
    paper: ClassVar[str] = ""
    starts_at_zero_snr: ClassVar[bool] = False
    ends_at_data: ClassVar[bool] = False
    keeps_constant_data: ClassVar[bool] = True
    pairs: ClassVar[bool] = False
    strong_order: ClassVar[float] = 1.0
    most_gain: ClassVar[float] = 4.0
    shows_order_at: ClassVar[int] = 160

    @property
    @abstractmethod
    def name(self) -> str:
        """The name under which :func:`scoresde.get_solver` makes it."""

    @property
    @abstractmethod
    def memory(self) -> int:
        """Predictions that must be kept between two evaluations."""

    @property
    def converges(self) -> int:
        """The global order of convergence that is measured (weak order, if it draws noise); ``order`` for most."""
        return self.order

    @property
    def deterministic(self) -> bool:
        """Whether it draws no noise."""
        return not (self.noises or self.further_noises)

    @abstractmethod
    def rows(self, step: Step) -> Sequence[Row]:
        """The rows of one step."""

    def takes(self, step: Step) -> bool:
        """Whether the solver can take this step itself: not from alpha = 0 or into sigma = 0, unless it says so."""
        return (step.s.alpha > 0.0 or self.starts_at_zero_snr) and (step.t.sigma > 0.0 or self.ends_at_data)

    def noise_spans(self, step: Step) -> Sequence[Span | None]:
        """For each noise of the step, over which part of a Brownian path it is the increment, if it is one.

        Parts must not overlap. None stands for a noise that is drawn apart from the path, and () for no noise of the
        path at all. By default a solver's one noise belongs to its whole step.
        """
        return ((step.s, step.t),) if self.noises == 1 else ()

    def for_budget(self, nfe: int, to_data: bool) -> Solver:
        """The variant of this solver that fills a budget of ``nfe`` evaluations best (itself, for most)."""
        return self
