"""From rows of cells to what tables and charts show: panels, families, series, points, winners, fronts. Plain data."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from statistics import median
from typing import Any

from scoresde.bench.measures import MEASURES, SAMPLE_MEASURES
from scoresde.bench.paired import Plain, Summary, holm, losses, over_seeds, paired_by_seed
from scoresde.bench.suite import Cell, Choice, canonical_json

LEVEL = 0.05  # the chance that even one of the differences called in one column is none
ALL = -1  # stands for the seed of what was measured on the samples of all seeds together


@dataclass(frozen=True)
class Point:
    """One solver at one budget.

    metrics: over seeds, by name. estimates: what they come from, by name and seed. classes: the same for the samples of
    one class, by class and name. times: milliseconds for one sample, of each seed. stem: of the cell whose samples are
    shown.
    """

    nfe: int
    counted: int
    metrics: Mapping[str, Summary]
    estimates: Mapping[str, Mapping[int, Plain]]
    classes: Mapping[str, Mapping[str, Summary]]
    times: tuple[float, ...]
    stem: str

    @property
    def milliseconds(self) -> float:
        """For one sample, of the median seed: one that the machine was busy with something else in does no harm."""
        return median(self.times)


@dataclass(frozen=True)
class Series:
    """One solver of a panel: its points by budget."""

    label: str
    stochastic: bool
    order: int | float | None
    points: Mapping[int, Point]
    package: str = ""  # of another library's sampler, with its version


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
        """The metric that ranks the deterministic solvers; without one, the one that compares all, or any."""
        same_seed = next((name for name in self.measures if MEASURES[name].same_seed), None)
        return same_seed or self.overall or next(iter(self.measures), None)

    @property
    def headline(self) -> tuple[str, ...]:
        """:attr:`main` and :attr:`overall`, those that there are."""
        return tuple(name for name in dict.fromkeys((self.main, self.overall)) if name is not None)

    @property
    def overall(self) -> str | None:
        """The metric that compares all solvers as distributions."""
        return next((name for name in SAMPLE_MEASURES if name in self.measures), None)


@dataclass(frozen=True)
class Family:
    """Panels that differ in nothing but their grid: what may be compared across grids."""

    panels: tuple[Panel, ...]

    @property
    def title(self) -> str:
        """What people read above it: of a lone panel, its own title."""
        first = self.panels[0]
        return first.title if len(self.panels) == 1 else f"{first.target} · {first.sde} · {len(self.panels)} grids"

    @property
    def nfes(self) -> tuple[int, ...]:
        """Every budget of some panel."""
        return tuple(sorted({nfe for panel in self.panels for nfe in panel.nfes}))

    @property
    def headline(self) -> tuple[str, ...]:
        """The metric that ranks deterministic solvers and the one that compares all, those that some panel has."""
        return tuple(dict.fromkeys(name for panel in self.panels for name in panel.headline))


@dataclass(frozen=True)
class Behind:
    """The nearest solver that is told apart from the best: its number, how much worse, and how well that is known.

    ``ratio`` is its number over the best's (or its distance from the metric's best value over the best's), None where
    the best's may be zero; ``difference`` is the paired one, None where the files hold too little for it (two intervals
    that do not overlap told them apart).
    """

    label: str
    summary: Summary
    ratio: float | None
    difference: Summary | None


@dataclass(frozen=True)
class Winner:
    """The best at one budget, the solvers that are not told apart from it (the nearest first), and the next."""

    nfe: int
    best: str
    summary: Summary
    tied: tuple[str, ...]
    behind: Behind | None


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


def stem_of(row: Mapping[str, Any]) -> str:
    """The name of the files of a row without the suffix, also of a row that an older version hashed otherwise."""
    cell = Cell.from_config(row["config"])
    return cell.stem.removesuffix(cell.hash[:16]) + row["hash"][:16]


def families(found: Iterable[Panel]) -> tuple[Family, ...]:
    """The panels, those that differ in nothing but the grid together, in the order of their first."""
    grouped: dict[str, list[Panel]] = {}
    for panel in found:
        facts = {key: value for key, value in json.loads(panel.key).items() if key != "grid"}
        grouped.setdefault(canonical_json(facts), []).append(panel)
    return tuple(Family(tuple(members)) for members in grouped.values())


def winners(panels: Panel | Family, measure: str) -> list[Winner]:
    """The best solver of a panel, or solver and grid of a family, at each budget by that metric.

    A difference is called one where its paired interval says so (:func:`scoresde.bench.paired.paired`). The best is
    picked from the very numbers that are compared, so all pairs of a budget are tested, and their p-values adjusted for
    being many (:func:`scoresde.bench.paired.holm`). Numbers that cannot be paired are told apart where their intervals
    do not overlap.
    """
    members = _members(panels)
    return [_winner(nfe, ranked) for nfe in panels.nfes if (ranked := _ranked(members, nfe, measure))]


def ranking(panels: Panel | Family, nfe: int, measure: str) -> list[str]:
    """The solvers, or solvers and grids, that have that metric at that budget, the best first."""
    return [entry.label for entry in _ranked(_members(panels), nfe, measure)]


def label_in(panels: Sequence[Panel], panel: Panel, series: Series) -> str:
    """The solver's name, with the grid's where there are several."""
    return series.label if len(panels) == 1 else f"{series.label} on {panel.grid}"


def _members(panels: Panel | Family) -> tuple[Panel, ...]:
    return (panels,) if isinstance(panels, Panel) else panels.panels


@dataclass(frozen=True)
class _Entry:
    """One solver at one budget, by one metric, as something to make small."""

    label: str
    summary: Summary
    loss: Summary
    by_seed: Mapping[int, Plain]


def _ranked(panels: Sequence[Panel], nfe: int, measure: str) -> list[_Entry]:
    there = [
        _entry(label_in(panels, panel, series), series.points[nfe], measure)
        for panel in panels
        for series in panel.series
        if nfe in series.points and measure in series.points[nfe].metrics
    ]
    return sorted(there, key=lambda entry: entry.loss.value)


def _entry(label: str, point: Point, measure: str) -> _Entry:
    summary, by_seed, best = point.metrics[measure], point.estimates[measure], MEASURES[measure].best
    if best is None:
        return _Entry(label, summary, summary, by_seed)
    turned = losses(by_seed, best)
    return _Entry(label, summary, replace(over_seeds(turned.values()), seeds=summary.seeds), turned)


def _winner(nfe: int, ranked: Sequence[_Entry]) -> Winner:
    first, *others = ranked
    differences = [paired_by_seed(worse.by_seed, better.by_seed) for better, worse in combinations(ranked, 2)]
    known = [place for place, found in enumerate(differences) if found is not None]
    adjusted = dict(zip(known, holm([found.p for found in differences if found is not None]), strict=True))
    tied, behind = [], None
    for place, other in enumerate(others):  # the pairs of the first come first, in order
        apart = adjusted[place] < LEVEL if place in adjusted else other.loss.low > first.loss.high
        if not apart:
            tied.append(other.label)
        elif behind is None:
            ratio = other.loss.value / first.loss.value if first.loss.low > 0 else None
            behind = Behind(other.label, other.summary, ratio, differences[place])
    return Winner(nfe, first.label, first.summary, tuple(tied), behind)


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
            next(iter(budgets.values()))[0]["solver"].get("package", ""),
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
    estimates = {
        name: {row["config"]["seed"]: row["metrics"][name] for row in rows}
        for name in MEASURES
        if all(name in row["metrics"] for row in rows)
    }
    together = pooled.get(tuple(sorted(row["hash"] for row in rows)), {})
    found = {name: over_seeds(by_seed.values()) for name, by_seed in estimates.items()}
    found |= {name: replace(over_seeds([estimate]), seeds=len(rows)) for name, estimate in together.items()}
    return Point(
        nfe,
        rows[0]["nfe"]["counted"],
        found,
        estimates | {name: {ALL: estimate} for name, estimate in together.items()},
        _classes(rows),
        tuple(1000 * row["seconds"]["sampling"] / row["config"]["samples"] for row in rows),
        stem_of(rows[0]),
    )


def _classes(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Summary]]:
    """Metrics of the samples of one class over seeds, by class and name; empty where the target has no classes."""
    every = [row.get("classes") or {} for row in rows]
    return {
        name: {
            measure: over_seeds(classes[name][measure] for classes in every)
            for measure in MEASURES
            if all(measure in classes.get(name, {}) for classes in every)
        }
        for name in every[0]
    }


def _floors(rows: list[Mapping[str, Any]]) -> dict[str, Summary]:
    floors: dict[str, Summary] = {}
    for row in rows:
        for name, floor in row.get("floors", {}).items():
            floors.setdefault(name, Summary(floor["value"], floor["low"], floor["high"], floor["se"], 1))
    return floors
