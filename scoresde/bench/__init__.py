"""The benchmark: quality against network calls, measured honestly, repeatable, stoppable at any moment.

* :mod:`~scoresde.bench.suite`: what is run, as frozen data; :mod:`~scoresde.bench.problems`: on what.
* :mod:`~scoresde.bench.runner`: runs it, each cell once and into its own file (:mod:`~scoresde.bench.store`).
* :mod:`~scoresde.bench.evaluate`: one cell: calls counted, samples measured.
* :mod:`~scoresde.bench.analysis`: from rows to panels; :mod:`~scoresde.bench.table` and
  :mod:`~scoresde.bench.report` show them.

From Python, what `scoresde bench smoke` does::

    suite = load_suite("smoke")
    runner = Runner(Store(Path("results/smoke")), suite, suite.cells())
    for step in runner.run():
        print(step.cell.label, step.row["metrics"])
    write_report(Path("results/smoke"))
"""
