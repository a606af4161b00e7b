"""Two sets of results, cell by cell: what became better or worse, and what merely looks so.

A and B are two versions of a library, two machines, or two data types, run on one suite. Cells are matched by their
recipe and compared from the same noise, seed by seed, so that a difference far smaller than either interval is found.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from scoresde.bench.charts import number
from scoresde.bench.measures import MEASURES
from scoresde.bench.paired import Plain, Summary, holm, losses, over_seeds, paired_by_seed
from scoresde.bench.results import Results, Row
from scoresde.bench.suite import Cell, canonical_json
from scoresde.errors import choose
from scoresde.metrics.estimate import LEVEL, student_quantile

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

FAMILY = 0.05  # what an adjusted p-value must be below
TOLERANCE = 1e-3  # of A's value: a smaller change is none, whatever its interval (rounding differs between machines)
FIELDS = {field.name: field for field in fields(Cell)}


@dataclass(frozen=True)
class Change:
    """One metric of one solver at one budget, in A and in B, over the seeds that both have.

    difference: how much worse B is, with its 95 % interval: B - A, where smaller is better. paired: whether that
    interval knows that A and B share their noise. tolerance: what the difference must exceed, in the metric's units.
    adjusted: its p-value, adjusted by Holm's method for all the comparisons of the two sets of results.
    """

    panel: str
    solver: str
    nfe: int
    metric: str
    a: Summary
    b: Summary
    difference: Summary
    paired: bool
    tolerance: float
    adjusted: float

    @property
    def verdict(self) -> str:
        """Of B: "better", "worse" or "no difference", by the interval of the difference alone."""
        if self.difference.low > self.tolerance:
            return "worse"
        return "better" if self.difference.high < -self.tolerance else "no difference"

    @property
    def sure(self) -> bool:
        """Whether the verdict stands when all comparisons are taken together (familywise level 5 %)."""
        return self.verdict != "no difference" and self.adjusted < FAMILY


@dataclass(frozen=True)
class Pace:
    """Sampling time of a solver, B over A: the geometric mean over ``cells`` matched cells with its 95 % interval.

    The interval is that of the cells' spread (Student's t of the logarithms); infinite for a single cell.
    """

    panel: str
    solver: str
    ratio: float
    low: float
    high: float
    cells: int


@dataclass(frozen=True)
class Comparison:
    """All that two sets of results say about each other; the labels are of cells."""

    changes: tuple[Change, ...]
    paces: tuple[Pace, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    failed: tuple[str, ...]  # cells that A has and B failed to compute

    @cached_property
    def regressions(self) -> tuple[str, ...]:
        """What is worse in B beyond doubt: changes that are surely worse, and cells that now fail."""
        worse = (
            f"{change.panel} · {change.solver} · NFE {change.nfe}: {change.metric}"
            for change in self.changes
            if change.sure and change.verdict == "worse"
        )
        return (*worse, *(f"{label}: fails" for label in self.failed))

    @property
    def data(self) -> dict[str, Any]:
        """As plain data for JSON; infinite numbers are null."""
        changes = [{**asdict(one), "verdict": one.verdict, "sure": one.sure} for one in self.changes]
        whole = {**asdict(self), "changes": changes, "regressions": self.regressions}
        return _finite(whole)


def compare(
    a: Results,
    b: Results,
    *,
    metrics: Sequence[str] = (),
    across: Collection[str] = (),
    tolerance: float = TOLERANCE,
) -> Comparison:
    """Match the cells of two sets of results and compare each metric that both have.

    Args:
        a: the baseline.
        b: what is judged.
        metrics: names of metrics; all unless given.
        across: fields of the recipe in which matched cells may differ: ("device", "dtype") compares machines.
        tolerance: relative to A's value; a change that may be smaller than that is not called one.

    Raises ValueError for an unknown field or metric, a tolerance below 0, cells that match more than once, or none at
    all.
    """
    for name in across:
        choose(name, FIELDS, "field of a recipe")
    if not tolerance >= 0:
        raise ValueError(f"tolerance must be at least 0, got {tolerance}")
    known = dict.fromkeys(name for row in (*a.rows, *a.groups()) for name in row.get("metrics", {}))
    for name in metrics:
        choose(name, known, "metric of A")
    of_a, of_b = _by_recipe(a.rows, across, "A"), _by_recipe(b.rows, across, "B")
    both = [key for key in of_a if key in of_b]
    if not both:
        raise ValueError("A and B have no cell in common; across=... names the fields in which they may differ")
    good = [(of_a[key], of_b[key]) for key in both if of_a[key]["status"] == of_b[key]["status"] == "ok"]
    groups_a, groups_b = _by_recipe(a.groups(), across, "A"), _by_recipe(b.groups(), across, "B")
    matched = [*good, *((row, groups_b[key]) for key, row in groups_a.items() if key in groups_b)]
    found = list(_changes(matched, metrics or tuple(known), across, tolerance))
    return Comparison(
        _adjusted(found),
        tuple(_paces(good)),
        tuple(_label(row) for key, row in of_a.items() if key not in of_b),
        tuple(_label(row) for key, row in of_b.items() if key not in of_a),
        tuple(_label(of_a[key]) for key in both if of_a[key]["status"] == "ok" != of_b[key]["status"]),
    )


def _by_recipe(rows: Iterable[Row], across: Collection[str], side: str) -> dict[str, Row]:
    found: dict[str, Row] = {}
    for row in rows:
        known = found.setdefault(_key(row, across), row)
        if known is not row:
            words = " and ".join(across) or "schema"
            raise ValueError(f"{side} has cells that differ in nothing but {words}: {_label(known)}, and {_label(row)}")
    return found


def _key(row: Row, left_out: Collection[str]) -> str:
    """The recipe as text, the seeds of a pooled row with it; fields that older files lack have their defaults."""
    config = {**_cell(row).config, "seed": row["config"]["seed"]}
    kept = {key: value for key, value in config.items() if key not in ("schema", *left_out)}
    return canonical_json([kept, row.get("seeds")])


def _cell(row: Row) -> Cell:
    return Cell.from_config({**row["config"], "seed": row["config"]["seed"] or 0})


def _label(row: Row) -> str:
    return _cell(row).label


def _panel(row: Row) -> str:
    cell = _cell(row)
    return " · ".join((cell.target.label, cell.sde.label, f"{cell.grid.label} grid"))


def _changes(
    matched: Iterable[tuple[Row, Row]], metrics: Collection[str], across: Collection[str], tolerance: float
) -> Iterator[Change]:
    """One for each metric of cells that differ in nothing but the seed; not adjusted yet."""
    by_seed: dict[tuple[str, str], list[tuple[Row, Row]]] = {}
    for a, b in matched:
        for name in metrics:
            if name in a["metrics"] and name in b["metrics"]:
                by_seed.setdefault((_key(a, ("seed", *across)), name), []).append((a, b))
    for (_, name), pairs in by_seed.items():
        of_a = {a["config"]["seed"]: a["metrics"][name] for a, _ in pairs}
        of_b = {a["config"]["seed"]: b["metrics"][name] for a, b in pairs}
        mean_a, mean_b = over_seeds(of_a.values()), over_seeds(of_b.values())
        difference, known = losing(name, of_a, of_b)
        cell, limit = _cell(pairs[0][0]), tolerance * abs(mean_a.value)
        where = (_panel(pairs[0][0]), cell.solver.label, cell.nfe, name)
        yield Change(*where, mean_a, mean_b, difference, known, limit, 1.0)


def losing(metric: str, of_a: Mapping[Any, Plain], of_b: Mapping[Any, Plain]) -> tuple[Summary, bool]:
    """How much worse B is than A by that metric, from their estimates by seed; and whether the interval is paired.

    It is the difference B - A, but of the distances from the best value where that is not the smallest one.
    """
    best = MEASURES[metric].best if metric in MEASURES else None
    a, b = (of_a, of_b) if best is None else (losses(of_a, best), losses(of_b, best))
    found = paired_by_seed(b, a)
    return (apart(over_seeds(a.values()), over_seeds(b.values())), False) if found is None else (found, True)


def apart(a: Summary, b: Summary) -> Summary:
    """``b - a`` as if they shared nothing, for files that do not keep what a paired interval needs."""
    se, degrees, value = math.hypot(a.se, b.se), min(a.degrees, b.degrees), b.value - a.value
    reach = student_quantile(0.5 + LEVEL / 2, int(min(degrees, 1e9))) * se
    return Summary(value, value - reach, value + reach, se, a.seeds, degrees)


def _adjusted(changes: Sequence[Change]) -> tuple[Change, ...]:
    """With Holm's p-values. Formulas have no error and are no tests: they keep their own, 0 or 1."""
    p = [_beyond(change.difference, change.tolerance).p for change in changes]
    tests = [place for place, change in enumerate(changes) if change.difference.se > 0]
    for place, value in zip(tests, holm([p[place] for place in tests]), strict=True):
        p[place] = value
    return tuple(replace(change, adjusted=value) for change, value in zip(changes, p, strict=True))


