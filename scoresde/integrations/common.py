"""What several integrations share: checks of arguments, and the index of a trained table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from scoresde.denoiser import BaseDenoiser
from scoresde.sde import DiscreteVP

__all__ = ["callable_as", "check_denoiser", "table_index"]


def callable_as(value: Any, call: str) -> Callable[..., Tensor]:
    """The value, which must be callable as ``call``: its name, then its arguments, as in ``net(x, t, **cond)``.

    Raises:
        TypeError: it is not.
    """
    if not callable(value):
        raise TypeError(f"{call.partition('(')[0]} must be callable as {call}, got {type(value).__name__}")
    return value  # type: ignore[return-value]


def check_denoiser(denoiser: object) -> None:
    """Raise TypeError for what is not a denoiser of this package."""
    if not isinstance(denoiser, BaseDenoiser):
        raise TypeError(f"denoiser must be a scoresde.Denoiser, got {type(denoiser).__name__}")


def table_index(sde: DiscreteVP, t: Any, *, rounded: bool = False) -> Any:
    """The index of the table that belongs to time t, real-valued, or the nearest one; a float or a tensor as t is.

    It is never below 0, of which a network knows nothing: times before the first entry are told as that.
    """
    index = t * sde.n - 1.0
    if isinstance(index, Tensor):
        index = index.clamp_min(0.0)
        return index.round() if rounded else index
    return float(round(max(index, 0.0))) if rounded else max(index, 0.0)
