"""Restart: between its steps, a deterministic solver goes back to more noise, some times over."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count, pairwise
from typing import ClassVar, NamedTuple

from scoresde.rows import Row, Solver, Step
from scoresde.sde import Point
from scoresde.solvers.cooling import check_noise
from scoresde.solvers.runge_kutta import RungeKutta
from scoresde.solvers.wrapper import Wrapper

ROUNDING = 1e-9  # of noise levels that are meant to be the same


class Interval(NamedTuple):
    """Noise levels sigma/alpha between which a sampler restarts, and how.

    Attributes:
        t_min, t_max: the levels that it restarts from and goes back to.
        restarts: how many times (the paper's K).
        points: of the grid from t_max to t_min, both ends counted (the paper's N_Restart): points - 1 steps.
    """

    t_min: float
    t_max: float
    restarts: int
    points: int


# Settings of the paper's Tables 3 and 5, with the main steps that they go with.
CIFAR10_EDM = (Interval(0.14, 0.30, 2, 3),)  # 18 steps, 43 evaluations
CIFAR10_VP = (Interval(0.06, 0.30, 2, 3),)  # 18 steps, 43 evaluations
IMAGENET64_EDM = (  # 36 steps, 203 evaluations
    Interval(19.35, 40.79, 1, 4),
    Interval(1.09, 1.92, 1, 4),
    Interval(0.59, 1.09, 5, 4),
    Interval(0.30, 0.59, 5, 4),
    Interval(0.06, 0.30, 6, 6),
)


@dataclass(frozen=True)
class Restart(Wrapper):
    r"""Restart sampling (Xu et al. 2023, arXiv:2306.14878, Algorithms 1 and 2), for every process.

    When the main grid has come down to the node nearest to :math:`t_{min}` (in :math:`\rho = \sigma/\alpha`), K times:
    :math:`\sqrt{t_{max}^2-\rho^2}\,z` is added to :math:`x/\alpha`, and the inner solver steps back down to the node,
    on Karras' grid of ``points`` levels. The noise contracts what the steps have done wrong until then, and the steps
    themselves stay deterministic. Heun from N steps into :math:`\sigma = 0` costs
    :math:`2N - 1 + \sum 2K\,(points-1)` evaluations.

    The noise is exact in law, so the weak order is the inner solver's if the steps of the restarts are refined
    together with the main grid. With a fixed number of ``points`` their own error remains: it does not converge.

    An interval has no effect if its t_min lies outside the grid, at its first node, or if the node that is nearest to
    t_min is not below t_max, as may be on a coarse grid (the official code then has a negative variance). The sample
    itself is never a node to restart from: a step into sigma = 0 counts as reaching t_min at its start. Where several
    intervals share a node they take place in the order given (the official code forgets all but the last).

    Args:
        inner: the deterministic solver, one without a memory across steps; the paper's is Heun.
        intervals: :class:`Interval` values, or plain tuples (t_min, t_max, restarts, points). The default is the
            paper's for CIFAR-10 with EDM's network; CIFAR10_VP and IMAGENET64_EDM of this module are others.
        exponent: of Karras' grid (their rho).
        s_noise: factor on the noise that is added (the paper's experiments have 1.003).
    """

    inner: Solver = field(default_factory=lambda: RungeKutta("heun"))
    intervals: tuple[Interval, ...] = CIFAR10_EDM
    exponent: float = 7.0
    s_noise: float = 1.0

    paper: ClassVar[str] = "Xu et al. 2023, arXiv:2306.14878"
    starts_at_zero_snr: ClassVar[bool] = True
    ends_at_data: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_noise(0.0, self.s_noise)
        if not (self.exponent > 0.0 and math.isfinite(self.exponent)):
            raise ValueError(f"exponent must be positive and finite, got {self.exponent}")
        try:
            object.__setattr__(self, "intervals", tuple(Interval(*i) for i in self.intervals))
        except TypeError:
            wanted = "intervals must be tuples (t_min, t_max, restarts, points)"
            raise ValueError(f"{wanted}, got {self.intervals!r}") from None
        for i in self.intervals:
            if not (0.0 < i.t_min < i.t_max < math.inf and i.restarts >= 1 and i.points >= 2):
                raise ValueError(f"intervals: needs 0 < t_min < t_max, restarts >= 1 and points >= 2, got {i}")

    @property
    def name(self) -> str:
        """For example "heun-restart"."""
        return f"{self.inner.name}-restart"

    @property
    def converges(self) -> int:
        """0: the steps of the restarts are as many on every grid. The inner solver's order without intervals."""
        return 0 if self.intervals else self.inner.converges

    @property
    def further_noises(self) -> int:  # type: ignore[override]
        """One for each restart, if the grid has a node for it."""
        return sum(i.restarts for i in self.intervals)

    @property
    def further_evaluations(self) -> int:  # type: ignore[override]
        """Those of the restarts' steps, if the grid has nodes for them."""
        return sum(i.restarts * (i.points - 1) for i in self.intervals) * self.inner.evaluations

    def rows(self, step: Step) -> Sequence[Row]:
        """The inner solver's, with those of the restarts from either end that belong to this step."""
        noises = count()
        here = [(i, nearest_end(i.t_min, step)) for i in self.intervals]
        before = [row for i, node in here if node is step.s for row in self._restarts(i, step.s, step, noises)]
        after = [row for i, node in here if node is step.t for row in self._restarts(i, step.t, step, noises)]
        return [*before, *self.inner_rows(step), *after]

    def _restarts(self, interval: Interval, node: Point, step: Step, noises: Iterator[int]) -> Iterator[Row]:
        _, t_max, restarts, points = interval
        highest = step.sde.rho(step.sde.T)
        if t_max > highest * (1 + ROUNDING):
            raise ValueError(f"intervals: {interval} goes above the highest noise level of {step.sde}, {highest}")
        if node.rho >= t_max:
            return
        first, last = t_max ** (1 / self.exponent), node.rho ** (1 / self.exponent)
        levels = [(first + k / (points - 1) * (last - first)) ** self.exponent for k in range(points - 1)]
        grid = [*(step.sde.point_at_lam(-math.log(level)) for level in levels), node]
        for _ in range(restarts):
            yield self.raised(node, grid[0], next(noises), self.s_noise)
            for s, t in pairwise(grid):
                yield from self.inner_rows(replace(step, s=s, t=t, past=()))


def nearest_end(rho: float, step: Step) -> Point | None:
    """The end of a step nearest to a noise level within it; None if that is the start of the grid."""
    s, t = step.s, step.t
    if not t.rho * (1 - ROUNDING) <= rho < s.rho * (1 - ROUNDING):
        return None
    if t.sigma > 0.0 and rho - t.rho <= s.rho - rho:
        return t
    return s if step.index else None
