"""Runs the cells of a suite: each once, each into its own file, whatever happens in between."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scoresde.bench.environment import PeakMemory, device_name, environment
from scoresde.bench.evaluate import (
    DTYPES,
    KEPT,
    Reference,
    describe_reference,
    draw,
    initial_state,
    make_reference,
    reference_key,
    trajectory,
)
from scoresde.bench.measures import MEASURES
from scoresde.bench.measuring import Evidence, Plain, floors, measure, measure_classes, measure_pooled
from scoresde.bench.problems import Problem, check_target, make_problem
from scoresde.bench.samplers import Prepared, make_sde, prepare
from scoresde.bench.store import Store
from scoresde.bench.suite import SCHEMA, Cell, Choice, Suite, config_hash, suite_to_dict
from scoresde.errors import choose
from scoresde.sde import SDE

ENOUGH = 24  # a budget that every solver can use: for checking names and options alone


@dataclass(frozen=True)
class Step:
    """One cell done: its row, and whether it was computed now or found on disk."""

    cell: Cell
    row: dict[str, Any]
    computed: bool


@dataclass(frozen=True)
class Outcome:
    """What a run did, for its last lines."""

    computed: int
    found: int
    failed: int
    seconds: float
    report: Path | None = None

    def text(self, folder: Path) -> str:
        """The last lines on the terminal."""
        lines = [f"{self.computed} cells computed, {self.found} found, {self.failed} failed in {self.seconds:.1f} s"]
        lines.append(f"results: {folder}")
        return "\n".join([*lines, f"report:  {self.report}"] if self.report else lines)


@dataclass(frozen=True)
class Runner:
    """A suite (or the part of it in ``cells``) and the folder that it runs into.

    ``force`` computes finished cells again, ``retry`` failed ones. ``threads`` is recorded, not set.
    """

    store: Store
    suite: Suite
    cells: tuple[Cell, ...]
    command: str = ""
    threads: int = field(default_factory=torch.get_num_threads)
    force: bool = False
    retry: bool = False

    def check(self) -> None:
        """Raise ValueError for a name, option, dtype or device of the suite that does not exist, before any work.

        A budget that is too small for a solver is no mistake of the suite: that cell becomes a row that says so.
        """
        for dtype in dict.fromkeys(cell.dtype for cell in self.cells):
            choose(dtype, DTYPES, "dtype")
        for device in dict.fromkeys(cell.device for cell in self.cells):
            try:
                torch.empty(0, device=device)
            except (RuntimeError, AssertionError) as error:
                raise ValueError(f"device {device!r} cannot be used here: {str(error).splitlines()[0]}") from error
        for target in dict.fromkeys(cell.target for cell in self.cells):
            check_target(target)
        for name in dict.fromkeys(name for cell in self.cells for name in cell.metrics):
            choose(name, MEASURES, "metric")
        for cell in dict.fromkeys(replace(cell, nfe=ENOUGH, seed=0) for cell in self.cells):
            prepare(cell, make_sde(cell), self.suite.plugins)

    def finished(self, cell: Cell, fingerprint: str = "") -> dict[str, Any] | None:
        """The row of this cell if it need not be computed (again); ``fingerprint`` is that of its target's problem."""
        row = None if self.force else self.store.read_json(self.store.cell_path(cell.stem))
        if row is None or (row.get("hash"), row.get("fingerprint")) != (cell.hash, fingerprint):
            return None
        return None if self.retry and row["status"] == "failed" else row

    def rows(self) -> list[dict[str, Any]]:
        """The rows of this suite that are on disk, in its order."""
        found = (self.store.read_json(self.store.cell_path(cell.stem)) for cell in self.cells)
        return [row for row in found if row is not None]

    def run(self) -> Iterator[Step]:
        """Compute what is missing, in order; every step is on disk when it is given."""
        self.store.clean()
        start, computed = time.perf_counter(), 0
        shared = _Shared(self.store, environment(self.threads), self.cells, self.suite.plugins)
        self._write_run(shared, None, 0)
        for cell in self.cells:
            row = self.finished(cell, shared.problem(cell).fingerprint)
            if row is None:
                row = _compute(cell, shared)
                self.store.write_json(self.store.cell_path(cell.stem), row)
                computed += 1
                yield Step(cell, row, True)
            else:
                yield Step(cell, row, False)
        self._pool(shared)
        self._write_run(shared, round(time.perf_counter() - start, 2), computed)

    def _pool(self, shared: _Shared) -> None:
        """Metrics over all seeds, for each group of cells that is whole and has none yet."""
        groups: dict[str, list[Cell]] = {}
        for cell in self.cells:
            groups.setdefault(cell.pooled_stem, []).append(cell)
        for stem, cells in groups.items():
            hashes, path = sorted(cell.hash for cell in cells), self.store.pooled_path(stem)
            mark = shared.problem(cells[0]).fingerprint
            known = None if self.force else self.store.read_json(path)
            if known is not None and (known.get("cells"), known.get("fingerprint")) == (hashes, mark):
                continue
            parts = [self.store.read_arrays(self.store.features_path(cell.stem)) for cell in cells]
            if all(part is not None for part in parts):  # only targets that pool keep features
                features = torch.cat([torch.from_numpy(part["array"]) for part in parts if part is not None])
                problem = shared.problem(cells[0])
                found = measure_pooled(problem, features.double(), _names(cells[0], problem)[1])
                pooled = {"schema": SCHEMA, "cells": hashes, "fingerprint": mark, "metrics": found}
                self.store.write_json(path, pooled)

    def _write_run(self, shared: _Shared, seconds: float | None, computed: int) -> None:
        """What was asked for; ``seconds`` stays None until the end."""
        run = {
            "schema": SCHEMA,
            "suite": suite_to_dict(self.suite),
            "command": self.command,
            "environment": shared.environment,
            "seconds": seconds,
            "computed": computed,
        }
        self.store.write_json(self.store.run_path, run)


