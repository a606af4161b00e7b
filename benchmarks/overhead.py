"""How much of a run is the benchmark itself? 200 cells of the exact suite, from the seconds that its rows record.

    python -m benchmarks.overhead          # writes docs/measured/overhead-exact.json and .md

The parts are those of every row's ``seconds``. Networks, metrics (with converged solutions and floor bands) and the
drawing itself (noise, the solver's arithmetic) are what was asked for; plans, files and finding out what is finished
are overhead. The table has each, for another view. About a minute on one core.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.measured import answer, markdown
from scoresde.bench.problems import make_problem
from scoresde.bench.runner import Runner
from scoresde.bench.store import Store
from scoresde.bench.suite import Suite, load_suite

CELLS = 200
PARTS = {
    "network": "network calls",
    "warm_up": "the first call of each network, which no cell counts",
    "noise": "noise to begin with",
    "solver": "the solvers' own arithmetic",
    "metrics": "metrics",
    "pooled": "metrics over all seeds",
    "reference": "converged solutions",
    "floors": "floor bands",
    "prepare": "plans",
    "files": "pictures and features on disk",
}
MEASURED = ("network", "warm_up", "metrics", "pooled", "reference", "floors")
WORK = (*MEASURED, "noise", "solver")  # what was asked for; the rest is overhead


def measure(suite: Suite, cells: int, folder: Path) -> dict[str, Any]:
    """Seconds of each part of a run of so many cells, spread evenly over the suite's first seed, and of all of it."""
    every = suite.with_seeds(1).cells()
    chosen = tuple(every[i * len(every) // cells] for i in range(cells))
    for target in {cell.target for cell in chosen}:
        make_problem(target).data  # noqa: B018  # what targets import and read is not the benchmark's
    parts: Counter[str] = Counter()
    start = time.perf_counter()
    for step in Runner(Store(folder), suite, chosen).run():
        if step.row["status"] != "ok":
            raise RuntimeError(f"{step.cell.label}: {step.row['error']}")
        parts.update({part: step.row["seconds"][part] for part in PARTS if part != "pooled"})
    whole = time.perf_counter() - start
    parts["pooled"] = sum(json.loads(path.read_text())["seconds"] for path in (folder / "pooled").glob("*.json"))
    return {
        "cells": cells,
        "seconds": whole,
        **{part: parts[part] for part in PARTS},
        "other": whole - parts.total(),
        "share": sum(parts[part] for part in WORK) / whole,
    }


def exact() -> list[dict[str, Any]]:
    """Where the time of 200 cells of the exact suite goes."""
    with tempfile.TemporaryDirectory() as folder:
        return [measure(load_suite("exact"), CELLS, Path(folder))]


QUESTIONS: dict[str, Callable[[], list[dict[str, Any]]]] = {"exact": exact}


def table(rows: list[dict[str, Any]]) -> str:
    """A Markdown table."""
    (row,) = rows
    names = {**PARTS, "other": "all else: rows on disk, looking for finished cells"}
    lines = [[name, f"{row[part]:.2f}", f"{row[part] / row['seconds']:.1%}"] for part, name in names.items()]
    whole, alone = row["seconds"], sum(row[part] for part in MEASURED)
    totals = [
        ["networks and metrics (with converged solutions and bands)", f"{alone:.2f}", f"{alone / whole:.1%}"],
        ["the same and the samplers' own work", f"{row['share'] * whole:.2f}", f"{row['share']:.1%}"],
        [f"all {row['cells']} cells", f"{whole:.2f}", f"overhead {1 - row['share']:.1%}"],
    ]
    return markdown([["part", "seconds", "share"], *lines, *totals])


if __name__ == "__main__":
    answer("overhead", __doc__, QUESTIONS, table)
