"""Results as data, wherever they lie: a results folder, several of them, or one packed file.

A packed file (``.jsonl.xz``) holds all cells of a folder in a hundredth of its size: what every cell repeats
(environment, floors, reference, note) is stored once, numbers keep six digits, and the leave-one-out values of the
jackknife three digits of their spread. It has no samples, features or references: it is for numbers that are published
and compared again.
"""

from __future__ import annotations

import json
import lzma
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scoresde.bench.store import Store
from scoresde.bench.suite import Cell, canonical_json, config_hash

Row = Mapping[str, Any]

SUFFIX = ".jsonl.xz"
FORMAT = 1  # of packed files
SHARED = ("environment", "floors", "reference", "note")  # fields that many rows have in common
DIGITS = 6  # significant digits of a packed number
TICKS = 999  # a packed leave-one-out value is a whole number of ticks from the estimate, at most so many
SAME = 1e-6  # values of one cell that differ by a smaller part of themselves are the same but for rounding


@dataclass(frozen=True)
class Results:
    """Rows of cells, each hash once; ``pooled`` as :meth:`Store.pooled` gives it; ``run`` as ``run.json`` has it."""

    rows: tuple[Row, ...]
    pooled: Mapping[tuple[str, ...], Mapping[str, Any]] = field(default_factory=dict)
    run: Mapping[str, Any] = field(default_factory=dict)

    def groups(self) -> list[Row]:
        """The pooled metrics as rows without a seed, where all the cells behind them are here.

        Such a row has the recipe of its cells with ``seed`` None, no hash, and the ``seeds``; its times are the means
        over them.
        """
        by_hash = {row["hash"]: row for row in self.rows if row["status"] == "ok"}
        found = []
        for hashes, metrics in self.pooled.items():
            rows = [by_hash[one] for one in hashes if one in by_hash]
            if len(rows) == len(hashes) > 0 and metrics:
                found.append(_group(rows, metrics))
        return found


def _group(rows: Sequence[Row], metrics: Mapping[str, Any]) -> Row:
    first = rows[0]
    seconds = {key: math.fsum(row["seconds"].get(key, 0.0) for row in rows) / len(rows) for key in first["seconds"]}
    config, seeds = {**first["config"], "seed": None}, sorted(row["config"]["seed"] for row in rows)
    whole = {"hash": None, "config": config, "seeds": seeds, "metrics": metrics, "classes": {}, "seconds": seconds}
    return {**first, **whole}


def load(path: Path) -> Results:
    """The results in a folder of `scoresde bench`, or in a packed file.

    Raises ValueError where there are none, or for a file that is not a packed one.
    """
    if path.is_file():
        return unpack(path)
    store = Store(path)
    rows = store.rows()
    if not rows:
        raise ValueError(f"{str(path)!r} holds no benchmark results: neither a results folder nor a {SUFFIX} file")
    return Results(tuple(rows), store.pooled(), store.read_json(store.run_path) or {})


@dataclass(frozen=True)
class Conflict:
    """One cell that two places hold with different numbers: both rows, and the metrics that differ."""

    row: Row
    other: Row
    names: tuple[str, ...]

    def __str__(self) -> str:
        label = Cell.from_config(self.row["config"]).label
        times = " and ".join(str(row.get("finished", "at no known time")) for row in (self.row, self.other))
        return f"two results of {label} differ in {', '.join(self.names)} (finished {times}); the first is used"


def merge(parts: Iterable[Results]) -> tuple[Results, list[Conflict]]:
    """All of them together, each cell once: the first that did not fail; and the cells whose numbers differ.

    Times, environments and machines may differ freely: they are no part of a cell's recipe.
    """
    rows: dict[str, Row] = {}
    pooled: dict[tuple[str, ...], Mapping[str, Any]] = {}
    run: Mapping[str, Any] = {}
    conflicts = []
    for part in parts:
        run = run or part.run
        pooled = {**part.pooled, **pooled}
        for row in part.rows:
            known = rows.setdefault(row["hash"], row)
            if row["status"] != "ok":
                continue
            if known["status"] != "ok":
                rows[row["hash"]] = row
            elif names := _differing(known, row):
                conflicts.append(Conflict(known, row, names))
    return Results(tuple(rows.values()), pooled, run), conflicts


