"""Step-size control: how large an error is, whether the step is taken, and how long the next one should be."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from torch import Tensor

# From an array of errors, each in units of its tolerance, (B, ...), to one number for the batch.
NORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "largest": lambda e: e.flatten(1).square().mean(dim=1).amax().sqrt(),
    "batch": lambda e: e.square().mean().sqrt(),
}


def scaled_error(high: Tensor, low: Tensor, before: Tensor, rtol: float, atol: float, norm: str) -> float:
    """How far two results of one step differ, in units of ``max(atol, rtol max(|low|, |before|))``, as one number."""
    tolerance = low.abs().maximum(before.abs()).mul_(rtol).clamp_(min=atol)
    return NORMS[norm]((high - low) / tolerance).item()


class Verdict(NamedTuple):
    """What a controller says of an attempted step: take it or not, and the next step as a multiple of this one."""

    accept: bool
    factor: float


class Controller(ABC):
    """A frozen set of options with one pure function.

    Attributes:
        suffix: what a solver with this controller has behind its name.
    """

    suffix: ClassVar[str]

    @abstractmethod
    def judge(self, error: float, past: tuple[float, ...], order: float) -> Verdict:
        """Judge a step by its error, of a method of this order.

        ``past`` holds the errors of the two steps that were taken before it, newest first, or that of the very first
        attempt where there were none; () for the first attempt itself.
        """


SMALLEST = 1e-200  # an error of zero, which a constant prediction makes, must not divide


@dataclass(frozen=True)
class Elementary(Controller):
    r"""Take a step whose error is at most 1; the next is :math:`\theta E^{-1/p}` times as long.

    Args:
        theta: the safety factor, 0 < theta < 1.
    """

    theta: float = 0.9

    suffix: ClassVar[str] = ""

    def __post_init__(self) -> None:
        if not 0.0 < self.theta < 1.0:
            raise ValueError(f"theta must be within (0, 1), got {self.theta}")

    def judge(self, error: float, past: tuple[float, ...], order: float) -> Verdict:
        """See :class:`Controller`."""
        return Verdict(error <= 1.0, self.theta * max(error, SMALLEST) ** (-1.0 / order))


@dataclass(frozen=True)
class PID(Controller):
    r"""k-diffusion's controller, with proportional, integral and derivative parts of the logarithm of the error.

    The factor is :math:`1+\arctan(e_0^{b_1} e_1^{b_2} e_2^{b_3}-1)` with the inverse errors :math:`e_i` of this step
    and of the two before, :math:`b_1 = (P+I+D)/p`, :math:`b_2 = -(P+2D)/p` and :math:`b_3 = D/p`. A step is taken if
    the factor is at least ``accept_safety``.

    Args:
        pcoeff, icoeff, dcoeff: P, I, D.
        accept_safety: the smallest factor with which a step is taken, 0 < accept_safety < 1.
    """

    pcoeff: float = 0.0
    icoeff: float = 1.0
    dcoeff: float = 0.0
    accept_safety: float = 0.81

    suffix: ClassVar[str] = "-pid"
    smallest_error: ClassVar[float] = 1e-8

    def __post_init__(self) -> None:
        if not all(math.isfinite(c) for c in (self.pcoeff, self.icoeff, self.dcoeff)):
            raise ValueError(f"pcoeff, icoeff, dcoeff must be finite, got {self.pcoeff}, {self.icoeff}, {self.dcoeff}")
        if not self.pcoeff + self.icoeff + self.dcoeff > 0.0:
            raise ValueError(
                "pcoeff + icoeff + dcoeff must be positive, so that a large error shortens the step; "
                f"got {self.pcoeff}, {self.icoeff}, {self.dcoeff}"
            )
        if not 0.0 < self.accept_safety < 1.0:
            raise ValueError(f"accept_safety must be within (0, 1), got {self.accept_safety}")

    def judge(self, error: float, past: tuple[float, ...], order: float) -> Verdict:
        """See :class:`Controller`."""
        e0, e1, e2 = (1.0 / (e + self.smallest_error) for e in (error, *(past or (error, error))))
        p, i, d = self.pcoeff, self.icoeff, self.dcoeff
        raw = e0 ** ((p + i + d) / order) * e1 ** (-(p + 2 * d) / order) * e2 ** (d / order)
        factor = 1.0 + math.atan(raw - 1.0)
        return Verdict(factor >= self.accept_safety, factor)
