"""Targets whose denoiser, probability flow and data are known exactly."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from scoresde.bench.problems.base import Problem, picture_of
from scoresde.errors import check_positive_int
from scoresde.noise import normal
from scoresde.plan import Plan
from scoresde.targets import Empirical, Gaussian, GaussianMixture, Target
from scoresde.theory import Moments, gaussian_moments

if TYPE_CHECKING:
    from scoresde.denoiser import BaseDenoiser
    from scoresde.sde import SDE

DATA_SEED = 1_000_003  # draws of exact data; far from the seeds of cells, whose noise must not be the data's
EXACT_DATA = 1000  # how many of them
STREAM = 2**32 - 101  # noise streams of constructions, counted down
MIXTURE_TOL, EMPIRICAL_TOL = 1e-6, 1e-5  # of exact flows without a closed form: far below any solver's error
DIRECTIONS = 32  # or a few less: principal directions in which samples of a large Gaussian are compared


class ExactProblem(Problem):
    """A target whose denoiser, flow and data are known exactly.

    Args:
        target: the distribution.
        note, metrics: as of :class:`scoresde.bench.problems.base.Problem`.
        device: where it samples.
        tol: error of the converged solution, in units of the data's spread, where the flow has no closed form.
    """

    target: Target

    def __init__(
        self, target: Target, note: str, metrics: tuple[str, ...], device: str = "cpu", *, tol: float = 1e-9
    ) -> None:
        self.target, self.note, self.metrics, self.tol = target, note, metrics, tol
        self.shape = target.shape
        self._there = target if device == "cpu" else target.to(device)

    def denoiser(self, sde: SDE) -> BaseDenoiser:
        """The exact denoiser."""
        return self._there.denoiser(sde)

    def converged(self, sde: SDE, x_T: Tensor, begin: float, end: float, first: int = 0) -> Tensor:
        """The exact flow, to the tolerance."""
        return self._there.flow(x_T, sde.point(begin), sde.point(end), tol=self.tol)

    def describe_converged(self, error: float) -> str:
        """One sentence."""
        return "The converged solution is the target's exact probability flow."

    @cached_property
    def data(self) -> Tensor:
        """Exact draws."""
        return self.target.sample(EXACT_DATA, DATA_SEED)

    @cached_property
    def other_data(self) -> Tensor:
        """Exact draws of another seed."""
        return self.target.sample(EXACT_DATA, DATA_SEED + 1)

    def exact_moments(self) -> tuple[Tensor, Tensor] | None:
        """The target's own."""
        return self.target.moments()

    def picture(self, samples: Tensor) -> np.ndarray | None:
        """Points in the plane, or images."""
        return picture_of(samples)


class GaussianProblem(ExactProblem):
    """A Gaussian target; the law of a plan's samples is known exactly, in every principal direction on its own."""

    target: Gaussian

    def closed_form(self, plan: Plan, prior_std: float) -> dict[str, float]:
        """The exact squared 2-Wasserstein distance between the law of the plan's samples and the target."""
        variance = self.target.eigenvalues.reshape(-1)
        mean = self.target.principal(self.target.mean[None])[0]
        start = Moments(torch.zeros_like(variance), torch.full_like(variance, prior_std**2))
        got = gaussian_moments(plan, variance, mean, start=start)
        distance = (got.mean - mean).square() + (got.variance.sqrt() - variance.sqrt()).square()
        return {"frechet_exact": float(distance.sum())}


class LargeGaussianProblem(GaussianProblem):
    """A Gaussian of too many dimensions to fit its covariance to samples: these are compared in some directions."""

    def features(self, samples: Tensor) -> Tensor:
        """Coordinates along principal directions whose ranks are spread evenly in the logarithm, each in units of its
        own standard deviation: coarse and fine detail count alike.
        """
        chosen = self._chosen
        centred = self.target.principal(samples - self.target.mean)[:, chosen]
        return centred / self.target.eigenvalues.reshape(-1)[chosen].sqrt()

    def exact_moments(self) -> tuple[Tensor, Tensor]:
        """Of :meth:`features`: 0 and the identity."""
        count = len(self._chosen)
        return torch.zeros(count, dtype=torch.float64), torch.eye(count, dtype=torch.float64)

    @cached_property
    def _chosen(self) -> Tensor:
        variance = self.target.eigenvalues.reshape(-1)
        order = variance.argsort(descending=True, stable=True)
        ranks = torch.logspace(0, math.log10(len(order)), DIRECTIONS, dtype=torch.float64).round().long().unique() - 1
        return order[ranks]