class _Shared:
    """What the cells of one run share, each made once: problems, converged solutions (also kept on disk), floor
    bands.
    """

    def __init__(
        self, store: Store, facts: dict[str, Any], cells: Sequence[Cell], plugins: tuple[str, ...] = ()
    ) -> None:
        self.store, self.environment, self.plugins = store, facts, plugins
        self.first_seeds = {cell.target: cell.seed for cell in reversed(cells)}
        self.seeds = {
            target: len({cell.seed for cell in cells if cell.target == target}) for target in self.first_seeds
        }
        self._problems: dict[tuple[Choice, str], Problem] = {}
        self._references: dict[str, Reference] = {}
        self._floors: dict[str, dict[str, Plain]] = {}
        self._warm: set[Choice] = set()

    def problem(self, cell: Cell) -> Problem:
        """The cell's target on its device, made once."""
        key = (cell.target, cell.device)
        if key not in self._problems:
            self._problems[key] = make_problem(*key)
        return self._problems[key]

    def reference(self, cell: Cell, problem: Problem, prepared: Prepared, sde: SDE) -> Reference:
        """The converged solution of the cell's noise: from memory, from disk, or now."""
        key = reference_key(cell, problem, prepared)
        if key not in self._references:
            self._references[key] = self._load(key) or self._solve(cell, problem, prepared, sde, key)
        return self._references[key]

    def floors(self, cell: Cell, problem: Problem) -> dict[str, Plain]:
        """The floor bands of the cell's target at its sample size: from memory, from disk, or now."""
        names = [name for part in _names(cell, problem) for name in part]
        facts = {
            "schema": SCHEMA,
            "target": cell.config["target"],
            "metrics": names,
            "samples": cell.samples,
            "seeds": self.seeds[cell.target],
            "fingerprint": problem.fingerprint,
        }
        key = f"{cell.target.name}-floors-{config_hash(facts)[:16]}"
        if key not in self._floors:
            path = self.store.folder / "references" / f"{key}.json"
            found = self.store.read_json(path)
            if found is None:
                found = floors(problem, names, cell.samples, self.seeds[cell.target])
                self.store.write_json(path, found)
            self._floors[key] = found
        return self._floors[key]

    def warm_up(self, target: Choice, call: Callable[[], object]) -> None:
        """Call the network once, uncounted and untimed, before the first cell of a target: a process's first call is
        slow.
        """
        if target not in self._warm:
            self._warm.add(target)
            with torch.inference_mode():
                call()

    def _load(self, key: str) -> Reference | None:
        arrays = self.store.read_arrays(self.store.reference_path(key))
        if arrays is None or not {"samples", "error", "picture", "data"} <= set(arrays):
            return None
        samples = torch.from_numpy(arrays["samples"])
        return Reference(key, samples, float(arrays["error"]), arrays["picture"], arrays["data"])

    def _solve(self, cell: Cell, problem: Problem, prepared: Prepared, sde: SDE, key: str) -> Reference:
        made = make_reference(cell, problem, prepared, sde, key)
        arrays = {"samples": made.samples.numpy(), "picture": made.picture, "data": made.data}
        self.store.write_arrays(self.store.reference_path(key), error=np.array(made.error), **arrays)
        return made


