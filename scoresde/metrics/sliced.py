"""Sliced Wasserstein distance."""

from __future__ import annotations

import torch
from torch import Tensor

from scoresde.metrics.estimate import BLOCKS, Estimate, block_of, jackknife, reaching_zero, two_sets

_CHUNK = 1 << 22  # numbers in the largest temporary


def sliced_wasserstein(
    x: Tensor, y: Tensor, *, projections: int = 500, seed: int = 0, blocks: int = BLOCKS
) -> Estimate:
    """Squared sliced 2-Wasserstein distance: the mean over directions u of W_2^2 between the projections u.x and u.y.

    Bonneel et al. 2015, J. Math. Imaging Vis. 51(1). On a line W_2 pairs quantiles, so a projection costs a sort. The
    plain estimate is biased upwards by about 1/n, which the jackknife removes (to leading order). The standard error
    counts the sampling of rows and of directions: every jackknife block leaves out its share of both. So it does in the
    `difference` of two distances along the same directions. In one dimension there is but one direction.

    Args:
        x: (n, ...).
        y: (m, ...).
        projections: number of random directions.
        seed: of the directions; the same seed gives the same directions, for comparisons.
        blocks: jackknife blocks.

    Raises:
        TypeError, ValueError: rows of different shapes, values that are not finite, fewer than two rows for each block,
            no projection.
    """
    flat, other = two_sets(x, y, blocks)
    if projections < 1:
        raise ValueError(f"projections must be at least 1, got {projections}")
    dim = flat.shape[1]
    random = torch.Generator().manual_seed(seed)
    directions = torch.randn(projections if dim > 1 else 1, dim, generator=random, dtype=torch.float64)
    directions = directions / directions.norm(dim=1, keepdim=True)
    parts = directions.to(flat).split(max(1, _CHUNK // (len(flat) + len(other))))
    # (1 + blocks, projections): the distance with all rows, and without each block
    table = torch.cat([_line_distances(u @ flat.T, u @ other.T, blocks) for u in parts], dim=1)
    keep = torch.ones_like(table)
    if dim > 1 and projections > 1:
        each = torch.arange(projections, device=table.device)
        keep[1 + each % blocks, each] = 0.0
    whole, *left = ((table * keep).sum(1) / keep.sum(1)).tolist()
    return reaching_zero(jackknife(whole, left, len(flat)))


def _line_distances(x: Tensor, y: Tensor, blocks: int) -> Tensor:
    """W_2^2 for each row of x (P, n) and y (P, m), with all columns and without each block of columns."""
    (x, order_x), (y, order_y) = x.sort(dim=1), y.sort(dim=1)
    block_x, block_y = (block_of(v.shape[1], blocks, v.device)[o] for v, o in ((x, order_x), (y, order_y)))
    out = [_paired_quantiles(x, y)]
    for i in range(blocks):  # what is left of a sorted row is sorted
        left = (v[b != i].reshape(len(v), -1) for v, b in ((x, block_x), (y, block_y)))
        out.append(_paired_quantiles(*left))
    return torch.stack(out)


def _paired_quantiles(x: Tensor, y: Tensor) -> Tensor:
    """Integral over u of (quantile_x(u) - quantile_y(u))^2 for sorted rows, also of different lengths."""
    n, m = x.shape[1], y.shape[1]
    if n == m:
        return (x - y).square().mean(1)
    # Both quantile functions are constant between the points i/n and j/m; these are integers in units of 1/(n m).
    steps = (torch.arange(1, n + 1, device=x.device) * m, torch.arange(1, m + 1, device=x.device) * n)
    cuts = torch.cat(steps).sort().values
    widths = torch.diff(cuts, prepend=cuts.new_zeros(1))
    start = cuts - widths
    gap = x[:, (start // m).clamp_max(n - 1)] - y[:, (start // n).clamp_max(m - 1)]
    return gap.square() @ (widths.to(x.dtype) / (n * m))
