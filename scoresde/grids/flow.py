r"""Grids that others define on the time of rectified flow, where :math:`\sigma` runs from 1 to 0 and
:math:`\alpha = 1 - \sigma`.

On every process that is the level :math:`\sigma/(\alpha+\sigma)`, so they have the same :math:`\lambda` everywhere. It
is finite at both ends, pure noise and data.
"""

from __future__ import annotations

import math

from scoresde.grids.spacing import positive
from scoresde.sde import SDE


def level(sde: SDE, t: float) -> float:
    """sigma / (alpha + sigma): the time of rectified flow with the same lambda."""
    alpha, sigma = sde.alpha(t), sde.sigma(t)
    return sigma / (alpha + sigma)


def time_at_level(sde: SDE, value: float) -> float:
    """The time at which sigma / (alpha + sigma) has this value, within (0, 1)."""
    return sde.t_at_lam(math.log1p(-value) - math.log(value))


def _falling(sde: SDE, start: float, end: float, curve: list[float]) -> list[float]:
    """The times at which the level falls along a curve from 1 to 0."""
    high, low = level(sde, start), level(sde, end)
    return [start, *(time_at_level(sde, low + (high - low) * c) for c in curve[1:-1]), end]


def linear_quadratic(
    sde: SDE, steps: int, start: float, end: float, threshold_noise: float = 0.025, linear_steps: int | None = None
) -> list[float]:
    r"""Small equal steps from noise, then steps that grow: the level of step i of N is 1 - s, with

    .. math:: s_i = \frac{\theta i}{L} + a \max(i - L, 0)^2, \quad a = \frac{L - \theta N}{L (N - L)^2}

    :math:`\theta` the threshold and L the linear steps. From Mochi (Genmo, ``linear_quadratic_schedule`` of its
    ``infer.py``); "linear_quadratic" of ComfyUI, which multiplies it by the largest sigma on other models.

    Args:
        threshold_noise: what the linear steps remove in all; positive, and below 2 L / (N + L).
        linear_steps: L, from 1 to N - 1; by default N // 2.
    """
    if steps == 1:
        return [start, end]
    linear = steps // 2 if linear_steps is None else linear_steps
    if linear != int(linear) or not 1 <= linear < steps:
        raise ValueError(f"linear_steps must be an int from 1 to steps - 1 = {steps - 1}, got {linear_steps}")
    if not 0 < threshold_noise < 2 * linear / (steps + linear):
        raise ValueError(
            f"threshold_noise must be positive and below 2 L / (N + L) = {2 * linear / (steps + linear):.4g} "
            f"for L={linear} linear steps of N={steps}, got {threshold_noise}"
        )
    bend = (linear - threshold_noise * steps) / (linear * (steps - linear) ** 2)
    removed = [threshold_noise * i / linear + bend * max(i - linear, 0) ** 2 for i in range(steps + 1)]
    return _falling(sde, start, end, [1 - s for s in removed])


def bong_tangent(
    sde: SDE,
    steps: int,
    start: float,
    end: float,
    middle: float = 0.5,
    pivot_1: float = 0.6,
    pivot_2: float = 0.6,
    slope_1: float = 0.2,
    slope_2: float = 0.2,
) -> list[float]:
    """Two falling arctangents, joined where the level is ``middle``: "bong_tangent" of RES4LYF.

    Each runs over its share of the N + 2 indices i as arctan(-40 slope (i - pivot) / (N + 2)), scaled to its ends. One
    step, at which the source divides by 0, goes straight from start to end.

    Args:
        middle: the level at which they join, between 0 and 1.
        pivot_1, pivot_2: where each is steepest, as a share of the indices; they join at the mean of the two.
        slope_1, slope_2: positive; how sharply each bends.
    """
    positive(slope_1=slope_1, slope_2=slope_2)
    if not 0 < middle < 1:
        raise ValueError(f"middle must be between 0 and 1, got {middle}")
    if steps == 1:
        return [start, end]
    total = steps + 2
    first = int((total * pivot_1 + total * pivot_2) / 2)
    if not 2 <= first <= steps:
        raise ValueError(
            f"the mean of pivot_1 and pivot_2 must give both parts at least two of the {total} indices: "
            f"between {2 / total:.3g} and {(steps + 1) / total:.3g}, got {(pivot_1 + pivot_2) / 2:.3g}"
        )
    down = _arctangent(first, 40 * slope_1 / total, int(total * pivot_1))
    on = _arctangent(total - first, 40 * slope_2 / total, int(total * pivot_2) - first)
    return _falling(sde, start, end, [*(middle + (1 - middle) * y for y in down[:-1]), *(middle * y for y in on)])


def _arctangent(points: int, slope: float, pivot: int) -> list[float]:
    """An arctangent over so many indices, scaled to fall from 1 to 0."""
    y = [math.atan(-slope * (i - pivot)) for i in range(points)]
    return [(v - y[-1]) / (y[0] - y[-1]) for v in y]
