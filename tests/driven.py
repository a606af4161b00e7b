"""Runs that share Brownian paths: values stored on one fine grid, drawn once for many solvers and step counts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

import scoresde as ss
from scoresde.sources import Noise

Predict = Callable[[Tensor, ss.Point], Tensor]


class StoredPath:
    """A path of scoresde.BrownianGrid, uniform in log-SNR, whose values are kept: an increment is one subtraction."""

    def __init__(
        self, sde: ss.SDE, grid: Sequence[float], shape: tuple[int, ...], seed: int, clock: str = "snr"
    ) -> None:
        self.points = [sde.point(t) for t in grid]
        self.path = ss.BrownianGrid(self.points, shape, seed, clock=clock, dtype=torch.float64)
        self.values = [torch.zeros(shape, dtype=torch.float64)]
        for s, t in pairwise(self.points):
            self.values.append(self.values[-1] + self.path.increment(s, t) * self._scale(s, t))

    def increment(self, s: ss.Point, t: ss.Point) -> Tensor:
        """What the path's own increment is, to rounding."""
        return (self._at(t) - self._at(s)) / self._scale(s, t)

    def _at(self, point: ss.Point) -> Tensor:
        first, last = self.points[0].lam, self.points[-1].lam
        i = (point.lam - first) / (last - first) * (len(self.points) - 1)
        assert abs(i - round(i)) < 1e-6, "not a point of the grid"
        return self.values[round(i)]

    def _scale(self, s: ss.Point, t: ss.Point) -> float:
        return math.sqrt(abs(self.path.time(t) - self.path.time(s)))


@dataclass(frozen=True)
class Pair:
    """A mixture of two Gaussians with one variance, in every coordinate of a tensor of any shape."""

    weights: tuple[float, float] = (0.3, 0.7)
    means: tuple[float, float] = (-1.2, 0.8)
    variance: float = 0.15

    def predict(self, x: Tensor, at: ss.Point) -> Tensor:
        """The exact denoiser."""
        (a, b), v = self.means, at.alpha**2 * self.variance + at.sigma**2
        logit = math.log(self.weights[1] / self.weights[0]) + at.alpha * (b - a) / v * (x - at.alpha * (a + b) / 2)
        mean = a + (b - a) * torch.sigmoid(logit)
        gain = at.alpha * self.variance / v
        return (1 - gain * at.alpha) * mean + gain * x

    def draw(self, at: ss.Point, shape: tuple[int, ...], seed: int) -> Tensor:
        """Exact samples of the marginal."""
        generator = torch.Generator().manual_seed(seed)
        second = torch.rand(shape, generator=generator, dtype=torch.float64) < self.weights[1]
        z = torch.randn(shape, generator=generator, dtype=torch.float64)
        mean = torch.where(second, self.means[1], self.means[0])
        return at.alpha * mean + math.sqrt(at.alpha**2 * self.variance + at.sigma**2) * z

    def expect(self, f: Callable[[Tensor], Tensor], at: ss.Point) -> Tensor:
        """The expectation of f under the marginal, by the trapezoidal rule, which is exact to rounding here."""
        z = torch.linspace(-9.0, 9.0, 4001, dtype=torch.float64)
        density = torch.exp(-z * z / 2) * (z[1] - z[0]) / math.sqrt(2 * math.pi)
        std = math.sqrt(at.alpha**2 * self.variance + at.sigma**2)
        parts = [
            w * (f(at.alpha * m + std * z) * density).sum(-1) for w, m in zip(self.weights, self.means, strict=True)
        ]
        return parts[0] + parts[1]


def drive(plan: ss.Plan, predict: Predict, x: Tensor, noise: Noise) -> Tensor:
    run = plan.start(x, noise=noise)
    while not run.done:
        run.tell(predict(run.x, run.point))
    return run.sample
