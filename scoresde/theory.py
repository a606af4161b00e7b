r"""What a plan does to a Gaussian, exactly: no sampling, no network.

If :math:`x_0 \sim N(\mu, v)` in one coordinate, the exact denoiser is linear,
:math:`D(x) = \mu + \frac{\alpha v}{\alpha^2 v + \sigma^2}(x - \alpha\mu)`, so a plan's sample is a linear function of
x_T and the noises. A Gaussian with any covariance is this in each eigen-direction.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from scoresde.plan import Plan


class Moments(NamedTuple):
    """Exact law of a plan's sample in each coordinate: N(mean, variance), float64, of the shape of the variances."""

    mean: Tensor
    variance: Tensor


def gaussian_moments(
    plan: Plan, variance: Tensor, mean: Tensor | float = 0.0, *, start: Moments | None = None
) -> Moments:
    """The law of the plan's sample when the data are N(mean, diag(variance)) and the denoiser is exact.

    The plan is run on the coefficients of x_T, of each noise and of 1: the same loop that samples.

    Args:
        plan: any plan.
        variance: variances of the data, (D,), at least 0.
        mean: means of the data.
        start: law of x_T; by default the exact marginal at ``plan.begin``.

    Returns:
        Moments in float64, differentiable with respect to the variances and means.
    """
    v = torch.as_tensor(variance, dtype=torch.float64)
    mu = torch.as_tensor(mean, dtype=torch.float64).expand_as(v)
    a, s = plan.begin.alpha, plan.begin.sigma
    start = Moments(a * mu, a * a * v + s * s) if start is None else start
    # One row for each coordinate; columns: the coefficients of 1, x_T, z_0, z_1, ...
    unit = torch.eye(2 + plan.noises, dtype=torch.float64)
    run = plan.start(unit[1].repeat(len(v), 1), noise=lambda k: unit[2 + k].repeat(len(v), 1), check="off")
    while not run.done:
        a, s = run.point.alpha, run.point.sigma
        gain = a * v / (a * a * v + s * s)
        run.tell(gain[:, None] * run.x + ((1 - gain * a) * mu)[:, None] * unit[0])
    c = run.sample
    return Moments(c[:, 0] + c[:, 1] * start.mean, c[:, 1] ** 2 * start.variance + (c[:, 2:] ** 2).sum(1))


def gaussian_frechet(plan: Plan, variance: Tensor, mean: Tensor | float = 0.0) -> Tensor:
    """Squared Fréchet (2-Wasserstein) distance of the plan's sample to the Gaussian data themselves.

    Sum over coordinates of (difference of means)^2 + (difference of standard deviations)^2; a formula, differentiable.
    """
    v = torch.as_tensor(variance, dtype=torch.float64)
    got = gaussian_moments(plan, v, mean)
    return ((got.mean - torch.as_tensor(mean, dtype=torch.float64)) ** 2 + (got.variance.sqrt() - v.sqrt()) ** 2).sum()
