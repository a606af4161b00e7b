"""Results wherever they lie: folders, merged folders, packed files, tables."""

from __future__ import annotations

import csv
import lzma
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from scoresde.bench.export import export
from scoresde.bench.results import Results, load, merge, pack
from scoresde.bench.suite import Cell, Suite, choice
from tests.bench.made_up_rows import CELL, changed, estimate, failed, row, rows, scaled, write
from tests.tiny_bench import results, run, tiny


@pytest.fixture
def made_up() -> Results:
    """Two solvers, budgets and seeds, one pooled metric, one failed cell."""
    found = rows({"ddim": 1.0, "dpmpp-2m": 0.5})
    pair = tuple(sorted(one["hash"] for one in found if one["solver"]["label"] == "ddim" and one["config"]["nfe"] == 5))
    pooled = {pair: {"frechet_data": estimate(0.3, 7)}}
    bad = failed(replace(CELL, solver=choice("heun", most_gain=10 / 3), nfe=1), "ValueError: too few | calls")
    return Results((*found, bad), pooled)


# ---- packed files ----------------------------------------------------------------------------------------------------


def test_a_packed_file_says_what_the_folder_says(tmp_path: Path, made_up: Results):
    folder = load(write(tmp_path / "folder", made_up))
    path = tmp_path / "made-up.jsonl.xz"
    path.write_bytes(pack(folder))
    packed = load(path)
    assert packed.run == folder.run
    assert set(packed.pooled) == set(folder.pooled)
    for ours, theirs in zip(packed.rows, folder.rows, strict=True):
        assert {**ours, "metrics": 0, "classes": 0} == {**theirs, "metrics": 0, "classes": 0}
        for name, found in theirs["metrics"].items():
            one = ours["metrics"][name]
            assert [one[key] for key in ("value", "low", "high", "se")] == pytest.approx(
                [found[key] for key in ("value", "low", "high", "se")], rel=1e-5
            )
            widest = max(abs(value - found["value"]) for value in found["left"])
            assert one["left"] == pytest.approx(found["left"], abs=1e-3 * widest)
    assert pack(load(tmp_path / "folder")) == pack(folder)


def test_leave_one_out_values_are_kept_where_they_are_wanted(tmp_path: Path, made_up: Results):
    path = tmp_path / "made-up.jsonl.xz"
    path.write_bytes(pack(made_up, left=["frechet_data"]))
    packed = load(path)
    assert {len(one["metrics"]["energy_data"]["left"]) for one in packed.rows if one["status"] == "ok"} == {0}
    assert [len(metrics["frechet_data"]["left"]) for metrics in packed.pooled.values()] == [20]
    assert len(path.read_bytes()) < len(pack(made_up)) - 8 * 15  # eight cells of twenty values


def test_what_is_no_results_is_said_to_be_none(tmp_path: Path):
    with pytest.raises(ValueError, match="holds no benchmark results"):
        load(tmp_path)
    other = tmp_path / "notes.txt"
    other.write_text("hello")
    with pytest.raises(ValueError, match="not a packed results file"):
        load(other)
    newer = tmp_path / "newer.jsonl.xz"
    newer.write_bytes(lzma.compress(b'{"packed": 2}'))
    with pytest.raises(ValueError, match="its format is 2, this version reads 1"):
        load(newer)


# ---- merging ---------------------------------------------------------------------------------------------------------


def test_two_halves_copied_together_are_the_whole(tmp_path: Path):
    def suite(*seeds: int) -> Suite:
        return tiny(solvers=(choice("ddim"),), nfes=(4,), seeds=seeds, metrics=("rmse_reference",))

    both = suite(0, 1)
    for seed in (0, 1):
        run(tmp_path / f"half{seed}", suite(seed))
    whole = run(tmp_path / "whole", both)
    merged, conflicts = merge(load(tmp_path / f"half{seed}") for seed in (0, 1))
    shutil.copytree(tmp_path / "half1", tmp_path / "half0", dirs_exist_ok=True)
    copied = run(tmp_path / "half0", both)
    assert (copied.store.read_json(copied.store.run_path) or {})["computed"] == 0
    assert results(copied) == results(whole)
    assert not conflicts
    assert {one["hash"]: one["metrics"] for one in merged.rows} == {one["hash"]: one["metrics"] for one in whole.rows()}


def test_a_cell_that_two_places_hold_is_there_once_and_a_contradiction_is_told(made_up: Results):
    times = replace(made_up, rows=tuple({**one, "seconds": {"sampling": 9.0}} for one in made_up.rows))
    merged, conflicts = merge((made_up, times))
    assert (merged.rows, conflicts) == (made_up.rows, [])
    merged, conflicts = merge((made_up, changed(made_up, scaled(1.01))))
    assert merged.rows == made_up.rows
    assert len(conflicts) == 8
    assert "mixture · vp · ddim · log-snr · NFE 5 · seed 0 differ in energy_data" in str(conflicts[0])


