"""Measured quality of the shipped models: what their records state and what the tests check again."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from scoresde.data import digits, patches
from scoresde.denoiser import BaseDenoiser
from scoresde.metrics import Estimate, FrechetStats, frechet, frechet_stats, memorisation_ratio
from scoresde.nn import DigitFeatures, PatchFeatures
from scoresde.sample import sample

__all__ = ["DigitQuality", "PatchQuality", "digit_quality", "patch_quality"]

_CLASSES = 10


@dataclass(frozen=True)
class DigitQuality:
    """How good samples of digits are.

    Args:
        frechet: Frechet distance to held-out digits in the features, without its 1/n bias; equally many of every
            class.
        frechet_unconditional: the same for samples of the null class.
        memorisation: distance to the nearest training image relative to that of held-out images; about 1 is right.
        accuracy: share of samples that the feature network gives the class that was asked for.
        n: samples behind each.
    """

    frechet: Estimate
    frechet_unconditional: Estimate
    memorisation: Estimate
    accuracy: float
    n: int


def digit_quality(
    denoiser: BaseDenoiser,
    features: DigitFeatures,
    reference: FrechetStats,
    *,
    n: int = 900,
    seed: int = 0,
    solver: str = "heun",
    steps: int = 18,
    grid: str = "karras",
) -> DigitQuality:
    """Draw `n` samples with and `n` without labels, and measure them.

    Args:
        denoiser: a class-conditional model of digits.
        features: the feature network.
        reference: feature statistics of held-out digits.
        n: number of samples of each kind.
        seed: seed of the samples.
        solver: name of a solver.
        steps: its steps.
        grid: name of its grid.
    """

    def draw(labels: Tensor) -> Tensor:
        return sample(
            denoiser, (n, 1, 8, 8), solver=solver, steps=steps, grid=grid, seed=seed, cond={"class_labels": labels}
        )

    # Sorted by class: the jackknife deals rows to its blocks in turn, and classes in turn would make one-class blocks.
    labels = torch.arange(n) * _CLASSES // n
    asked, free = draw(labels), draw(torch.full((n,), _CLASSES))
    with torch.inference_mode():
        right = features.logits(asked).argmax(dim=1) == labels
        return DigitQuality(
            frechet=frechet(features(asked), reference),
            frechet_unconditional=frechet(features(free), reference),
            memorisation=memorisation_ratio(asked, digits("train").images, digits("held-out").images),
            accuracy=float(right.double().mean()),
            n=n,
        )


@dataclass(frozen=True)
class PatchQuality:
    """How good samples of patches are.

    Args:
        frechet: Frechet distance to the held-out patches in the features, without its 1/n bias. They are of other
            photographs, so real training patches are far from them, too: see the reference's `floor`.
        frechet_train: the same to the training patches: how well the network has learnt what it was shown.
        memorisation: distance to the nearest training patch relative to that of held-out patches.
        n: samples behind each.
    """

    frechet: Estimate
    frechet_train: Estimate
    memorisation: Estimate
    n: int


def patch_quality(
    denoiser: BaseDenoiser,
    features: PatchFeatures,
    reference: FrechetStats,
    *,
    n: int = 500,
    seed: int = 0,
    solver: str = "heun",
    steps: int = 18,
    grid: str = "karras",
) -> PatchQuality:
    """Draw `n` samples and measure them; the arguments are those of `digit_quality`, for a model of patches."""
    train, held_out = patches("train").images, patches("held-out").images
    drawn = sample(denoiser, (n, *features.shape), solver=solver, steps=steps, grid=grid, seed=seed)
    with torch.inference_mode():
        found = features(drawn)
        return PatchQuality(
            frechet=frechet(found, reference),
            frechet_train=frechet(found, frechet_stats(features(train))),
            memorisation=memorisation_ratio(drawn, train, held_out),
            n=n,
        )
