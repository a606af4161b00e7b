"""The coverage study: that it runs, and that what it found is what the documentation says."""

import json
from pathlib import Path

import pytest

from benchmarks import coverage
from scoresde.targets import GaussianMixture

MEASURED = Path(__file__).parent.parent / "docs" / "measured"


@pytest.mark.slow
def test_the_study_judges_every_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coverage, "REPEATS", 2)
    monkeypatch.setattr(coverage, "SIZES", (60, 80))
    monkeypatch.setattr(coverage, "MANY", 500)
    for rows in (coverage.study(GaussianMixture.five()), coverage.solvers()):
        names = [row["metric"] for row in rows if row["samples"] in ("same", "difference")]
        assert {"rmse", "kid", "c2st", "exact_wasserstein", "prdc: recall", "negative_log_likelihood"} < set(names)
        assert all(0 <= row["covered"] <= 1 and row["n"] in (60, 80) for row in rows)
        cases = {(row["metric"], row["samples"]) for row in rows}
        assert len(coverage.table(rows).splitlines()) == len(cases) + 2


@pytest.mark.parametrize("path", sorted(MEASURED.glob("coverage-*.json")), ids=lambda path: path.stem)
def test_intervals_hold_the_truth(path: Path) -> None:
    """As measured: never less than 95 % by more than three binomial errors."""
    rows = json.loads(path.read_text(encoding="utf-8"))
    assert {row["n"] for row in rows} == set(coverage.SIZES)
    short = [(row["metric"], row["n"], row["covered"]) for row in rows if row["covered"] < 0.95 - 3 * 0.0154]
    assert not short
    assert all(row["repeats"] >= 200 for row in rows)
