"""Score networks with real data: those that ship with the package."""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from scoresde.bench.problems.base import CHECKED, SHOWN, Problem, images, solve
from scoresde.bench.problems.code import digest

if TYPE_CHECKING:
    from scoresde.denoiser import BaseDenoiser
    from scoresde.sde import SDE


class NetworkProblem(Problem):
    """A network: its converged solution is a fine one, checked against one of twice as many calls.

    Attributes:
        reference_nfe: network calls of the converged solution.
    """

    reference_nfe: int = 64

    @property
    @abstractmethod
    def networks(self) -> tuple[torch.nn.Module, ...]:
        """The modules whose weights decide the results."""

    @cached_property
    def fingerprint(self) -> str:
        """A digest of the weights."""
        return digest(*self.networks)

    def converged(self, sde: SDE, x_T: Tensor, begin: float, end: float, first: int = 0) -> Tensor:
        """DPM-Solver++ 3M with many steps."""
        return solve(self.denoiser(sde), x_T, begin, end, self.cond(first, len(x_T)), nfe=self.reference_nfe)

    def converged_error(self, sde: SDE, x_T: Tensor, begin: float, end: float, samples: Tensor) -> float:
        """How far a few samples move when the number of calls is doubled."""
        few = x_T[:CHECKED]
        finer = solve(self.denoiser(sde), few, begin, end, self.cond(0, len(few)), nfe=2 * self.reference_nfe)
        return float((finer.cpu() - samples[: len(few)]).double().square().mean().sqrt())

    def describe_converged(self, error: float) -> str:
        """One sentence."""
        return (
            f"The converged solution is DPM-Solver++ 3M with {self.reference_nfe} network calls; twice as many "
            f"move it by {error:.1e} (RMSE), so smaller differences than that mean nothing here."
        )

    def picture(self, samples: Tensor) -> np.ndarray | None:
        """Images."""
        return images(samples)


class ShippedProblem(NetworkProblem):
    """A score network, features and images that come with the package.

    Attributes:
        model: the network's name in :mod:`scoresde.models`, and that of its images in :mod:`scoresde.data`.
        measured: the name of its features there.

    Args:
        device: a torch device's name.
    """

    model: str
    measured: str
    metrics = ("rmse_reference", "frechet_reference", "kid_data")
    pooled = ("frechet_data",)  # of some sixty features: its jackknife needs several samples for each

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

        shipped = models.load(self.model)
        shipped.net.to(self.device)
        return shipped

    @cached_property
    def _features(self) -> Any:
        from scoresde import models

        return models.load(self.measured)

    @property
    def networks(self) -> tuple[torch.nn.Module, ...]:
        """The score network and what makes the features."""
        return self._shipped.net, self._features

    def features(self, samples: Tensor) -> Tensor:
        """The shipped, standardised ones."""
        with torch.inference_mode():
            return self._features(samples.float()).double()

    def sorted_by_class(self, split: str) -> tuple[Tensor, Tensor]:
        """Images (float64) and labels of a split; sorted, so that every block of a jackknife holds all classes."""
        from scoresde import data

        part = getattr(data, self.model)(split)
        order = part.labels.argsort(stable=True)
        return part.images[order].double(), part.labels[order]

    @property
    def shown_data(self) -> Tensor:
        """Some of every class."""
        return self.data[:: len(self.data) // SHOWN]


class DigitsProblem(ShippedProblem):
    """The shipped network of handwritten digits, class-conditional; sample i is of class i mod 10.

    Args:
        device: a torch device's name.
        guidance: scale of classifier-free guidance; 1 is none. A guided call of the network counts once.
    """

    note = (
        "The shipped network of real handwritten digits (8 by 8 pixels, ten classes in turn), compared with digits "
        "that it never saw."
    )
    shape = (1, 8, 8)
    model, measured = "digits", "digit-features"
    metrics = (*ShippedProblem.metrics, "accuracy")
    classes = tuple(map(str, range(10)))

    def __init__(self, device: str = "cpu", guidance: float = 1.0) -> None:
        if not guidance > 0:
            raise ValueError(f"guidance must be positive, got {guidance!r}; 1 is none")
        super().__init__(device)
        self.guidance = float(guidance)
        if guidance != 1:
            self.note = f"{self.note} Classifier-free guidance of scale {guidance:g}."

    def denoiser(self, sde: SDE) -> BaseDenoiser:
        """The network under any process, guided if that was asked for."""
        from scoresde.guidance import ClassifierFree

        plain = super().denoiser(sde)
        if self.guidance == 1:
            return plain
        return ClassifierFree(plain, self.guidance, null={"class_labels": len(self.classes)})

    def cond(self, first: int, count: int) -> dict[str, Tensor]:
        """Classes 0 to 9 in turn."""
        return {"class_labels": torch.arange(first, first + count, device=self.device) % len(self.classes)}

    def classes_of(self, count: int) -> Tensor:
        """As they are asked for."""
        return torch.arange(count) % len(self.classes)

    @property
    def data_classes(self) -> Tensor:
        """Of the held-out digits."""
        return self.sorted_by_class("held-out")[1]

    def recognise(self, samples: Tensor) -> Tensor:
        """By the shipped classifier."""
        with torch.inference_mode():
            return self._features.logits(samples.float()).argmax(dim=1)

    @cached_property
    def data(self) -> Tensor:
        """The held-out half of the digits, sorted by class: every block of a jackknife then holds all classes."""
        return self.sorted_by_class("held-out")[0]

    @cached_property
    def other_data(self) -> Tensor:
        """The training half, likewise."""
        return self.sorted_by_class("train")[0]


class PatchesProblem(ShippedProblem):
    """The shipped network of photograph patches, 32 by 32 in colour, without classes.

    Samples are compared with patches of the photographs that it was trained on, as an FID of CIFAR-10 is taken to its
    training set. Patches of other photographs are farther from these than any decent sample (the `floor` of
    :func:`scoresde.models.patch_reference`), so a distance to them would tell nothing of samplers.
    """

    note = (
        "The shipped network of patches of real photographs (32 by 32 pixels in colour), compared with patches of the "
        "photographs that it was trained on."
    )
    shape = (3, 32, 32)
    model, measured = "patches", "patch-features"

    @cached_property
    def data(self) -> Tensor:
        """Every other patch of the training photographs, in the order of photographs and scales."""
        return self._photographs[::2]

    @cached_property
    def other_data(self) -> Tensor:
        """Those between them."""
        return self._photographs[1::2]

    @cached_property
    def _photographs(self) -> Tensor:
        return self.sorted_by_class("train")[0]
