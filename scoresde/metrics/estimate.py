"""A number with its uncertainty, and the jackknife that every metric takes it from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import NormalDist, fmean

import torch
from torch import Tensor

LEVEL = 0.95  # of every interval
BLOCKS = 20


@dataclass(frozen=True)
class Estimate:
    """A measured number and how well it is known.

    value: the estimate. low, high: its 95 % interval. se: its standard error. n: independent rows behind it. left: the
    statistic without each jackknife block in turn, from which `difference` finds the error of a paired comparison;
    empty for what no jackknife gave (a formula, a band). It is the working behind the estimate: neither equality nor
    the printed form looks at it.
    """

    value: float
    low: float
    high: float
    se: float
    n: int
    left: tuple[float, ...] = field(default=(), repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "left", tuple(self.left))  # JSON has lists only

    def __str__(self) -> str:
        return f"{self.value:.4g} ± {self.se:.2g} [{self.low:.4g}, {self.high:.4g}] (n = {self.n})"

    def __float__(self) -> float:
        return self.value


def jackknife(whole: float, without: Sequence[float], n: int, *, correct: bool = True) -> Estimate:
    """Delete-one-block jackknife (Quenouille 1956; Tukey 1958; its variance: Efron & Stein 1981, Ann. Statist. 9(3)).

    Args:
        whole: the statistic of all rows.
        without: the statistic of all rows but block i, for each of at least two blocks of (nearly) one size.
        n: number of rows, to be told.
        correct: remove the bias of order 1/n: g * whole - (g - 1) * mean(without), with g blocks. False for a statistic
            that is unbiased.

    Returns:
        The estimate with a 95 % Student interval of g - 1 degrees of freedom; its `left` is `without`.

    Raises:
        ValueError: fewer than two blocks.
    """
    g = len(without)
    if g < 2:
        raise ValueError(f"without must hold at least two blocks, got {g}")
    return _student(g * whole - (g - 1) * fmean(without) if correct else whole, without, n)


def difference(a: Estimate, b: Estimate) -> Estimate:
    """a - b for two statistics of paired rows, such as two solvers' samples from the same noise.

    Block i of both was made from the same noise, so what the blocks have in common cancels, and the interval is often
    far narrower than the two intervals suggest. It is the jackknife of the difference: that is linear in the two
    statistics, so the rows left out of both at once give its standard error whether or not a bias of order 1/n was
    removed from each. The two are told apart where the interval leaves 0 out.

    Args:
        a: with its `left`; or an exact number, whose `se` is 0.
        b: likewise, of as many rows in as many blocks.

    Returns:
        The difference with a 95 % Student interval; if both are exact, with no width.

    Raises:
        ValueError: estimates of different numbers of rows or blocks, or one with an error but without its `left`.
    """
    sampled = [(name, e) for name, e in (("a", a), ("b", b)) if e.left or e.se != 0.0]
    for name, e in sampled:
        if not e.left:
            raise ValueError(f"{name} must keep its leave-one-out values (left) to be compared in pairs; it has none")
    value, sizes = a.value - b.value, {(e.n, len(e.left)) for _, e in sampled}
    if len(sizes) > 1:
        raise ValueError(
            f"a and b must be of paired rows: got {a.n} and {b.n} rows in {len(a.left)} and {len(b.left)} blocks"
        )
    if not sizes:
        return Estimate(value, value, value, 0.0, min(a.n, b.n))
    n, g = sizes.pop()
    own, other = (e.left or (e.value,) * g for e in (a, b))
    return _student(value, [x - y for x, y in zip(own, other, strict=True)], n)


def _student(value: float, left: Sequence[float], n: int) -> Estimate:
    """The estimate around a value, with the error that the leave-one-out values give."""
    g, mean = len(left), fmean(left)
    se = math.sqrt((g - 1) / g * math.fsum((v - mean) ** 2 for v in left))
    reach = student_quantile(0.5 + LEVEL / 2, g - 1) * se
    return Estimate(value, value - reach, value + reach, se, n, tuple(left))


def proportion(right: Tensor, *, blocks: int = BLOCKS) -> Estimate:
    """The share of rows that are True, with Wilson's 95 % interval (Wilson 1927, J. Am. Stat. Assoc. 22(158)).

    Unlike value -+ 2 se, that interval has a width where all rows are alike.

    Args:
        right: (n,) of bool, a row for each sample.
        blocks: jackknife blocks, for paired differences; fewer if there are fewer rows.

    Raises:
        TypeError, ValueError: another kind or shape, or fewer than two rows.
    """
    if not isinstance(right, Tensor) or right.dtype != torch.bool:
        raise TypeError(f"right must be a bool tensor, got {getattr(right, 'dtype', type(right).__name__)}")
    if right.ndim != 1 or len(right) < 2:
        raise ValueError(f"right must have shape (n,) with at least two rows, got {tuple(right.shape)}")
    n = len(right)
    p, *left = leave_one_out(right.double(), min(at_least(blocks, 2, "blocks"), n))[0].tolist()
    z, variance = NormalDist().inv_cdf(0.5 + LEVEL / 2), p * (1 - p) / n
    shrink, reach = 1 + z * z / n, z * math.sqrt(variance + z * z / (4 * n * n))
    low, high = ((p + z * z / (2 * n) + side * reach) / shrink for side in (-1, 1))
    return Estimate(p, low, high, math.sqrt(variance), n, tuple(left))


def clipped(estimate: Estimate, low: float, high: float = math.inf) -> Estimate:
    """The estimate with its interval cut to where the true value can be."""
    return replace(estimate, low=max(estimate.low, low), high=min(estimate.high, high))


def reaching_zero(estimate: Estimate) -> Estimate:
    """The estimate of what is never negative: an interval that is below 0 altogether goes on to 0.

    Where two sets are equal, an unbiased distance is as often negative as positive, and has its smallest standard
    errors when it is: without this, such intervals missed the truth more often than they say.
    """
    return replace(estimate, high=max(estimate.high, 0.0))


def student_quantile(p: float, degrees: int) -> float:
    """Quantile of Student's t.

    Exact for 1 and 2 degrees of freedom; otherwise the expansion around the normal quantile (Abramowitz & Stegun
    26.7.5), within 0.5 % at p = 0.975 for 3 degrees and 0.001 % for 19.
    """
    if degrees == 1:
        return math.tan(math.pi * (p - 0.5))
    if degrees == 2:
        return (2 * p - 1) * math.sqrt(2 / (4 * p * (1 - p)))
    z = NormalDist().inv_cdf(p)
    z2, v = z * z, float(degrees)
    terms = (
        (z2 + 1) / 4,
        ((5 * z2 + 16) * z2 + 3) / 96,
        (((3 * z2 + 19) * z2 + 17) * z2 - 15) / 384,
        ((((79 * z2 + 776) * z2 + 1482) * z2 - 1920) * z2 - 945) / 92160,
    )
    return z * (1 + math.fsum(c / v ** (k + 1) for k, c in enumerate(terms)))


def rows(x: Tensor, name: str, at_least: int = 1) -> Tensor:
    """x as a float64 matrix (n, d), checked.

    Raises TypeError or ValueError for what is no finite floating-point (n, ...) tensor, or has fewer rows than needed.
    """
    if not isinstance(x, Tensor) or not x.is_floating_point():
        raise TypeError(f"{name} must be a floating-point tensor, got {getattr(x, 'dtype', type(x).__name__)}")
    if x.ndim < 2 or 0 in x.shape[1:]:
        raise ValueError(f"{name} must have shape (n, ...), a row for each sample; got {tuple(x.shape)}")
    if len(x) < at_least:
        raise ValueError(f"{name} must have at least {at_least} rows, got {len(x)}")
    flat = x.detach().reshape(len(x), -1).double()
    bad = int((~torch.isfinite(flat)).sum())
    if bad:
        raise ValueError(f"{name} has {bad} values that are not finite")
    return flat


def two_sets(x: Tensor, y: Tensor, blocks: int) -> tuple[Tensor, Tensor]:
    """Two checked sets with rows of one shape, each with at least two rows for every block."""
    need = 2 * at_least(blocks, 2, "blocks")
    pair = rows(x, "x", need), rows(y, "y", need)
    if x.shape[1:] != y.shape[1:]:
        raise ValueError(f"x and y must have rows of one shape, got {tuple(x.shape[1:])} and {tuple(y.shape[1:])}")
    if x.device != y.device:
        raise ValueError(f"x and y must be on one device, got {x.device} and {y.device}")
    return pair


def at_least(value: int, least: int, name: str) -> int:
    """The value, or ValueError that names the argument if it is smaller."""
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
    return value


def block_of(n: int, blocks: int, device: torch.device, first: int = 0) -> Tensor:
    """The block of each of n rows, of indices `first` and on: dealt in turn, one block further on in each round.

    So sorted rows make like blocks, and so do rows whose classes come in turn (plain dealing would put one class into
    each block if their number divides the number of blocks); rows of one index share a block, which keeps pairs
    together.
    """
    i = torch.arange(first, first + n, device=device)
    return (i + i // blocks) % blocks


def leave_one_out(values: Tensor, blocks: int) -> tuple[Tensor, Tensor]:
    """Means of values (n, ...) over all rows, and then over all but each block, with the numbers of rows.

    Returns:
        (1 + blocks, ...) and (1 + blocks,). The other blocks are summed anew rather than one subtracted from all: exact
        where one row carries nearly everything.
    """
    which = block_of(len(values), blocks, values.device)
    sums = values.new_zeros(blocks, *values.shape[1:]).index_add_(0, which, values).reshape(blocks, -1)
    keep = 1 - torch.eye(1 + blocks, dtype=values.dtype, device=values.device)[:, 1:]
    counts = keep @ torch.bincount(which, minlength=blocks).to(values)
    return (keep @ sums / counts[:, None]).reshape(1 + blocks, *values.shape[1:]), counts
