"""The linear mix: the only arithmetic that running a plan needs."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor


def linear(terms: Iterable[tuple[float, Tensor]]) -> Tensor:
    """Return the sum of ``coefficient * tensor`` over the terms whose coefficient is not zero.

    Coefficients are host floats, so nothing here waits for the device. One new tensor is made and the rest
    accumulates into it; a lone term with coefficient 1 is returned as it is, without a copy, so the result
    must not be written to.

    Args:
        terms: pairs of a float and a tensor; all tensors share one shape, dtype and device.

    Raises:
        ValueError: every coefficient is zero.
    """
    live = [(c, v) for c, v in terms if c != 0.0]
    if not live:
        raise ValueError("a linear mix needs at least one non-zero coefficient")
    (c, v), *rest = live
    if not rest:
        return v if c == 1.0 else v * c
    # Start from two terms: a term with coefficient 1 costs no multiplication of its own.
    first = next((i for i, (c, _) in enumerate(live) if c == 1.0), None)
    if first is not None:
        _, v = live.pop(first)
        c, w = live.pop(0)
        out = v.add(w, alpha=c)
    else:
        out = v * c
        live.pop(0)
    for c, v in live:
        out.add_(v, alpha=c)
    return out
