"""The section of one panel: curves, tables, samples, ways in the plane, classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from scoresde.bench import charts
from scoresde.bench.analysis import Panel, Point, Series, Winner, pareto_front, ranking, winners
from scoresde.bench.charts import Dot, Line, number
from scoresde.bench.measures import MEASURES
from scoresde.bench.paired import Summary
from scoresde.bench.report.heat import heat_view
from scoresde.bench.report.samples import samples_view, ways_view
from scoresde.bench.report.text import interval
from scoresde.bench.store import Store

X_LABEL = "network calls per sample (NFE)"
COST_LABEL = "sampling time (ms per sample, this machine)"
MANY = 12  # with more solvers than this, charts start with the few best ones
FEW = 8


def series_numbers(found: Sequence[Panel]) -> dict[str, int]:
    """A colour and marker for each solver, the same in every panel."""
    labels = dict.fromkeys(series.label for panel in found for series in panel.series)
    return {label: index for index, label in enumerate(labels)}


def panel_view(panel: Panel, anchor: tuple[str, str], numbers: Mapping[str, int], store: Store) -> dict[str, Any]:
    """Everything that the template shows of a panel, as plain values."""
    from markupsafe import Markup

    order = dict.fromkeys((*panel.headline, *panel.measures))
    shown = _shown(panel)
    return {
        "id": anchor[0],
        "title": anchor[1],
        "note": panel.note,
        "samples": panel.samples,
        "seeds": max(
            (len(point.times) for series in panel.series for point in series.points.values()),
            default=1,
        ),
        "details": panel.details.get("text", ""),
        "legend": [
            {
                "number": numbers[series.label],
                "label": series.label,
                "icon": Markup(charts.marker_icon(numbers[series.label], series.stochastic)),
                "stochastic": series.stochastic,
                "package": series.package,
                "shown": series.label in shown,
            }
            for series in panel.series
        ],
        "tables": [_table(panel, name) for name in panel.headline],
        "charts": [chart for name in order for chart in _charts(panel, name, numbers)],
        "classes": _classes(panel),
        "pictures": samples_view(panel, store),
        "ways": ways_view(panel, store),
    }


def _shown(panel: Panel) -> frozenset[str]:
    """The solvers that charts start with: all of a few; of many, those that rank best, by their best rank."""
    if len(panel.series) <= MANY:
        return frozenset(series.label for series in panel.series)
    ranks: dict[str, list[int]] = {series.label: [len(panel.series)] for series in panel.series}
    for name in panel.headline:
        for nfe in panel.nfes:
            for rank, label in enumerate(ranking(panel, nfe, name)):
                ranks[label].append(rank)
    best = sorted(ranks, key=lambda label: (min(ranks[label]), sum(ranks[label]) / len(ranks[label])))
    return frozenset(best[:FEW])


# ---- tables ----------------------------------------------------------------------------------------------------------


def _table(panel: Panel, measure: str) -> dict[str, Any]:
    best = {winner.nfe: winner for winner in winners(panel, measure)}
    series = [one for one in panel.series if any(measure in point.metrics for point in one.points.values())]
    points = [point for one in series for point in one.points.values() if measure in point.metrics]
    return {
        "title": MEASURES[measure].label,
        "axis": MEASURES[measure].axis,
        "ideal": "" if (ideal := MEASURES[measure].best) is None else number(ideal),
        "nfes": panel.nfes,
        "exact": all(point.metrics[measure].se == 0 for point in points),
        "floor": interval(panel.floors[measure]) if measure in panel.floors else None,
        "rows": [
            {
                "label": one.label,
                "cells": [_table_cell(one, nfe, measure, best.get(nfe)) for nfe in panel.nfes],
            }
            for one in series
        ],
    }


def _table_cell(series: Series, nfe: int, measure: str, best: Winner | None) -> dict[str, Any] | None:
    point = series.points.get(nfe)
    if point is None or measure not in point.metrics or best is None:
        return None
    mark = "best" if best.best == series.label else "tied" if series.label in best.tied else ""
    summary = point.metrics[measure]
    return {"value": number(summary.value), "interval": interval(summary), "mark": mark}


def _classes(panel: Panel) -> list[dict[str, Any]]:
    """Solver by class, for each metric that some class has."""
    points = [point for series in panel.series for point in series.points.values() if point.classes]
    names = list(dict.fromkeys(name for point in points for name in point.classes))
    return [
        _class_view(panel, measure, names)
        for measure in MEASURES
        if any(measure in found for point in points for found in point.classes.values())
    ]


def _class_view(panel: Panel, measure: str, names: Sequence[str]) -> dict[str, Any]:
    by_label = {series.label: series for series in panel.series}

    def at(nfe: int, solver: str, name: str) -> Summary | None:
        point = by_label[solver].points.get(nfe)
        return None if point is None else point.classes.get(name, {}).get(measure)

    solvers = [label for label in by_label if any(at(nfe, label, name) for nfe in panel.nfes for name in names)]
    heat = heat_view(solvers, names, panel.nfes, at, {}, MEASURES[measure].loss)
    return {"measure": MEASURES[measure], "heat": heat}


# ---- charts ----------------------------------------------------------------------------------------------------------


def _charts(panel: Panel, measure: str, numbers: Mapping[str, int]) -> list[dict[str, Any]]:
    """A metric by network calls and, if it is one of the headline and smaller is better, by time."""
    timed = measure in panel.headline and MEASURES[measure].best is None
    found = (_curve(panel, measure, numbers), _cost(panel, measure, numbers) if timed else None)
    return [chart for chart in found if chart is not None]


def _curve(panel: Panel, measure: str, numbers: Mapping[str, int]) -> dict[str, Any] | None:
    lines = _lines(panel, measure, numbers, lambda point: (point.nfe, None))
    if not lines:
        return None
    svg = charts.curve_chart(lines, X_LABEL, MEASURES[measure].axis, panel.floors.get(measure), MEASURES[measure].best)
    return _figure(f"{MEASURES[measure].label} by network calls", svg, MEASURES[measure].note)


def _cost(panel: Panel, measure: str, numbers: Mapping[str, int]) -> dict[str, Any] | None:
    timed = _lines(panel, measure, numbers, lambda point: (point.milliseconds, (min(point.times), max(point.times))))
    lines = [Line(line.label, line.number, line.dashed, tuple(dot for dot in line.dots if dot.x > 0)) for line in timed]
    lines = [line for line in lines if line.dots]
    points = [(dot.x, dot.summary.value) for line in lines for dot in line.dots if dot.summary.value > 0]
    if not points:
        return None
    svg = charts.cost_chart(lines, pareto_front(points), COST_LABEL, MEASURES[measure].axis)
    caption = (
        "Dotted step line: the Pareto front, what no other point beats in both. Time is that of the median seed; "
        "boxes span the fastest to the slowest seed, and the 95 % interval."
    )
    return _figure(f"{MEASURES[measure].label} by time", svg, caption)


def _figure(title: str, svg: str, caption: str) -> dict[str, Any]:
    from markupsafe import Markup

    return {"title": title, "svg": Markup(svg), "caption": caption}


def _lines(
    panel: Panel,
    measure: str,
    numbers: Mapping[str, int],
    cost: Callable[[Point], tuple[float, tuple[float, float] | None]],
) -> list[Line]:
    lines = []
    for series in panel.series:
        points = [point for _, point in sorted(series.points.items()) if measure in point.metrics]
        dots = [_dot(series.label, point, point.metrics[measure], *cost(point)) for point in points]
        if dots:
            lines.append(Line(series.label, numbers[series.label], series.stochastic, tuple(dots)))
    return lines


def _dot(label: str, point: Point, summary: Summary, x: float, x_range: tuple[float, float] | None) -> Dot:
    known = f" [{interval(summary)}]" if summary.low != summary.high else ""
    text = f"{label}, NFE {point.nfe}: {number(summary.value)}{known}, {number(point.milliseconds)} ms per sample"
    return Dot(x, summary, text, x_range)
