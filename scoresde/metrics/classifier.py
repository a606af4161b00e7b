"""Whether a classifier can tell samples from data."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import relu

from scoresde.metrics.estimate import BLOCKS, Estimate, at_least, block_of, clipped, jackknife, leave_one_out, two_sets

_WIDEST = 256  # components; of rows with more, as many random projections are used
_RIDGE = 0.03  # of the mean square of a feature


def c2st(x: Tensor, y: Tensor, *, hidden: int = 128, seed: int = 0, blocks: int = BLOCKS) -> Estimate:
    """Classifier two-sample test: how often a classifier knows which set a row that it has not seen comes from.

    0.5: the two cannot be told apart by it; 1: always. Lopez-Paz & Oquab 2017, arXiv:1610.06545. The value is the mean
    of the accuracies on x and on y, so sets of different sizes are no help.

    The classifier is a ridge regression of the label on the standardised principal components of both sets together
    (at most a quarter as many as rows, the widest), their squares, and random rectified features of them (Rahimi &
    Recht 2008, NIPS 20): a network of one hidden layer of which only the output is trained. It sees shifts, spreads and
    separate modes, in a tenth of a second for a thousand rows of 64 components; a deep network may see more, so 0.5 is
    no proof of equality. Each of the blocks is classified by the fit to the others: rows paired by their noise are thus
    held out together.

    The interval is for the mean accuracy after training on sets of this size. The scores of two blocks depend on one
    another, as each is among the rows that the other's classifier was trained on. Of equal distributions that doubles
    the variance of the accuracy: to leading order it is a sum over pairs of blocks, and every pair is counted twice.
    So the standard error is sqrt(2) times that of independent scores; where the sets differ, it is some 1.3 times
    larger than need be.

    Args:
        x: (n, ...).
        y: (m, ...).
        hidden: number of random features.
        seed: of the random features.
        blocks: jackknife blocks; also the folds.

    Raises:
        TypeError, ValueError: rows of different shapes, values that are not finite, fewer than two rows for each block,
            a negative number of features.
    """
    flat, other = two_sets(x, y, blocks)
    features = _features(torch.cat([flat, other]), at_least(hidden, 0, "hidden"), seed)
    which = torch.cat([block_of(len(v), blocks, v.device) for v in (flat, other)])
    of_x = (torch.arange(len(features), device=flat.device) < len(flat)).double()
    weights = of_x / len(flat) + (1 - of_x) / len(other)  # both sets count alike
    parts = [which == i for i in range(blocks)]
    grams = torch.stack([features[part].T @ (features[part] * weights[part, None]) for part in parts])
    aims = torch.stack([features[part].T @ (weights * (2 * of_x - 1))[part] for part in parts])
    gram, aim = grams.sum(0), aims.sum(0)
    ridge = _RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)

    right = torch.empty(len(features), dtype=torch.float64, device=flat.device)
    for i, part in enumerate(parts):
        factor = torch.linalg.cholesky(gram - grams[i] + ridge)
        fit = torch.cholesky_solve((aim - aims[i])[:, None], factor)[:, 0]
        right[part] = ((features[part] @ fit > 0) == (of_x[part] > 0)).double()
    (ours, _), (theirs, _) = (leave_one_out(v, blocks) for v in right.split([len(flat), len(other)]))
    whole, *scored = ((ours + theirs) / 2).tolist()
    left = [whole + math.sqrt(2) * (v - whole) for v in scored]
    return clipped(jackknife(whole, left, len(flat), correct=False), 0.0, 1.0)


def _features(x: Tensor, hidden: int, seed: int) -> Tensor:
    """(n, p): what the classifier sees of rows (n, d), each feature with mean 0 and variance 1, and a constant."""
    generator = torch.Generator().manual_seed(seed)

    def directions(rows: int, columns: int) -> Tensor:
        return torch.randn(rows, columns, generator=generator, dtype=torch.float64).to(x.device) / rows**0.5

    if x.shape[1] > _WIDEST:
        x = x @ directions(x.shape[1], _WIDEST)
    x = x - x.mean(0)
    values, vectors = torch.linalg.eigh(x.T @ x / len(x))
    # With as many directions as rows all rows would be equally far apart; those without variance are rounding.
    kept = values > values.amax() * len(values) * torch.finfo(values.dtype).eps
    kept[: -max(1, len(x) // 4)] = False
    x = (x @ vectors[:, kept]) / values[kept].sqrt()
    offsets = torch.randn(hidden, generator=generator, dtype=torch.float64).to(x.device)
    features = torch.cat([x, x.square(), relu(x @ directions(x.shape[1], hidden) + offsets)], dim=1)
    spread = features.std(0)
    features = (features - features.mean(0)) / torch.where(spread > 0, spread, 1.0)
    return torch.cat([features, features.new_ones(len(features), 1)], dim=1)
