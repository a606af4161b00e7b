"""From what is typed after ``scoresde bench`` to the suite and its cells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from scoresde.bench.names import check_name
from scoresde.bench.samplers import make_sde, prepare
from scoresde.bench.suite import Cell, Suite, load_suite, suites


@dataclass(frozen=True)
class Selection:
    """A suite, its cells that are to be run, and why others are left out, with the number of cells of each reason."""

    suite: Suite
    cells: tuple[Cell, ...]
    missing: dict[str, int]


def select(
    name: str,
    sets: Sequence[str] = (),
    *,
    seeds: int | None = None,
    samples: int | None = None,
    device: str = "cpu",
    only: Sequence[str] = (),
) -> Selection:
    """What a run is of.

    Args:
        name: a suite of ours or a file.
        sets: changes to it, such as ``"nfes=5,10"``.
        seeds: how many, in place of the suite's.
        samples: in every cell, in place of the suite's.
        device: in place of the suite's, unless it is "cpu".
        only: words that must all be in a cell's label.

    Raises:
        ValueError: a suite that cannot be read, or nothing to run.
    """
    suite = load_suite(name, sets, check_name)
    suite = suite if seeds is None else suite.with_seeds(seeds)
    suite = suite if samples is None else suite.with_samples(samples)
    suite = suite if device == "cpu" else suite.on(device)
    every = suite.cells()
    cells = [cell for cell in every if all(word in cell.label for word in only)]
    if not cells:
        raise ValueError(
            f"--only {' '.join(only)!r} matches none of the suite's cells; the first is {every[0].label!r}"
        )
    kept, missing = installed(cells, suite.plugins)
    if not kept:
        raise ValueError(f"no sampler of these cells is installed: {'; '.join(missing)}")
    return Selection(suite, tuple(kept), missing)


def installed(cells: Collection[Cell], plugins: Sequence[str]) -> tuple[list[Cell], dict[str, int]]:
    """The cells whose samplers can be imported, and why the others cannot, with the number of cells of each reason.

    So one suite compares with as many libraries as there are on a machine.
    """
    reasons: dict[str, str] = {}
    for cell in {cell.solver.name: cell for cell in cells if "/" in cell.solver.name}.values():
        try:
            prepare(cell, make_sde(cell), plugins)
        except ImportError as error:
            reasons[cell.solver.name] = str(error)
        except ValueError:
            pass  # not of the package: checked before the run
    missing = Counter(reasons[cell.solver.name] for cell in cells if cell.solver.name in reasons)
    return [cell for cell in cells if cell.solver.name not in reasons], dict(missing)


def describe_suites() -> Iterator[str]:
    """A line for each suite that comes with the library."""
    for suite in map(load_suite, suites()):
        yield f"{suite.name:<10} {len(suite.cells()):>6} cells  {suite.description}"
