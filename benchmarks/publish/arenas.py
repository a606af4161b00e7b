"""Who stands against whom: samplers of all packages on one target, at equal numbers of network calls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from scoresde.bench.analysis import SAMPLE_MEASURES
from scoresde.bench.compare import TOLERANCE, losing
from scoresde.bench.paired import Plain, Summary, over_seeds
from scoresde.bench.results import Results, Row
from scoresde.bench.suite import Cell, Choice, canonical_json

OURS = "scoresde"
# What a table is made for, of the metrics that the target has: the first of each line.
HEADLINES = (("rmse_reference",), ("frechet_exact", "frechet_reference", *SAMPLE_MEASURES))


@dataclass(frozen=True)
class Entrant:
    """One sampler on one grid.

    numbers: estimates by metric, budget and seed; a metric of all seeds together has one, by all of them.
    times: milliseconds for one sample, by budget, of each seed.
    """

    package: str
    solver: str
    grid: str
    numbers: Mapping[str, dict[int, dict[Any, Plain]]] = field(default_factory=dict)
    times: Mapping[int, list[float]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Sampler and grid, as the tables name it."""
        return f"{self.solver}, {self.grid}"

    def summary(self, metric: str, nfe: int) -> Summary | None:
        """The metric over the seeds; None where it was not measured."""
        found = self.numbers.get(metric, {}).get(nfe)
        return over_seeds(found.values()) if found else None


@dataclass(frozen=True)
class Call:
    """The best of a package beside the best of ours at one budget, by one metric.

    ratio: their value over ours; None where one is not above zero beyond doubt. difference: theirs minus ours, with its
    interval. paired: whether that interval knows that both started at the same noise. tolerance: what the difference
    must exceed; the same method in two libraries differs by its rounding.
    """

    nfe: int
    entrant: Entrant
    summary: Summary
    ratio: float | None
    difference: Summary
    paired: bool
    tolerance: float

    @property
    def verdict(self) -> str:
        """Of theirs: "worse", "better" or "no difference", as the interval of the difference says."""
        if self.difference.low > self.tolerance:
            return "worse"
        return "better" if self.difference.high < -self.tolerance else "no difference"


@dataclass(frozen=True)
class Arena:
    """All cells that share target, process, samples and data type, whatever their sampler, grid, budget and seed.

    ``number`` counts those of one target and process that differ in the rest.
    """

    number: int
    target: str
    sde: str
    samples: int
    dtype: str
    seeds: int
    note: str
    nfes: tuple[int, ...]
    entrants: tuple[Entrant, ...]

    @property
    def title(self) -> str:
        """What stands above its tables."""
        return f"{self.target} · {self.sde}" + (f" ({self.number})" if self.number > 1 else "")

    @property
    def packages(self) -> tuple[str, ...]:
        """Ours first, then the others by name."""
        return tuple(sorted({one.package for one in self.entrants}, key=lambda name: (name != OURS, name)))

    @property
    def headlines(self) -> tuple[str, ...]:
        """The metrics that the tables show: those that every package has."""
        by_package = (
            {m for one in self.entrants if one.package == name for m in one.numbers} for name in self.packages
        )
        measured = set.intersection(*by_package)
        first = (next((name for name in names if name in measured), None) for names in HEADLINES)
        return tuple(name for name in first if name is not None)

    def best(self, package: str, metric: str, nfe: int) -> tuple[Entrant, Summary] | None:
        """The entrant of the package with the smallest value, and the value."""
        found = [(one, one.summary(metric, nfe)) for one in self.entrants if one.package == package]
        known = [(one, summary) for one, summary in found if summary is not None]
        return min(known, key=lambda pair: pair[1].value, default=None)

    def calls(self, package: str, metric: str) -> Iterator[Call]:
        """The package's best against ours, at every budget where both have one."""
        for nfe in self.nfes:
            ours, theirs = self.best(OURS, metric, nfe), self.best(package, metric, nfe)
            if ours is not None and theirs is not None:
                yield _call(nfe, metric, ours, theirs)


def _call(nfe: int, metric: str, ours: tuple[Entrant, Summary], theirs: tuple[Entrant, Summary]) -> Call:
    (our, mine), (their, value) = ours, theirs
    ratio = value.value / mine.value if min(value.low, mine.low) > 0 else None
    difference, paired = losing(metric, our.numbers[metric][nfe], their.numbers[metric][nfe])
    return Call(nfe, their, value, ratio, difference, paired, TOLERANCE * abs(mine.value))


def arenas(results: Results) -> list[Arena]:
    """The arenas of the finished cells, in the order in which they come."""
    grouped: dict[str, list[Row]] = {}
    for row in (*(row for row in results.rows if row["status"] == "ok"), *results.groups()):
        shared = {key: row["config"][key] for key in row["config"] if key not in ("solver", "grid", "nfe", "seed")}
        grouped.setdefault(canonical_json(shared), []).append(row)
    seen: Counter[tuple[str, str]] = Counter()
    return [_arena(rows, seen) for rows in grouped.values()]


def _arena(rows: Sequence[Row], seen: Counter[tuple[str, str]]) -> Arena:
    cells = [row for row in rows if row["config"]["seed"] is not None]
    first = Cell.from_config(cells[0]["config"])
    where = first.target.label, first.sde.label
    seen[where] += 1
    return Arena(
        seen[where],
        first.target.label,
        first.sde.label,
        first.samples,
        first.dtype,
        len({row["config"]["seed"] for row in cells}),
        cells[0].get("note", ""),
        tuple(sorted({row["config"]["nfe"] for row in cells})),
        tuple(_entrants(rows)),
    )


def package_of(row: Row) -> str:
    """The package that a row's sampler is of, without its version: what stands before the slash of a peer's name."""
    package, slash, _ = row["config"]["solver"]["name"].partition("/")
    return package if slash else OURS


def _entrants(rows: Iterable[Row]) -> list[Entrant]:
    grouped: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        cell = Cell.from_config({**row["config"], "seed": 0})
        solver = Choice(cell.solver.name.rpartition("/")[2], cell.solver.options)
        key = package_of(row), solver.label, cell.grid.label
        grouped.setdefault(key, []).append(row)
    return [Entrant(*key, _numbers(members), _times(members)) for key, members in grouped.items()]


def _numbers(rows: Iterable[Row]) -> dict[str, dict[int, dict[Any, Plain]]]:
    found: dict[str, dict[int, dict[Any, Plain]]] = {}
    for row in rows:
        seed = row["config"]["seed"]
        for metric, estimate in row["metrics"].items():
            by_seed = found.setdefault(metric, {}).setdefault(row["config"]["nfe"], {})
            by_seed[tuple(row["seeds"]) if seed is None else seed] = estimate
    return found


def _times(rows: Iterable[Row]) -> dict[int, list[float]]:
    taken: dict[int, list[float]] = {}
    for row in rows:
        if row["config"]["seed"] is not None:
            each = 1000 * row["seconds"]["sampling"] / row["config"]["samples"]
            taken.setdefault(row["config"]["nfe"], []).append(each)
    return taken
