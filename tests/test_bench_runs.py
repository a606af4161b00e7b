"""Running a benchmark: every cell once, failures as rows, and the same results however often it is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from scoresde.bench import evaluate, problems, work
from scoresde.bench.analysis import panels, winners
from scoresde.bench.evaluate import draw
from scoresde.bench.problems import ExactProblem, make_problem
from scoresde.bench.runner import Runner
from scoresde.bench.samplers import make_sde, prepare
from scoresde.bench.store import Store
from scoresde.bench.suite import (
    Suite,
    canonical_json,
    choice,
    load_suite,
    suite_to_dict,
)
from scoresde.denoiser import BaseDenoiser
from scoresde.targets import GaussianMixture
from tests.tiny_bench import TINY, results, run, tiny

# ---- runs ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    """One uninterrupted run of the tiny suite; read only."""
    return run(tmp_path_factory.mktemp("whole"), tiny(), command="scoresde bench tiny")


def test_every_cell_has_one_row_with_all_that_decides_it(whole: Runner):
    rows = whole.rows()
    assert len(rows) == len(whole.cells) == 12
    for cell, row in zip(whole.cells, rows, strict=True):
        assert row["status"] == "ok", row["error"]
        assert row["hash"] == cell.hash
        assert row["config"] == cell.config
        assert row["nfe"] == {"budget": cell.nfe, "plan": cell.nfe, "counted": cell.nfe}
        assert row["environment"]["threads"] == 1
        assert row["environment"]["device"] == "cpu"
        assert row["environment"]["dtype"] == "float64"
        assert row["environment"]["torch"] == torch.__version__
        assert 0 < row["seconds"]["network"] < row["seconds"]["sampling"] < row["seconds"]["cell"]
        for name, estimate in row["metrics"].items():
            assert set(estimate) == {"value", "low", "high", "se", "n", "left"}, name
            assert estimate["low"] <= estimate["value"] <= estimate["high"]
        assert set(row["floors"]) == {"frechet_data", "energy_data", "sliced_w2_data"}
        assert row["memory"]["peak"] is None or row["memory"]["peak"] > 10_000_000
        paths = whole.store.read_arrays(whole.store.paths_path(cell.stem))
        assert (paths is not None) == (cell.seed == 0)
        if paths is not None:  # where the samples were at each call, and where they ended
            assert paths["array"].shape == (cell.nfe + 1, cell.samples, 2)
            shown = whole.store.read_arrays(whole.store.samples_path(cell.stem))
            assert shown is not None
            assert np.allclose(paths["array"][-1], shown["array"], atol=1e-5)


def test_same_seed_error_is_for_deterministic_solvers_only(whole: Runner):
    for row in whole.rows():
        assert row["solver"]["stochastic"] == ("rmse_reference" not in row["metrics"])


def test_the_numbers_say_what_is_known(whole: Runner):
    error = {
        (row["solver"]["label"], row["config"]["nfe"]): row["metrics"]["rmse_reference"]["value"]
        for row in whole.rows()
        if "rmse_reference" in row["metrics"]
    }
    assert error["dpmpp-2m", 8] < error["dpmpp-2m", 4]
    assert error["dpmpp-2m", 8] < error["ddim", 8] < error["ddim", 4] < 1
    reference = whole.store.read_arrays(whole.store.reference_path(whole.rows()[0]["reference"]["key"]))
    assert reference is not None
    cell = whole.cells[0]
    problem, sde = make_problem(cell.target), make_sde(cell)
    fine = replace(cell, nfe=400, solver=choice("dpmpp-3m"))
    (chunk,) = draw(fine, problem, prepare(fine, sde), sde)
    assert np.sqrt(np.mean((chunk.samples.numpy() - reference["samples"]) ** 2)) < 1e-3


def test_winners_name_the_next_that_is_told_apart(whole: Runner):
    (panel,) = panels(whole.rows(), {})
    assert panel.main == "rmse_reference"
    assert panel.overall == "frechet_data"
    at_8 = next(winner for winner in winners(panel, "rmse_reference") if winner.nfe == 8)
    assert (at_8.best, at_8.tied) == ("dpmpp-2m", ())
    assert at_8.behind is not None
    assert at_8.behind.label == "ddim"
    assert at_8.behind.difference is not None
    assert at_8.behind.difference.low > 0
    two = {series.label: series.points[8].metrics["rmse_reference"].value for series in panel.series[:2]}
    assert at_8.behind.ratio == pytest.approx(two["ddim"] / two["dpmpp-2m"])


def test_a_finished_run_computes_nothing_again(tmp_path: Path):
    suite = tiny(nfes=(4,), seeds=(0,))
    first = run(tmp_path, suite)
    before = {path: path.read_bytes() for path in (tmp_path / "cells").iterdir()}
    assert [step.computed for step in first.run()] == [False] * 3
    assert {path: path.read_bytes() for path in (tmp_path / "cells").iterdir()} == before
    again = Runner(Store(tmp_path), suite, suite.cells(), force=True)
    kept = results(first)
    assert [step.computed for step in again.run()] == [True] * 3
    assert results(again) == kept


def test_a_changed_network_is_computed_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The name of a shipped model stays when it is trained again; its results do not."""
    version = "1"

    class Trained(ExactProblem):
        pooled = ("frechet_data",)

        @property
        def fingerprint(self) -> str:
            return version

    made = Trained(GaussianMixture.five(), "", ("rmse_reference",))
    monkeypatch.setitem(problems.PROBLEMS, "trained", lambda device: made)
    suite = tiny(target=choice("trained"), nfes=(4,), solvers=(choice("ddim"),))
    runner = run(tmp_path, suite)
    assert [step.computed for step in runner.run()] == [False, False]
    version = "2"
    assert [step.computed for step in runner.run()] == [True, True]
    (pooled,) = (tmp_path / "pooled").iterdir()
    assert json.loads(pooled.read_text())["fingerprint"] == "2"
    assert len(list((tmp_path / "references").glob("*.npz"))) == 4


