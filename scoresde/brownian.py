r"""Brownian paths: the noises of a sampler as increments of one path a sample, the same for every number of steps.

In the half log-SNR :math:`\lambda` every stochastic sampler here is driven by one Wiener process, whatever its step
count. A step multiplies it by a kernel of its own: the exact solution for data prediction has
:math:`\int_s^t e^{\lambda}\,dW_\lambda`, the increment of a Brownian motion whose time is
:math:`e^{2\lambda} = \alpha^2/\sigma^2`; for noise prediction it is the time :math:`\sigma^2/\alpha^2`, and k-diffusion
uses the time :math:`\sigma/\alpha`. Two such increments over a step of length h, both scaled to unit variance, have the
correlation :math:`1 - O(h^2)`: which of these clocks a path has costs a strong error of order 1, which is the strong
order of the samplers themselves.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from scoresde.errors import choose
from scoresde.noise import normal
from scoresde.sde import Point

# The clocks e^(rate lambda), by name.
CLOCKS = {"snr": 2.0, "variance": -2.0, "sigma": -1.0}
FURTHEST = 600.0  # exponent at which a clock that runs to infinity is stopped: far beyond any noise level
SCALE = 4.0  # nodes lie at the quantiles of a logistic distribution of lambda with this scale
DEEPEST = 29
# Streams of noise (see scoresde.noise.normal), away from those of plans and of targets: of the end of a path at
# infinity, then of its nodes; and of the steps of a fixed grid.
NODES = 2**31
STEPS = 2**31 + 2**30


class _Node(NamedTuple):
    """A place of the path that is known: its number from 0 to 2^depth, where it is, and the path there."""

    number: int
    lam: float
    time: float
    value: Tensor


class _Driver:
    """What both kinds of path share: whose noise it is, and the clock."""

    def __init__(
        self,
        shape: Sequence[int],
        seed: int,
        index: int | Sequence[int],
        clock: str,
        dtype: torch.dtype,
        device: str | torch.device | None,
    ) -> None:
        self.shape, self.seed, self.index, self.clock = tuple(shape), seed, index, clock
        self._rate = choose(clock, CLOCKS, "clock")
        self._dtype, self._device = dtype, device

    def time(self, point: Point) -> float:
        """The path's own time at a noise level; it runs to (practically) infinity at one end."""
        return self._time(point.lam)

    def _time(self, lam: float) -> float:
        return math.exp(min(self._rate * lam, FURTHEST))

    def _draw(self, stream: int) -> Tensor:
        return normal(self.shape, self.seed, self.index, stream, dtype=torch.float64, device=self._device)

    def _unit(self, difference: Tensor, s: Point, t: Point) -> Tensor:
        return (difference / math.sqrt(abs(self.time(t) - self.time(s)))).to(self._dtype)


