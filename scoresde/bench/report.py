"""One self-contained HTML page from a results folder: nothing on it is loaded from anywhere else."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scoresde.bench import charts
from scoresde.bench.analysis import Panel, Point, Summary, failures, panels, pareto_front, winners
from scoresde.bench.charts import Dot, Line, number
from scoresde.bench.measures import MEASURES
from scoresde.bench.store import Store, write_atomically
from scoresde.bench.suite import Cell, Suite, suite_from_dict

if TYPE_CHECKING:
    import numpy as np

X_LABEL = "network calls per sample (NFE)"
COST_LABEL = "sampling time (ms per sample, this machine)"


def write_report(folder: Path, out: Path | None = None) -> Path:
    """Write the report of the results in ``folder`` (to ``folder/report.html`` unless told otherwise); its path.

    Raises ValueError when the folder holds no results.
    """
    path = folder / "report.html" if out is None else out
    write_atomically(path, render(folder).encode())
    return path


def render(folder: Path) -> str:
    """The page as text. It follows from the files in the folder alone, so the same results give the same page."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    store = Store(folder)
    rows = ordered_rows(store)
    if not rows:
        raise ValueError(
            f"folder {str(folder)!r} holds no benchmark results; run `scoresde bench --out {folder}` first"
        )
    run = {"command": "", "seconds": None, "computed": 0, **(store.read_json(store.run_path) or {})}
    found = panels(rows, store.pooled())
    numbers = _series_numbers(found)
    here = files("scoresde.bench")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["number"] = number
    template = environment.from_string(here.joinpath("report.html.j2").read_text(encoding="utf-8"))
    return template.render(
        css=Markup(here.joinpath("report.css").read_text(encoding="utf-8")),
        js=Markup(here.joinpath("report.js").read_text(encoding="utf-8")),
        suite=run.get("suite", {}).get("name", folder.name),
        headline=_headline(found[0]) if found else None,
        panels=[_panel_view(panel, index, numbers, _titles(found), store) for index, panel in enumerate(found)],
        columns=_columns(rows),
        rows=[_row_view(row, _columns(rows)) for row in rows],
        failures=failures(rows),
        environment=_environment(rows),
        run=run,
        measures={name: MEASURES[name] for name in MEASURES if any(name in panel.measures for panel in found)},
    )


def ordered_rows(store: Store) -> list[dict[str, Any]]:
    """The rows of the folder: those of the last suite in its order, then those of earlier ones."""
    suite = last_suite(store)
    place = {cell.stem: index for index, cell in enumerate(suite.cells())} if suite else {}
    return sorted(store.rows(), key=lambda row: place.get(Cell.from_config(row["config"]).stem, len(place)))


def last_suite(store: Store) -> Suite | None:
    """The suite that was run last in this folder, if it can still be read."""
    run = store.read_json(store.run_path)
    try:
        return suite_from_dict(run["suite"]) if run else None
    except (KeyError, ValueError):
        return None


# ---- views: what the template shows, as plain values -----------------------------------------------------------------


@dataclass(frozen=True)
class _Chart:
    measure: str
    title: str
    svg: Any
    caption: str


def _series_numbers(found: Sequence[Panel]) -> dict[str, int]:
    """A colour and marker for each solver, the same in every panel."""
    labels = dict.fromkeys(series.label for panel in found for series in panel.series)
    return {label: index for index, label in enumerate(labels)}


def _headline(panel: Panel) -> dict[str, Any]:
    measure = panel.main or ""
    ranked = winners(panel, measure)
    return {
        "panel": panel.title,
        "samples": panel.samples,
        "measure": MEASURES[measure].label if ranked else "",
        "axis": MEASURES[measure].axis if ranked else "",
        "note": MEASURES[measure].note if ranked else "",
        "rows": [
            {
                "nfe": winner.nfe,
                "best": winner.best,
                "value": number(winner.summary.value),
                "interval": _interval(winner.summary),
                "runner_up": winner.runner_up,
                "ratio": None if winner.ratio is None else f"{winner.ratio:.2f}×",
                "separable": winner.runner_up not in winner.tied,
            }
            for winner in ranked
        ],
    }


