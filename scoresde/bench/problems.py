"""What a benchmark is run on: a denoiser to sample with, real or exact data to compare with, and converged solutions.

To add a target: one :class:`Problem` and one line in :data:`PROBLEMS`. Nothing else in the benchmark knows any target.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from scoresde.errors import choose
from scoresde.grids import get_grid
from scoresde.plan import Plan
from scoresde.sample import make_plan
from scoresde.targets import Gaussian, GaussianMixture, Target
from scoresde.theory import Moments, gaussian_moments

if TYPE_CHECKING:
    from scoresde.bench.suite import Choice
    from scoresde.denoiser import BaseDenoiser
    from scoresde.sde import SDE

DATA_SEED = 1_000_003  # draws of exact data; far from the seeds of cells, whose noise must not be the data's
EXACT_DATA = 1000  # how many of them
SHOWN = 10  # samples kept for the pictures of images
CHECKED = 12  # samples on which a converged solution is checked against a finer one
SHOWN_POINTS = 400  # and of points in the plane


class Problem(ABC):
    """One target.

    Attributes:
        note: one sentence for the report.
        shape: shape of one sample.
        metrics: the names of :data:`scoresde.bench.measures.MEASURES` that are computed on the samples of each cell.
        pooled: those that need the samples of all seeds together, because one cell has too few of them.
    """

    note: str
    shape: tuple[int, ...]
    metrics: tuple[str, ...]
    pooled: tuple[str, ...] = ()

    @abstractmethod
    def denoiser(self, sde: SDE) -> BaseDenoiser:
        """The denoiser to sample with, under any process, on the problem's device."""

    @abstractmethod
    def converged(self, sde: SDE, x_T: Tensor, begin: float, end: float) -> Tensor:
        """The probability-flow solution at time ``end`` from the states ``x_T`` at time ``begin``; sample i has index
        i.
        """

    @abstractmethod
    def describe_converged(self, error: float) -> str:
        """How :meth:`converged` gets it, in one sentence, given its own error."""

    def converged_error(self, sde: SDE, x_T: Tensor, begin: float, end: float, samples: Tensor) -> float:
        """The error (RMSE) of ``samples`` = ``converged(sde, x_T, begin, end)``, as far as it can be told; 0 for an
        exact flow.
        """
        return 0.0

    @property
    @abstractmethod
    def data(self) -> Tensor:
        """(M, *shape), float64 on the CPU, where metrics are computed: what samples are compared with."""

    @property
    @abstractmethod
    def other_data(self) -> Tensor:
        """More of the same distribution, independent of :attr:`data`: compared with it, it gives the floor band."""

    @property
    def fingerprint(self) -> str:
        """What else decides the results and may change while the name stays: a digest of weights; empty without."""
        return ""

    def cond(self, count: int) -> dict[str, Tensor]:
        """Keyword arguments of the network for the samples of index 0 to ``count`` - 1."""
        return {}

    @property
    def shown_data(self) -> Tensor:
        """What the report draws of :attr:`data`: its first rows."""
        return self.data

    def features(self, samples: Tensor) -> Tensor:
        """(N, d): where Fréchet and kernel distances are measured."""
        return samples.reshape(len(samples), -1)

    @cached_property
    def data_features(self) -> Tensor:
        """:meth:`features` of :attr:`data`."""
        return self.features(self.data)

    def exact_moments(self) -> tuple[Tensor, Tensor] | None:
        """Exact mean and covariance of :meth:`features` of the data, where they are known; then no draw is needed for
        them.
        """
        return None

    def closed_form(self, plan: Plan, prior_std: float) -> dict[str, float]:
        """Metrics of this plan, started at N(0, prior_std^2), that are formulas."""
        return {}

    def picture(self, samples: Tensor) -> np.ndarray | None:
        """What the report draws: bytes (N, H, W) of images, or (N, 2) points; None draws nothing."""
        return None


class ExactProblem(Problem):
    """A target whose denoiser, flow and data are known exactly."""

    def __init__(self, target: Target, note: str, metrics: tuple[str, ...], device: str = "cpu") -> None:
        self.target, self.note, self.metrics = target, note, metrics
        self.shape = target.shape
        self._there = target if device == "cpu" else target.to(device)

    def denoiser(self, sde: SDE) -> BaseDenoiser:
        """The exact denoiser."""
        return self._there.denoiser(sde)

    def converged(self, sde: SDE, x_T: Tensor, begin: float, end: float) -> Tensor:
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
        return _images(samples)


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