def _compute(cell: Cell, shared: _Shared) -> dict[str, Any]:
    """The row of a cell. A failure of any kind is a row too, so that one cell cannot stop the others."""
    start = time.perf_counter()
    row: dict[str, Any] = {"schema": SCHEMA, "hash": cell.hash, "config": cell.config}
    row["fingerprint"] = shared.problem(cell).fingerprint
    try:
        row.update(status="ok", error=None, **_results(cell, shared))
    except Exception as error:
        row.update(status="failed", error=f"{type(error).__name__}: {error}")
    row.setdefault("seconds", {})["cell"] = time.perf_counter() - start
    row["environment"] = {**shared.environment, "device": device_name(cell.device), "dtype": cell.dtype}
    row["finished"] = datetime.now(UTC).isoformat(timespec="seconds")
    return row


def _names(cell: Cell, problem: Problem) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The metrics of the cell alone, and those of all seeds together."""
    if not cell.metrics:
        exact = () if problem.target is None else ("frechet_exact",)
        return (*problem.metrics, *exact), problem.pooled
    pooled = tuple(name for name in cell.metrics if name in problem.pooled)
    return tuple(name for name in cell.metrics if name not in pooled), pooled


def _results(cell: Cell, shared: _Shared) -> dict[str, Any]:
    problem, sde = shared.problem(cell), make_sde(cell)
    prepared = prepare(cell, sde, shared.plugins)
    names, pooled = _names(cell, problem)
    compared = any(name.endswith("_reference") for name in names)
    reference = shared.reference(cell, problem, prepared, sde) if compared else None
    bands = shared.floors(cell, problem)
    denoiser = problem.denoiser(sde)
    few = min(cell.samples, cell.chunk)
    warm = initial_state(cell, problem, prepared.begin, sde, 0, few)
    shared.warm_up(cell.target, lambda: denoiser(warm, prepared.begin, **problem.cond(0, few)))
    memory = PeakMemory(cell.device)
    chunks, features = [], []
    for chunk in draw(cell, problem, prepared, sde):
        features.append(problem.features(chunk.samples.double()))
        chunks.append(replace(chunk, samples=chunk.samples[: max(0, KEPT - chunk.first)]))
    peak = memory.peak()
    samples = torch.cat([chunk.samples for chunk in chunks])
    seen = Evidence(
        problem,
        samples.double(),
        None if reference is None else reference.samples.double(),
        prepared,
        sde.prior_std(prepared.begin),
        torch.cat(features),
    )
    found = measure(seen, names)
    if pooled:
        shared.store.write_array(shared.store.features_path(cell.stem), seen.features.float().numpy())
    if cell.seed == shared.first_seeds[cell.target]:
        _keep_pictures(cell, seen, sde, shared.store)  # before the row: a row is complete
    seconds = sum(chunk.seconds for chunk in chunks)
    network = sum(chunk.network_seconds for chunk in chunks)
    text = "" if reference is None else describe_reference(cell, problem, reference.error)
    return {
        "note": problem.note,
        "solver": {
            "label": cell.solver.label,
            "stochastic": prepared.stochastic,
            "order": prepared.order,
            "package": prepared.package,
        },
        "nfe": {"budget": cell.nfe, "plan": prepared.nfe, "counted": chunks[0].calls},
        "seconds": {"sampling": seconds, "network": network, "solver": seconds - network},
        "memory": {"peak": peak},
        "metrics": found,
        "classes": measure_classes(seen),
        "floors": bands,
        "reference": {} if reference is None else {"key": reference.key, "error": reference.error, "text": text},
    }


def _keep_pictures(cell: Cell, seen: Evidence, sde: SDE, store: Store) -> None:
    """What the report draws of the cell: some samples, and in the plane the ways that they came."""
    picture = seen.problem.picture(seen.samples)
    if picture is not None:
        store.write_array(store.samples_path(cell.stem), picture)
    if seen.problem.shape == (2,) and seen.prepared.plan is not None:
        store.write_array(store.paths_path(cell.stem), trajectory(cell, seen.problem, seen.prepared.plan, sde))