class BrownianPath(_Driver):
    """One Brownian path for each sample: a function of (seed, sample index) and the noise level, and of nothing else.

    It is made by Lévy's construction on a fixed binary tree: the value at a node is the bridge between the two nodes
    that surround it, with a draw keyed by the node. So it is the same for any grid, number of steps, batch and device.
    Between the last nodes, some 1e-4 apart in half log-SNR at ``depth`` 18, it goes on as one more bridge; the law of
    its values is exact as long as no two of them lie between the same two of these, and an increment of which both ends
    do is refused.

    A walk towards the data, as sampling is, draws ``depth`` plus 1 tensors for its first point and about ``depth`` plus
    1 less the binary logarithm of the number of steps for each further one, and holds at most ``depth`` plus 6 float64
    tensors of the shape. Going back starts the walk again.

    Args:
        shape: (batch, ...) of the samples.
        seed, index: as of :func:`scoresde.noise.normal`.
        clock: in which it is a Brownian motion: "snr" (alpha^2/sigma^2: the noises of every exponential method in data
            prediction at eta = 1 are then exactly its increments), "variance" (sigma^2/alpha^2: the same for noise
            prediction), or "sigma" (sigma/alpha, as k-diffusion has it).
        depth: of the tree, 1 to 29.
        dtype, device: of the increments; the path itself is float64.

    Raises:
        ValueError: an unknown clock, or a depth out of range.
    """

    def __init__(
        self,
        shape: Sequence[int],
        seed: int = 0,
        index: int | Sequence[int] = 0,
        *,
        clock: str = "snr",
        depth: int = 18,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device | None = None,
    ) -> None:
        super().__init__(shape, seed, index, clock, dtype, device)
        if not 1 <= depth <= DEEPEST:
            raise ValueError(f"depth must be within [1, {DEEPEST}], got {depth}")
        self.depth = depth
        # A walk holds the node to the left of the last point, and those to the right that it has not passed yet.
        self._left: _Node | None = None
        self._right: list[_Node] = []
        self._recent: dict[float, tuple[int, Tensor]] = {}

    def increment(self, s: Point, t: Point) -> Tensor:
        """The path at t less that at the noisier s, scaled to unit variance.

        Raises:
            ValueError: t is not less noisy than s, or the tree does not resolve so short a step.
        """
        if not s.lam < t.lam:
            raise ValueError(f"an increment goes from s to a less noisy t; got t={s.t} to t={t.t}")
        (before, at_s), (after, at_t) = self._visit(s.lam), self._visit(t.lam)
        if before == after:
            raise ValueError(
                f"the step from t={s.t} to t={t.t} is shorter than a path of depth {self.depth} resolves; "
                "pass noise=BrownianPath(..., depth=...) with more"
            )
        return self._unit(at_t - at_s, s, t)

    def at(self, point: Point) -> Tensor:
        """The path, in float64."""
        return self._visit(point.lam)[1]

    def _visit(self, lam: float) -> tuple[int, Tensor]:
        """The number of the node to the left, and the path at lam."""
        if lam not in self._recent:
            self._recent = dict([*self._recent.items()][-1:])  # the end of a step is the start of the next
            self._recent[lam] = self._walk(lam)
        return self._recent[lam]

    def _walk(self, lam: float) -> tuple[int, Tensor]:
        if self._left is None or lam < self._left.lam:
            self._left, self._right = self._end(0, -math.inf), [self._end(2**self.depth, math.inf)]
        while self._right and lam >= self._right[-1].lam:
            self._left = self._right.pop()
        if lam == self._left.lam:
            return self._left.number, self._left.value
        while (width := self._right[-1].number - self._left.number) > 1:
            number = self._left.number + width // 2
            middle_lam = SCALE * math.log(number / (2**self.depth - number))
            middle = _Node(number, middle_lam, self._time(middle_lam), self._between(middle_lam))
            if lam < middle_lam:
                self._right.append(middle)
            else:
                self._left = middle
        return self._left.number, self._between(lam)

    def _end(self, number: int, lam: float) -> _Node:
        time = self._time(lam)
        value = self._draw(NODES) * math.sqrt(time) if time else torch.zeros(self.shape, device=self._device).double()
        return _Node(number, lam, time, value)

    def _between(self, lam: float) -> Tensor:
        """The bridge between the nodes around lam, with the draw of the node that would halve their distance."""
        assert self._left is not None
        a, b, time = self._left, self._right[-1], self._time(lam)
        share = (time - a.time) / (b.time - a.time)
        rest = (b.time - time) / (b.time - a.time)  # not 1 - share: a clock that starts at infinity would leave none
        variance = abs(time - a.time) * max(rest, 0.0)
        width = b.number - a.number
        in_heap = (2**self.depth + a.number) // width  # 2^level + place: the same in trees of any depth
        return torch.lerp(a.value, b.value, share).add_(self._draw(NODES + in_heap), alpha=math.sqrt(variance))


class BrownianGrid(_Driver):
    """One Brownian path for each sample, known at the points of a grid only: one draw for each interval of it.

    Every plan whose steps begin and end at these points is driven by the same path: the plan of the grid itself at one
    draw a step and, say, one of every fourth point.

    Args:
        points: noise levels, from noisy to clean.
        shape, seed, index, clock, dtype, device: as of :class:`BrownianPath`.

    Raises:
        ValueError: fewer than two points, or not from noisy to clean.
    """

    def __init__(
        self,
        points: Sequence[Point],
        shape: Sequence[int],
        seed: int = 0,
        index: int | Sequence[int] = 0,
        *,
        clock: str = "snr",
        dtype: torch.dtype = torch.float32,
        device: str | torch.device | None = None,
    ) -> None:
        super().__init__(shape, seed, index, clock, dtype, device)
        self.points = tuple(points)
        self._lams = [p.lam for p in self.points]
        if len(self.points) < 2 or any(a >= b for a, b in zip(self._lams[:-1], self._lams[1:], strict=True)):
            raise ValueError("points must be at least two noise levels, each less noisy than the one before")

    def increment(self, s: Point, t: Point) -> Tensor:
        """The path at t less that at the noisier s, scaled to unit variance.

        Raises:
            ValueError: s or t is not a point of the grid, or t is not less noisy than s.
        """
        first, last = self._number(s), self._number(t)
        if not first < last:
            raise ValueError(f"an increment goes from s to a less noisy t; got t={s.t} to t={t.t}")
        times = [self.time(p) for p in self.points[first : last + 1]]
        total = torch.zeros(self.shape, dtype=torch.float64, device=self._device)
        for i in range(last - first):
            total.add_(self._draw(STEPS + first + i), alpha=math.sqrt(abs(times[i + 1] - times[i])))
        return self._unit(total, self.points[first], self.points[last])

    def _number(self, point: Point) -> int:
        """Which point of the grid this is, up to rounding."""
        i = bisect_left(self._lams, point.lam)
        for near in (i, i - 1):
            if 0 <= near < len(self._lams) and (
                self._lams[near] == point.lam or math.isclose(self._lams[near], point.lam, rel_tol=1e-9, abs_tol=1e-9)
            ):
                return near
        raise ValueError(f"t={point.t} is not a point of the path's grid of {len(self._lams)} points")
