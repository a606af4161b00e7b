"""Frechet distance between Gaussian fits, in any features."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from scoresde.metrics.estimate import BLOCKS, Estimate, block_of, check_blocks, jackknife, rows, two_sets


@dataclass(frozen=True, eq=False)
class FrechetStats:
    """Mean, covariance and count of a set of rows; merges with others, so that sets can be streamed.

    mean: (d,) float64. scatter: (d, d) float64, the sum of outer products of deviations from the mean. n: number of
    rows.
    """

    mean: Tensor
    scatter: Tensor
    n: int

    @property
    def covariance(self) -> Tensor:
        """Unbiased sample covariance (d, d). Raises ValueError for fewer than two rows."""
        if self.n < 2:
            raise ValueError(f"a covariance needs at least 2 rows, got {self.n}")
        return self.scatter / (self.n - 1)

    def merge(self, other: FrechetStats) -> FrechetStats:
        """Statistics of the union of two disjoint sets (Chan, Golub & LeVeque 1983, Am. Stat. 37(3))."""
        if self.mean.shape != other.mean.shape:
            raise ValueError(f"other must have {len(self.mean)} components, got {len(other.mean)}")
        n, apart = self.n + other.n, other.mean - self.mean
        scatter = self.scatter + other.scatter + torch.outer(apart, apart) * (self.n * other.n / n)
        return FrechetStats(self.mean + apart * (other.n / n), scatter, n)

    @classmethod
    def exact(cls, mean: Tensor, covariance: Tensor, n: int = 1 << 40) -> FrechetStats:
        """Statistics of a known distribution, such as a target's `moments()`."""
        mean = mean.reshape(-1).double()
        if tuple(covariance.shape) != (len(mean), len(mean)):
            raise ValueError(f"covariance must have shape {(len(mean),) * 2}, got {tuple(covariance.shape)}")
        return cls(mean, covariance.double() * (n - 1), n)


def frechet_stats(x: Tensor) -> FrechetStats:
    """Statistics of the rows of x (n, ...). Merge those of several parts to stream a large set.

    Raises TypeError or ValueError for what is no finite floating-point (n, ...) tensor with a row.
    """
    return _stats(rows(x, "x"))


def _stats(flat: Tensor) -> FrechetStats:
    mean = flat.mean(0)
    return FrechetStats(mean, (flat - mean).T @ (flat - mean), len(flat))


def frechet_distance(a: FrechetStats, b: FrechetStats) -> float:
    """``|m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a^{1/2} S_b S_a^{1/2})^{1/2})``.

    Dowson & Landau 1982, J. Multivar. Anal. 12(3). The last trace is the sum of singular values of S_a^{1/2} S_b^{1/2}:
    symmetric roots only, so that singular covariances lose no digits. As a plain formula of two fits, it is biased
    upwards by about c/n when they come from samples.

    Raises ValueError if the two have different numbers of components.
    """
    if a.mean.shape != b.mean.shape:
        raise ValueError(f"a and b must have as many components, got {len(a.mean)} and {len(b.mean)}")
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


def frechet(x: Tensor, y: Tensor | FrechetStats, *, blocks: int = BLOCKS) -> Estimate:
    """Frechet distance of two sets, or of a set and known statistics, without its 1/n bias (FID in your features).

    Heusel et al. 2017, arXiv:1706.08500; the bias of a finite sample: Chong & Forsyth 2020, arXiv:1911.07023. The bias
    is removed, and the interval found, by a delete-one-block jackknife; block i leaves both sets at once, so that sets
    paired by their noise are treated rightly. The estimate of a distance near 0 may be negative. Cost: 2 `blocks` + 2
    eigen-decompositions of d x d.

    Args:
        x: (n, ...).
        y: (m, ...), or statistics, which are taken as exact: their own sampling error is neither removed nor counted.
        blocks: jackknife blocks.

    Raises:
        TypeError, ValueError: rows of different shapes, values that are not finite, fewer than two rows for each block.
    """
    if isinstance(y, FrechetStats):
        flat = rows(x, "x", 2 * check_blocks(blocks))
        if flat.shape[1] != len(y.mean):
            raise ValueError(f"x must have {len(y.mean)} components, as y has; got {flat.shape[1]}")
        b, root_b = y, _root(y.covariance)
        whole, left = _leave_one_out(flat, blocks)
        distances = [_distance(a, b, _root(a.covariance), root_b) for a in (whole, *left)]
    else:
        flat, other = two_sets(x, y, blocks)
        (whole_x, left_x), (whole_y, left_y) = _leave_one_out(flat, blocks), _leave_one_out(other, blocks)
        distances = [frechet_distance(*pair) for pair in zip((whole_x, *left_x), (whole_y, *left_y), strict=True)]
    return jackknife(distances[0], distances[1:], len(flat))


def _leave_one_out(flat: Tensor, blocks: int) -> tuple[FrechetStats, list[FrechetStats]]:
    """Statistics of all rows, and of all but each block: by subtraction, of rows centred first so that it is exact."""
    which, centre = block_of(len(flat), blocks, flat.device), flat.mean(0)
    parts = [(flat - centre)[which == i] for i in range(blocks)]
    sums, grams = torch.stack([p.sum(0) for p in parts]), torch.stack([p.T @ p for p in parts])

    def stats(total: Tensor, gram: Tensor, n: int) -> FrechetStats:
        mean = total / n
        return FrechetStats(centre + mean, gram - n * torch.outer(mean, mean), n)

    total, gram, n = sums.sum(0), grams.sum(0), len(flat)
    left = [stats(total - sums[i], gram - grams[i], n - len(parts[i])) for i in range(blocks)]
    return stats(total, gram, n), left
