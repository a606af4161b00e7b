"""The table of metrics: every one has its words, its needs are checked, and it is what scoresde.metrics computes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from scoresde.bench.measures import MEASURES
from scoresde.bench.measuring import OF_DATA, RULES, Evidence, check_metric, floors, measure
from scoresde.bench.problems import make_problem
from scoresde.bench.runner import Runner
from scoresde.bench.samplers import make_sde, prepare
from scoresde.bench.store import Store
from scoresde.bench.suite import choice
from scoresde.metrics import BlockMoments
from tests.tiny_bench import run, tiny


def test_every_metric_has_a_rule_and_words():
    assert set(RULES) == set(MEASURES)


@pytest.fixture(scope="module")
def seen() -> Evidence:
    """True draws of the mixture, which were their own converged solution."""
    problem, cell = make_problem(choice("mixture")), tiny().cells()[0]
    assert problem.target is not None
    samples = problem.target.sample(200, 7)
    features = problem.features(samples)
    return Evidence(
        problem, samples, samples, prepare(cell, make_sde(cell)), 1.0, features, BlockMoments().add(features)
    )


@pytest.mark.slow
def test_true_draws_are_as_good_as_they_should_be(seen: Evidence):
    found = measure(seen, RULES)
    assert set(RULES) - set(found) == {"frechet_exact", "accuracy"}  # no Gaussian, no classes
    assert found["rmse_reference"]["value"] == 0
    for name in ("frechet_data", "kid_data", "energy_data", "sliced_w2_data", "nll_excess"):
        assert abs(found[name]["value"]) < 4 * found[name]["se"], name
    for name in ("precision", "recall", "coverage"):
        assert 0.6 < found[name]["value"] <= 1, name
    assert 0.35 < found["c2st"]["value"] < 0.65
    assert all(len(plain["left"]) in (0, 10, 20) for plain in found.values())
    bands = floors(seen.problem, OF_DATA, 100, 1)
    assert set(bands) == set(OF_DATA)


def test_bad_samples_are_seen(seen: Evidence):
    away = seen.samples + 3.0
    moved = replace(seen, samples=away, features=away, moments=BlockMoments().add(away))
    for name in ("rmse_reference", "frechet_data", "energy_data", "nll_excess", "kid_data", "sliced_w2_data"):
        plain = measure(moved, [name])[name]
        assert plain["low"] > 0, name
    assert measure(moved, ["precision"])["precision"]["high"] < 0.9


@pytest.mark.parametrize(
    ("name", "target", "words"),
    [
        ("frechet", "mixture", "nearest: frechet"),
        ("accuracy", "mixture", "classes"),
        ("nll_excess", "digits-gaussian", "density"),
        ("mode_weights", "digits", "mixture of Gaussians"),
        ("frechet_exact", "mixture", "Gaussian target"),
    ],
)
def test_a_metric_that_means_nothing_is_refused_before_any_work(name: str, target: str, words: str, tmp_path: Path):
    with pytest.raises(ValueError, match=words):
        check_metric(name, make_problem(choice(target)), target)
    suite = tiny(target=choice(target), metrics=(name,))
    with pytest.raises(ValueError, match=words):
        Runner(Store(tmp_path), suite, suite.cells()).check()
    assert not list(tmp_path.iterdir())


def test_a_cell_measures_what_it_names(tmp_path: Path):
    suite = tiny(nfes=(4,), seeds=(0,), metrics=("mode_weights", "nll_excess"))
    for row in run(tmp_path, suite).rows():
        assert list(row["metrics"]) == ["mode_weights", "nll_excess"]
        assert row["floors"] == {}
        assert row["reference"] == {}  # nothing asks for it, so it is not solved
