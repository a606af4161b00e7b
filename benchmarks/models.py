"""The measurements behind docs/models.md: how near the shipped networks come to real images, beside what is surely bad.

    python -m benchmarks.models            # writes docs/measured/models-digits.md and models-patches.md
    python -m benchmarks.models digits     # one of them; the other's results stay

Frechet distances in the shipped features, without their bias, with standard errors. Public API only. Needs
scoresde[bench]; some minutes on one core.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor

import scoresde as ss
from benchmarks.measured import answer, markdown
from scoresde import models
from scoresde.data import ImageSet, digits, patches
from scoresde.denoiser import Denoiser
from scoresde.metrics import Estimate, frechet, frechet_stats, memorisation_ratio
from scoresde.nn import ImageFeatures

COUNT = 500
SAMPLERS = {
    "Heun, 18 steps, 35 calls": ("heun", 18),
    "DPM-Solver++ 2M, 18 calls": ("dpmpp-2m", 18),
    "10 calls": ("dpmpp-2m", 10),
}


def of_digits() -> list[dict[str, Any]]:
    """Digits of the ten classes in equal parts."""
    cond = {"class_labels": torch.arange(COUNT) * 10 // COUNT}
    return distances(digits, models.digits(), models.digit_features(), cond)


def of_patches() -> list[dict[str, Any]]:
    """Patches of photographs."""
    return distances(patches, models.patches(), models.patch_features(), {})


def distances(
    data: Callable[[str], ImageSet], denoiser: Denoiser, features: ImageFeatures, cond: dict[str, Tensor]
) -> list[dict[str, Any]]:
    """Each kind of images: its distances to the training and to the held-out ones, and its memorisation ratio."""
    # Sorted by class: every block of a jackknife, and every other image, then are of all classes.
    train, held_out = (part.images[part.labels.argsort(stable=True)] for part in map(data, ("train", "held-out")))
    numbers = Generator().manual_seed(0)
    spread, centre = train.std(), train.mean(dim=0)
    mixed = torch.randn(COUNT, len(train), generator=numbers) @ (train - centre).flatten(1) / (len(train) - 1) ** 0.5
    noise = torch.randn(COUNT, *features.shape, generator=numbers)
    some = train[torch.linspace(0, len(train) - 1, COUNT).long()]
    sets = {
        "white noise": spread * noise,
        "Gaussian fit of the training images": centre + mixed.reshape(noise.shape),
        "training images with noise of 0.05": some + 0.05 * noise,
    }
    for name, (solver, steps) in SAMPLERS.items():
        sets[f"samples: {name}"] = ss.sample(
            denoiser, noise.shape, solver=solver, steps=steps, grid="karras", seed=0, cond=cond
        )
    with torch.inference_mode():
        ours, theirs = features(train), features(held_out)
        references = {"train": frechet_stats(ours), "held_out": frechet_stats(theirs)}
        rows = [
            {"images": name}
            | {key: _stated(frechet(features(images), stats)) for key, stats in references.items()}
            | {"memorisation": _stated(memorisation_ratio(images, train, held_out))}
            for name, images in sets.items()
        ]
        apart = _stated(frechet(ours, theirs))
        halves = [_stated(frechet(part[::2], part[1::2])) for part in (ours, theirs)]
    real = {"images": "real: the other split", "train": apart, "held_out": apart}
    return [*rows, real, {"images": "real: one half and the other", "train": halves[0], "held_out": halves[1]}]


def _stated(estimate: Estimate) -> dict[str, float]:
    return {"value": estimate.value, "se": estimate.se}


def table(rows: list[dict[str, Any]]) -> str:
    """Distances with their standard errors."""

    def cell(row: dict[str, Any], key: str, digits: int) -> str:
        return f"{row[key]['value']:.{digits}f} ± {row[key]['se']:.{digits}f}" if key in row else ""

    head = ("images", "to the training images", "to the held-out images", "memorisation ratio")
    body = [
        (row["images"], cell(row, "train", 2), cell(row, "held_out", 2), cell(row, "memorisation", 3)) for row in rows
    ]
    return markdown([head, *body])


if __name__ == "__main__":
    answer("models", __doc__, {"digits": of_digits, "patches": of_patches}, table)
