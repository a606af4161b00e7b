"""A row of the catalogue of grids: a grid function with its rules at the two ends of time."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from scoresde.sde import SDE

GridFunction = Callable[..., Sequence[float]]


@dataclass(frozen=True)
class Entry:
    """A grid function, and what becomes of it where its coordinate is infinite: at the data and at pure noise.

    Calling it gives the ``steps + 1`` times from ``start`` to ``end``, which may be 0. No time lies between 0 and the
    smaller of ``sde.eps`` and half of ``start``.

    Attributes:
        make: ``(sde, steps, start, end, **options)`` gives the times; its ``end`` is positive unless ``to_data`` is
            "straight".
        to_data: how it ends at 0. "step": to ``sde.eps`` in one step fewer, then 0, as EDM and k-diffusion do.
            "replace": to ``sde.eps``, whose time then is 0 instead. "straight": to 0 itself, which its coordinate
            measures (where that would pass ``sde.eps`` on the way, it is "step").
        finite_at_noise: its coordinate measures pure noise. If not, and alpha is 0 at ``start``, the times are those
            of the grid from ``sde.eps`` below it, except the first, which is ``start``. A first step from there to
            ``start - sde.eps`` would spend a call of the network on next to nothing.
        aliases: other names.
        preset: options that are not those of ``make``.
    """

    make: GridFunction
    to_data: Literal["step", "replace", "straight"] = "step"
    finite_at_noise: bool = False
    aliases: tuple[str, ...] = ()
    preset: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, sde: SDE, steps: int, start: float, end: float, **options: float) -> list[float]:
        """The times."""
        options = {**self.preset, **options}
        if end > 0.0:
            return self._positive(sde, steps, start, end, options)
        low = min(sde.eps, 0.5 * start)
        if self.to_data == "straight":
            times = list(self.make(sde, steps, start, 0.0, **options))
            if steps == 1 or times[-2] >= low * (1 - 1e-9):  # rounding
                return times
        if self.to_data == "replace" or steps == 1:
            return [*self._positive(sde, steps, start, low, options)[:-1], 0.0]
        return [*self._positive(sde, steps - 1, start, low, options), 0.0]

    def _positive(self, sde: SDE, steps: int, start: float, end: float, options: dict[str, Any]) -> list[float]:
        if self.finite_at_noise or sde.alpha(start) > 0.0:
            return list(self.make(sde, steps, start, end, **options))
        below = start - min(sde.eps, 0.5 * (start - end))
        return [start, *list(self.make(sde, steps, below, end, **options))[1:]]

    def check(self, options: Mapping[str, Any], name: object) -> None:
        """Raise ValueError for options that the grid does not have."""
        known = list(inspect.signature(self.make).parameters)[4:]
        for option in options:
            if option not in known:
                raise ValueError(
                    f"{option!r} is not an option of grid {name!r}; its options: {', '.join(known) or 'none'}"
                )
