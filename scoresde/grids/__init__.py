"""Time grids: strictly decreasing times from noise to data, chosen apart from the solver.

A grid is a small function ``(sde, steps, start, end, **options) -> steps + 1 times``; to add one, write it in the file
of its kind and add a row to :data:`GRIDS`. The kinds: ``spacing`` (equally spaced in some coordinate), ``training``
(defined by others on the indices of a trained table), ``flow`` (on the time of rectified flow) and ``tables``
(published numbers); ``shift`` composes with all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from scoresde.errors import check_positive_int, choose
from scoresde.grids import flow, spacing, tables, training
from scoresde.grids.entry import Entry, GridFunction
from scoresde.grids.shift import resolution_shift, shift_entry, shift_times, token_shift
from scoresde.plan import check_grid
from scoresde.sde import SDE

GRIDS: dict[str, Entry] = {
    # equally spaced in a coordinate
    "uniform": Entry(spacing.uniform, "straight", True, ("time-uniform", "simple", "trailing", "ddim-trailing")),
    "quadratic": Entry(spacing.quadratic, "straight", True, ("time-quadratic",)),
    "log-snr": Entry(spacing.log_snr, aliases=("exponential", "lu", "lu-lambdas", "logsnr", "log_snr")),
    "polyexponential": Entry(spacing.polyexponential),
    "karras": Entry(spacing.karras),
    "edm": Entry(spacing.edm),
    "vp": Entry(spacing.vp),
    "cosine": Entry(spacing.cosine, "straight", True, ("iddpm",)),
    "arctan": Entry(spacing.arctan, "step", True, ("kl-optimal",)),
    "probit": Entry(spacing.probit, "straight", True, ("logit-normal",)),
    # on the indices of a trained table
    "normal": Entry(training.normal, "step", True, ("linspace", "ddim-linspace")),
    "sgm-uniform": Entry(training.sgm_uniform, "replace", True, ("dpm-linspace",)),
    "ddim-leading": Entry(training.leading, "straight", True, ("leading", "ddim-uniform")),
    "beta": Entry(training.beta, "replace", True),
    "beta57": Entry(training.beta, "replace", True, preset={"alpha": 0.5, "beta": 0.7}),
    "beta-diffusers": Entry(training.beta_rho, aliases=("beta-sigmas",)),
    # on the time of rectified flow
    "linear-quadratic": Entry(flow.linear_quadratic, "straight", True, ("mochi",)),
    "bong-tangent": Entry(flow.bong_tangent, "straight", True),
    # published numbers
    "ays-sd15": Entry(tables.ays_sd15, "straight", True, ("ays", "ays-sd1", "align-your-steps")),
    "ays-sdxl": Entry(tables.ays_sdxl, "straight", True, ("align-your-steps-sdxl",)),
    "ays-svd": Entry(tables.ays_svd, "straight", True, ("align-your-steps-svd",)),
    "gits": Entry(tables.gits, "straight", True),
    "oss-flux": Entry(tables.oss_flux, "straight", True, ("optimal-steps", "optimal-steps-flux")),
    "oss-wan": Entry(tables.oss_wan, "straight", True, ("optimal-steps-wan",)),
    "oss-chroma": Entry(tables.oss_chroma, "straight", True, ("optimal-steps-chroma",)),
}
NAMES: dict[str, str] = {alias: name for name, entry in GRIDS.items() for alias in (name, *entry.aliases)}


def grids() -> list[str]:
    """The names of the catalogue."""
    return list(GRIDS)


def grid_with(grid: str | GridFunction, *, shift: float = 1.0, **options: float) -> Entry:
    """A grid with its options filled in, to be used wherever a name is.

    Args:
        grid: a name of :func:`grids`, or a function like those.
        shift: the flow shift: takes log(shift) off lambda between the same ends (see :mod:`scoresde.grids.shift`).
        options: options of that grid, such as rho=7.0 of "karras".

    Raises:
        ValueError: an unknown name or option.
    """
    entry = GRIDS[choose(grid, NAMES, "grid")] if isinstance(grid, str) else grid
    entry = entry if isinstance(entry, Entry) else Entry(entry)
    entry.check(options, grid)
    preset = {**entry.preset, **options}
    entry = replace(entry, make=partial(entry.make, **preset), preset={}) if preset else entry
    return entry if shift == 1.0 else shift_entry(entry, shift)


def get_grid(
    grid: str | GridFunction | Sequence[float],
    sde: SDE,
    steps: int | None = None,
    *,
    start: float | None = None,
    end: str | float = "zero",
    shift: float = 1.0,
    **options: float,
) -> tuple[float, ...]:
    """A grid of ``steps + 1`` strictly decreasing times.

    Args:
        grid: a name of :func:`grids`, a function like those of this module, or your own times.
        sde: the process.
        steps: number of steps; your own times have theirs already.
        start: the first time; by default sde.T.
        end: "zero" ends at exactly 0, the data; "eps" at sde.eps; or a time.
        shift: the flow shift: takes log(shift) off lambda between the same ends (see :mod:`scoresde.grids.shift`); of
            your own times, each is shifted.
        options: options of that grid, such as rho=7.0 of "karras".

    Raises:
        ValueError: an unknown name or option, steps below 1, times that are not strictly decreasing within the process.
    """
    if not isinstance(grid, str) and not callable(grid):
        times = tuple(check_grid(grid if shift == 1.0 else shift_times(grid, sde, shift), sde))
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
    entry = grid_with(grid, shift=shift, **options)
    first = sde.T if start is None else float(start)
    last = (
        {"zero": 0.0, "eps": sde.eps}[choose(end, {"zero": "zero", "eps": "eps"}, "end")]
        if isinstance(end, str)
        else float(end)
    )
    check_grid((first, last), sde)
    return tuple(check_grid(entry(sde, steps, first, last), sde))


__all__ = [
    "GRIDS", "NAMES", "Entry", "GridFunction", "get_grid", "grid_with", "grids", "resolution_shift", "token_shift",
]  # fmt: skip
