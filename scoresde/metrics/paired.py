"""Same-seed error, and the band of a distance between two real sets."""

from __future__ import annotations

from collections.abc import Callable
from statistics import NormalDist, fmean, stdev

import torch
from torch import Tensor

from scoresde.metrics.estimate import BLOCKS, LEVEL, Estimate, at_least, clipped, jackknife, leave_one_out, rows
from scoresde.metrics.frechet import frechet


def rmse(x: Tensor, y: Tensor, *, blocks: int = BLOCKS) -> Estimate:
    """Root-mean-square difference of paired samples, per component: sqrt(mean (x - y)^2).

    Row i of both sets comes from the same noise, so that with y the converged solution this is the error of the solver.

    Args:
        x: (n, ...) samples.
        y: (n, ...), the reference.
        blocks: jackknife blocks; fewer if there are fewer rows.

    Raises:
        TypeError, ValueError: sets of different shapes, values that are not finite, fewer than two rows.
    """
    if isinstance(x, Tensor) and isinstance(y, Tensor) and x.shape != y.shape:
        raise ValueError(f"x and y must have the same shape, got {tuple(x.shape)} and {tuple(y.shape)}")
    error = (rows(x, "x", 2) - rows(y, "y", 2)).square().mean(1)
    n = len(error)
    whole, *left = leave_one_out(error, min(at_least(blocks, 2, "blocks"), n))[0].sqrt().tolist()
    return clipped(jackknife(whole, left, n, correct=False), 0.0)


def floor_band(
    real: Tensor,
    metric: Callable[[Tensor, Tensor], Estimate] = frechet,
    *,
    size: int | None = None,
    splits: int = 20,
    seed: int = 0,
) -> Estimate:
    """The values that `metric` takes between two disjoint sets of real data: inside this band nothing can be told.

    Of two neighbouring rows one goes to each set and rows keep their order, so that data sorted by class give both sets
    the same share of each class, as class-conditional samples have.

    Args:
        real: (n, ...) real samples or features.
        metric: called with two sets of rows, returns an Estimate; its values are used.
        size: rows in each of the two sets; half of the data unless given. Draw the band at the size of the sample sets.
        splits: random splits, at least two.
        seed: of the splits.

    Returns:
        value: mean over splits; se: standard deviation of one split (not of the mean); low, high: where 95 % of splits
        fall if they are normal, value -+ 1.96 se; n: rows in each set. Splits share data, so the band is slightly too
        narrow when `size` is close to half of the data.

    Raises:
        TypeError, ValueError: as `metric`; a size that does not fit twice, fewer than two splits.
    """
    if not isinstance(real, Tensor):
        raise TypeError(f"real must be a tensor, got {type(real).__name__}")
    size = len(real) // 2 if size is None else size
    if not 1 <= size <= len(real) // 2:
        raise ValueError(f"size must be in [1, {len(real) // 2}] for {len(real)} rows, got {size}")
    if splits < 2:
        raise ValueError(f"splits must be at least 2, got {splits}")
    random, values = torch.Generator().manual_seed(seed), []
    for _ in range(splits):
        pairs = torch.randperm(len(real) // 2, generator=random)[:size].sort().values
        coin = torch.randint(2, (size,), generator=random)
        one, other = (2 * pairs + side for side in (coin, 1 - coin))
        values.append(metric(real[one.to(real.device)], real[other.to(real.device)]).value)
    value, se = fmean(values), stdev(values)
    reach = NormalDist().inv_cdf(0.5 + LEVEL / 2) * se
    return Estimate(value, value - reach, value + reach, se, size)
