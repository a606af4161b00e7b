"""The linear mix: the only arithmetic that running a plan needs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

# A mix of numbered tensors, in the order in which it costs least: (begin with this one, then add this term to it if
# there is any, then these in place). A term is (coefficient, number of the tensor).
Term = tuple[float, int]
Ordered = tuple[int, Term | None, tuple[Term, ...]]
ZERO = 0  # the tensor of this number is zero()


def zero(dtype: torch.dtype) -> Tensor:
    """What a mix begins with that has no coefficient 1: without dimensions and on the host, so it goes with every
    tensor. ``zero + c * v`` costs less than ``c * v``, for which torch first makes a tensor of c.
    """
    return torch.zeros((), dtype=dtype, device="cpu")


def ordered(terms: Iterable[Term]) -> Ordered:
    """Put a mix into the order in which it costs least: a term with coefficient 1 comes first, and is not multiplied.

    Terms of one tensor are summed, and those whose coefficient is zero left out.

    Raises:
        ValueError: every coefficient is zero.
    """
    sums: dict[int, float] = {}
    for c, i in terms:
        sums[i] = sums.get(i, 0.0) + c
    live = {i: c for i, c in sums.items() if c != 0.0}
    if not live:
        raise ValueError("a linear mix needs at least one non-zero coefficient")
    begin = next((i for i, c in live.items() if c == 1.0), ZERO)
    live.pop(begin, None)
    rest = tuple((c, i) for i, c in live.items())
    return begin, rest[0] if rest else None, rest[1:]


def mixed(mix: Ordered, tensors: Sequence[Tensor]) -> Tensor:
    """Return the mix of these tensors, all of one shape, dtype and device but for :func:`zero`.

    Coefficients are host floats, so nothing here waits for the device. One new tensor is made and the rest accumulates
    into it; a lone tensor with coefficient 1 is returned as it is, without a copy, so the result must not be written
    to.
    """
    begin, first, rest = mix
    out = tensors[begin]
    if first is None:
        return out
    c, i = first
    out = out.add(tensors[i], alpha=c)
    for c, i in rest:
        out.add_(tensors[i], alpha=c)
    return out


def linear(terms: Iterable[tuple[float, Tensor]]) -> Tensor:
    """Return the sum of ``coefficient * tensor`` over the terms whose coefficient is not zero; see :func:`mixed`.

    Args:
        terms: pairs of a float and a tensor; all tensors share one shape, dtype and device.

    Raises:
        ValueError: every coefficient is zero.
    """
    coefficients, tensors = zip(*terms, strict=True)
    return mixed(ordered((c, i) for i, c in enumerate(coefficients, 1)), (zero(tensors[0].dtype), *tensors))