class DigitsProblem(Problem):
    """The shipped network of handwritten digits, class-conditional; sample i is of class i mod 10."""

    note = (
        "The shipped network of real handwritten digits (8 by 8 pixels, ten classes in turn), compared with digits "
        "that it never saw."
    )
    shape = (1, 8, 8)
    metrics = ("rmse_reference", "frechet_reference", "kid_data")
    pooled = ("frechet_data",)  # of 64 features: its jackknife needs several samples for each
    classes = 10
    reference_nfe = 64

    def __init__(self, device: str = "cpu") -> None:
        self.device = device

    def denoiser(self, sde: SDE) -> BaseDenoiser:
        """The network under any process: its preconditioning depends on sigma / alpha alone."""
        from scoresde.denoiser import Denoiser

        shipped = self._shipped
        return Denoiser(shipped.net, sde, time=shipped.time, precondition=shipped.precondition)

    @cached_property
    def _shipped(self) -> Any:
        from scoresde import models

        shipped = models.digits()
        shipped.net.to(self.device)
        return shipped

    @cached_property
    def fingerprint(self) -> str:
        """A digest of the weights of the network and of the features."""
        digest = hashlib.sha256()
        for net in (self._shipped.net, self._features):
            for name, tensor in sorted(net.state_dict().items()):
                digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def converged(self, sde: SDE, x_T: Tensor, begin: float, end: float) -> Tensor:
        """DPM-Solver++ 3M with many steps."""
        return self._solve(sde, x_T, begin, end, self.reference_nfe)

    def converged_error(self, sde: SDE, x_T: Tensor, begin: float, end: float, samples: Tensor) -> float:
        """How far a few samples move when the number of calls is doubled."""
        finer = self._solve(sde, x_T[:CHECKED], begin, end, 2 * self.reference_nfe)
        return float((finer - samples[:CHECKED]).double().square().mean().sqrt())

    def _solve(self, sde: SDE, x_T: Tensor, begin: float, end: float, nfe: int) -> Tensor:
        denoiser, cond = self.denoiser(sde), self.cond(len(x_T))
        plan = make_plan("dpmpp-3m", sde, get_grid("log-snr", sde, nfe, start=begin, end=end))
        run = plan.start(x_T)
        with torch.inference_mode():
            while not run.done:
                run.tell(denoiser.predict(run.x, run.t, run.kind, **cond), run.kind)
            return run.sample

    def describe_converged(self, error: float) -> str:
        """One sentence."""
        return (
            f"The converged solution is DPM-Solver++ 3M with {self.reference_nfe} network calls; twice as many "
            f"move it by {error:.1e} (RMSE), so smaller differences than that mean nothing here."
        )

    def cond(self, count: int) -> dict[str, Tensor]:
        """Classes 0 to 9 in turn."""
        return {"class_labels": torch.arange(count, device=self.device) % self.classes}

    @cached_property
    def data(self) -> Tensor:
        """The held-out half of the digits, sorted by class: every block of a jackknife then holds all classes."""
        return _sorted_by_class("held-out")

    @cached_property
    def other_data(self) -> Tensor:
        """The training half, likewise."""
        return _sorted_by_class("train")

    @property
    def shown_data(self) -> Tensor:
        """A digit of each class."""
        return self.data[:: len(self.data) // self.classes]

    @cached_property
    def _features(self) -> Any:
        from scoresde import models

        return models.digit_features()

    def features(self, samples: Tensor) -> Tensor:
        """Standardised activations of the shipped classifier."""
        with torch.inference_mode():
            return self._features(samples.float()).double()

    def picture(self, samples: Tensor) -> np.ndarray | None:
        """Images."""
        return _images(samples)


def _sorted_by_class(split: str) -> Tensor:
    from scoresde.data import digits

    part = digits(split)
    return part.images[part.labels.argsort(stable=True)].double()


def _images(samples: Tensor) -> np.ndarray | None:
    from scoresde.bench.pictures import to_bytes

    return to_bytes(samples[:SHOWN].cpu().double().numpy()) if samples.ndim == 4 else None


def _mixture(device: str) -> Problem:
    metrics = ("rmse_reference", "frechet_data", "energy_data", "sliced_w2_data")
    note = "Five unequal Gaussians in the plane with their exact denoiser."
    return ExactProblem(GaussianMixture.five(), note, metrics, device)


def _digits_gaussian(device: str) -> Problem:
    from scoresde.data import digits

    images = digits("all").images.double()
    flat = images.reshape(len(images), -1)
    values, vectors = torch.linalg.eigh(torch.cov(flat.T))
    target = Gaussian(images.mean(dim=0), values.clamp_min(0.0), vectors)
    note = (
        "The Gaussian with the mean and covariance of the real digits: 64 dimensions, some of them empty, everything "
        "in closed form."
    )
    return GaussianProblem(target, note, ("rmse_reference",), device)


PROBLEMS: dict[str, Callable[[str], Problem]] = {
    "digits": DigitsProblem,
    "mixture": _mixture,
    "digits-gaussian": _digits_gaussian,
}


def check_target(target: Choice) -> None:
    """Raise ValueError for an unknown name (the nearest are listed) or for options, which no target has yet."""
    choose(target.name, PROBLEMS, "target")
    if target.options:
        raise ValueError(f"target {target.name!r} has no options, got {dict(target.options)}")


def make_problem(target: Choice, device: str = "cpu") -> Problem:
    """The problem of that name, sampling on that device. Raises ValueError as :func:`check_target` does."""
    check_target(target)
    return PROBLEMS[target.name](device)
