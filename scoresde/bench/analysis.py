"""From rows of cells to what tables and charts show: panels, series, points, winners, fronts. Plain data, no torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from scoresde.bench.measures import MEASURES, SAMPLE_MEASURES
from scoresde.bench.suite import Cell, Choice, canonical_json

Z95 = 1.959963984540054  # two-sided 95 % quantile of the normal distribution


@dataclass(frozen=True)
class Summary:
    """A metric over seeds: mean, 95 % interval, standard error, number of seeds."""

    value: float
    low: float
    high: float
    se: float
    seeds: int


@dataclass(frozen=True)
class Point:
    """One solver at one budget: metrics over seeds, network calls counted, and milliseconds for one sample."""

    nfe: int
    counted: int
    metrics: Mapping[str, Summary]
    milliseconds: float
    stem: str  # of the cell whose samples are shown


@dataclass(frozen=True)
class Series:
    """One solver of a panel: its points by budget."""

    label: str
    stochastic: bool
    order: int | float | None
    points: Mapping[int, Point]


@dataclass(frozen=True)
class Panel:
    """All that may be compared: one target, SDE, grid, sample count, end, dtype and device; solvers by budgets."""

    key: str
    target: str
    sde: str
    grid: str
    samples: int
    dtype: str
    series: tuple[Series, ...]
    nfes: tuple[int, ...]
    floors: Mapping[str, Summary]
    note: str
    details: Mapping[str, Any] = field(default_factory=dict)  # facts of the reference, as the cells recorded them

    @property
    def title(self) -> str:
        """What people read above it."""
        return f"{self.target} · {self.sde} · {self.grid} grid"

    @property
    def measures(self) -> tuple[str, ...]:
        """The metrics that some point of the panel has, in the catalogue's order."""
        present = {name for series in self.series for point in series.points.values() for name in point.metrics}
        return tuple(name for name in MEASURES if name in present)

    @property
    def main(self) -> str | None:
        """The metric that ranks the deterministic solvers."""
        return next((name for name in self.measures if MEASURES[name].same_seed), self.overall)

    @property
    def overall(self) -> str | None:
        """The metric that compares all solvers as distributions."""
        return next((name for name in SAMPLE_MEASURES if name in self.measures), None)


@dataclass(frozen=True)
class Winner:
    """The best at one budget; ``ratio`` is runner-up over best (None where the sign of either makes it meaningless)."""

    nfe: int
    best: str
    summary: Summary
    runner_up: str | None
    ratio: float | None
    tied: frozenset[str]  # solvers whose intervals overlap that of the best


def over_seeds(estimates: Iterable[Mapping[str, float]]) -> Summary:
    """Mean over seeds with the larger of two standard errors: the seeds' own combined, and that of their spread.

    The samples of different seeds are independent, so both estimate the same thing when each seed's interval is right;
    the larger guards against one that is too narrow.
    """
    items = list(estimates)
    count = len(items)
    values = [item["value"] for item in items]
    mean = math.fsum(values) / count
    within = math.sqrt(math.fsum(item["se"] ** 2 for item in items)) / count
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count * (count - 1))) if count > 1 else 0.0
    if count == 1:  # its own interval, which need not be symmetric
        return Summary(mean, items[0]["low"], items[0]["high"], within, 1)
    if within == 0 and spread <= 1e-9 * abs(mean):  # a formula, equal for all seeds but for rounding
        return Summary(mean, mean, mean, 0.0, count)
    se = max(within, spread)
    return Summary(mean, mean - Z95 * se, mean + Z95 * se, se, count)


def panels(rows: Iterable[Mapping[str, Any]], pooled: Mapping[tuple[str, ...], Mapping[str, Any]]) -> tuple[Panel, ...]:
    """Finished rows grouped into panels, in the order in which the rows come; failed rows are left out.

    ``pooled`` holds metrics over all seeds by the sorted hashes of the rows behind them (:meth:`Store.pooled`).
    """
    grouped: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["status"] == "ok":
            grouped.setdefault(_panel_key(row["config"]), []).append(row)
    return tuple(_panel(key, members, pooled) for key, members in grouped.items())


