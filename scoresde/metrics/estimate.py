"""A number with its uncertainty, and the jackknife that every metric takes it from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean

import torch
from torch import Tensor

LEVEL = 0.95  # of every interval
BLOCKS = 20


@dataclass(frozen=True)
class Estimate:
    """A measured number and how well it is known.

    value: the estimate. low, high: its 95 % interval. se: its standard error. n: independent rows behind it.
    """

    value: float
    low: float
    high: float
    se: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.4g} ± {self.se:.2g} [{self.low:.4g}, {self.high:.4g}] (n = {self.n})"

    def __float__(self) -> float:
        return self.value


def jackknife(
    whole: float, without: Sequence[float], n: int, *, correct: bool = True, extra_variance: float = 0.0
) -> Estimate:
    """Delete-one-block jackknife (Quenouille 1956; Tukey 1958; its variance: Efron & Stein 1981, Ann. Statist. 9(3)).

    Args:
        whole: the statistic of all rows.
        without: the statistic of all rows but block i, for each of at least two blocks of (nearly) one size.
        n: number of rows, to be told.
        correct: remove the bias of order 1/n: g * whole - (g - 1) * mean(without), with g blocks. False for a statistic
            that is unbiased.
        extra_variance: of a source of error beside the rows, independent of them.

    Returns:
        The estimate with a 95 % Student interval of g - 1 degrees of freedom.
    """
    g = len(without)
    if g < 2:
        raise ValueError(f"without must hold at least two blocks, got {g}")
    mean = fmean(without)
    variance = (g - 1) / g * math.fsum((v - mean) ** 2 for v in without)
    value = g * whole - (g - 1) * mean if correct else whole
    se = math.sqrt(variance + extra_variance)
    reach = student_quantile(0.5 + LEVEL / 2, g - 1) * se
    return Estimate(value, value - reach, value + reach, se, n)


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
    need = 2 * check_blocks(blocks)
    pair = rows(x, "x", need), rows(y, "y", need)
    if x.shape[1:] != y.shape[1:]:
        raise ValueError(f"x and y must have rows of one shape, got {tuple(x.shape[1:])} and {tuple(y.shape[1:])}")
    if x.device != y.device:
        raise ValueError(f"x and y must be on one device, got {x.device} and {y.device}")
    return pair


def check_blocks(blocks: int) -> int:
    """The number of jackknife blocks, or ValueError."""
    if blocks < 2:
        raise ValueError(f"blocks must be at least 2, got {blocks}")
    return blocks


def block_of(n: int, blocks: int, device: torch.device) -> Tensor:
    """The block of each of n rows: dealt in turn, one block further on in each round.

    So sorted rows make like blocks, and so do rows whose classes come in turn (plain dealing would put one class into
    each block if their number divides the number of blocks); rows of one index share a block, which keeps pairs
    together.
    """
    i = torch.arange(n, device=device)
    return (i + i // blocks) % blocks
