r"""What is known exactly: what a plan does to a Gaussian, without sampling, and the order of convergence of a solver.

If :math:`x_0 \sim N(\mu, v)` in one coordinate, the exact denoiser is linear,
:math:`D(x) = \mu + \frac{\alpha v}{\alpha^2 v + \sigma^2}(x - \alpha\mu)`, so a plan's sample is a linear function of
x_T and the noises. A Gaussian with any covariance is this in each eigen-direction.

Orders are slopes of errors against an exact solution: :class:`FlowProblem` for deterministic solvers, and
:class:`GaussianProblem`, whose errors are those of exact moments, for the weak order of stochastic ones.

>>> import scoresde as ss
>>> problem = FlowProblem(ss.VP(), end=ss.VP().t_at_lam(3.0))
>>> round(observed_order(problem, ss.get_solver("dpmpp-2m"), (80, 160)), 1)
2.0
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache, cached_property
from itertools import pairwise
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from scoresde.plan import Plan
from scoresde.rows import Solver
from scoresde.sample import AnyGrid, plan_for
from scoresde.sde import EDM, SDE, VP, RectifiedFlow, SubVP
from scoresde.targets import GaussianMixture, Target


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


class Problem(Protocol):
    """Something that a solver makes an error on which is known exactly."""

    def error(self, solver: Solver, steps: int) -> float:
        """The error of that many steps."""
        ...

    def fine(self, solver: Solver) -> int:
        """Steps from which doubling them shows the solver's order."""
        ...


class FlowProblem:
    """Root-mean-square distances to the exact probability flow of a target, for deterministic solvers.

    Args:
        sde: the process. One with alpha(T) = 0 is best cut short (``RectifiedFlow(T=0.999)``): its first step is of
            order 1, and its fixed error hides orders above 2.
        end: "eps", "zero" or a time. A moderate noise level keeps the step counts that show a high order small.
        target: with an exact denoiser; by default the mixture of five Gaussians in the plane.
        n: starting points.
    """

    def __init__(self, sde: SDE, end: str | float = "eps", *, target: Target | None = None, n: int = 24) -> None:
        self.sde, self.end = sde, end
        target = GaussianMixture.five() if target is None else target
        self.denoiser = target.denoiser(sde)
        normal = torch.randn(n, *target.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        self.x_T = normal * sde.prior_std()
        self.target = target
        self.last = sde.point(sde.eps if end == "eps" else 0.0 if end == "zero" else float(end))

    @cached_property
    def exact(self) -> Tensor:
        """Where the flow takes the starting points."""
        return self.target.flow(self.x_T, self.sde.point(self.sde.T), self.last)

    def error(self, solver: Solver, steps: int, grid: AnyGrid = "log-snr", *, most_gain: float | None = None) -> float:
        """Root-mean-square distance of the samples to the exact ones; ``most_gain`` as of :func:`scoresde.plan_for`."""
        plan = plan_for(solver, self.sde, steps=steps, grid=grid, end=self.end, most_gain=most_gain)
        run = plan.start(self.x_T)
        while not run.done:
            run.tell(*self.denoiser.evaluate(run.x, run.t))
        return (run.sample - self.exact).square().mean().sqrt().item()

    def slopes(self, solver: Solver, steps: Sequence[int], grid: AnyGrid = "log-snr") -> list[float]:
        """Observed orders between consecutive step counts."""
        return slopes([self.error(solver, n, grid) for n in steps], steps)

    def fine(self, solver: Solver) -> int:
        """More for a high order, which shows on fine grids only, and over a long way in half log-SNR."""
        coarse = 160 if self.last.lam - self.sde.lam(self.sde.T) < 9.0 else 240
        finer = solver.order > 3 and solver.shows_order_at >= 160  # but where it is less, errors soon are rounding
        return max(coarse * 5 // 2 if finer else coarse, solver.shows_order_at)


class GaussianProblem:
    """Errors of mean and variance where the data are Gaussian, for the weak order of stochastic solvers.

    The law of the sample is exact (:func:`gaussian_moments`): there is no Monte Carlo in it.

    Args:
        sde: the process.
        end: a time.
        variance, mean: of the data.
        grid: of the steps.
    """

    def __init__(
        self,
        sde: SDE,
        end: float,
        *,
        variance: Sequence[float] = (0.04, 0.5, 2.0),
        mean: float = 0.7,
        grid: AnyGrid = "karras",
    ) -> None:
        self.sde, self.end, self.mean, self.grid = sde, end, mean, grid
        self.variance = torch.tensor(variance, dtype=torch.float64)

    def error(self, solver: Solver, steps: int) -> float:
        """The largest sum of the errors of mean and variance among the coordinates."""
        plan = plan_for(solver, self.sde, steps=steps, grid=self.grid, end=self.end)
        law, (_, alpha, sigma) = gaussian_moments(plan, self.variance, self.mean), plan.end
        exact = alpha * alpha * self.variance + sigma * sigma
        return ((law.mean - alpha * self.mean).abs() + (law.variance - exact).abs()).max().item()

    def fine(self, solver: Solver) -> int:
        """300 for all."""
        return 300


def observed_order(problem: Problem, solver: Solver, steps: Sequence[int] | None = None) -> float:
    """The order of convergence that a solver shows on a problem: the slope of its errors between two step counts.

    Args:
        problem: a :class:`FlowProblem` (global order) or a :class:`GaussianProblem` (weak order).
        solver: of :func:`scoresde.get_solver`, or your own.
        steps: two step counts; by default as many as the problem asks for, and twice as many.
    """
    first, last = (problem.fine(solver), 2 * problem.fine(solver)) if steps is None else steps
    return slopes([problem.error(solver, first), problem.error(solver, last)], (first, last))[0]


def slopes(errors: Sequence[float], steps: Sequence[int]) -> list[float]:
    """Observed orders between consecutive step counts."""
    return [math.log(a / b) / math.log(n / m) for (a, b), (m, n) in zip(pairwise(errors), pairwise(steps), strict=True)]


@cache
def standard_problems(weak: bool) -> dict[str, Problem]:
    """The problems on which the orders of the catalogue are measured, by the name of their process.

    Args:
        weak: for solvers that draw noise.
    """
    if weak:
        return {sde.name: GaussianProblem(sde, sde.t_at_lam(2.0)) for sde in (VP(), SubVP(), EDM())}
    return {sde.name: FlowProblem(sde, sde.t_at_lam(3.0)) for sde in (VP(), EDM(), RectifiedFlow(T=0.999))}
