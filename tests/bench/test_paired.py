"""Paired differences over seeds, and calling them one only when that is safe."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from scoresde.bench.analysis import Family, Panel, Point, Series, winners
from scoresde.bench.paired import Summary, holm, losses, over_seeds, paired
from scoresde.metrics import jackknife

BLOCKS, NAME = 20, "rmse_reference"


def plain(blocks: np.ndarray) -> dict:
    """The mean of some numbers as a row holds it, with the values that leave each out."""
    total, n = blocks.sum(), len(blocks)
    found = jackknife(float(blocks.mean()), [float((total - b) / (n - 1)) for b in blocks], n)
    return {**{k: getattr(found, k) for k in ("value", "low", "high", "se", "n")}, "left": list(found.left)}


def rows(numbers: np.ndarray, first: int = 0) -> list[dict]:
    """Rows of one solver at one budget from numbers (seeds, blocks)."""
    return [
        {"config": {"seed": first + seed}, "metrics": {NAME: plain(blocks)}, "status": "ok"}
        for seed, blocks in enumerate(numbers)
    ]


def test_a_pair_is_known_far_better_than_its_parts():
    rng = np.random.default_rng(0)
    common = rng.normal(size=(3, BLOCKS))
    a, b = common + 0.3 + 0.01 * rng.normal(size=common.shape), common
    found = paired(rows(a), rows(b)[::-1], NAME)
    assert found is not None
    apart = (a - b).mean(axis=1)
    within = math.sqrt(float((np.var(a - b, axis=1, ddof=1) / BLOCKS).sum())) / 3
    assert found.value == pytest.approx(apart.mean())
    assert found.se == pytest.approx(max(within, apart.std(ddof=1) / math.sqrt(3)))
    assert found.seeds == 3
    assert 30 < found.degrees <= 3 * (BLOCKS - 1)
    reach = stats.t.ppf(0.975, found.degrees) * found.se
    assert (found.low, found.high) == pytest.approx((found.value - reach, found.value + reach), rel=1e-3)
    assert found.p == pytest.approx(2 * stats.t.sf(found.value / found.se, found.degrees), rel=1e-6)
    one, other = (over_seeds(row["metrics"][NAME] for row in rows(x)) for x in (a, b))
    assert found.low > 0
    assert one.low < other.high  # the two intervals overlap


def test_only_seeds_that_both_have_are_compared():
    numbers = np.arange(60.0).reshape(3, 20)
    found = paired(rows(numbers), rows(numbers + 1, first=1), NAME)
    assert found is not None
    assert found.seeds == 2
    assert found.value == pytest.approx(np.mean([20 - 1, 20 - 1]))
    assert paired(rows(numbers), rows(numbers, first=9), NAME) is None
    assert paired(rows(numbers), rows(numbers), "kid_data") is None


def test_what_kept_no_jackknife_is_not_paired_and_formulas_are_exact():
    numbers = np.arange(20.0).reshape(1, 20)
    old = rows(numbers)
    for row in old:
        del row["metrics"][NAME]["left"]
    assert paired(old, rows(numbers), NAME) is None

    def formula(value: float) -> list[dict]:
        exact = {"value": value, "low": value, "high": value, "se": 0.0, "n": 20}
        return [{"config": {"seed": seed}, "metrics": {NAME: exact}} for seed in (0, 1)]

    same, larger = paired(formula(0.1 * (1 + 1e-14)), formula(0.1), NAME), paired(formula(0.2), formula(0.1), NAME)
    assert same is not None
    assert larger is not None
    assert (same.value, same.se, same.p) == (0.0, 0.0, 1.0)
    assert (larger.value, larger.se, larger.p) == (0.1, 0.0, 0.0)
    half = paired(rows(numbers), formula(1.0), NAME)  # a sampled number less an exact one
    assert half is not None
    assert (half.value, half.se) == pytest.approx((8.5, plain(numbers[0])["se"]))


def test_a_loss_is_the_distance_on_the_side_of_the_mean():
    below = {0: {"value": 0.8, "low": 0.7, "high": 0.9, "se": 0.05, "n": 9, "left": [0.7, 0.9]}}
    (loss,) = losses(below, 1.0).values()
    assert [loss[key] for key in ("value", "low", "high", "se")] == pytest.approx([0.2, 0.1, 0.3, 0.05])
    assert loss["left"] == pytest.approx([0.3, 0.1])
    above = {0: {**below[0], "value": 1.3}, 1: {**below[0], "value": 0.9}}
    assert [loss["value"] for loss in losses(above, 1.0).values()] == pytest.approx([0.3, -0.1])


def test_holm_is_the_published_rule():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.5]) == [1.0, 1.0]
    assert holm([]) == []


# ---- who is best -----------------------------------------------------------------------------------------------------


def panel(numbers: Sequence[np.ndarray], grid: str = "karras") -> Panel:
    """Solvers s0, s1, ... at one budget, each from numbers (seeds, blocks)."""

    def point(blocks: np.ndarray) -> Point:
        estimates = {row["config"]["seed"]: row["metrics"][NAME] for row in rows(blocks)}
        return Point(10, 10, {NAME: over_seeds(estimates.values())}, {NAME: estimates}, {}, (1.0,), "")

    series = tuple(Series(f"s{i}", False, 1, {10: point(blocks)}) for i, blocks in enumerate(numbers))
    return Panel(f'{{"grid":"{grid}"}}', "t", "vp", grid, 20, "float32", series, (10,), {}, "")


def test_the_best_is_ahead_of_the_first_that_is_told_apart():
    rng = np.random.default_rng(1)
    common = 1 + 0.2 * rng.normal(size=(2, BLOCKS))
    noise = 0.01 * rng.normal(size=(3, 2, BLOCKS))
    (winner,) = winners(panel([common + 0.1 + noise[0], common + 0.001 + noise[1], common + noise[2]]), NAME)
    assert {winner.best, *winner.tied} == {"s1", "s2"}
    assert winner.behind is not None
    assert winner.behind.label == "s0"
    assert winner.behind.difference is not None
    assert winner.behind.difference.low > 0
    assert winner.behind.ratio == pytest.approx(winner.behind.summary.value / winner.summary.value)


def test_a_family_compares_solvers_across_grids():
    flat = np.full((2, BLOCKS), 1.0) + np.arange(BLOCKS) / 100
    (winner,) = winners(Family((panel([flat]), panel([flat - 0.5, flat], "uniform"))), NAME)
    assert winner.best == "s0 on uniform"
    assert winner.behind is not None
    assert winner.behind.label in ("s0 on karras", "s1 on uniform")


def test_equal_solvers_are_seldom_told_apart():
    """However many they are: the chance that even one of them is, is 5 %. Unadjusted, it would be a third."""
    rng, called = np.random.default_rng(2), 0
    for _ in range(120):
        (winner,) = winners(panel(list(rng.normal(size=(6, 1, BLOCKS)))), NAME)
        called += winner.behind is not None
    assert called <= 12  # of Binomial(120, 0.05): P = 0.01


def test_p_values_without_error_or_degrees():
    assert Summary(1.0, 0.0, 2.0, 0.5, 1).p == pytest.approx(2 * stats.norm.sf(2.0))
