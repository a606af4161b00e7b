"""What `scoresde bench` shows on the terminal: live progress, then one table for each panel."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from scoresde.bench.analysis import Panel, failures, panels, winners
from scoresde.bench.charts import number
from scoresde.bench.measures import MEASURES

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from scoresde.bench.runner import Outcome, Runner
    from scoresde.bench.suite import Cell, Choice

PLAIN_EVERY = 10.0  # seconds between lines where the output is no terminal


def show_progress(runner: Runner, console: Console) -> Outcome:
    """Run all cells under a progress display, or with a plain line now and then where there is no terminal."""
    from scoresde.bench.runner import Outcome

    pace = Pace(runner.cells)
    computed = found = failed = 0
    with _display(console, len(runner.cells)) as show:
        for step in runner.run():
            computed, found = computed + step.computed, found + (not step.computed)
            failed += step.row["status"] == "failed"
            pace.done(step.cell, step.computed)
            show(computed + found, pace, step.cell.label)
    return Outcome(computed, found, failed, pace.elapsed)


EARLY = 0.03  # share of the calls before which the time that is left is not told


class Pace:
    """How long the rest will take, from what a network call has taken so far on each target.

    A target that has not run yet is taken to be like those that have.
    """

    def __init__(self, cells: Sequence[Cell]) -> None:
        self._left: Counter[Choice] = Counter()
        for cell in cells:
            self._left[cell.target] += cell.nfe
        self._calls: Counter[Choice] = Counter()
        self._seconds: dict[Choice, float] = {}
        self._start = self._last = time.perf_counter()

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._start

    def done(self, cell: Cell, computed: bool) -> None:
        """Note that this cell is done, computed just now or found."""
        now = time.perf_counter()
        self._left[cell.target] -= cell.nfe
        if computed:
            self._calls[cell.target] += cell.nfe
            self._seconds[cell.target] = self._seconds.get(cell.target, 0.0) + now - self._last
        self._last = now

    @property
    def left(self) -> float | None:
        """Seconds that are left; None at the beginning, when converged solutions are made, and while most of the rest
        is on targets that have not run yet.
        """
        known = sum(calls for target, calls in self._left.items() if target in self._calls)
        left = sum(self._left.values())
        if self._calls.total() < EARLY * (self._calls.total() + left) or not self._calls or 2 * known < left:
            return None
        usual = sum(self._seconds.values()) / sum(self._calls.values())
        rates = {target: self._seconds[target] / self._calls[target] for target in self._calls}
        return sum(calls * rates.get(target, usual) for target, calls in self._left.items())

    def __str__(self) -> str:
        left = self.left
        return clock(self.elapsed) + ("" if left is None else f", about {clock(left)} left")


def clock(seconds: float) -> str:
    """Seconds as 0:07, 12:34 or 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def show_tables(runner: Runner, console: Console) -> None:
    """One table for each panel and headline metric, and the failed cells."""
    rows = runner.rows()
    for panel in panels(rows, runner.store.pooled()):
        for measure in panel.headline:
            console.print()
            console.print(value_table(panel, measure))
    for failure in failures(rows):
        console.print(f"[red]failed[/red] {failure['cell']}: ", end="")
        console.print(failure["error"], markup=False)


def value_table(panel: Panel, measure: str) -> Table:
    """Solver by budget: value and half width of its 95 % interval; the best of each column is marked."""
    from rich import box
    from rich.table import Table

    title = f"{panel.title}: {MEASURES[measure].axis}\n{_sizes(panel, measure)}"
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        caption=_floor(panel, measure),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),  # six budgets fit into 80 columns
    )
    table.add_column("NFE", no_wrap=True)
    for nfe in panel.nfes:
        table.add_column(str(nfe), justify="right", no_wrap=True)
    best = {winner.nfe: winner for winner in winners(panel, measure)}
    for series in panel.series:
        cells = []
        for nfe in panel.nfes:
            point = series.points.get(nfe)
            if point is None or measure not in point.metrics:
                cells.append("")
                continue
            summary = point.metrics[measure]
            half = (summary.high - summary.low) / 2
            mark = "*" if best[nfe].best == series.label else "~" if series.label in best[nfe].tied else " "
            text = f"{number(summary.value)}{mark}" + (f"\n±{number(half, 2)} " if half else "")
            cells.append(f"[bold green]{text}[/]" if mark == "*" else text)
        if any(cells):
            table.add_row(series.label, *cells)
    return table


def _sizes(panel: Panel, measure: str) -> str:
    """What the numbers of the table come from."""
    summaries = [
        point.metrics[measure]
        for series in panel.series
        for point in series.points.values()
        if measure in point.metrics
    ]
    if all(summary.se == 0 for summary in summaries):
        return "a formula; * best"
    seeds = max(summary.seeds for summary in summaries)
    return (
        f"{panel.samples} samples × {seeds} seed{'s' if seeds > 1 else ''}; ± half of the 95 % interval; * best, ~ tied"
    )


def _floor(panel: Panel, measure: str) -> str | None:
    floor = panel.floors.get(measure)
    return None if floor is None else f"real against real: {number(floor.low)} to {number(floor.high)}"


class _Lines:
    """Progress as plain lines: the first, the last, and one every few seconds between."""

    def __init__(self, console: Console, total: int) -> None:
        self.console, self.total, self.said = console, total, 0.0

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def __call__(self, done: int, pace: Pace, label: str) -> None:
        now = time.perf_counter()
        if done in (1, self.total) or now - self.said >= PLAIN_EVERY:
            self.said = now
            self.console.print(f"{done}/{self.total} cells, {pace}: {label}", markup=False)


class _Bar:
    """Progress as a live bar: cells done, time passed and left, the last cell done."""

    def __init__(self, console: Console, total: int) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.table import Column

        rest = Column(ratio=1, no_wrap=True, overflow="ellipsis")  # what gives way in a narrow terminal
        text = TextColumn("cells, {task.description}", markup=False, table_column=rest)
        self.progress = Progress(
            BarColumn(bar_width=20), MofNCompleteColumn(), text, console=console, transient=True, expand=True
        )
        self.task = self.progress.add_task("starting", total=total)

    def __enter__(self) -> _Bar:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def __call__(self, done: int, pace: Pace, label: str) -> None:
        self.progress.update(self.task, completed=done, description=f"{pace}: {label}")


def _display(console: Console, total: int) -> _Bar | _Lines:
    return _Bar(console, total) if console.is_terminal else _Lines(console, total)