def test_a_result_is_better_than_a_failure(made_up: Results):
    bad = made_up.rows[-1]
    good = row(Cell.from_config(bad["config"]), {"energy_data": estimate(1.0, 0)})
    for parts in ((bad, good), (good, bad)):
        merged, conflicts = merge(Results((one,)) for one in parts)
        assert (merged.rows, conflicts) == ((good,), [])


# ---- tables ----------------------------------------------------------------------------------------------------------


def read(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_row_for_each_cell_and_metric(tmp_path: Path, made_up: Results):
    assert export(made_up, tmp_path / "t.csv") == 9
    lines = read(tmp_path / "t.csv")
    first, source = lines[0], made_up.rows[0]
    assert float(first["value"]) == source["metrics"]["energy_data"]["value"]
    assert [first[name] for name in ("target", "solver", "solver_options", "nfe", "seed", "metric", "class")] == [
        *("mixture", "ddim", "", "5", "0", "energy_data", "")
    ]
    assert (first["hash"], first["nfe_counted"], first["memory_peak"]) == (source["hash"], "5", "1000000")
    assert (first["env_processor"], first["env_commit"], first["schema"]) == ("abacus", "", "3")
    assert (lines[-1]["status"], lines[-1]["metric"], lines[-1]["error"]) == (
        "failed",
        "",
        "ValueError: too few | calls",
    )


def test_classes_options_and_older_files_have_their_place(tmp_path: Path):
    cell = replace(CELL, solver=choice("ddim", eta=1.0))
    classes = {"3": {"energy_data": estimate(0.5, 1)}}
    now = row(cell, {"energy_data": estimate(0.1, 0)}, classes=classes)
    old = {key: value for key, value in now.items() if key not in ("classes", "memory", "finished")}
    old["config"] = {key: value for key, value in old["config"].items() if key not in ("metrics", "chunk")}
    old |= {"schema": 2, "hash": "0" * 64}
    export(Results((old, now)), tmp_path / "t.csv")
    lines = read(tmp_path / "t.csv")
    assert [(one["schema"], one["class"], one["chunk"]) for one in lines] == [
        *(("2", "", ""), ("3", "", "1000"), ("3", "3", "1000"))
    ]
    assert {one["solver_options"] for one in lines} == {"eta=1"}


def test_a_wide_table_has_a_row_for_each_cell_and_pooled_rows_on_demand(tmp_path: Path, made_up: Results):
    assert export(made_up, tmp_path / "t.csv", wide=True, pooled=True) == 10
    lines = read(tmp_path / "t.csv")
    assert float(lines[0]["energy_data_se"]) == made_up.rows[0]["metrics"]["energy_data"]["se"]
    pooled = lines[-1]
    assert (pooled["seed"], pooled["hash"], pooled["solver"], pooled["nfe"]) == ("", "", "ddim", "5")
    assert float(pooled["frechet_data"]) == pytest.approx(0.3, rel=0.1)
    assert pooled["energy_data"] == lines[0]["frechet_data"] == ""
    names = list(pooled)
    assert names.index("chunk") < names.index("frechet_data") < names.index("status")


def test_parquet_holds_what_csv_holds(tmp_path: Path, made_up: Results):
    polars = pytest.importorskip("polars")
    mixed = replace(CELL, end=0.01)
    both = replace(made_up, rows=(*made_up.rows, row(mixed, {"energy_data": estimate(1.0, 3)})))
    for name in ("t.csv", "t.parquet"):
        assert export(both, tmp_path / name) == 10
    table = polars.read_parquet(tmp_path / "t.parquet")
    lines = read(tmp_path / "t.csv")
    assert table.columns == list(lines[0])
    assert table["value"].to_list() == [float(one["value"]) if one["value"] else None for one in lines]
    assert table["end"].to_list() == [one["end"] for one in lines]
    assert table.schema["nfe"] == polars.Int64


def test_what_cannot_be_written_is_said_before_anything_is(
    tmp_path: Path, made_up: Results, monkeypatch: pytest.MonkeyPatch
):
    with pytest.raises(ValueError, match=r"must end in \.csv or \.parquet, got '.*t\.xlsx'"):
        export(made_up, tmp_path / "t.xlsx")
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(ImportError, match=r"scoresde\[export\]"):
        export(made_up, tmp_path / "t.parquet")
    assert not list(tmp_path.iterdir())
