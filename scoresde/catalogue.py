"""From the names that people type to solvers: our own names, those of other libraries, and "DPM++ 2M Karras"."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, Literal, overload

from scoresde.adaptive import TABLE as LAZY
from scoresde.adaptive import LazySolver
from scoresde.grids import NAMES as GRID_NAMES
from scoresde.rows import Solver
from scoresde.solvers import TABLE as FIXED
from scoresde.solvers import Entry

TABLE: Mapping[str, Entry] = {**FIXED, **LAZY}


def _plain(name: str) -> str:
    """Lower case, "+" spelled p, letters and digits only: DPM++ 2M, dpmpp_2m and dpmpp-2m are one name."""
    return "".join(c for c in name.lower().replace("+", "p") if c.isalnum())


PLAIN = {_plain(alias): name for name, entry in TABLE.items() for alias in (name, *entry.aliases)}
PLAIN_GRIDS = {_plain(alias): name for alias, name in GRID_NAMES.items()}


def solvers() -> dict[str, Solver | LazySolver]:
    """The catalogue: each name with the solver that it makes."""
    return {name: get_solver(name) for name in TABLE}


@overload
def get_solver(
    name: Literal[
        "rk45",
        "dopri5",
        "dpm-solver-12",
        "dpm-solver-23",
        "dpm-solver-23-pid",
        "dpmpp-12",
        "dpmpp-23",
        "pc-langevin",
        "langevin",
    ],
    **options: Any,
) -> LazySolver: ...
@overload
def get_solver(name: str, **options: Any) -> Solver: ...
def get_solver(name: str, **options: Any) -> Solver | LazySolver:
    """A solver by name, as a frozen dataclass.

    Args:
        name: a name of :func:`solvers`, or an alias of another library ("DPM++ 2M", "sample_heun", "DDIMScheduler").
        options: fields of the solver, such as eta=1.0 of "ddim".

    Raises:
        ValueError: an unknown name or option (the nearest are listed), or a bad value.
    """
    found, grid = split_name(name)
    if grid is not None:
        raise ValueError(f"name={name!r} names a grid too: use get_solver({found!r}) and get_grid({grid!r}, ...)")
    entry = TABLE[found]
    known = list(inspect.signature(entry.make).parameters)
    for option in options:
        if option not in known:
            near = get_close_matches(option, known, n=3, cutoff=0.4) or known
            raise ValueError(
                f"{option!r} is not an option of solver {found!r}; its options: {', '.join(near) or 'none'}"
            )
    return entry.make(**{**entry.preset, **options})


def split_name(name: str) -> tuple[str, str | None]:
    """The catalogue's name of a solver, and of a grid if the name ends in one ("DPM++ 2M Karras").

    Raises:
        ValueError: no such solver (the nearest names are listed), or a name that can be read in two ways.
    """
    if not isinstance(name, str):
        raise TypeError(f"solver must be a name or a solver, got {name!r}")
    plain = _plain(name)
    if plain in PLAIN:
        return PLAIN[plain], None
    splits = {
        (PLAIN[plain.removesuffix(grid)], grid_name)
        for grid, grid_name in PLAIN_GRIDS.items()
        if plain.endswith(grid) and plain.removesuffix(grid) in PLAIN
    }
    if len(splits) > 1:
        readings = " or ".join(sorted(f"{solver!r} on {grid!r}" for solver, grid in splits))
        raise ValueError(f"solver={name!r} can be read as {readings}: pass the grid apart")
    if splits:
        return splits.pop()
    near = [PLAIN[p] for p in get_close_matches(plain, PLAIN, n=6, cutoff=0.5)]
    raise ValueError(f"solver={name!r} is unknown; nearest: {', '.join(dict.fromkeys(near)) or ', '.join(TABLE)}")
