"""Time grids: strictly decreasing times from noise to data, chosen apart from the solver.

A grid is a small function ``(sde, steps, start, end, **options) -> steps + 1 times`` whose end is a positive time; to
add one, write it and add a row to :data:`GRIDS`. Most are "equally spaced in some coordinate".
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from scoresde.errors import check_positive_int, choose
from scoresde.plan import check_grid
from scoresde.sde import SDE

GridFunction = Callable[..., Sequence[float]]


def _spaced(
    steps: int, start: float, end: float, coordinate: Callable[[float], float], time: Callable[[float], float]
) -> list[float]:
    """Times equally spaced in a coordinate (of which ``time`` is the inverse); the ends are exactly start and end."""
    a, b = coordinate(start), coordinate(end)
    return [start, *(time(a + (b - a) * (i / steps)) for i in range(1, steps)), end]


def uniform(sde: SDE, steps: int, start: float, end: float) -> list[float]:
    """Equally spaced times."""
    return _spaced(steps, start, end, lambda t: t, lambda t: t)


def quadratic(sde: SDE, steps: int, start: float, end: float, power: float = 2.0) -> list[float]:
    """Equally spaced in t^(1/power): denser near the data (DDIM's and DEIS's quadratic grid).

    Args:
        power: positive; 1 is uniform.
    """
    if not power > 0:
        raise ValueError(f"power must be positive, got {power}")
    return _spaced(steps, start, end, lambda t: t ** (1 / power), lambda u: u**power)


def log_snr(sde: SDE, steps: int, start: float, end: float) -> list[float]:
    """Equally spaced in half log-SNR (DPM-Solver, Lu et al. 2022, arXiv:2206.00927); in sigma: exponential."""
    return _spaced(steps, start, end, sde.lam, sde.t_at_lam)


def karras(sde: SDE, steps: int, start: float, end: float, rho: float = 7.0) -> list[float]:
    """Equally spaced in (sigma/alpha)^(1/rho) (Karras et al. 2022, arXiv:2206.00364, eq. 5).

    Args:
        rho: positive; larger is denser near the data, 1 is uniform in sigma/alpha.
    """
    if not rho > 0:
        raise ValueError(f"rho must be positive, got {rho}")
    return _spaced(steps, start, end, lambda t: sde.rho(t) ** (1 / rho), lambda u: sde.t_at_lam(-rho * math.log(u)))


def edm(
    sde: SDE, steps: int, start: float, end: float, rho: float = 7.0, sigma_min: float = 0.002, sigma_max: float = 80.0
) -> list[float]:
    """The grid of EDM whatever the process: Karras between sigma/alpha = 80 and 0.002 (arXiv:2206.00364, Table 1).

    A process that does not reach these levels keeps its own ends.
    """
    start = sde.t_at_lam(-math.log(sigma_max)) if sde.rho(start) > sigma_max else start
    end = sde.t_at_lam(-math.log(sigma_min)) if sde.rho(end) < sigma_min else end
    return karras(sde, steps, start, end, rho)


def arctan(sde: SDE, steps: int, start: float, end: float, scale: float = 1.0) -> list[float]:
    """Equally spaced in arctan(sigma / (alpha * scale)).

    Optimal for Euler on data N(0, scale^2) (Sabour, Fidler & Kreis 2024, "Align Your Steps", arXiv:2404.14507, Theorem
    3.1).

    Args:
        scale: standard deviation of the data.
    """
    if not scale > 0:
        raise ValueError(f"scale must be positive, got {scale}")
    return _spaced(
        steps,
        start,
        end,
        lambda t: math.atan(sde.rho(t) / scale),
        lambda u: sde.t_at_lam(-math.log(scale * math.tan(u))),
    )


@dataclass(frozen=True)
class Entry:
    """A row of the catalogue.

    Attributes:
        make: the grid function.
        finite_at_zero: its coordinate is finite at t = 0, so it runs straight to the data; otherwise a grid that ends
            at 0 is the grid to ``sde.eps`` with one step fewer, and then 0, as EDM and k-diffusion do.
        aliases: other names.
    """

    make: GridFunction
    finite_at_zero: bool = False
    aliases: tuple[str, ...] = ()


GRIDS: dict[str, Entry] = {
    "uniform": Entry(uniform, True, ("time-uniform", "simple")),
    "quadratic": Entry(quadratic, True, ("time-quadratic",)),
    "log-snr": Entry(log_snr, False, ("logsnr", "log_snr", "exponential")),
    "karras": Entry(karras),
    "edm": Entry(edm),
    "arctan": Entry(arctan, False, ("kl-optimal",)),
}
NAMES: dict[str, str] = {alias: name for name, entry in GRIDS.items() for alias in (name, *entry.aliases)}


def grids() -> list[str]:
    """The names of the catalogue."""
    return list(GRIDS)


def get_grid(
    grid: str | GridFunction | Sequence[float],
    sde: SDE,
    steps: int | None = None,
    *,
    start: float | None = None,
    end: str | float = "zero",
    **options: float,
) -> tuple[float, ...]:
    """A grid of ``steps + 1`` strictly decreasing times.

    Args:
        grid: a name of :func:`grids`, a function like those of this module, or your own times.
        sde: the process.
        steps: number of steps; your own times have theirs already.
        start: the first time; by default sde.T.
        end: "zero" ends at exactly 0, the data; "eps" at sde.eps; or a time.
        options: options of that grid, such as rho=7.0 of "karras".

    Raises:
        ValueError: an unknown name or option, steps below 1, times that are not strictly decreasing within the process.
    """
    if not isinstance(grid, str) and not callable(grid):
        times = tuple(check_grid(grid, sde))
        if steps is not None and steps != len(times) - 1:
            raise ValueError(
                f"steps={steps} does not fit your own grid of {len(times)} times, which has {len(times) - 1}"
            )
        if options:
            raise ValueError(f"options {sorted(options)} do not apply to your own grid")
        return times
    if steps is None:
        raise ValueError("steps is needed to make a grid")
    check_positive_int(steps, "steps")
    entry = GRIDS[choose(grid, NAMES, "grid")] if isinstance(grid, str) else Entry(grid)
    known = list(inspect.signature(entry.make).parameters)[4:]
    for option in options:
        if option not in known:
            raise ValueError(f"{option!r} is not an option of grid {grid!r}; its options: {', '.join(known) or 'none'}")
    first = sde.T if start is None else float(start)
    last = (
        {"zero": 0.0, "eps": sde.eps}[choose(end, {"zero": "zero", "eps": "eps"}, "end")]
        if isinstance(end, str)
        else float(end)
    )
    check_grid((first, last), sde)
    return tuple(check_grid(_make(entry, sde, steps, first, last, options), sde))


def _make(entry: Entry, sde: SDE, steps: int, first: float, last: float, options: dict[str, float]) -> list[float]:
    if entry.finite_at_zero:
        return list(entry.make(sde, steps, first, last, **options))
    if last == 0.0:  # to eps with one step fewer, then to the data
        if steps == 1:
            return [first, 0.0]
        return [*_make(entry, sde, steps - 1, first, sde.eps, options), 0.0]
    if sde.alpha(first) == 0.0:  # out of pure noise by a step of sde.eps in time, which no finite coordinate measures
        if steps == 1:
            return [first, last]
        return [first, *_make(entry, sde, steps - 1, first - sde.eps, last, options)]
    return list(entry.make(sde, steps, first, last, **options))
