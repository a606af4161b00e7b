"""A benchmark small enough for tests: three solvers, two budgets and two seeds on the five-Gaussian mixture."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from scoresde.bench.runner import Runner
from scoresde.bench.store import Store
from scoresde.bench.suite import (
    Block,
    Suite,
    choice,
)

TINY = Block(
    target=choice("mixture"),
    sdes=(choice("vp"),),
    grids=(choice("log-snr"),),
    solvers=(choice("ddim"), choice("dpmpp-2m"), choice("ddim", eta=1.0)),
    nfes=(4, 8),
    seeds=(0, 1),
    samples=48,
    dtype="float64",
)


def tiny(**changes) -> Suite:
    return Suite("tiny", "for the tests", (replace(TINY, **changes),))


def run(folder: Path, suite: Suite, **options) -> Runner:
    runner = Runner(Store(folder), suite, suite.cells(), **options)
    for _ in runner.run():
        pass
    return runner


def results(runner: Runner) -> dict[str, tuple]:
    """What must be the same in every run: all but the times."""
    return {row["hash"]: (row["status"], row["error"], row.get("metrics"), row.get("nfe")) for row in runner.rows()}
