"""Fidelity and diversity apart: precision, recall, density and coverage."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from scoresde.metrics.estimate import BLOCKS, Estimate, block_of, clipped, jackknife, two_sets

_CHUNK = 1 << 22  # distances at a time


class PRDC(NamedTuple):
    """What `prdc` finds, each an Estimate.

    precision: share of samples inside the data's support. recall: share of data inside the samples' support. density:
    how many balls of data a sample lies in, over k: like precision, but an outlier among the data counts little.
    coverage: share of the data's balls that hold a sample.
    """

    precision: Estimate
    recall: Estimate
    density: Estimate
    coverage: Estimate


def prdc(x: Tensor, y: Tensor, *, k: int = 5, blocks: int = BLOCKS) -> PRDC:
    """Precision and recall, density and coverage, of samples against data.

    A support is the union of balls around a set's rows, each as wide as the distance to the row's k-th neighbour within
    the set. Precision and recall: Kynkaanniemi et al. 2019, arXiv:1904.06991, eq. 1 and 2; density and coverage: Naeem
    et al. 2020, arXiv:2002.09797, eq. 3 and 6.

    All four depend on the sizes n and m (balls shrink when there are more rows) and tend to no property of the two
    distributions when k is fixed: compare values of one size only. The interval is for the mean value at these sizes,
    and up to twice as wide as need be: a block that is left out moves the balls of the others, too.
    For equal distributions density is 1 on average, and coverage is ``1 - (m-1)...(m-k) / ((n+m-1)...(n+m-k))``: about
    ``1 - 2^-k`` where n = m.

    Memory stays bounded; time is that of n m + n^2 + m^2 distances and 2 n m (blocks + 1) comparisons.

    Args:
        x: (n, ...) samples, or their features.
        y: (m, ...) data.
        k: neighbour whose distance is a ball's radius.
        blocks: jackknife blocks.

    Raises:
        TypeError, ValueError: rows of different shapes, values that are not finite, fewer than two rows for each block,
            a k that is not positive or leaves no k-th neighbour in a set without one of its blocks.
    """
    flat, other = two_sets(x, y, blocks)
    fewest = min(len(flat), len(other))
    left = fewest - -(-fewest // blocks)
    if not 1 <= k < left:
        raise ValueError(f"k must be in [1, {left - 1}] for sets of {len(flat)} and {len(other)} rows, got {k}")
    centre = other.mean(0)
    flat, other = flat - centre, other - centre
    own, theirs = (block_of(len(v), blocks, v.device) for v in (flat, other))
    reach, reach_data = _radii(flat, own, k, blocks), _radii(other, theirs, k, blocks)

    # Index 0: all rows; index 1 + i: without block i.
    inside, hits = (torch.zeros(1 + blocks, dtype=torch.float64) for _ in range(2))
    recalled, covered = (torch.zeros(1 + blocks, len(other), dtype=torch.bool, device=flat.device) for _ in range(2))
    for index in torch.arange(len(flat), device=flat.device).split(max(1, _CHUNK // len(other))):
        distances = torch.cdist(flat[index], other)
        for i in range(1 + blocks):
            rows = own[index] != i - 1
            apart = distances[rows]
            held = apart <= reach_data[i]
            inside[i] += float(held.any(1).sum())
            hits[i] += float(held.sum())
            covered[i] |= held.any(0)
            recalled[i] |= (apart <= reach[i, index[rows], None]).any(0)

    n, m = (_sizes(v, blocks) for v in (own, theirs))
    kept = theirs != torch.arange(-1, blocks, device=flat.device)[:, None]
    shares = inside / n, (recalled & kept).sum(1).cpu() / m, hits / (n * k), (covered & kept).sum(1).cpu() / m
    found = [
        jackknife(whole, left, rows, correct=False)
        for (whole, *left), rows in zip([v.tolist() for v in shares], (len(flat), len(other)) * 2, strict=True)
    ]
    precision, recall, density, coverage = found
    return PRDC(
        clipped(precision, 0.0, 1.0), clipped(recall, 0.0, 1.0), clipped(density, 0.0), clipped(coverage, 0.0, 1.0)
    )


def _sizes(which: Tensor, blocks: int) -> Tensor:
    """(1 + blocks,): rows in all, and without each block."""
    counts = torch.bincount(which, minlength=blocks).cpu().double()
    return torch.cat([counts.sum()[None], counts.sum() - counts])


def _radii(x: Tensor, which: Tensor, k: int, blocks: int) -> Tensor:
    """(1 + blocks, n): the distance of each row to its k-th neighbour among all rows, and without each block.

    A row that is itself left out has the radius -1, so that nothing is inside its ball.
    """
    members = [torch.nonzero(which == i)[:, 0] for i in range(blocks)]
    out = x.new_full((1 + blocks, len(x)), -1.0)
    for index in torch.arange(len(x), device=x.device).split(max(1, _CHUNK // len(x))):
        distances = torch.cdist(x[index], x)
        distances[torch.arange(len(index), device=x.device), index] = torch.inf
        # The k nearest in every block hold the k nearest of any union of blocks.
        nearest = distances.new_full((len(index), blocks, k), torch.inf)
        for i, columns in enumerate(members):
            few = min(k, len(columns))
            nearest[:, i, :few] = distances[:, columns].topk(few, largest=False).values
        out[0, index] = nearest.flatten(1).kthvalue(k).values
        for i in range(blocks):
            rows = which[index] != i
            others = nearest[rows].index_fill(1, torch.tensor(i, device=x.device), torch.inf)
            out[1 + i, index[rows]] = others.flatten(1).kthvalue(k).values
    return out