def failures(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, str]]:
    """What failed: label of the cell and error text."""
    return [
        {"cell": Cell.from_config(row["config"]).label, "error": row["error"]}
        for row in rows
        if row["status"] == "failed"
    ]


def winners(panel: Panel, measure: str) -> list[Winner]:
    """The best solver at each budget by that metric."""
    found = []
    for nfe in panel.nfes:
        ranked = sorted(
            (
                (series.points[nfe].metrics[measure], series.label)
                for series in panel.series
                if nfe in series.points and measure in series.points[nfe].metrics
            ),
            key=lambda pair: MEASURES[measure].loss(pair[0].value),
        )
        if ranked:
            found.append(_winner(nfe, ranked))
    return found


def _winner(nfe: int, ranked: list[tuple[Summary, str]]) -> Winner:
    best, label = ranked[0]
    if len(ranked) == 1:
        return Winner(nfe, label, best, None, None, frozenset())
    second, runner_up = ranked[1]
    ratio = second.value / best.value if best.value > 0 and best.low > 0 else None
    tied = frozenset(name for summary, name in ranked[1:] if summary.low <= best.high)
    return Winner(nfe, label, best, runner_up, ratio, tied)


def pareto_front(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points (cost, error) that no other beats in both, by rising cost."""
    front: list[tuple[float, float]] = []
    for cost, error in sorted(points):
        if not front or error < front[-1][1]:
            front.append((cost, error))
    return front


def _panel_key(config: Mapping[str, Any]) -> str:
    return canonical_json({key: value for key, value in config.items() if key not in ("solver", "nfe", "seed")})


def _panel(key: str, rows: list[Mapping[str, Any]], pooled: Mapping[tuple[str, ...], Mapping[str, Any]]) -> Panel:
    by_solver: dict[str, dict[int, list[Mapping[str, Any]]]] = {}
    for row in rows:
        solver = Choice(row["config"]["solver"]["name"], tuple(row["config"]["solver"]["options"].items()))
        by_solver.setdefault(solver.label, {}).setdefault(row["config"]["nfe"], []).append(row)
    series = tuple(
        Series(
            label,
            next(iter(budgets.values()))[0]["solver"]["stochastic"],
            next(iter(budgets.values()))[0]["solver"]["order"],
            {nfe: _point(nfe, budgets[nfe], pooled) for nfe in sorted(budgets)},
        )
        for label, budgets in by_solver.items()
    )
    cell = Cell.from_config(rows[0]["config"])
    return Panel(
        key,
        cell.target.label,
        cell.sde.label,
        cell.grid.label,
        cell.samples,
        cell.dtype,
        series,
        tuple(sorted({nfe for one in series for nfe in one.points})),
        _floors(rows),
        rows[0].get("note", ""),
        rows[0].get("reference", {}),
    )


def _point(nfe: int, rows: list[Mapping[str, Any]], pooled: Mapping[tuple[str, ...], Mapping[str, Any]]) -> Point:
    rows = sorted(rows, key=lambda row: row["config"]["seed"])
    found = {
        name: over_seeds(row["metrics"][name] for row in rows)
        for name in MEASURES
        if all(name in row["metrics"] for row in rows)
    }
    together = pooled.get(tuple(sorted(row["hash"] for row in rows)), {})
    found |= {name: replace(over_seeds([estimate]), seeds=len(rows)) for name, estimate in together.items()}
    seconds = math.fsum(row["seconds"]["sampling"] for row in rows) / math.fsum(
        row["config"]["samples"] for row in rows
    )
    return Point(
        nfe,
        rows[0]["nfe"]["counted"],
        found,
        1000 * seconds,
        Cell.from_config(rows[0]["config"]).stem,
    )


def _floors(rows: list[Mapping[str, Any]]) -> dict[str, Summary]:
    floors: dict[str, Summary] = {}
    for row in rows:
        for name, floor in row.get("floors", {}).items():
            floors.setdefault(name, Summary(floor["value"], floor["low"], floor["high"], floor["se"], 1))
    return floors
