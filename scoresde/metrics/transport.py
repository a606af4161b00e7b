"""Exact optimal transport between two small sets."""

from __future__ import annotations

import torch
from torch import Tensor

from scoresde.metrics.estimate import Estimate, at_least, block_of, jackknife, two_sets


def exact_wasserstein(x: Tensor, y: Tensor, *, most: int = 1000, blocks: int = 10) -> Estimate:
    """Squared 2-Wasserstein distance between two empirical sets: the mean squared distance of the best pairing of rows.

    The value is that of the two *sets*, and it stays far above 0 for two sets of one distribution: the distance of n
    draws of a law in d > 4 dimensions from the law itself falls only as n^(-2/d) (Fournier & Guillin 2015, Probab.
    Theory Relat. Fields 162; Weed & Bach 2019, Bernoulli 25(4A)), in 64 dimensions by 2 % when n doubles. That is no
    bias of order 1/n, so the jackknife could not remove it, and nothing is corrected. So compare only values of one
    number of rows, with one another (`difference`) or with what real data show at this size:
    ``floor_band(real, exact_wasserstein, size=n)``.

    The interval is for the mean of such values over sets of this size (where the laws differ, they are asymptotically
    normal around it: del Barrio & Loubes 2019, Ann. Probab. 47(2)), not for the distance of the distributions. It
    is up to 1.5 times wider than need be.

    Cost: blocks + 1 assignments, each of up to n^3 operations: see `most`.

    Args:
        x: (n, ...).
        y: (m, ...).
        most: rows used of each set, at most; the same number of both. Of a larger set, a fixed random choice that keeps
            the order, so that sets of one size stay paired and sorted classes keep their shares.
        blocks: jackknife blocks.

    Raises:
        TypeError, ValueError: rows of different shapes, values that are not finite, fewer than two rows for each block.
        ImportError: scipy is missing.
    """
    from scipy.optimize import linear_sum_assignment

    two_sets(x, y, blocks)
    n = min(len(x), len(y), at_least(most, 2 * blocks, "most"))
    flat, other = two_sets(_some(x, n), _some(y, n), blocks)
    centre = other.mean(0)
    cost = torch.cdist(flat - centre, other - centre).square().cpu().numpy()
    which = block_of(n, blocks, torch.device("cpu")).numpy()

    def distance(without: int | None) -> float:
        left = cost if without is None else cost[which != without][:, which != without]
        return float(left[linear_sum_assignment(left)].mean())

    return jackknife(distance(None), [distance(i) for i in range(blocks)], n, correct=False)


def _some(x: Tensor, n: int) -> Tensor:
    chosen = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:n].sort().values
    return x[chosen.to(x.device)]
