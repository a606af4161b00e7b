"""Means and covariances of sets that need not be in memory at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from scoresde.metrics.estimate import BLOCKS, at_least, block_of, rows


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
    def dim(self) -> int:
        """Number of components, d."""
        return len(self.mean)

    @property
    def covariance(self) -> Tensor:
        """Unbiased sample covariance (d, d). Raises ValueError for fewer than two rows."""
        if self.n < 2:
            raise ValueError(f"a covariance needs at least 2 rows, got {self.n}")
        return self.scatter / (self.n - 1)

    def merge(self, other: FrechetStats) -> FrechetStats:
        """Statistics of the union of two disjoint sets (Chan, Golub & LeVeque 1983, Am. Stat. 37(3))."""
        if self.dim != other.dim:
            raise ValueError(f"other must have {self.dim} components, got {other.dim}")
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
    flat = rows(x, "x")
    mean = flat.mean(0)
    return FrechetStats(mean, (flat - mean).T @ (flat - mean), len(flat))


class BlockMoments:
    """Count, mean and scatter of each jackknife block of a set whose rows come a part at a time.

    Enough for `frechet`, of any number of rows in `blocks` d^2 numbers::

        moments = BlockMoments()
        for part in parts:  # in the order of the rows' indices
            moments.add(part)
        frechet(moments, data)

    gives what `frechet` gives for all rows together, to rounding.

    Args:
        blocks: jackknife blocks.

    Raises:
        ValueError: fewer than two blocks.
    """

    def __init__(self, blocks: int = BLOCKS) -> None:
        self.blocks = at_least(blocks, 2, "blocks")
        self.n = 0

    @property
    def dim(self) -> int:
        """Number of components, d. Raises ValueError while there are no rows."""
        if not self.n:
            raise ValueError("these BlockMoments have no rows yet")
        return len(self._centre)

    def add(self, x: Tensor) -> BlockMoments:
        """Take in the rows of x (k, ...), whose indices follow those of the rows before; returns itself.

        Raises TypeError or ValueError, and takes nothing in, for what is no finite floating-point (k, ...) tensor with
        a row, or has rows of another size than before.
        """
        flat = rows(x, "x")
        if not self.n:
            # A centre near the mean: a scatter about it loses no digits when the mean is taken out.
            self._centre = flat.mean(0)
            self._counts = torch.zeros(self.blocks, dtype=torch.int64)
            self._sums = flat.new_zeros(self.blocks, flat.shape[1])
            self._grams = flat.new_zeros(self.blocks, flat.shape[1], flat.shape[1])
        elif flat.shape[1] != self.dim:
            raise ValueError(f"x must have {self.dim} components in a row, as the rows before; got {flat.shape[1]}")
        which = block_of(len(flat), self.blocks, flat.device, first=self.n)
        flat = flat - self._centre
        for block in range(self.blocks):
            part = flat[which == block]
            self._counts[block] += len(part)
            self._sums[block] += part.sum(0)
            self._grams[block].addmm_(part.T, part)
        self.n += len(flat)
        return self

    def leave_one_out(self) -> list[FrechetStats]:
        """Statistics of all rows, and then of all but each block.

        Raises ValueError for fewer than two rows for each block.
        """
        if self.n < 2 * self.blocks:
            raise ValueError(f"{self.blocks} blocks must have at least {2 * self.blocks} rows in all, got {self.n}")
        n, total, gram = self.n, self._sums.sum(0), self._grams.sum(0)
        parts = zip(self._counts.tolist(), self._sums, self._grams, strict=True)
        return [
            self._stats(n, total, gram),
            *(self._stats(n - size, total - part, gram - square) for size, part, square in parts),
        ]

    def _stats(self, n: int, total: Tensor, gram: Tensor) -> FrechetStats:
        mean = total / n
        return FrechetStats(self._centre + mean, gram - n * torch.outer(mean, mean), n)
