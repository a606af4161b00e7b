"""Rows of cells with known answers: every solver's error is its factor over the budget, and all share their noise."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from scoresde.bench.results import Results
from scoresde.bench.store import Store
from scoresde.bench.suite import Cell, choice
from scoresde.metrics import jackknife

BLOCKS = 20
CELL = Cell(choice("mixture"), choice("vp"), choice("ddim"), choice("log-snr"), nfe=10, seed=0, samples=200)


def estimate(value: float, seed: int, own: int = 0, noise: float = 0.02) -> dict[str, Any]:
    """The value with leave-one-out values: relative noise that all share by seed, and a tenth of it of its ``own``."""
    shared, alone = random.Random(seed), random.Random(1000 + own)
    errors = [shared.gauss(0, noise) + alone.gauss(0, noise / 10) for _ in range(BLOCKS)]
    left = [value * (1 + error / BLOCKS) for error in errors]
    found = jackknife(value * (1 + sum(errors) / BLOCKS), left, 200, correct=False)
    return {"value": found.value, "low": found.low, "high": found.high, "se": found.se, "n": 200, "left": left}


def row(cell: Cell, metrics: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """A finished row as a run writes it."""
    name = cell.solver.name
    return {
        "schema": 3,
        "hash": cell.hash,
        "config": cell.config,
        "fingerprint": "f",
        "status": "ok",
        "error": None,
        "note": "Made up.",
        "solver": {
            "label": cell.solver.label,
            "stochastic": False,
            "order": 1,
            "package": f"{name.partition('/')[0]} 1.2" if "/" in name else "",
        },
        "nfe": {"budget": cell.nfe, "plan": cell.nfe, "counted": cell.nfe},
        "seconds": {"sampling": 0.001 * cell.nfe, "network": 0.0009 * cell.nfe, "solver": 0.0001, "cell": 0.2},
        "memory": {"peak": 1_000_000},
        "metrics": dict(metrics),
        "classes": {},
        "floors": {},
        "reference": {"key": "made-up", "error": 0.0, "text": "Made up."},
        "environment": {
            "python": "3.x", "scoresde": "1.0", "torch": "2.0", "processor": "abacus", "threads": 1, "commit": None
        },
        "finished": "2026-01-02T03:04:05+00:00",
        **changes,
    }  # fmt: skip


def failed(cell: Cell, error: str) -> dict[str, Any]:
    """The row of a cell that could not be computed."""
    return row(cell, {}, status="failed", error=error, seconds={"cell": 0.1})


def rows(
    factors: Mapping[str, float],
    nfes: Iterable[int] = (5, 10),
    seeds: Iterable[int] = (0, 1),
    metric: str = "energy_data",
) -> list[dict[str, Any]]:
    """A row for each solver, budget and seed."""
    cells = (
        replace(CELL, solver=choice(name), nfe=nfe, seed=seed) for seed in seeds for name in factors for nfe in nfes
    )
    names = list(factors)
    return [
        row(cell, {metric: estimate(factors[cell.solver.name] / cell.nfe, cell.seed, names.index(cell.solver.name))})
        for cell in cells
    ]


def changed(results: Results, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Results:
    """The same rows with each estimate changed."""
    return replace(
        results,
        rows=tuple({**one, "metrics": {k: change(e) for k, e in one["metrics"].items()}} for one in results.rows),
    )


def scaled(factor: float) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """A change that multiplies an estimate."""
    return lambda one: {
        **{key: factor * one[key] for key in ("value", "low", "high", "se")},
        "n": one["n"],
        "left": [factor * value for value in one["left"]],
    }


def write(folder: Path, results: Results) -> Path:
    """The results as a folder of a run."""
    store = Store(folder)
    for one in results.rows:
        store.write_json(store.cell_path(Cell.from_config(one["config"]).stem), one)
    store.write_json(store.run_path, {"command": "scoresde bench made-up", **results.run})
    for number, (hashes, metrics) in enumerate(results.pooled.items()):
        store.write_json(store.pooled_path(f"p{number}"), {"cells": list(hashes), "metrics": metrics})
    return folder
