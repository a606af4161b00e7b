"""The table of all cells."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from scoresde.bench.charts import number
from scoresde.bench.measures import MEASURES
from scoresde.bench.suite import Cell

NOTHING = ("", "–", "")


def columns_of(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """The columns with numbers after those that name the cell: metrics that occur, times, memory where it is known."""
    names = [name for name in MEASURES if any(name in row.get("metrics", {}) for row in rows)]
    metrics = [{"key": name, "label": MEASURES[name].label, "title": MEASURES[name].axis} for name in names]
    times = [
        {"key": "time", "label": "time (ms)", "title": "wall time of sampling, network included"},
        {"key": "solver", "label": "solver (µs a call)", "title": "time outside the network, per network call"},
    ]
    peak = {"key": "memory", "label": "memory (MB)", "title": "peak memory while sampling"}
    return [*metrics, *times, *([peak] if any(_peak(row) is not None for row in rows) else [])]


def row_view(row: Mapping[str, Any], columns: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """One cell: its names, and its numbers as (what sorts, text, tip)."""
    cell = Cell.from_config(row["config"])
    known = _numbers(row) if row["status"] == "ok" else {}
    counted = _number(row["nfe"]["counted"]) if row["status"] == "ok" else NOTHING
    return {
        "names": (cell.target.label, cell.sde.label, cell.grid.label, cell.solver.label),
        "numbers": [
            (cell.nfe, str(cell.nfe), ""),
            (counted[0], str(counted[0]) or "–", ""),
            (cell.seed, str(cell.seed), ""),
            (cell.samples, str(cell.samples), ""),
            *(known.get(column["key"], NOTHING) for column in columns),
        ],
        "status": row["status"],
        "hash": row["hash"][:12],
    }


def _numbers(row: Mapping[str, Any]) -> dict[str, tuple[Any, str, str]]:
    calls, seconds, peak = max(row["nfe"]["counted"], 1), row["seconds"], _peak(row)
    found = {
        name: (*_number(one["value"])[:2], f"{number(one['low'])} to {number(one['high'])}")
        for name, one in row["metrics"].items()
    }
    found["time"] = _number(1e3 * seconds["sampling"])
    found["solver"] = _number(1e6 * seconds["solver"] / calls)
    return found if peak is None else found | {"memory": _number(peak / 1e6)}


def _number(value: float) -> tuple[Any, str, str]:
    return (float(f"{value:.8g}") if value % 1 else int(value), number(value), "") if math.isfinite(value) else NOTHING


def _peak(row: Mapping[str, Any]) -> float | None:
    """Bytes, where the row says so."""
    return (row.get("memory") or {}).get("peak")