def _titles(found: Sequence[Panel]) -> dict[str, str]:
    """A title for each panel, with its sample count and dtype where those tell two of them apart."""
    plain = [panel.title for panel in found]
    return {
        p.key: p.title if plain.count(p.title) == 1 else f"{p.title} · {p.samples} samples, {p.dtype}" for p in found
    }


def _panel_view(
    panel: Panel, index: int, numbers: Mapping[str, int], titles: Mapping[str, str], store: Store
) -> dict[str, Any]:
    from markupsafe import Markup

    order = [name for name in dict.fromkeys((panel.main, panel.overall, *panel.measures)) if name]
    curves = [_curve(panel, name, numbers) for name in order]
    return {
        "id": f"panel-{index}",
        "title": titles[panel.key],
        "note": panel.note,
        "samples": panel.samples,
        "seeds": max(
            (
                point.metrics[order[0]].seeds
                for series in panel.series
                for point in series.points.values()
                if order and order[0] in point.metrics
            ),
            default=1,
        ),
        "details": panel.details.get("text", ""),
        "legend": [
            {
                "number": numbers[series.label],
                "label": series.label,
                "icon": Markup(charts.marker_icon(numbers[series.label], series.stochastic)),
                "stochastic": series.stochastic,
            }
            for series in panel.series
        ],
        "tables": [_table_view(panel, name) for name in dict.fromkeys((panel.main, panel.overall)) if name],
        "curves": [curve for curve in curves if curve],
        "pareto": _pareto(panel, numbers),
        "pictures": _pictures(panel, store),
    }


def _table_view(panel: Panel, measure: str) -> dict[str, Any]:
    best = {winner.nfe: winner for winner in winners(panel, measure)}
    points = [point for series in panel.series for point in series.points.values() if measure in point.metrics]
    return {
        "title": MEASURES[measure].label,
        "axis": MEASURES[measure].axis,
        "nfes": panel.nfes,
        "exact": all(point.metrics[measure].se == 0 for point in points),
        "floor": _interval(panel.floors[measure]) if measure in panel.floors else None,
        "rows": [
            {
                "label": series.label,
                "cells": [
                    _table_cell(series.points.get(nfe), measure, best.get(nfe), series.label) for nfe in panel.nfes
                ],
            }
            for series in panel.series
            if any(measure in point.metrics for point in series.points.values())
        ],
    }


def _table_cell(point: Point | None, measure: str, best: Any, label: str) -> dict[str, Any] | None:
    if point is None or measure not in point.metrics:
        return None
    summary = point.metrics[measure]
    mark = "" if best is None else "best" if best.best == label else "tied" if label in best.tied else ""
    return {"value": number(summary.value), "interval": _interval(summary), "mark": mark}


def _curve(panel: Panel, measure: str, numbers: Mapping[str, int]) -> _Chart | None:
    from markupsafe import Markup

    lines = _lines(panel, measure, numbers, lambda point: point.nfe)
    if not lines:
        return None
    svg = charts.curve_chart(lines, X_LABEL, MEASURES[measure].axis, panel.floors.get(measure))
    caption = MEASURES[measure].note
    return _Chart(measure, MEASURES[measure].label, Markup(svg), caption)


def _pareto(panel: Panel, numbers: Mapping[str, int]) -> _Chart | None:
    from markupsafe import Markup

    measure = panel.main
    lines = _lines(panel, measure, numbers, lambda point: point.milliseconds) if measure else []
    lines = [Line(line.label, line.number, line.dashed, tuple(dot for dot in line.dots if dot.x > 0)) for line in lines]
    points = [(dot.x, dot.summary.value) for line in lines for dot in line.dots if dot.summary.value > 0]
    if not points or measure is None:
        return None
    svg = charts.pareto_chart(lines, pareto_front(points), COST_LABEL, MEASURES[measure].axis)
    return _Chart(
        measure, "Error against time", Markup(svg), "Step line: the Pareto front, what no other point beats in both."
    )


def _lines(panel: Panel, measure: str, numbers: Mapping[str, int], cost: Any) -> list[Line]:
    lines = []
    for series in panel.series:
        dots = tuple(
            sorted(
                (
                    Dot(cost(point), point.metrics[measure], _tip(series.label, point, point.metrics[measure]))
                    for point in series.points.values()
                    if measure in point.metrics
                ),
                key=lambda dot: dot.x,
            )
        )
        if dots:
            lines.append(Line(series.label, numbers[series.label], series.stochastic, dots))
    return lines


