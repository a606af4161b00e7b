"""Models that ship with the package: score networks of two kinds of images, and what measures their samples.

`scoresde train digits` and `scoresde train patches` made them; their records lie beside the weights
(`digits.provenance.json`, `patches.provenance.json`), and the page "Shipped models" of the documentation tells what
they are good for. They are safetensors files in half precision, computed with in single precision.

* `digits()`: class-conditional denoiser of 8x8 digits. `scoresde.sample(models.digits(), (10, 1, 8, 8), steps=10,
  cond={"class_labels": torch.arange(10)})`; without labels it draws digits of any class.
* `patches()`: denoiser of 32x32 colour patches of photographs. `scoresde.sample(models.patches(), (10, 3, 32, 32),
  steps=18)`.
* `digit_features()`, `patch_features()`: images to the standardised features (64 and 57) in which Frechet distances
  are taken.
* `digit_reference()`, `patch_reference()`: the features' statistics over real images that no model was trained on, and
  the floor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from scoresde.denoiser import Denoiser
from scoresde.errors import choose
from scoresde.models.shipped import Reference, Shipped
from scoresde.nn import DigitFeatures, PatchFeatures

__all__ = [
    "Reference",
    "digit_features",
    "digit_reference",
    "digits",
    "load",
    "names",
    "patch_features",
    "patch_reference",
    "patches",
    "provenance",
]

DIGITS = Shipped("digits", "digit", lambda: DigitFeatures(seed=0))
PATCHES = Shipped("patches", "patch", PatchFeatures)
_MODELS = {shipped.name: shipped for shipped in (DIGITS, PATCHES)}


def digits(folder: str | Path | None = None) -> Denoiser:
    """The score network of handwritten digits (1, 8, 8) in [-1, 1] as a denoiser over `EDM()`.

    Its preconditioning depends on sigma / alpha alone, so the same network serves any process:
    `Denoiser(d.net, VP(), precondition=d.precondition)`. Condition: `class_labels`, an integer tensor (B,) of 0 .. 9,
    or 10 for the null class; without it every sample is of the null class.

    Args:
        folder: what `scoresde train digits` wrote; the shipped model unless given.

    Raises:
        FileNotFoundError, ValueError: a folder without the model.
    """
    return DIGITS.denoiser(folder)


def digit_features(folder: str | Path | None = None) -> DigitFeatures:
    """The feature network: images (B, 1, 8, 8) in [-1, 1] -> standardised features (B, 64); `.logits` classifies.

    Raises:
        FileNotFoundError, ValueError: a folder without it.
    """
    return DIGITS.features(folder)


def digit_reference(folder: str | Path | None = None) -> Reference:
    """Feature statistics of the 898 held-out digits, and the real-against-real floor.

    Raises:
        FileNotFoundError, ValueError: a folder without them.
    """
    return DIGITS.reference(folder)


def patches(folder: str | Path | None = None) -> Denoiser:
    """The score network of 32x32 patches of photographs (3, 32, 32) in [-1, 1] as a denoiser over `EDM()`.

    It has no condition, and serves any process as `digits` does.

    Args:
        folder: what `scoresde train patches` wrote; the shipped model unless given.

    Raises:
        FileNotFoundError, ValueError: a folder without the model.
    """
    return PATCHES.denoiser(folder)


def patch_features(folder: str | Path | None = None) -> PatchFeatures:
    """Wavelet statistics: images (B, 3, 32, 32) in [-1, 1] -> standardised features (B, 57); see `PatchFeatures`.

    Raises:
        FileNotFoundError, ValueError: a folder without it.
    """
    return PATCHES.features(folder)


def patch_reference(folder: str | Path | None = None) -> Reference:
    """Feature statistics of the 3000 held-out patches, and how far those of the training photographs are from them.

    Raises:
        FileNotFoundError, ValueError: a folder without them.
    """
    return PATCHES.reference(folder)


def provenance(folder: str | Path | None = None, model: str = "digits") -> dict[str, Any]:
    """How the files of a model came to be: command, seed, settings, versions, losses and measured quality.

    Args:
        folder: where the model was written; the shipped one unless given.
        model: "digits" or "patches".

    Raises:
        ValueError: an unknown model.
        FileNotFoundError: a folder without the record.
    """
    return choose(model, _MODELS, "model").provenance(folder)


_LOADERS: Mapping[str, Callable[[], Any]] = {
    "digits": digits,
    "digit-features": digit_features,
    "digit-reference": digit_reference,
    "patches": patches,
    "patch-features": patch_features,
    "patch-reference": patch_reference,
}


def names() -> tuple[str, ...]:
    """The names that `load` knows."""
    return tuple(_LOADERS)


def load(name: str) -> Any:
    """What ships under this name, one of `names()`: "digits", "patch-features", ...

    Raises:
        ValueError: an unknown name; the message lists the nearest ones.
    """
    return choose(name, _LOADERS, "name")()
