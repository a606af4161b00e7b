"""Two ways in which a scheduler of diffusers names a noise level: the number in its ``sigmas``, and the label that its
network is told (``timesteps``). Each goes to and from the time of the source's process.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from scoresde.sde import SDE, DiscreteVP

ABOVE = (
    1e-3  # share by which a level may lie above the noisiest of the process and is taken for that: 14.615 of 14.6146
)


# -- the number in `sigmas` -------------------------------------------------------------------------------------------
def _time_at_rho(sde: SDE, rho: float) -> float:
    if rho == 0.0:
        return 0.0
    return sde.t_at_lam(-math.log(rho)) if math.isfinite(rho) else sde.T


# number -> (from a process and its time, to its time)
NUMBERS: dict[str, tuple[Callable[[SDE, float], float], Callable[[SDE, float], float]]] = {
    "rho": (lambda sde, t: sde.point(t).rho, _time_at_rho),
    "sigma": (lambda sde, t: t, lambda sde, number: number),  # of EDM and of a flow: time
    "1 - sigma": (lambda sde, t: 1.0 - t, lambda sde, number: 1.0 - number),
}


@dataclass(frozen=True)
class Number:
    """The number that a scheduler's ``sigmas`` hold: a name of :data:`NUMBERS`."""

    sde: SDE
    name: str = "rho"

    def at(self, t: float) -> float:
        """The number at a time."""
        return NUMBERS[self.name][0](self.sde, t)

    def time(self, number: float) -> float:
        """Its inverse.

        Raises:
            ValueError: not a noise level of the process.
        """
        number = float(number)
        if not (number >= 0.0 and math.isfinite(number)) and number != math.inf:
            raise ValueError(f"sigmas must be at least 0, got {number}")
        t = NUMBERS[self.name][1](self.sde, number)
        if t > self.sde.T:
            most = self.at(self.sde.T)
            if number > most * (1 + ABOVE):
                raise ValueError(f"sigmas must be at most {most:.6g}, the noisiest of the source; got {number}")
            return self.sde.T
        return t


# -- the label that the network is told -------------------------------------------------------------------------------
class Labels(ABC):
    """Real-valued labels at times of a process, and back."""

    @abstractmethod
    def label(self, t: float) -> float:
        """The label at a time."""

    @abstractmethod
    def time(self, label: float) -> float:
        """The time at a label.

        Raises:
            ValueError: the network has no such label.
        """


def _within(label: float, low: float, high: float) -> float:
    """The label, at an end if it is beyond by no more than float32 rounds."""
    if not low - ABOVE <= label <= high + ABOVE:
        raise ValueError(f"timesteps must be within {low:g} and {high:g}, as in the network's training; got {label}")
    return min(max(float(label), low), high)


@dataclass(frozen=True)
class Entries(Labels):
    """Indices of the trained table, between entries as its process interpolates: alpha is geometric in the index.

    Below the first entry the label stays 0.
    """

    sde: DiscreteVP

    def label(self, t: float) -> float:
        """The index."""
        return min(max(t * self.sde.n - 1.0, 0.0), self.sde.n - 1.0)

    def time(self, label: float) -> float:
        """The time at an index."""
        return (_within(label, 0.0, self.sde.n - 1.0) + 1.0) / self.sde.n


@dataclass(frozen=True)
class Between(Labels):
    """Indices of the trained table, between entries as diffusers interpolates: linear in rho = sigma/alpha or its log.

    Levels outside the table have the label of its nearest entry.

    Args:
        table: the process of the table, with alpha > 0 throughout.
        number: of the process that is sampled, which may have more levels.
        log: in log rho.
    """

    table: DiscreteVP
    number: Number
    log: bool = False

    @cached_property
    def _values(self) -> list[float]:
        rhos = [math.sqrt((1.0 - a) / a) for a in self.table.alphas_cumprod]
        return [math.log(rho) for rho in rhos] if self.log else rhos

    def label(self, t: float) -> float:
        """The index."""
        if t <= 0.0:
            return 0.0
        values, rho = self._values, self.number.at(t)
        value = math.log(rho) if self.log else rho
        if not values[0] < value < values[-1]:
            return 0.0 if value <= values[0] else len(values) - 1.0
        i = bisect_right(values, value) - 1
        return i + (value - values[i]) / (values[i + 1] - values[i])

    def time(self, label: float) -> float:
        """The time at an index."""
        label = _within(label, 0.0, self.table.n - 1.0)
        i = int(label)
        if label == i and self.number.sde is self.table:
            return (i + 1.0) / self.table.n
        values = self._values
        value = values[i] if label == i else values[i] + (label - i) * (values[i + 1] - values[i])
        return self.number.time(math.exp(value) if self.log else value)


# label -> (from the number, to the number)
FUNCTIONS: dict[str, tuple[Callable[[float], float], Callable[[float], float]]] = {
    "number": (lambda v: v, lambda label: label),
    "c_noise": (lambda v: 0.25 * math.log(v) if v else -math.inf, lambda label: math.exp(4 * label)),
    "arctan": (lambda v: math.atan(v) * 2 / math.pi, lambda label: math.tan(label * math.pi / 2)),
}


@dataclass(frozen=True)
class OfNumber(Labels):
    """``scale`` times a function of the number in ``sigmas``: a name of :data:`FUNCTIONS`."""

    number: Number
    name: str = "number"
    scale: float = 1.0

    def label(self, t: float) -> float:
        """The label."""
        return self.scale * FUNCTIONS[self.name][0](self.number.at(t))

    def time(self, label: float) -> float:
        """The time at a label."""
        return self.number.time(FUNCTIONS[self.name][1](label / self.scale))


@dataclass(frozen=True)
class OfTime(Labels):
    """The time of the process itself, which a ``scaler`` may warp (Würstchen); its T has the label 1."""

    sde: SDE
    scaler: float = 1.0

    def label(self, t: float) -> float:
        """The label."""
        if t >= self.sde.T:
            return 1.0
        return 1.0 - (1.0 - t) ** (1 / self.scaler) if self.scaler > 1 else t ** (1 / self.scaler)

    def time(self, label: float) -> float:
        """The time at a label; those above T are T."""
        label = _within(label, 0.0, 1.0)
        warped = 1.0 - (1.0 - label) ** self.scaler if self.scaler > 1 else label**self.scaler
        return min(warped, self.sde.T)