class EmpiricalProblem(ExactProblem):
    """A data set as the distribution: its flow leads from noise to the data themselves.

    Args:
        target: the data.
        features: from samples to the rows in which distributions are compared.
    """

    target: Empirical

    def __init__(
        self,
        target: Empirical,
        features: Callable[[Tensor], Tensor],
        note: str,
        metrics: tuple[str, ...],
        device: str = "cpu",
        *,
        tol: float = 1e-9,
    ) -> None:
        super().__init__(target, note, metrics, device, tol=tol)
        self._features = features

    def features(self, samples: Tensor) -> Tensor:
        """By the given function."""
        with torch.inference_mode():
            return self._features(samples.float()).double()

    def exact_moments(self) -> tuple[Tensor, Tensor]:
        """Of the features of all the data, which are the whole distribution."""
        return Empirical(self.features(self.target.data)).moments()


def mixture(device: str = "cpu") -> Problem:
    """Five Gaussians in the plane."""
    metrics = ("rmse_reference", "frechet_data", "energy_data", "sliced_w2_data")
    note = "Five unequal Gaussians in the plane with their exact denoiser."
    return ExactProblem(GaussianMixture.five(), note, metrics, device)


def digits_gaussian(device: str = "cpu") -> Problem:
    """The Gaussian of the real digits."""
    from scoresde.data import digits

    real = digits("all").images.double()
    flat = real.reshape(len(real), -1)
    values, vectors = torch.linalg.eigh(torch.cov(flat.T))
    target = Gaussian(real.mean(dim=0), values.clamp_min(0.0), vectors)
    note = (
        "The Gaussian with the mean and covariance of the real digits: 64 dimensions, some of them empty, everything "
        "in closed form."
    )
    return GaussianProblem(target, note, ("rmse_reference",), device)


def natural_gaussian(device: str = "cpu", *, size: int = 32, exponent: float = 2.0) -> Problem:
    """Colour images of ``size`` x ``size`` pixels whose power falls with spatial frequency to this exponent."""
    check_positive_int(size, "size")
    if not exponent >= 0:
        raise ValueError(f"exponent must be at least 0, got {exponent}")
    note = (
        f"A Gaussian with the power spectrum of natural images, 1/f^{exponent:g}, {size} by {size} pixels in colour: "
        f"{3 * size**2} dimensions, everything in closed form. Samples are compared in some thirty principal "
        "directions, from the coarsest to the finest, each in units of its own standard deviation."
    )
    target = Gaussian.natural_images((3, size, size), exponent=exponent)
    return LargeGaussianProblem(target, note, ("rmse_reference", "frechet_data", "nll_excess"), device)


def mixture_64(device: str = "cpu", *, seed: int = 0) -> Problem:
    """Eight Gaussians in 64 dimensions with unequal weights, turned by ``seed``."""
    if seed < 0:
        raise ValueError(f"seed must be at least 0, got {seed}")
    note = (
        "Eight Gaussians in 64 dimensions with their exact denoiser and weights from 1/36 to 8/36: wide in some "
        "directions and thin in others, and far apart, so that every sample belongs to one of them."
    )
    metrics = ("rmse_reference", "energy_data", "sliced_w2_data", "mode_weights", "nll_excess")
    return ExactProblem(_eight(seed), note, metrics, device, tol=MIXTURE_TOL)


def _eight(seed: int, modes: int = 8, dim: int = 64, radius: float = 2.0) -> GaussianMixture:
    """Means at right angles to each other, ``radius`` from 0; standard deviations 0.03 to 0.4 in directions of each
    mode's own. Between two modes lie at least seven standard deviations.
    """
    turns = torch.linalg.qr(normal((1 + modes, dim, dim), seed, stream=STREAM, dtype=torch.float64))[0]
    variances = torch.logspace(math.log10(0.03), math.log10(0.4), dim, dtype=torch.float64).square()
    covariances = torch.einsum("kij,j,klj->kil", turns[1:], variances, turns[1:])
    weights = torch.arange(1, modes + 1, dtype=torch.float64)
    return GaussianMixture(weights, radius * turns[0, :, :modes].T, (covariances + covariances.mT) / 2)


def digits_empirical(device: str = "cpu", *, split: str = "train") -> Problem:
    """Half of the real digits as point masses: what a network that has learnt them by heart would do."""
    from scoresde.data import digits
    from scoresde.models import digit_features

    images = digits(split).images.double()
    note = (
        f"{len(images)} real handwritten digits as equal point masses, with the exact denoiser of a network that has "
        "learnt them by heart: every converged sample is one of them. Close to the data the flow turns sharply from "
        "digit to digit, so a same-seed error is mostly the share of samples that ended at another digit."
    )
    metrics = ("rmse_reference", "energy_data", "kid_data")
    problem = EmpiricalProblem(Empirical(images), digit_features(), note, metrics, device, tol=EMPIRICAL_TOL)
    problem.pooled = ("frechet_data",)
    return problem
