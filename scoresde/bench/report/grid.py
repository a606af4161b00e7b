"""The view across panels that differ in nothing but the grid: solver by grid."""

from __future__ import annotations

from typing import Any

from scoresde.bench.analysis import Family, label_in, winners
from scoresde.bench.measures import MEASURES
from scoresde.bench.paired import Summary
from scoresde.bench.report.heat import heat_view


def grid_views(family: Family) -> list[dict[str, Any]]:
    """One heat map for each of the family's metrics; none where there is only one grid."""
    return [_view(family, measure) for measure in family.headline] if len(family.panels) > 1 else []


def _view(family: Family, measure: str) -> dict[str, Any]:
    by_place = {(series.label, panel.grid): series for panel in family.panels for series in panel.series}
    place = {
        label_in(family.panels, panel, series): (series.label, panel.grid)
        for panel in family.panels
        for series in panel.series
    }

    def at(nfe: int, solver: str, grid: str) -> Summary | None:
        series = by_place.get((solver, grid))
        point = series.points.get(nfe) if series is not None else None
        return None if point is None else point.metrics.get(measure)

    marks = {
        winner.nfe: {place[winner.best]: "best"} | {place[label]: "tied" for label in winner.tied}
        for winner in winners(family, measure)
    }
    measured = dict.fromkeys(
        series.label
        for panel in family.panels
        for series in panel.series
        if any(measure in point.metrics for point in series.points.values())
    )
    heat = heat_view(
        list(measured), [panel.grid for panel in family.panels], list(marks), at, marks, MEASURES[measure].loss
    )
    return {"title": f"{family.panels[0].target} · {family.panels[0].sde}", "measure": MEASURES[measure], "heat": heat}