def test_the_digits_are_known_by_their_weights():
    first, second = make_problem(choice("digits")), make_problem(choice("digits"))
    assert first.fingerprint == second.fingerprint != ""
    other = make_problem(choice("digits"))
    with torch.no_grad():
        next(other._shipped.net.parameters()).add_(1e-3)  # type: ignore[attr-defined]
    assert other.fingerprint != first.fingerprint


def test_a_changed_suite_keeps_old_cells_and_computes_new_ones(tmp_path: Path):
    run(tmp_path, tiny(nfes=(4,), seeds=(0,)))
    larger = tiny(nfes=(4, 6), seeds=(0,))
    steps = list(Runner(Store(tmp_path), larger, larger.cells()).run())
    assert [step.computed for step in steps] == [step.cell.nfe == 6 for step in steps]
    smaller = tiny(nfes=(6,), seeds=(0,))
    run(tmp_path, smaller)
    assert len(Store(tmp_path).rows()) == 6


def test_a_budget_that_is_too_small_is_a_row(tmp_path: Path):
    suite = tiny(solvers=(choice("dpmpp-2s"), choice("ddim")), nfes=(1, 4), seeds=(0,), end="eps")
    runner = run(tmp_path, suite)
    status = {(row["config"]["solver"]["name"], row["config"]["nfe"]): row["status"] for row in runner.rows()}
    assert status == {("dpmpp-2s", 1): "failed", ("dpmpp-2s", 4): "ok", ("ddim", 1): "ok", ("ddim", 4): "ok"}
    failed = next(row for row in runner.rows() if row["status"] == "failed")
    assert "too small for dpmpp-2s" in failed["error"]
    assert [step.computed for step in runner.run()] == [False] * 4
    assert sum(step.computed for step in replace(runner, retry=True).run()) == 1


class Broken(BaseDenoiser):
    """Not a number from the third call on."""

    def __init__(self, inner: BaseDenoiser) -> None:
        self.inner, self.sde, self.calls = inner, inner.sde, 0

    def __call__(self, x, t, **cond):
        self.calls += 1
        out = self.inner(x, t, **cond)
        return out * float("nan") if self.calls > 3 else out


