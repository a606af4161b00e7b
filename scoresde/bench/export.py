"""Results as one table: CSV by the standard library, Parquet by polars."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from scoresde.bench.results import Results, Row
from scoresde.bench.store import write_atomically
from scoresde.bench.suite import Choice, canonical_json

Record = dict[str, Any]  # one line of the table; every line has the same columns

NUMBERS = ("value", "low", "high", "se", "n")  # of a metric


def export(results: Results, out: Path, *, pooled: bool = False, wide: bool = False) -> int:
    """Write the results as a table to ``out`` (.csv or .parquet), whole or not at all; the number of lines.

    Args:
        results: what to write.
        out: the file; its ending says the format.
        pooled: also the metrics over all seeds; their ``seed`` is empty.
        wide: a line for each cell with its metrics side by side, in place of one for each cell and metric.

    Raises ValueError for another ending, ImportError where Parquet is asked for and polars is missing.
    """
    if out.suffix not in WRITERS:
        raise ValueError(f"out must end in {' or '.join(WRITERS)}, got {str(out)!r}")
    rows = [*results.rows, *(results.groups() if pooled else [])]
    records = aligned(wide_records(rows) if wide else long_records(rows))
    write_atomically(out, WRITERS[out.suffix](records))
    return len(records)


def long_records(rows: Iterable[Row]) -> Iterator[Record]:
    """A line for each cell and metric, and for each class of the samples where quality is known by class.

    Columns: the recipe, metric, class, value, low, high, se, n, then :func:`facts`. A failed cell is
    one line without a metric.
    """
    for row in rows:
        recipe, about = _recipe(row), facts(row)
        metrics = [("", name, found) for name, found in row.get("metrics", {}).items()]
        metrics += [
            (group, name, found) for group, each in row.get("classes", {}).items() for name, found in each.items()
        ]
        for group, name, found in metrics or [("", "", {})]:
            numbers = {key: found.get(key) for key in NUMBERS}
            yield {**recipe, "metric": name, "class": group, **numbers, **about}


def wide_records(rows: Iterable[Row]) -> Iterator[Record]:
    """A line for each cell: the recipe, then each metric as NAME, NAME_low, NAME_high and NAME_se, then :func:`facts`.

    Quality by class is in the long form only.
    """
    for row in rows:
        metrics: Record = {}
        for name, found in row.get("metrics", {}).items():
            metrics |= {name: found["value"], **{f"{name}_{key}": found[key] for key in ("low", "high", "se")}}
        yield {**_recipe(row), **metrics, **facts(row)}


def facts(row: Row) -> Record:
    """What is known of a cell beside its recipe and its numbers: calls, times, memory, package, machine, versions."""
    memory = row.get("memory") or {}
    return {
        "status": row["status"],
        "error": row.get("error"),
        **_prefixed("solver", row.get("solver", {})),
        **_prefixed("nfe", row.get("nfe", {})),
        **_prefixed("seconds", row.get("seconds", {})),
        "memory_peak": memory.get("peak"),
        **_prefixed("env", row.get("environment", {})),
        "finished": row.get("finished"),
        "fingerprint": row.get("fingerprint"),
        "hash": row["hash"],
        "schema": row.get("schema"),
    }


def _recipe(row: Row) -> Record:
    """The fields of the recipe; a choice as its name and, in the next column, its options as text (``eta=1``)."""
    recipe: Record = {}
    for key, value in row["config"].items():
        if isinstance(value, Mapping):
            named = Choice(value["name"], tuple(value["options"].items()))
            recipe |= {key: named.name, f"{key}_options": named.label[len(named.name) + 1 : -1]}
        else:
            recipe[key] = _cell(value)
    del recipe["schema"]
    return recipe


def _prefixed(name: str, found: Mapping[str, Any]) -> Record:
    return {f"{name}_{key}": _cell(value) for key, value in found.items()}


def _cell(value: Any) -> Any:
    """What a table can hold: nested data as JSON text."""
    return canonical_json(value) if isinstance(value, (Mapping, list, tuple)) else value


def aligned(records: Iterable[Record]) -> list[Record]:
    """The lines with all columns of all of them, each new column after the one that it follows in its own line."""
    lines = list(records)
    columns: list[str] = []
    for names in dict.fromkeys(tuple(line) for line in lines):
        place = 0
        for name in names:
            if name not in columns:
                columns.insert(place, name)
            place = columns.index(name) + 1
    return [{name: line.get(name) for name in columns} for line in lines]


def _to_csv(records: list[Record]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue().encode()


def _to_parquet(records: list[Record]) -> bytes:
    try:
        import polars
    except ImportError:
        raise ImportError(
            "a Parquet file needs polars: pip install 'scoresde[export]'; a .csv needs nothing more"
        ) from None
    types = {name: {type(line[name]) for line in records} - {type(None)} for name in records[0]}
    mixed = {name for name, found in types.items() if len(found) > 1 and not found <= {int, float}}
    lines = [{name: _as_text(line[name]) if name in mixed else line[name] for name in line} for line in records]
    buffer = io.BytesIO()
    kinds = {"error": polars.String, "memory_peak": polars.Int64}  # also where no cell has one
    known = {name: kind for name, kind in kinds.items() if name in records[0]}
    table = polars.DataFrame(lines, schema_overrides=known, infer_schema_length=None, strict=False)
    table.write_parquet(buffer)
    return buffer.getvalue()


def _as_text(value: Any) -> str | None:
    """A value of a column that holds numbers as well as names, such as where a grid ends."""
    return None if value is None else str(value)


WRITERS = {".csv": _to_csv, ".parquet": _to_parquet}
