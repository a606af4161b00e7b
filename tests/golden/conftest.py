"""Says at the end of a test run how much of the golden data is covered, what is not, and how close the samples are."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable

import pytest

from tests.golden.store import Case

CLOSENESS = "golden: error / bound"


@pytest.fixture
def record_golden(record_property: Callable[[str, object], None]) -> Callable[[Case, float], None]:
    """Notes error / bound of a case for the summary, in the test's report, which travels between processes."""
    return lambda case, ratio: record_property(CLOSENESS, (case.source, ratio))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    closeness = defaultdict(list)
    for report in (*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")):
        for name, value in getattr(report, "user_properties", ()):
            if name == CLOSENESS and report.when == "call":
                source, ratio = value
                closeness[source].append(ratio)
    if not closeness:
        return
    from tests.golden.rules import reason_not_covered
    from tests.golden.store import golden

    cases = golden().cases
    reasons = [(case.source, case.solver, reason_not_covered(case)) for case in cases]
    covered = sum(reason is None for *_, reason in reasons)
    terminalreporter.section(f"golden: {covered} of {len(cases)} cases covered")
    for source, ratios in closeness.items():
        terminalreporter.line(f"{source}: {len(ratios)} run, largest error / bound {max(ratios):.2g}")
    for (source, solver, reason), n in Counter(r for r in reasons if r[2] is not None).items():
        terminalreporter.line(f"not covered yet: {source} {solver}: {reason} ({n})")
