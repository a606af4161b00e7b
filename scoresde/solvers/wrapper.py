"""Solvers made of the steps of a deterministic one and something more."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scoresde.rows import Mix, Row, Solver, Step
from scoresde.sde import Point
from scoresde.solvers.cooling import noise
from scoresde.solvers.ddim import DDIM


def _of_inner(name: str) -> Any:
    return property(lambda self: getattr(self.inner, name), doc=f"``{name}`` of the inner solver.")


@dataclass(frozen=True)
class Wrapper(Solver):
    """What these solvers share: they declare what the inner solver does, and a subclass overrides what it changes.

    Args:
        inner: the deterministic solver; one without a memory across steps, unless a subclass says otherwise, since a
            wrapper moves the state to where no past prediction belongs.
    """

    inner: Solver

    kind = _of_inner("kind")
    order = _of_inner("order")
    converges = _of_inner("converges")
    evaluations = _of_inner("evaluations")
    further_evaluations = _of_inner("further_evaluations")
    memory = _of_inner("memory")
    starts_at_zero_snr = _of_inner("starts_at_zero_snr")
    ends_at_data = _of_inner("ends_at_data")
    keeps_constant_data = _of_inner("keeps_constant_data")
    pairs = _of_inner("pairs")
    shows_order_at = _of_inner("shows_order_at")

    def __post_init__(self) -> None:
        if not self.inner.deterministic or self.inner.memory >= self.inner.evaluations:
            raise ValueError(f"inner must be deterministic and keep nothing across steps, got {self.inner!r}")

    def inner_rows(self, step: Step) -> Sequence[Row]:
        """The inner solver's rows of a step; DDIM's at an end of the process where the inner solver cannot step."""
        return (self.inner if self.inner.takes(step) else DDIM()).rows(step)

    def raised(self, s: Point, hat: Point, k: int, s_noise: float) -> Row:
        """A row without an evaluation from s to the noisier hat, which adds noise number k, times ``s_noise``."""
        added = s_noise * hat.alpha * math.sqrt((hat.rho - s.rho) * (hat.rho + s.rho))
        return Row(None, self.kind, Mix(x=hat.alpha / s.alpha, z=noise(k, added)))