class BrokenProblem(ExactProblem):
    def denoiser(self, sde):
        return Broken(super().denoiser(sde))


def test_a_network_that_breaks_is_a_row_and_the_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def broken(device: str) -> ExactProblem:
        return BrokenProblem(GaussianMixture.five(), "broken", ("rmse_reference",))

    monkeypatch.setitem(problems.PROBLEMS, "broken", broken)
    blocks = (replace(TINY, target=choice("broken"), nfes=(8,), seeds=(0,)), replace(TINY, nfes=(4,), seeds=(0,)))
    runner = run(tmp_path, Suite("two", "", blocks))
    assert [row["status"] for row in runner.rows()] == ["failed"] * 3 + ["ok"] * 3
    assert "non-finite" in runner.rows()[0]["error"]


def test_metrics_of_all_seeds_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    class Pooling(ExactProblem):
        pooled = ("frechet_data",)

    made = Pooling(GaussianMixture.five(), "", ("rmse_reference",))
    monkeypatch.setitem(problems.PROBLEMS, "pooling", lambda device: made)
    suite = tiny(target=choice("pooling"), nfes=(8,), solvers=(choice("dpmpp-2m"),))
    runner = run(tmp_path, suite)
    (panel,) = panels(runner.rows(), runner.store.pooled())
    summary = panel.series[0].points[8].metrics["frechet_data"]
    assert summary.seeds == 2
    (pooled,) = runner.store.pooled().values()
    assert pooled["frechet_data"]["n"] == 2 * TINY.samples
    more = run(tmp_path, tiny(target=choice("pooling"), nfes=(8,), solvers=(choice("dpmpp-2m"),), seeds=(0, 1, 2)))
    (pooled,) = more.store.pooled().values()
    assert pooled["frechet_data"]["n"] == 3 * TINY.samples


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"target": choice("mixtur")}, "nearest: mixture"),
        ({"target": choice("mixture", modes=3)}, "no options"),
        ({"sdes": (choice("vpp"),)}, "nearest: vp"),
        ({"sdes": (choice("vp", beta=3.0),)}, "beta"),
        ({"grids": (choice("karas"),)}, "nearest: karras"),
        ({"grids": (choice("karras", roh=7.0),)}, "rho"),
        ({"solvers": (choice("dpmp-2m"),)}, "nearest: dpmpp-2m"),
        ({"solvers": (choice("ddim", etta=1.0),)}, "eta"),
        ({"solvers": (choice("rk45"),)}, "adaptive"),
        ({"dtype": "float23"}, "nearest: float"),
        ({"device": "warp"}, "device 'warp'"),
    ],
)
def test_bad_names_are_refused_before_any_work(tmp_path: Path, change: dict, words: str):
    suite = tiny(**change)
    with pytest.raises(ValueError, match=words):
        Runner(Store(tmp_path), suite, suite.cells()).check()
    assert not list(tmp_path.iterdir())


def test_the_default_suite_passes_the_check(tmp_path: Path):
    Runner(Store(tmp_path), load_suite("quick"), load_suite("quick").cells()).check()


@pytest.mark.slow
def test_a_cell_of_the_digits_network(tmp_path: Path):
    block = replace(load_suite("quick").blocks[0], solvers=(choice("dpmpp-2m"),), nfes=(8, 20), seeds=(0,), samples=40)
    runner = run(tmp_path, Suite("digits", "", (block,)))
    few, many = runner.rows()
    assert few["status"] == many["status"] == "ok", (few["error"], many["error"])
    assert set(few["metrics"]) == {"rmse_reference", "frechet_reference", "kid_data", "accuracy"}
    assert few["metrics"]["accuracy"]["value"] > 0.8
    assert list(few["classes"]) == [str(digit) for digit in range(10)]
    shares = [few["classes"][name]["accuracy"] for name in few["classes"]]
    assert sum(share["n"] for share in shares) == 40
    assert sum(share["n"] * share["value"] for share in shares) == pytest.approx(
        40 * few["metrics"]["accuracy"]["value"]
    )
    assert many["metrics"]["rmse_reference"]["value"] < few["metrics"]["rmse_reference"]["value"] < 0.3
    assert few["reference"]["error"] < 0.2 * many["metrics"]["rmse_reference"]["value"]
    shown = runner.store.read_arrays(runner.store.samples_path(runner.cells[0].stem))
    assert shown is not None
    assert shown["array"].shape == (10, 8, 8)
    assert shown["array"].dtype == np.uint8


