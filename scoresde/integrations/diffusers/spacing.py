"""The time grids of diffusers' schedulers: one frozen dataclass for each way of spacing, with a class's options in it.

``exact`` means without rounding to integers. All are the noise levels at which steps begin, without the end.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from scoresde.grids.spacing import karras, log_snr
from scoresde.grids.training import beta_rho
from scoresde.integrations.diffusers.labels import Labels, Number
from scoresde.sde import EDM, RectifiedFlow


# -- indices of a trained table ---------------------------------------------------------------------------------------
def linspace(last: int, steps: int, spare: int, exact: bool, offset: int) -> list[float]:
    """Equally spaced indices from ``last - 1`` to 0, of which the ``spare`` last ones are left out."""
    points = steps + spare
    if points == 1:  # diffusers' one step would begin at index 0, from noise that is not there
        return [last - 1.0]
    stride = (last - 1) / (points - 1)  # times an int, as in numpy.linspace: halves must round alike
    return [last - 1.0, *(i * stride for i in range(points - 2, spare - 1, -1))]


def leading(last: int, steps: int, spare: int, exact: bool, offset: int) -> list[float]:
    """Multiples of a stride, without the noisiest one, raised by the offset."""
    if steps == 1 and not spare:  # as above
        return [last - 1.0]
    stride = last / (steps + spare) if exact else last // (steps + spare)
    return [(steps + spare - 1 - i) * stride + offset for i in range(steps)]


def trailing(last: int, steps: int, spare: int, exact: bool, offset: int) -> list[float]:
    """Equally spaced indices from ``last - 1``, of which the least lies a stride above -1."""
    stride = (last - last / steps) - last  # as in numpy.arange: halves must round alike
    counts = [last + i * stride for i in range(steps)]
    return [count - 1.0 if exact else round(count) - 1.0 for count in counts]


SPACINGS: dict[str, Callable[[int, int, int, bool, int], list[float]]] = {
    "linspace": linspace,
    "leading": leading,
    "trailing": trailing,
}


def converted(name: str, high: float, low: float, count: int) -> list[float]:
    """So many numbers from high to low, spaced as the option ``use_<name>_sigmas`` says."""
    if count == 1 or high == low:
        return [high] * count
    make = {"karras": karras, "exponential": log_snr, "beta": beta_rho}[name]
    return list(make(EDM(low, high), count - 1, high, low))


@dataclass(frozen=True)
class Conversion:
    """Numbers that take the place of others between the same ends, or between those that a config gives."""

    name: str
    low: float | None = None
    high: float | None = None

    def __call__(self, high: float, low: float, count: int) -> list[float]:
        """So many numbers."""
        high, low = high if self.high is None else self.high, low if self.low is None else self.low
        return converted(self.name, high, low, count)


# -- schedules --------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Schedule(ABC):
    """The times at which steps begin, and where the last one ends.

    Attributes:
        number, labels: the names of noise levels.
        end: the number at which it ends; 0 is the data.
        told: what the class makes of a label before it tells it to the network.
        whole: labels of this kind are whole numbers by training, so that a user may want them rounded.
    """

    number: Number
    labels: Labels
    end: float = 0.0
    told: Callable[[float], float] = float
    whole: bool = False

    @abstractmethod
    def times(self, steps: int, exact: bool, mu: float | None) -> list[float]:
        """Where each of the steps begins."""

    def of_labels(self, labels: Iterable[float], exact: bool) -> list[float]:
        """Where steps with given labels begin."""
        return [self.labels.time(label if exact or not self.whole else self.told(label)) for label in labels]

    def of_numbers(self, numbers: Iterable[float], exact: bool, mu: float | None) -> list[float]:
        """Where steps with given numbers begin."""
        return [self.number.time(number) for number in numbers]

    def shift(self, mu: float | None) -> float:
        """The flow shift in force."""
        return 1.0


@dataclass(frozen=True)
class TableSchedule(Schedule):
    """Indices of a trained table.

    Attributes:
        indices: the labels that are spaced, which need not be those that the network is told.
        n: entries of the table.
        spacing: "linspace", "leading" or "trailing".
        spare: spaced for this many steps more, of which the last is left out.
        rounds_linspace: indices of "linspace" are rounded as those of the others.
        offset: added to those of "leading".
        last: entries in use, from the first; noisier ones are left out.
        convert: other levels in place of those.
        ends: (high, low) between which, or None for the first and last of the indices' own.
    """

    indices: Labels | None = None
    n: int = 1000
    spacing: str = "linspace"
    spare: int = 0
    rounds_linspace: bool = True
    offset: int = 0
    last: int = 1000
    convert: Conversion | None = None
    ends: tuple[float, float] | None = None

    def times(self, steps: int, exact: bool, mu: float | None) -> list[float]:
        """Where each of the steps begins."""
        if self.convert is not None and self.ends is not None:
            return [self.number.time(v) for v in self.convert(*self.ends, steps)]
        indices = SPACINGS[self.spacing](self.last, steps, self.spare, exact, self.offset)
        if not exact and (self.rounds_linspace or self.spacing != "linspace"):
            indices = [float(round(i)) for i in indices]
        if indices[0] > self.n - 1 or indices[-1] < 0:
            raise ValueError(
                f"num_inference_steps={steps} with steps_offset={self.offset} goes from {indices[0]:g} to "
                f"{indices[-1]:g} in a table of {self.n}; at most {self.n // (self.offset + 1)} steps fit"
            )
        times = [(self.indices or self.labels).time(i) for i in indices]
        if self.convert is None:
            return times
        return [self.number.time(v) for v in self.convert(self.number.at(times[0]), self.number.at(times[-1]), steps)]


@dataclass(frozen=True)
class LogLinear(Schedule):
    """``interpolation_type="log_linear"``: equal steps in log(sigma/alpha) over the whole table, to its first entry."""

    high: float = 1.0

    def times(self, steps: int, exact: bool, mu: float | None) -> list[float]:
        """Where each of the steps begins."""
        return [self.number.time(v) for v in converted("exponential", self.high, self.end, steps + 1)[:-1]]


@dataclass(frozen=True)
class DistilledSchedule(Schedule):
    """A subset of the steps that a consistency model was distilled on: multiples of a stride, less 1.

    Attributes:
        n: entries of the table.
        original: steps of the distillation.
    """

    n: int = 1000
    original: int = 50

    def times(self, steps: int, exact: bool, mu: float | None) -> list[float]:
        """Where each of the steps begins."""
        if steps > self.original and not exact:
            raise ValueError(
                f"num_inference_steps={steps} is more than original_inference_steps={self.original}, the steps that "
                "the network was distilled on"
            )
        stride, skip = self.n // self.original, self.original / steps
        left_out = [i * skip if exact else math.floor(i * skip) for i in range(steps)]
        return [self.labels.time((self.original - out) * stride - 1.0) for out in left_out]


@dataclass(frozen=True)
class RampSchedule(Schedule):
    """Levels of EDM: equally spaced in a power, or in the log.

    Attributes:
        low, high: sigma_min, sigma_max.
        name: "karras" or "exponential".
        rho: the power of Karras.
        entries: None, or the grid's own number of points, of which every so many-th is taken (consistency models).
    """

    low: float = 0.002
    high: float = 80.0
    name: str = "karras"
    rho: float = 7.0
    entries: int | None = None

    def times(self, steps: int, exact: bool, mu: float | None) -> list[float]:
        """Where each of the steps begins."""
        sde = EDM(self.low, self.high)
        if self.entries is not None:
            # Of a grid of so many points, every stride-th from the noisiest; rounding has no say in it.
            stride = self.entries // steps
            if stride == 0:
                raise ValueError(f"num_inference_steps={steps} is more than num_train_timesteps={self.entries}")
            points = karras(sde, self.entries - 1, self.high, self.low, self.rho)[: steps * stride : stride]
        elif steps == 1:
            points = [self.high]
        elif self.name == "exponential":
            points = log_snr(sde, steps - 1, self.high, self.low)
        else:
            points = karras(sde, steps - 1, self.high, self.low, self.rho)
        return [self.number.time(v) for v in points]


@dataclass(frozen=True)
class LineSchedule(Schedule):
    """Equally spaced numbers from 1 to ``low``, of which each step begins at a function, ``time``.

    ``spare`` is 1 if the last number is left out.
    """

    low: float = 0.0
    spare: int = 0
    time: Callable[[float], float] = float

    def times(self, steps: int, exact: bool, mu: float | None) -> list[float]:
        """Where each of the steps begins."""
        gaps = max(steps + self.spare - 1, 1)
        return [self.time(1.0 + (self.low - 1.0) * i / gaps) for i in range(steps)]


# Unshifted levels of rectified flow, from (steps, lowest, highest).
FLOWS: dict[str, Callable[[int, float, float], list[float]]] = {
    # to the least level, which is the one of training after its shift
    "both ends": lambda n, low, high: [high + (low - high) * i / max(n - 1, 1) for i in range(n)],
    # as many equal steps to the least level (UniPC), from just below 1 (DPM-Solver), or to 0 (MiniMax)
    "from 1": lambda n, low, high: [1.0 + (low - 1.0) * i / n for i in range(n)],
    "from 1 - low": lambda n, low, high: [(1.0 - low) * (n - i) / n for i in range(n)],
    "from 1 to 0": lambda n, low, high: [(n - i) / n for i in range(n)],
}


@dataclass(frozen=True)
class FlowSchedule(Schedule):
    """Levels of rectified flow, shifted.

    Attributes:
        flow: a name of :data:`FLOWS`.
        low, high: its ends.
        static: the shift, where mu does not replace it.
        dynamic: "" (mu is not used), "exponential" (shift by exp(mu)) or "linear" (by mu).
        needs_mu: dynamic shifting without mu is an error.
        terminal: where the last of the levels is stretched to.
        below: the most that the first level is, if rounding is wanted (UniPC has no lambda at 1).
        convert: other levels in place of these, between the same ends.
        ends: (high, low) in sigma/alpha, if levels of another process are taken over (Cosmos).
        shifts_given: levels from outside are shifted too.
    """

    flow: str = "both ends"
    low: float = 0.001
    high: float = 1.0
    static: float = 1.0
    dynamic: str = ""
    needs_mu: bool = True
    terminal: float | None = None
    below: float = 1.0
    convert: Conversion | None = None
    ends: tuple[float, float] | None = None
    shifts_given: bool = True

    def shift(self, mu: float | None) -> float:
        """The flow shift in force.

        Raises:
            ValueError: dynamic shifting without mu.
        """
        if not self.dynamic or (mu is None and not self.needs_mu):
            return self.static
        if mu is None:
            raise ValueError(
                "mu must be given to set_timesteps: the source has use_dynamic_shifting=True, so its shift depends "
                "on the size of the image (see scoresde.grids.token_shift)"
            )
        return math.exp(mu) if self.dynamic == "exponential" else float(mu)

    def times(self, steps: int, exact: bool, mu: float | None) -> list[float]:
        """Where each of the steps begins."""
        if self.convert is not None and self.ends is not None:
            return [rho / (1.0 + rho) for rho in self.convert(*self.ends, steps)]
        return self._moved(FLOWS[self.flow](steps, self.low, self.high), exact, mu)

    def of_numbers(self, numbers: Iterable[float], exact: bool, mu: float | None) -> list[float]:
        """Where steps with given levels begin, which are shifted."""
        numbers = [float(v) for v in numbers]
        if not all(0.0 < v <= 1.0 + 1e-6 for v in numbers):  # float32 rounds
            raise ValueError(f"sigmas of rectified flow must be within (0, 1], but for a 0 at the end; got {numbers}")
        numbers = [min(v, 1.0) for v in numbers]
        return self._moved(numbers, exact, mu) if self.shifts_given else numbers

    def _moved(self, levels: list[float], exact: bool, mu: float | None) -> list[float]:
        flow = RectifiedFlow(self.shift(mu))
        levels = [flow.sigma(v) for v in levels]
        if self.terminal and levels[-1] < 1.0:
            scale = (1.0 - levels[-1]) / (1.0 - self.terminal)
            levels = [1.0 - (1.0 - v) / scale for v in levels]
        if self.convert is not None and self.ends is None:
            levels = self.convert(levels[0], levels[-1], len(levels))
        # Only the first can be at 1.
        return [*([levels[0]] if exact else [min(levels[0], self.below)]), *levels[1:]]
