"""The benchmark: quality against network calls, measured honestly, repeatable, stoppable at any moment.

* :mod:`~scoresde.bench.suite`: what is run, as frozen data; :mod:`~scoresde.bench.problems`: on what.
* :mod:`~scoresde.bench.runner`: runs it, each cell once and into its own file (:mod:`~scoresde.bench.store`).
* :mod:`~scoresde.bench.samplers`: what draws: our solvers, and other libraries' samplers.
* :mod:`~scoresde.bench.evaluate`: draws one cell, calls counted; :mod:`~scoresde.bench.measuring`: its metrics.
* :mod:`~scoresde.bench.analysis`: from rows to panels; :mod:`~scoresde.bench.table` and
  :mod:`~scoresde.bench.report` show them.
* :mod:`~scoresde.bench.results`: rows of several folders or of a packed file; :mod:`~scoresde.bench.export` makes
  tables of them, :mod:`~scoresde.bench.compare` says what changed between two runs.

From Python, what `scoresde bench smoke` does::

    suite = load_suite("smoke")
    runner = Runner(Store(Path("results/smoke")), suite, suite.cells())
    for step in runner.run():
        print(step.cell.label, step.row["metrics"])
    write_report(Path("results/smoke"))

What a function that gives a network of your own to the benchmark returns is here too: :class:`UserTarget`, or a
:class:`Problem` (:doc:`/your-network`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scoresde.bench.problems import Problem, UserTarget

__all__ = ["Problem", "UserTarget"]


def __getattr__(name: str) -> Any:
    if name in __all__:  # on demand: suites are plain data, and reading them needs no torch
        from scoresde.bench import problems

        return getattr(problems, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
