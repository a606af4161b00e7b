"""The benchmark: quality against network calls, measured honestly, repeatable, stoppable at any moment.

* :mod:`~scoresde.bench.suite`: what is run, as frozen data; :mod:`~scoresde.bench.problems`: on what.
* :mod:`~scoresde.bench.runner`: runs it, each cell once and into its own file (:mod:`~scoresde.bench.store`).
* :mod:`~scoresde.bench.samplers`: what draws: our solvers, and other libraries' samplers.
* :mod:`~scoresde.bench.evaluate`: draws one cell, calls counted; :mod:`~scoresde.bench.measuring`: its metrics.
* :mod:`~scoresde.bench.analysis`: from rows to panels; :mod:`~scoresde.bench.table` and
  :mod:`~scoresde.bench.report` show them.

From Python, what `scoresde bench smoke` does::

    suite = load_suite("smoke")
    runner = Runner(Store(Path("results/smoke")), suite, suite.cells())
    for step in runner.run():
        print(step.cell.label, step.row["metrics"])
    write_report(Path("results/smoke"))
"""