@pytest.mark.slow
def test_guidance_is_an_option_of_the_digits_and_reaches_the_solvers_that_know_it(tmp_path: Path):
    block = replace(
        load_suite("quick").blocks[0],
        target=choice("digits", guidance=3.0),
        solvers=(choice("ddim"), choice("ddim-cfgpp")),
        nfes=(8,),
        seeds=(0,),
        samples=40,
    )
    plain, pp = run(tmp_path, Suite("guided", "", (block,))).rows()
    assert plain["status"] == pp["status"] == "ok", (plain["error"], pp["error"])
    assert plain["nfe"]["counted"] == pp["nfe"]["counted"] == 8
    assert plain["metrics"]["rmse_reference"]["value"] < pp["metrics"]["rmse_reference"]["value"]  # another method


def test_a_large_cell_keeps_some_samples_and_moments_of_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    class Pooling(ExactProblem):
        pooled = ("frechet_data",)

    for module in (evaluate, work):
        monkeypatch.setattr(module, "KEPT", 50)
    made = Pooling(GaussianMixture.five(), "", ("rmse_reference", "energy_data"))
    monkeypatch.setitem(problems.PROBLEMS, "pooling", lambda device: made)
    changes = {"target": choice("pooling"), "nfes": (8,), "seeds": (0,), "chunk": 20}
    solver = (choice("dpmpp-2m"),)
    large = run(tmp_path / "large", tiny(samples=130, solvers=solver, **changes))
    small = run(tmp_path / "small", tiny(samples=50, solvers=solver, **changes))
    (all_of_it,), (start,) = large.rows(), small.rows()
    assert all_of_it["status"] == start["status"] == "ok", (all_of_it["error"], start["error"])
    for name in ("rmse_reference", "energy_data"):
        assert all_of_it["metrics"][name] == start["metrics"][name]  # of the first fifty
    assert all_of_it["metrics"]["frechet_data"]["n"] == 130  # measured in the cell, which has no need of other seeds
    assert "frechet_data" not in start["metrics"]
    assert not large.store.pooled()
    assert len(small.store.pooled()) == 1


def test_a_suite_may_name_its_own_converged_solution(tmp_path: Path):
    """Near the exact flow, which is the target's own; a coarse one is told by its own error."""
    found = {}
    for nfe in (4, 256):
        suite = tiny(nfes=(8,), seeds=(0,), solvers=(choice("ddim"),), reference=choice("heun", nfe=nfe))
        (row,) = run(tmp_path / str(nfe), suite).rows()
        assert row["status"] == "ok", row["error"]
        assert f"heun(nfe={nfe})" in row["reference"]["text"]
        found[nfe] = row
    (exact,) = run(tmp_path / "exact", tiny(nfes=(8,), seeds=(0,), solvers=(choice("ddim"),))).rows()
    error = {nfe: row["metrics"]["rmse_reference"]["value"] for nfe, row in found.items()}
    truth = exact["metrics"]["rmse_reference"]["value"]
    assert abs(error[256] - truth) < 0.02 * truth < abs(error[4] - truth)
    assert found[256]["reference"]["error"] < 0.05 * found[4]["reference"]["error"]


