"""Targets whose denoiser, probability flow and data are known exactly."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from scoresde.bench.problems.base import Problem, images
from scoresde.plan import Plan
from scoresde.targets import Gaussian, GaussianMixture, Target
from scoresde.theory import Moments, gaussian_moments

if TYPE_CHECKING:
    from scoresde.denoiser import BaseDenoiser
    from scoresde.sde import SDE

DATA_SEED = 1_000_003  # draws of exact data; far from the seeds of cells, whose noise must not be the data's
EXACT_DATA = 1000  # how many of them
SHOWN_POINTS = 400  # points in the plane kept for the pictures


class ExactProblem(Problem):
    """A target whose denoiser, flow and data are known exactly."""

    target: Target

    def __init__(self, target: Target, note: str, metrics: tuple[str, ...], device: str = "cpu") -> None:
        self.target, self.note, self.metrics = target, note, metrics
        self.shape = target.shape
        self._there = target if device == "cpu" else target.to(device)

    def denoiser(self, sde: SDE) -> BaseDenoiser:
        """The exact denoiser."""
        return self._there.denoiser(sde)

    def converged(self, sde: SDE, x_T: Tensor, begin: float, end: float, first: int = 0) -> Tensor:
        """The exact flow, to 1e-9."""
        return self._there.flow(x_T, sde.point(begin), sde.point(end), tol=1e-9)

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
        """Points in the plane, or images of one channel."""
        if self.shape == (2,):
            return samples[:SHOWN_POINTS].to("cpu", torch.float32).numpy()
        return images(samples)


class GaussianProblem(ExactProblem):
    """A Gaussian target with eigenvectors as the columns of one matrix; the law of a plan's samples is known
    exactly.
    """

    target: Gaussian

    def closed_form(self, plan: Plan, prior_std: float) -> dict[str, float]:
        """The exact squared 2-Wasserstein distance between the law of the plan's samples and the target."""
        vectors = self.target.eigenvectors
        if not isinstance(vectors, Tensor):
            return {}
        variance = self.target.eigenvalues.reshape(-1)
        mean = vectors.T @ self.target.mean.reshape(-1)  # a plan treats every principal direction on its own
        start = Moments(torch.zeros_like(variance), torch.full_like(variance, prior_std**2))
        got = gaussian_moments(plan, variance, mean, start=start)
        distance = (got.mean - mean).square() + (got.variance.sqrt() - variance.sqrt()).square()
        return {"frechet_exact": float(distance.sum())}


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
