"""Two sets of results: what is called a difference, what is not, and what the command does about it."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from scoresde import cli
from scoresde.bench.compare import compare
from scoresde.bench.results import Results
from scoresde.bench.suite import choice
from tests.bench.made_up_rows import CELL, changed, estimate, failed, row, rows, scaled, write

A = Results(tuple(rows({"ddim": 1.0, "dpmpp-2m": 0.5})))


def only(solver: str, results: Results) -> Results:
    return replace(results, rows=tuple(one for one in results.rows if one["solver"]["label"] == solver))


def together(*parts: Results) -> Results:
    return Results(tuple(one for part in parts for one in part.rows))


def test_equal_results_have_no_difference():
    found = compare(A, A)
    assert len(found.changes) == 4
    assert {one.verdict for one in found.changes} == {"no difference"}
    assert all(one.paired and one.difference.value == one.difference.se == 0 for one in found.changes)
    assert (found.only_a, found.only_b, found.failed, found.regressions) == ((), (), (), ())


def test_a_difference_far_smaller_than_either_interval_is_found_from_the_same_noise():
    worse = together(only("ddim", A), changed(only("dpmpp-2m", A), scaled(1.004)))
    found = compare(A, worse)
    verdicts = {(one.solver, one.nfe): (one.verdict, one.sure) for one in found.changes}
    assert verdicts == {
        **{("ddim", nfe): ("no difference", False) for nfe in (5, 10)},
        **{("dpmpp-2m", nfe): ("worse", True) for nfe in (5, 10)},
    }
    for one in found.changes:
        if one.solver == "dpmpp-2m":
            assert one.difference.value == pytest.approx(0.004 * one.a.value)
            assert one.a.high > one.b.low  # their own intervals overlap
    assert len(found.regressions) == 2
    assert {one.verdict for one in compare(worse, A).changes if one.solver == "dpmpp-2m"} == {"better"}
    assert compare(worse, A).regressions == ()


def test_without_leave_one_out_values_the_interval_is_unpaired_and_said_to_be():
    def older(one: dict) -> dict:
        return {key: value for key, value in one.items() if key != "left"}

    before, after = changed(A, older), changed(changed(A, scaled(1.004)), older)
    for one in compare(before, after).changes:
        assert not one.paired
        assert one.verdict == "no difference"
        assert one.difference.se == pytest.approx(math.hypot(one.a.se, one.b.se))
    assert {one.verdict for one in compare(before, changed(changed(A, scaled(1.2)), older)).changes} == {"worse"}


def test_a_change_within_the_tolerance_is_none():
    after = changed(A, scaled(1.004))
    assert {one.verdict for one in compare(A, after, tolerance=0.01).changes} == {"no difference"}
    assert compare(A, after, tolerance=0.01).regressions == ()
    with pytest.raises(ValueError, match="tolerance must be at least 0, got -1"):
        compare(A, A, tolerance=-1)


def noisy(count: int, own: int) -> Results:
    """As many solvers that are equal but for chance."""
    cells = [replace(CELL, solver=choice(f"s{number}")) for number in range(count)]
    found = ((cell, estimate(1.0, 0, own + place)) for place, cell in enumerate(cells))
    return Results(tuple(row(cell, {"energy_data": one}) for cell, one in found))


def formula(value: float, solver: str = "ddim") -> Results:
    one = {"value": value, "low": value, "high": value, "se": 0.0, "n": 200, "left": []}
    return Results((row(replace(CELL, solver=choice(solver)), {"frechet_exact": one}),))


def test_many_comparisons_are_taken_together():
    """A call by chance is not a regression, though alone it would be one."""
    before, after = noisy(60, 0), noisy(60, 100)
    called = [one for one in compare(before, after, tolerance=0).changes if one.verdict != "no difference"]
    assert 1 <= len(called) <= 9  # of sixty, at 5 %
    assert not any(one.sure for one in called)
    before, after = (only(called[0].solver, one) for one in (before, after))
    assert compare(before, after, tolerance=0).changes[0].sure
    same = [formula(0.5, f"f{number}") for number in range(60)]
    assert compare(together(before, *same), together(after, *same), tolerance=0).changes[0].sure  # they are no tests


def test_formulas_are_compared_exactly():
    assert compare(formula(0.5), formula(0.5)).changes[0].verdict == "no difference"
    assert compare(formula(0.5), formula(0.51)).changes[0].sure
    assert compare(formula(0.5), formula(0.5001)).changes[0].verdict == "no difference"  # the tolerance


def test_what_is_best_in_the_middle_is_judged_by_its_distance():
    coverage = Results(tuple(rows({"ddim": 4.0}, nfes=(5,), metric="coverage")))  # 0.8, best 1
    assert {one.verdict for one in compare(coverage, changed(coverage, scaled(1.1))).changes} == {"better"}
    assert {one.verdict for one in compare(coverage, changed(coverage, scaled(0.9))).changes} == {"worse"}
    assert {one.verdict for one in compare(coverage, changed(coverage, scaled(1.6))).changes} == {"worse"}  # 1.28


def test_what_only_one_side_has_is_listed_and_what_now_fails_is_a_regression():
    bad = failed(replace(CELL, nfe=5), "ValueError: no")
    b = Results((*(one for one in A.rows if one["hash"] != bad["hash"] and one["config"]["seed"] == 0), bad))
    found = compare(A, b)
    assert len(found.only_a) == 4
    assert all("seed 1" in label for label in found.only_a)
    assert found.failed == ("mixture · vp · ddim · log-snr · NFE 5 · seed 0",)
    assert found.regressions == (f"{found.failed[0]}: fails",)
    assert compare(b, A).only_b == found.only_a
    assert all(one.a.seeds == 1 for one in found.changes)


def test_cells_of_older_files_match_and_those_that_differ_only_where_asked():
    def at(**changes) -> Results:
        cells = (replace(CELL, seed=seed, **changes) for seed in (0, 1))
        return Results(tuple(row(cell, {"energy_data": estimate(0.1, cell.seed)}) for cell in cells))

    old = [{**one, "schema": 2, "config": {**one["config"], "schema": 2}} for one in at().rows]
    for one in old:
        del one["config"]["metrics"], one["config"]["chunk"]
    assert compare(Results(tuple(old)), at()).changes[0].verdict == "no difference"
    with pytest.raises(ValueError, match="no cell in common"):
        compare(at(), at(dtype="float64"))
    assert len(compare(at(), at(dtype="float64"), across=["dtype"]).changes) == 1
    both = together(at(), at(dtype="float64"))
    with pytest.raises(ValueError, match="B has cells that differ in nothing but dtype: mixture"):
        compare(at(), both, across=["dtype"])
    with pytest.raises(ValueError, match="field of a recipe"):
        compare(at(), at(), across=["colour"])
    with pytest.raises(ValueError, match="metric"):
        compare(at(), at(), metrics=["energy"])


def test_metrics_of_all_seeds_are_compared_too_if_the_seeds_are_the_same():
    def pooled(factor: float, seeds: tuple[int, ...]) -> Results:
        found = rows({"ddim": 1.0}, nfes=(5,), seeds=seeds)
        hashes = tuple(sorted(one["hash"] for one in found))
        return Results(tuple(found), {hashes: {"frechet_data": scaled(factor)(estimate(0.3, 7))}})

    found = compare(pooled(1, (0, 1)), pooled(1.01, (0, 1)), metrics=["frechet_data"])
    assert [one.verdict for one in found.changes] == ["worse"]
    assert compare(pooled(1, (0, 1)), pooled(1.01, (0, 1, 2)), metrics=["frechet_data"]).changes == ()


def test_times_are_ratios_with_the_interval_of_the_cells():
    slower = Results(
        tuple(
            {**one, "seconds": {**one["seconds"], "sampling": one["seconds"]["sampling"] * factor}}
            for one, factor in zip(only("ddim", A).rows, (1.9, 2.0, 2.0, 2.0 * 2.0 / 1.9), strict=True)
        )
    )
    pace = compare(A, slower).paces[0]
    assert (pace.solver, pace.cells) == ("ddim", 4)
    assert pace.ratio == pytest.approx(2)
    spread = math.log(2 / 1.9) * math.sqrt(2 / 3)
    assert pace.high / pace.ratio == pytest.approx(math.exp(3.182 * spread / 2), rel=0.01)
    assert pace.low * pace.high == pytest.approx(pace.ratio**2)


# ---- the commands ----------------------------------------------------------------------------------------------------


def call(*words: str | Path):
    return CliRunner().invoke(cli.app, [str(word) for word in words], env={"COLUMNS": "100"})


def test_the_command_shows_writes_and_fails_on_demand(tmp_path: Path):
    a, b = write(tmp_path / "a", A), write(tmp_path / "b", changed(A, scaled(1.05)))
    out = tmp_path / "c.json"
    result = call("compare", a, b, "--json", out)
    assert result.exit_code == 0, result.output
    assert "4 comparisons of B with A: 0 better, 4 worse, 0 no difference" in result.stdout
    assert result.stdout.count("worse !") == 4
    data = json.loads(out.read_text())
    assert {one["verdict"] for one in data["changes"]} == {"worse"}
    assert len(data["regressions"]) == 4
    strict = call("compare", a, b, "--fail-on-regression", "--metric", "energy_data")
    assert strict.exit_code == 1
    assert "4 regressions; the first: mixture · vp" in strict.stderr
    assert call("compare", b, a, "--fail-on-regression").exit_code == 0
    wrong = call("compare", a, tmp_path / "nothing")
    assert (wrong.exit_code, wrong.stderr.count("\n")) == (2, 1)


def test_the_command_exports_several_folders_as_one_table(tmp_path: Path):
    a, b = write(tmp_path / "a", A), write(tmp_path / "b", changed(only("ddim", A), scaled(1.05)))
    out = tmp_path / "t.csv"
    result = call("export", a, b, out)
    assert result.exit_code == 0, result.output
    assert f"{out}: 8 rows of 8 cells" in result.stdout
    assert result.stderr.count("warning: two results of mixture") == 4
    assert len(out.read_text().splitlines()) == 9
    assert "name a results folder" in call("export", out).stderr
