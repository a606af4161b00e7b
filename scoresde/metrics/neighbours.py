"""Closeness to the training data."""

from __future__ import annotations

import torch
from torch import Tensor

from scoresde.metrics.estimate import BLOCKS, Estimate, jackknife, leave_one_out, rows, two_sets

_CHUNK = 1 << 22  # distances at a time


def nearest_distance(x: Tensor, data: Tensor) -> Tensor:
    """Euclidean distance of each row of x (n, ...) to the nearest row of data (m, ...): (n,) float64.

    Raises TypeError or ValueError for rows of different shapes or values that are not finite.
    """
    flat, other = rows(x, "x"), rows(data, "data")
    if flat.shape[1] != other.shape[1]:
        raise ValueError(f"x and data must have rows of one size, got {flat.shape[1]} and {other.shape[1]}")
    centre = other.mean(0)
    parts = (flat - centre).split(max(1, _CHUNK // len(other)))
    nearest = [torch.cdist(part, other - centre).argmin(1) for part in parts]
    # The search may use products; the distance itself is a difference, so that an exact copy is at distance 0.
    return (flat - other[torch.cat(nearest)]).norm(dim=1)


def memorisation_ratio(samples: Tensor, train: Tensor, held_out: Tensor, *, blocks: int = BLOCKS) -> Estimate:
    """Mean distance of samples to the nearest training point, relative to that of real data never trained on.

    About 1 for a model that generalises; near 0 for one that repeats its training data; above 1 for poor samples, too,
    so read it beside a distance between distributions. After Meehan, Chaudhuri & Dasgupta 2020, arXiv:2004.05675, who
    compare the two sets of distances by a rank test.

    Args:
        samples: (n, ...).
        train: (m, ...), taken as fixed.
        held_out: (k, ...), real data from the same distribution as `train`.
        blocks: jackknife blocks over `samples` and `held_out`.

    Raises:
        TypeError, ValueError: rows of different shapes, values that are not finite, fewer than two rows for each block,
            or held-out data that are all in the training set.
    """
    if isinstance(train, Tensor) and isinstance(samples, Tensor) and train.shape[1:] != samples.shape[1:]:
        raise ValueError(f"train must have rows of shape {tuple(samples.shape[1:])}, got {tuple(train.shape[1:])}")
    two_sets(samples, held_out, blocks)
    ours, theirs = nearest_distance(samples, train), nearest_distance(held_out, train)
    if float(theirs.max()) == 0.0:
        raise ValueError("held_out must not be part of train: all of its rows are")
    means, usual = (leave_one_out(v, blocks)[0] for v in (ours, theirs))
    whole, *left = (means / usual).tolist()
    return jackknife(whole, left, len(ours), correct=False)