def _tip(label: str, point: Point, summary: Summary) -> str:
    interval = f" [{_interval(summary)}]" if summary.low != summary.high else ""
    return f"{label}, NFE {point.nfe}: {number(summary.value)}{interval}, {number(point.milliseconds)} ms per sample"


def _interval(summary: Summary) -> str:
    if summary.low == summary.high:
        return ""
    return f"{number(summary.low)} to {number(summary.high)}"


def _pictures(panel: Panel, store: Store) -> dict[str, Any] | None:
    """Rows of solvers by columns of budgets; None where the cells kept no samples."""
    reference = store.read_arrays(store.reference_path(panel.details.get("key", ""))) or {}
    shown = {
        (series.label, nfe): loaded["array"]
        for series in panel.series
        for nfe, point in series.points.items()
        if (loaded := store.read_arrays(store.samples_path(point.stem))) is not None
    }
    if not shown:
        return None
    last = {"converged": reference.get("picture"), "data": reference.get("data")}
    compare = {label: array for label, array in last.items() if array is not None and array.size}
    draw = _drawer([*compare.values(), *shown.values()])
    return {
        "nfes": panel.nfes,
        "images": next(iter(shown.values())).ndim > 2,
        "rows": [
            {
                "label": series.label,
                "cells": [
                    {"uri": draw(shown[series.label, nfe]), "alt": f"samples of {series.label} at NFE {nfe}"}
                    if (series.label, nfe) in shown
                    else None
                    for nfe in panel.nfes
                ],
            }
            for series in panel.series
        ],
        "last": [{"label": label, "uri": draw(array)} for label, array in compare.items()],
    }


def _drawer(arrays: Sequence[np.ndarray]) -> Any:
    """What turns an array of samples into a data URI: byte images into a sheet of five columns, points into a scatter
    plot.
    """
    import numpy as np

    from scoresde.bench import pictures

    if arrays[0].ndim > 2:
        return lambda array: pictures.data_uri(pictures.contact_sheet(array, columns=5))
    # One window for all plots of a panel, that of the first (what to compare with), whatever a diverging solver does.
    spread = arrays[0][np.isfinite(arrays[0]).all(axis=1)]
    low, high = float(spread.min()), float(spread.max())
    margin = 0.08 * (high - low or 1.0)
    return lambda array: pictures.data_uri(pictures.scatter(array, low - margin, high + margin))


def _columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return [name for name in MEASURES if any(name in row.get("metrics", {}) for row in rows)]


def _row_view(row: Mapping[str, Any], columns: Sequence[str]) -> dict[str, Any]:
    cell = Cell.from_config(row["config"])
    done = row["status"] == "ok"
    metrics = row.get("metrics", {})
    overhead = 1e6 * row["seconds"]["solver"] / max(row["nfe"]["counted"], 1) if done else None
    return {
        "target": cell.target.label,
        "sde": cell.sde.label,
        "grid": cell.grid.label,
        "solver": cell.solver.label,
        "numbers": [
            (cell.nfe, str(cell.nfe)),
            (row["nfe"]["counted"], str(row["nfe"]["counted"])) if done else (None, "–"),
            (cell.seed, str(cell.seed)),
            (cell.samples, str(cell.samples)),
            *(
                (metrics[name]["value"], number(metrics[name]["value"])) if name in metrics else (None, "–")
                for name in columns
            ),
            (row["seconds"]["sampling"], number(1000 * row["seconds"]["sampling"])) if done else (None, "–"),
            (overhead, number(overhead)) if overhead is not None and math.isfinite(overhead) else (None, "–"),
        ],
        "intervals": [
            f"{number(metrics[name]['low'])} to {number(metrics[name]['high'])}" if name in metrics else ""
            for name in columns
        ],
        "status": row["status"],
        "hash": row["hash"][:12],
    }


def _environment(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Each fact of the rows' environments, with every value that occurs (a folder may hold runs of several
    machines).
    """
    facts: dict[str, dict[str, None]] = {}
    for row in rows:
        for key, value in row.get("environment", {}).items():
            facts.setdefault(key, {})[_text(value)] = None
    return [(key.replace("_", " "), ", ".join(values)) for key, values in facts.items()]


def _text(value: Any) -> str:
    return "unknown" if value is None else str(value)