def _beyond(difference: Summary, tolerance: float) -> Summary:
    """By how much it exceeds the tolerance; zero where it does not."""
    return replace(difference, value=math.copysign(max(0.0, abs(difference.value) - tolerance), difference.value))


def _paces(pairs: Iterable[tuple[Row, Row]]) -> Iterator[Pace]:
    logs: dict[tuple[str, str], list[float]] = {}
    for a, b in pairs:
        ratio = b["seconds"]["sampling"] / a["seconds"]["sampling"]
        logs.setdefault((_panel(a), _cell(a).solver.label), []).append(math.log(ratio))
    for (panel, solver), found in logs.items():
        low, high, middle = 0.0, math.inf, fmean(found)
        if len(found) > 1:
            reach = student_quantile(0.5 + LEVEL / 2, len(found) - 1) * stdev(found) / math.sqrt(len(found))
            low, high = math.exp(middle - reach), math.exp(middle + reach)
        yield Pace(panel, solver, math.exp(middle), low, high, len(found))


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


# ---- on the terminal -------------------------------------------------------------------------------------------------


def show(comparison: Comparison, console: Console, *, everything: bool = False) -> None:
    """Tables of what changed (of all that was compared, if ``everything``) and of the times, then what is missing."""
    counts = Counter(change.verdict for change in comparison.changes)
    shown = [change for change in comparison.changes if everything or change.verdict != "no difference"]
    for panel, metric in dict.fromkeys((change.panel, change.metric) for change in shown):
        title = f"{panel}: {MEASURES[metric].label if metric in MEASURES else metric}"
        console.print(_table(title, [one for one in shown if (one.panel, one.metric) == (panel, metric)]))
    console.print(_times(comparison.paces))
    total = ", ".join(f"{counts[verdict]} {verdict}" for verdict in ("better", "worse", "no difference"))
    sure = sum(change.sure for change in comparison.changes)
    console.print(f"{len(comparison.changes)} comparisons of B with A: {total}")
    console.print(f"{sure} of them stand when all are taken together (Holm, 5 %), marked !")
    for side, labels in (("A", comparison.only_a), ("B", comparison.only_b)):
        for label in labels:
            console.print(f"only in {side}: {label}", markup=False)
    for label in comparison.failed:
        console.print(f"failed in B: {label}", markup=False)


def _table(title: str, changes: Sequence[Change]) -> Table:
    table = _empty(title, "solver", "NFE", "A", "B", "worse by, 95 % interval", "B is")
    for one in sorted(changes, key=lambda one: (one.solver, one.nfe)):
        d = one.difference
        interval = f"{number(d.value)} [{number(d.low)}, {number(d.high)}]" + ("" if one.paired else " unpaired")
        verdict = "" if one.verdict == "no difference" else one.verdict + (" !" if one.sure else "")
        style = {"better": "green", "worse": "red"}.get(one.verdict, "")
        table.add_row(
            one.solver, str(one.nfe), number(one.a.value), number(one.b.value), interval, verdict, style=style
        )
    return table


def _times(paces: Sequence[Pace]) -> Table:
    table = _empty("Sampling time, B over A", "panel", "solver", "ratio", "95 % interval", "cells")
    for one in paces:
        interval = f"[{one.low:.2f}, {one.high:.2f}]" if one.cells > 1 else ""
        table.add_row(one.panel, one.solver, f"{one.ratio:.2f}", interval, str(one.cells))
    return table


def _empty(title: str, *columns: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in columns:
        table.add_column(column, no_wrap=column not in ("panel", "solver"))
    return table
