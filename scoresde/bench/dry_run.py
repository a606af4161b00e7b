"""What a run would do: its cells in groups, how many are finished already, and about how long the rest takes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from scoresde.bench.evaluate import initial_state
from scoresde.bench.problems import make_problem
from scoresde.bench.samplers import make_sde
from scoresde.bench.store import Store
from scoresde.bench.suite import Cell, Choice
from scoresde.bench.table import clock

Row = dict[str, Any]

TIMED = 0.3  # seconds that a network call should at least take to be timed; else more samples, up to a whole chunk


def describe_run(cells: Sequence[Cell], store: Store, force: bool = False, retry: bool = False) -> Iterator[str]:
    """The lines of a dry run: each group of cells, then the count and the time.

    Args:
        cells: what is to be run.
        store: the folder that it would run into.
        force: finished cells are to be computed again.
        retry: failed ones are.
    """
    for group in _groups(cells):
        yield from _describe(group)
    rows = store.rows()
    kept = {row.get("hash") for row in rows if not force and not (retry and row["status"] == "failed")}
    left = [cell for cell in cells if cell.hash not in kept]
    yield f"{len(cells)} cells, {len(cells) - len(left)} of them finished in {store.folder}"
    if left:
        yield forecast(left, rows).text()


@dataclass(frozen=True)
class Forecast:
    """Seconds that cells will take on one process: ``seconds`` by the pace of finished cells of their targets, and
    ``network`` in the network calls of targets that have none, timed now. ``unknown`` are targets that did not run.
    """

    seconds: float
    network: float
    unknown: tuple[str, ...] = ()

    def text(self) -> str:
        """One line for people."""
        parts = []
        if self.seconds:
            parts.append(f"about {clock(self.seconds)} at the pace of the finished cells")
        if self.network:
            parts.append(
                f"about {clock(self.network)} of network calls, timed just now; converged solutions and metrics come "
                "on top, and are counted once a few cells are finished"
            )
        parts += [f"no estimate for {name}" for name in self.unknown]
        return "time: " + "; ".join(parts)


def forecast(cells: Iterable[Cell], rows: Iterable[Row]) -> Forecast:
    """How long these cells take, from rows of finished cells, or, on targets without any, from a network call timed
    now.
    """
    paces = _paces(rows)
    seconds = network = 0.0
    unknown: dict[str, None] = {}
    for where, group in _by(cells, _where).items():
        work = sum(_work(cell) for cell in group)
        if where in paces:
            seconds += work * paces[where]
            continue
        try:
            network += work * time_sample(group[0])
        except (RuntimeError, AssertionError, ValueError, ImportError, OSError) as error:
            unknown[f"{group[0].target.label} ({str(error).splitlines()[0]})"] = None
    return Forecast(seconds, network, tuple(unknown))


def time_sample(cell: Cell) -> float:
    """Seconds that a network call of the cell's target takes for each sample of a chunk, or of a part of one where a
    whole one would take long.
    """
    problem, sde = make_problem(cell.target, cell.device), make_sde(cell)
    denoiser, whole = problem.denoiser(sde), min(cell.chunk, cell.samples)
    size = min(4, whole)
    with torch.inference_mode():
        while True:
            x, cond = initial_state(cell, problem, sde.T, sde, 0, size), problem.cond(0, size)
            seconds = min(_seconds(lambda x=x, cond=cond: denoiser(x, sde.T, **cond)) for _ in range(3))
            if size == whole or seconds > TIMED:
                return seconds / size
            size = min(4 * size, whole)


def _seconds(call: Callable[[], torch.Tensor]) -> float:
    start = time.perf_counter()
    call().sum().item()  # a number on the host: the device has done what it was asked
    return time.perf_counter() - start


def _work(cell: Cell) -> int:
    """Network calls, each times the samples in it."""
    return cell.nfe * math.ceil(cell.samples / cell.chunk) * min(cell.samples, cell.chunk)


def _where(cell: Cell) -> Hashable:
    return cell.target, cell.dtype, cell.device


def _paces(rows: Iterable[Row]) -> dict[Hashable, float]:
    """Seconds for each unit of work, by target, data type and device."""
    done: dict[Hashable, tuple[float, int]] = {}
    for row in rows:
        cell = Cell.from_config(row["config"])
        seconds, work = done.get(_where(cell), (0.0, 0))
        done[_where(cell)] = seconds + row["seconds"]["cell"], work + _work(cell)
    return {where: seconds / work for where, (seconds, work) in done.items()}


# ---- groups ----------------------------------------------------------------------------------------------------------


def _by(cells: Iterable[Cell], key: Callable[[Cell], Hashable]) -> dict[Hashable, list[Cell]]:
    groups: dict[Hashable, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(key(cell), []).append(cell)
    return groups


def _groups(cells: Iterable[Cell]) -> Iterable[list[Cell]]:
    """Cells that differ in nothing but solver, budget and seed."""
    any_solver = Choice("any")
    return _by(cells, lambda cell: replace(cell, solver=any_solver, nfe=1, seed=0)).values()


def _describe(group: Sequence[Cell]) -> Iterator[str]:
    """target · process · grid: how many cells, and their axes."""
    cell = group[0]
    solvers = list(dict.fromkeys(cell.solver.label for cell in group))
    nfes, seeds = ([*dict.fromkeys(getattr(cell, axis) for cell in group)] for axis in ("nfe", "seed"))
    where = " · ".join(part.label for part in (cell.target, cell.sde, cell.grid))
    yield f"{where}: {len(group)} cells of {cell.samples} samples in {cell.dtype} on {cell.device}"
    yield f"    {len(solvers)} solvers: {', '.join(solvers)}"
    yield f"    × {len(nfes)} NFE: {', '.join(map(str, nfes))}"
    yield f"    × {len(seeds)} seeds: {', '.join(map(str, seeds))}"
