"""What the adapters share: packages that may be missing, budgets, grids, options and noise."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from scoresde import noise
from scoresde.bench.samplers import make_grid
from scoresde.bench.suite import Cell
from scoresde.errors import choose
from scoresde.grids import NAMES, get_grid
from scoresde.sde import SDE

OWN = "own"  # the grid that stands for a library's own spacing
Calls = Callable[[int], int]  # network calls of so many steps


@dataclass(frozen=True)
class Package:
    """A library that may be installed: its name for pip, and what to run where it is missing."""

    name: str
    install: str

    def load(self, module: str) -> ModuleType:
        """Import one of its modules.

        Raises:
            ImportError: it, or something that it needs, is missing.
        """
        try:
            return import_module(module)
        except ImportError as error:
            raise self.missing(error) from error

    def missing(self, why: object) -> ImportError:
        """The error of a package that cannot be used."""
        return ImportError(f"{self.name} cannot be imported ({why}); run: {self.install}")

    @property
    def label(self) -> str:
        """Name and version."""
        return f"{self.name} {version(self.name)}"


def each(calls: int, last: int | None = None) -> Calls:
    """So many calls in every step, and in the last one perhaps another number."""
    return lambda steps: calls * (steps - 1) + (calls if last is None else last)


ONE = each(1)


def most_steps(cell: Cell, calls: Calls, least: int = 1) -> int:
    """The largest number of steps whose calls fit into the cell's budget.

    Raises:
        ValueError: not even ``least`` steps fit.
    """
    fits = [steps for steps in range(least, cell.nfe + 1) if calls(steps) <= cell.nfe]
    if not fits:
        raise ValueError(
            f"nfe={cell.nfe} is too small for {cell.solver.label!r}, which makes at least {calls(least)} calls"
        )
    return fits[-1]


def options_of(cell: Cell, known: Collection[str]) -> dict[str, Any]:
    """The options of the cell's solver.

    Raises:
        ValueError: one that the sampler does not have (the nearest are listed).
    """
    table = {name: name for name in known}
    for option in cell.solver.keywords:
        if not table:
            raise ValueError(f"{cell.solver.name!r} has no options, got {option!r}")
        choose(option, table, f"option of {cell.solver.name!r}")
    return dict(cell.solver.keywords)


def grid_name(cell: Cell) -> str:
    """The catalogue's name of the cell's grid, or :data:`OWN`.

    Raises:
        ValueError: an unknown grid (the nearest are listed), or options of a library's own spacing.
    """
    if cell.grid.name == OWN and cell.grid.options:
        raise ValueError(f"the grid {OWN!r} has no options, got {cell.grid.label!r}; options go to the sampler")
    return choose(cell.grid.name, {**NAMES, OWN: OWN}, "grid")


def times_of(cell: Cell, sde: SDE, steps: int, end: str | float | None = None) -> tuple[float, ...]:
    """The ``steps + 1`` times of the cell's grid, as a solver of ours gets them; ``end`` in place of the cell's.

    Raises:
        ValueError: an unknown grid, or :data:`OWN`, which the caller must know.
    """
    if grid_name(cell) == OWN:
        raise ValueError(f"{cell.solver.name!r} has no spacing of its own; name a grid, such as 'karras' or 'uniform'")
    return get_grid(make_grid(cell.grid), sde, steps, end=cell.end if end is None else end)


def short_of_zero(cell: Cell) -> str | float:
    """Where a sampler ends that cannot reach sigma = 0: at ``sde.eps`` where the cell asks for 0."""
    return "eps" if cell.end in ("zero", 0.0) else cell.end


# -- noise ------------------------------------------------------------------------------------------------------------
class Noises:
    """The noises of a chunk: the k-th call gives the k-th, row b a function of (seed, first + b, k) alone."""

    def __init__(self, like: Tensor, seed: int, first: int) -> None:
        self.like, self.seed, self.first = like, seed, first
        self.drawn = 0

    def __call__(self, *_: Any) -> Tensor:
        """Standard normal noise like x; the arguments of a library's own noise samplers are taken, and not used."""
        self.drawn += 1
        x = self.like
        return noise.normal(x.shape, self.seed, self.first, stream=self.drawn, dtype=x.dtype, device=x.device)


def seed_of(seed: int, first: int) -> int:
    """One seed of 32 bits for the chunk that begins at sample ``first``: of torch's generators, which keep no more."""
    words = (first & 0xFFFFFFFF, first >> 32, 0, 1)
    bits = noise.philox([torch.tensor(word) for word in words], (seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF))
    return int(bits[0])


def generator(x: Tensor, seed: int, first: int) -> torch.Generator:
    """A generator of the chunk, for libraries that take one."""
    return torch.Generator(x.device).manual_seed(seed_of(seed, first))


@contextmanager
def seeded(x: Tensor, seed: int, first: int) -> Iterator[None]:
    """Torch's global generator is the chunk's inside, and as before afterwards: for libraries that use it."""
    with torch.random.fork_rng([x.device] if x.device.type == "cuda" else []):
        torch.manual_seed(seed_of(seed, first))
        yield
