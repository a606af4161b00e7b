"""Real data small enough for a laptop: the handwritten digits that ship with scikit-learn, in a fixed split."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from scoresde.errors import choose

__all__ = ["ImageSet", "digits"]


@dataclass(frozen=True)
class ImageSet:
    """Images and their classes.

    Args:
        images: (N, channels, height, width), float32 in [-1, 1].
        labels: (N,), int64.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


def digits(split: str = "train") -> ImageSet:
    """The 1797 handwritten digits of `sklearn.datasets.load_digits` as 8x8 grey images, or half of them.

    Pixels are scaled from 0 .. 16 to [-1, 1]; the background is -1 and the ink positive. The split is fixed for good:
    it orders the images by a hash of their position, so it depends on no random generator and no library version, and
    it deals out every class evenly. Both halves hold digits of the same writers, so the held-out half measures new
    digits, not new hands.

    Args:
        split: "train" (899 images), "held-out" (the other 898) or "all".

    Raises:
        ValueError: an unknown split.
        ImportError: scikit-learn is not installed.
    """
    halves = {"train": (0,), "held-out": (1,), "all": (0, 1)}
    chosen = choose(split, halves, "split")
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError("the digits come with scikit-learn: pip install 'scoresde[bench]'") from error
    pixels, classes = load_digits(return_X_y=True)
    # Shuffle by hash, then deal each class out in turn: halves of equal class proportions compare with less noise.
    order = sorted(range(len(classes)), key=lambda i: hashlib.sha256(f"digits {i}".encode()).digest())
    dealt: list[int] = [0] * len(order)
    seen = [0] * 10
    for i in order:
        label = int(classes[i])
        dealt[i] = (seen[label] + label) % 2
        seen[label] += 1
    rows = [i for i in range(len(order)) if dealt[i] in chosen]
    images = torch.from_numpy(pixels[rows]).float().reshape(-1, 1, 8, 8) / 8 - 1
    return ImageSet(images, torch.from_numpy(classes[rows]).long())