@pytest.mark.parametrize(("solver", "nfe", "words"), [("rk45", 64, "no fixed steps"), ("heun", 1, "too small")])
def test_a_converged_solution_that_cannot_be_made_is_a_row_that_says_so(
    solver: str, nfe: int, words: str, tmp_path: Path
):
    suite = tiny(nfes=(8,), seeds=(0,), solvers=(choice("ddim"),), reference=choice(solver, nfe=nfe))
    (row,) = run(tmp_path, suite).rows()
    assert row["status"] == "failed"
    assert words in row["error"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_another_device_gives_the_same_numbers(tmp_path: Path):
    block = replace(load_suite("quick").blocks[0], solvers=(choice("dpmpp-2m"),), nfes=(8,), seeds=(0,), samples=40)
    blocks = (block, replace(TINY, nfes=(4,), seeds=(0,)))
    rows = [run(tmp_path / d, Suite("s", "", blocks).on(d)).rows() for d in ("cpu", "cuda")]
    for here, there in zip(*rows, strict=True):
        assert there["status"] == "ok", there["error"]
        assert there["environment"]["device"].startswith("cuda (")
        for name, estimate in here["metrics"].items():
            assert there["metrics"][name]["value"] == pytest.approx(estimate["value"], rel=1e-2, abs=1e-4)


# ---- killed ----------------------------------------------------------------------------------------------------------


def run_until_killed(folder: Path, suite: Suite, writes: int) -> int:
    """Run in a child that dies by SIGKILL in the place of its ``writes``-th rename, when the temporary file is
    whole.
    """
    child = os.fork()
    if child == 0:  # pragma: no cover - another process
        count, real = 0, os.replace

        def fatal(source: str, target: str) -> None:
            nonlocal count
            count += 1
            if count == writes:
                os.kill(os.getpid(), signal.SIGKILL)
            real(source, target)

        os.replace = fatal  # type: ignore[assignment]
        try:
            run(folder, suite)
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_any_write_and_run_again_gives_the_same_results(tmp_path: Path, whole: Runner):
    # The first run dies at its 1st write, the next at its 2nd (what is on disk is not written again), and so on.
    for writes in (1, 2, 3, 5, 4, 2, 9):
        assert run_until_killed(tmp_path, tiny(), writes) == -signal.SIGKILL
        assert list(tmp_path.rglob("*.tmp")), "the run died with a temporary file on disk"
        assert all(row["status"] == "ok" for row in Store(tmp_path).rows())
    assert 0 < len(Store(tmp_path).rows()) < 12
    last = run(tmp_path, tiny(), command="scoresde bench tiny")
    assert results(last) == results(whole)
    assert not list(tmp_path.rglob("*.tmp"))
    names = [sorted(str(p.relative_to(f)) for p in f.rglob("*")) for f in (tmp_path, whole.store.folder)]
    assert names[0] == names[1]


@pytest.mark.slow
def test_the_command_killed_in_the_middle_goes_on(tmp_path: Path):
    path = tmp_path / "tiny.toml"
    block = suite_to_dict(tiny())["blocks"][0]
    lines = ['name = "tiny"', 'description = ""', "[[blocks]]"]
    path.write_text("\n".join([*lines, *(f"{key} = {toml(value)}" for key, value in block.items())]))
    assert load_suite(str(path)).cells() == tiny().cells()
    command = [sys.executable, "-m", "scoresde", "bench", str(path), "--out", str(tmp_path / "out")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    cells = tmp_path / "out" / "cells"
    while process.poll() is None and len(list(cells.glob("*.json"))) < 4:
        pass
    process.kill()
    process.communicate()
    done = len(list(cells.glob("*.json")))
    assert 4 <= done < 12
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"{12 - done} cells computed, {done} found, 0 failed" in finished.stdout
    other = [*command[:-1], str(tmp_path / "other")]
    subprocess.run(other, capture_output=True, text=True, check=True)
    stores = [Runner(Store(tmp_path / name), tiny(), tiny().cells()) for name in ("out", "other")]
    assert results(stores[0]) == results(stores[1])


def toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(item)}" for key, item in value.items()) + "}"
    return "[" + ", ".join(map(toml, value)) + "]" if isinstance(value, list) else canonical_json(value)
