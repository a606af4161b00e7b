"""Frechet distance between Gaussian fits, in any features."""

from __future__ import annotations

import torch
from torch import Tensor

from scoresde.metrics.estimate import BLOCKS, Estimate, at_least, jackknife, reaching_zero, rows, two_sets
from scoresde.metrics.streaming import BlockMoments, FrechetStats


def frechet_distance(a: FrechetStats, b: FrechetStats) -> float:
    """``|m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a^{1/2} S_b S_a^{1/2})^{1/2})``.

    Dowson & Landau 1982, J. Multivar. Anal. 12(3). The last trace is the sum of singular values of S_a^{1/2} S_b^{1/2}:
    symmetric roots only, so that singular covariances lose no digits. As a plain formula of two fits, it is biased
    upwards by about c/n when they come from samples.

    Raises ValueError if the two have different numbers of components.
    """
    if a.dim != b.dim:
        raise ValueError(f"a and b must have as many components, got {a.dim} and {b.dim}")
    return _distance(a, b, _root(a.covariance), _root(b.covariance))


def _distance(a: FrechetStats, b: FrechetStats, root_a: Tensor, root_b: Tensor) -> float:
    overlap = torch.linalg.svdvals(root_a @ root_b).sum()
    spread = a.covariance.trace() + b.covariance.trace()
    return float((a.mean - b.mean).square().sum() + spread - 2 * overlap)


def _root(covariance: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(covariance)
    # The root of an eigenvalue that is rounding is no longer small: those are 0.
    noise = values.abs().amax() * len(values) * torch.finfo(values.dtype).eps
    return (vectors * torch.where(values > noise, values, 0.0).sqrt()) @ vectors.T


def frechet(x: Tensor | BlockMoments, y: Tensor | BlockMoments | FrechetStats, *, blocks: int = BLOCKS) -> Estimate:
    """Frechet distance of two sets, or of a set and known statistics, without its 1/n bias (FID in your features).

    Heusel et al. 2017, arXiv:1706.08500; the bias of a finite sample: Chong & Forsyth 2020, arXiv:1911.07023. The bias
    is removed, and the interval found, by a delete-one-block jackknife; block i leaves both sets at once, so that sets
    paired by their noise are treated rightly. The estimate of a distance near 0 may be negative. Cost: 2 `blocks` + 2
    eigen-decompositions of d x d.

    Args:
        x: (n, ...), or the `BlockMoments` of a set that was never in memory at once.
        y: (m, ...), likewise; or statistics, which are taken as exact: their own sampling error is neither removed nor
            counted.
        blocks: jackknife blocks; as many as `BlockMoments` have.

    Raises:
        TypeError, ValueError: rows of different shapes, values that are not finite, fewer than two rows for each block,
            `BlockMoments` of another number of blocks.
    """
    if isinstance(x, Tensor) and isinstance(y, Tensor):
        x, y = two_sets(x, y, blocks)
    a = _blocked(x, "x", blocks)
    b = y if isinstance(y, FrechetStats) else _blocked(y, "y", blocks)
    if a.dim != b.dim:
        raise ValueError(f"x must have {b.dim} components, as y has; got {a.dim}")
    if isinstance(b, FrechetStats):
        root = _root(b.covariance)
        distances = [_distance(stats, b, _root(stats.covariance), root) for stats in a.leave_one_out()]
    else:
        distances = [frechet_distance(*pair) for pair in zip(a.leave_one_out(), b.leave_one_out(), strict=True)]
    return reaching_zero(jackknife(distances[0], distances[1:], a.n))


def _blocked(x: Tensor | BlockMoments, name: str, blocks: int) -> BlockMoments:
    if not isinstance(x, BlockMoments):
        return BlockMoments(blocks).add(rows(x, name, 2 * at_least(blocks, 2, "blocks")))
    if x.blocks != blocks:
        raise ValueError(f"{name} has {x.blocks} blocks; blocks must be {x.blocks}, got {blocks}")
    return x