def _differing(row: Row, other: Row) -> tuple[str, ...]:
    """What differs between two rows of one cell: names of metrics."""
    ours, theirs = row["metrics"], other["metrics"]
    return tuple(
        name
        for name in dict.fromkeys([*ours, *theirs])
        if name not in ours
        or name not in theirs
        or not math.isclose(ours[name]["value"], theirs[name]["value"], rel_tol=SAME, abs_tol=1e-12)
    )


# ---- packed files ----------------------------------------------------------------------------------------------------


def pack(results: Results, left: Collection[str] | None = None) -> bytes:
    """The content of a packed file; equal results give equal bytes.

    The leave-one-out values, most of the file, are kept of the metrics in ``left`` (None: of all); without them a
    metric can only be compared by unpaired intervals.
    """

    def packed(found: Mapping[str, Any]) -> dict[str, Any]:
        kept = {name: _pack_estimate(one) for name, one in found.items() if left is None or name in left}
        return {**_each(found, _bare), **kept}

    shared: dict[str, int] = {}
    lines = []
    for row in results.rows:
        line = {**row, "metrics": packed(row.get("metrics", {}))}
        line["classes"] = {name: _each(found, _bare) for name, found in row.get("classes", {}).items()}
        if row["hash"] == config_hash(row["config"]):
            del line["hash"]  # half of the file otherwise
        for name in SHARED:
            if name in row:
                text = canonical_json(_each(row[name], _bare) if name == "floors" else row[name])
                line[name] = shared.setdefault(text, len(shared))
        lines.append(line)
    places = {row["hash"]: place for place, row in enumerate(results.rows)}
    pooled = [
        {"cells": [places[one] for one in hashes], "metrics": packed(metrics)}
        for hashes, metrics in results.pooled.items()
        if all(one in places for one in hashes)
    ]
    head = {"packed": FORMAT, "run": results.run, "shared": [json.loads(text) for text in shared], "pooled": pooled}
    text = "".join(canonical_json(_short(line)) + "\n" for line in (head, *lines))
    return lzma.compress(text.encode(), preset=9)


def unpack(path: Path) -> Results:
    """The inverse of :func:`pack`, but for the digits that it leaves out.

    Raises ValueError for another kind of file.
    """
    try:
        head, *lines = [json.loads(line) for line in lzma.decompress(path.read_bytes()).splitlines()]
        if head["packed"] != FORMAT:
            raise ValueError(f"its format is {head['packed']!r}, this version reads {FORMAT}")
        rows = tuple(_unpack_row(line, head["shared"]) for line in lines)
        pooled = {
            tuple(sorted(rows[place]["hash"] for place in one["cells"])): _each(one["metrics"], _unpack_estimate)
            for one in head["pooled"]
        }
    except (lzma.LZMAError, ValueError, KeyError, IndexError, TypeError) as error:
        raise ValueError(f"{str(path)!r} is not a packed results file ({SUFFIX}): {error}") from error
    return Results(rows, pooled, head["run"])


def _unpack_row(line: Row, shared: Sequence[Any]) -> Row:
    row = {**line, "metrics": _each(line["metrics"], _unpack_estimate)}
    row |= {name: shared[line[name]] for name in SHARED if name in line}
    row.setdefault("hash", config_hash(row["config"]))
    return row


def _each(found: Mapping[str, Any], change: Any) -> dict[str, Any]:
    return {name: change(estimate) for name, estimate in found.items()}


def _bare(estimate: Row) -> Row:
    """An estimate without its leave-one-out values."""
    return {key: value for key, value in estimate.items() if key != "left"}


def _pack_estimate(estimate: Row) -> Row:
    left, value = estimate.get("left", ()), _short(estimate["value"])
    tick = float(f"{max((abs(one - value) for one in left), default=0.0) / TICKS:.3g}") or 1.0
    return {**_bare(estimate), "tick": tick, "left": [round((one - value) / tick) for one in left]}


def _unpack_estimate(estimate: Row) -> Row:
    bare = {key: value for key, value in estimate.items() if key != "tick"}
    return {**bare, "left": [estimate["value"] + estimate["tick"] * one for one in estimate.get("left", ())]}


def _short(value: Any) -> Any:
    """The same data with floats of :data:`DIGITS` digits; recipes stay as they are, for their hashes."""
    if isinstance(value, Mapping):
        return {key: item if key == "config" else _short(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_short(item) for item in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
