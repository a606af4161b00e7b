"""Transport, support, classifier, density and modes, against brute force and closed forms."""

import math
from itertools import permutations

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor

from scoresde.metrics import (
    c2st,
    difference,
    exact_wasserstein,
    mode_weights,
    negative_log_likelihood,
    prdc,
    sliced_wasserstein,
)
from scoresde.targets import Empirical, Gaussian, GaussianMixture
from tests.test_metrics import BAD, GOOD, dealt, normals, two

FIVE = GaussianMixture.five()
EIGHT = Gaussian.log_spaced(8, 1e-2, 1.0)


# -- exact transport --------------------------------------------------------------------------------------------------
def best_pairing(x: Tensor, y: Tensor) -> float:
    """Over all pairings."""
    cost = (x[:, None] - y).square().sum(-1).numpy()
    every = np.array(list(permutations(range(len(x)))))
    return float(cost[np.arange(len(x)), every].mean(1).min())


def test_exact_wasserstein_is_the_best_of_all_pairings() -> None:
    x, y = two(7, 7, 3)
    out = exact_wasserstein(x, y, blocks=3)
    assert out.value == pytest.approx(best_pairing(x, y), rel=1e-10)
    left = [best_pairing(x[dealt(7, 3) != i], y[dealt(7, 3) != i]) for i in range(3)]
    assert out.left == pytest.approx(left, rel=1e-10)
    assert out.n == 7


def test_exact_wasserstein_on_a_line_pairs_quantiles() -> None:
    x, y = two(60, 60, 1)
    plain = float((x.sort(0).values - y.sort(0).values).square().mean())
    assert exact_wasserstein(x, y).value == pytest.approx(plain, rel=1e-10)
    assert sliced_wasserstein(x, y).value < plain  # which corrects a bias of order 1/n


def test_exact_wasserstein_uses_the_same_rows_of_sets_of_one_size() -> None:
    """A shift is its own best pairing, if the rows that are used are paired; sorted classes keep their shares."""
    x = (100.0 * (torch.arange(500) // 50))[:, None] + normals(500, 3)
    out = exact_wasserstein(x, x + 0.5, most=100)
    assert (out.value, out.n) == (pytest.approx(0.75, rel=1e-9), 100)
    assert out.se < 1e-9
    fewer = exact_wasserstein(x[:300], x, most=400)
    assert fewer.n == 300
    assert fewer.value > 1e4  # the first classes against all


# -- precision, recall, density, coverage -----------------------------------------------------------------------------
def reference_prdc(x: Tensor, y: Tensor, k: int) -> tuple[float, float, float, float]:
    neighbours = pytest.importorskip("sklearn.neighbors").NearestNeighbors
    radius = [
        neighbours(n_neighbors=k + 1, algorithm="brute").fit(v.numpy()).kneighbors(v.numpy())[0][:, -1] for v in (x, y)
    ]
    distance = np.linalg.norm(x.numpy()[:, None] - y.numpy()[None], axis=-1)
    of_data, of_samples = distance <= radius[1], distance <= radius[0][:, None]
    return of_data.any(1).mean(), of_samples.any(0).mean(), of_data.sum(1).mean() / k, of_data.any(0).mean()


@pytest.mark.parametrize("chunk", [1 << 22, 500])
def test_prdc_is_its_definition_with_all_rows_and_without_each_block(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scoresde.metrics.manifold._CHUNK", chunk)
    x, y = two(70, 90, 3)
    out = prdc(x, y, k=3, blocks=8)
    assert [e.value for e in out] == pytest.approx(reference_prdc(x, y, 3), rel=1e-12)
    assert [e.n for e in out] == [70, 90, 70, 90]
    left = [reference_prdc(x[dealt(70, 8) != i], y[dealt(90, 8) != i], 3) for i in range(8)]
    for estimate, without in zip(out, zip(*left, strict=True), strict=True):
        assert estimate.left == pytest.approx(without, rel=1e-12)


def test_prdc_of_equal_laws_is_what_naeem_found() -> None:
    found = [prdc(normals(120, 4, seed=2 * r), normals(120, 4, seed=2 * r + 1), k=3, blocks=4) for r in range(40)]
    assert np.mean([e.density.value for e in found]) == pytest.approx(1.0, abs=0.04)
    expected = 1 - math.prod((120 - i) / (240 - i) for i in (1, 2, 3))
    assert np.mean([e.coverage.value for e in found]) == pytest.approx(expected, abs=0.015)


def test_prdc_tells_fidelity_from_diversity() -> None:
    narrow, apart, copy = (prdc(x, GOOD) for x in (0.3 * normals(60, 4, seed=3), 50 + GOOD, GOOD.clone()))
    assert narrow.precision.value > 0.9 > 0.5 > narrow.recall.value
    assert [e.value for e in apart] == [0.0] * 4
    assert (copy.precision.value, copy.recall.value, copy.coverage.value) == (1.0, 1.0, 1.0)
    assert all(e.low >= 0.0 and e.high <= (math.inf if e is narrow.density else 1.0) for e in narrow)


# -- classifier -------------------------------------------------------------------------------------------------------
def test_c2st_scores_rows_that_it_has_not_seen() -> None:
    """More features than rows: a classifier that had seen them would be right every time."""
    found = [c2st(normals(60, 5, seed=r), normals(60, 5, seed=100 + r), hidden=200, blocks=10) for r in range(12)]
    assert np.mean([e.value for e in found]) == pytest.approx(0.5, abs=0.06)
    assert sum(e.low <= 0.5 <= e.high for e in found) >= 11
    assert c2st(GOOD, GOOD.clone()).value == 0.5  # one of each pair is right


ANGLES = 6.28 * torch.rand(300, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
UNLIKE: dict[str, tuple[Tensor, Tensor, float]] = {  # and the accuracy to reach
    "shifted": (normals(300, 3), 2.0 + normals(300, 3, seed=1), 0.93),
    "wider": (normals(300, 20), 1.5 * normals(300, 20, seed=1), 0.8),
    "a ring and its filling": (
        torch.stack([ANGLES.cos(), ANGLES.sin()], 1) + 0.1 * normals(300, 2),
        0.5 * normals(300, 2, seed=1),
        0.8,
    ),
    "many components": (normals(60, 300), 1.0 + normals(60, 300, seed=1), 0.95),
    "constant components": (
        torch.cat([normals(60, 2), torch.ones(60, 2).double()], 1),
        torch.cat([3 + normals(80, 2, seed=1), torch.ones(80, 2).double()], 1),
        0.93,
    ),
}


@pytest.mark.parametrize("name", UNLIKE)
def test_c2st_sees(name: str) -> None:
    x, y, least = UNLIKE[name]
    out = c2st(x, y)
    assert least < out.value
    assert 0.5 < out.low <= out.high <= 1.0
    assert c2st(y, x).value == pytest.approx(out.value, abs=0.03)
    assert out == c2st(x, y)


def test_c2st_gains_nothing_from_the_larger_set() -> None:
    """Calling every row one of the larger set would be right in 80 %."""
    out = c2st(normals(50, 2), normals(200, 2, seed=1))
    assert out.low < 0.5 < out.high < 0.75


@pytest.mark.slow
def test_c2st_error_is_that_of_repetition() -> None:
    """Equal laws, where scores depend on one another most: the binomial error would be 1.4 times too small."""
    found = [c2st(normals(80, 3, seed=2 * r), normals(80, 3, seed=2 * r + 1), hidden=40) for r in range(60)]
    spread = np.std([e.value for e in found], ddof=1)
    assert spread > 1.15 * math.sqrt(0.25 / 160)
    assert math.sqrt(np.mean([e.se**2 for e in found])) == pytest.approx(spread, rel=0.25)


# -- density ----------------------------------------------------------------------------------------------------------
def test_excess_likelihood_of_a_gaussian_is_a_formula() -> None:
    x = 0.1 + 1.2 * EIGHT.sample(100, seed=1)
    mean, covariance = (v.numpy() for v in EIGHT.moments())
    law = scipy.stats.multivariate_normal(mean=mean, cov=covariance.tolist())
    nll = -law.logpdf(x.numpy()) - law.entropy()
    out = negative_log_likelihood(x, EIGHT)
    assert (out.value, out.se) == pytest.approx((nll.mean(), scipy.stats.sem(nll)), rel=0.3)
    assert out.value == pytest.approx(nll.mean(), rel=1e-9)
    assert out.left[3] == pytest.approx(nll[(dealt(100, 20) != 3).numpy()].mean(), rel=1e-9)


def test_excess_likelihood_says_which_way() -> None:
    mean, x = EIGHT.mean, EIGHT.sample(400, seed=3)
    right, wide, narrow = (negative_log_likelihood(mean + c * (x - mean), EIGHT) for c in (1.0, 1.2, 0.8))
    assert right.low < 0 < right.high
    assert wide.low > 0 > narrow.high
    one_mode = negative_log_likelihood(FIVE.means[1] + 0.1 * normals(400, 2), FIVE)
    assert one_mode.high < 0


def test_excess_likelihood_by_draws_agrees_with_the_formula() -> None:
    mixture = GaussianMixture(torch.ones(1), *(v[None] for v in EIGHT.moments()))
    x = EIGHT.sample(200, seed=1)
    exact, few = negative_log_likelihood(x, EIGHT), negative_log_likelihood(x, mixture, draws=200)
    assert few.low < exact.value < few.high
    assert few.se > 1.2 * exact.se  # the draws' error is part of it ...
    other = negative_log_likelihood(1.01 * x, mixture, draws=200)
    assert difference(other, few).se < 0.1 * few.se  # ... but not of a difference
    many = negative_log_likelihood(x, mixture, draws=50_000)
    assert many.value == pytest.approx(exact.value, abs=0.03)


# -- modes ------------------------------------------------------------------------------------------------------------
def posterior(x: Tensor) -> np.ndarray:
    """Of the components of FIVE, by scipy."""
    parts = zip(FIVE.weights.numpy(), FIVE.means.numpy(), FIVE.covariances.numpy(), strict=True)
    joint = np.stack([w * scipy.stats.multivariate_normal(m, c).pdf(x.numpy()) for w, m, c in parts], 1)
    return joint / joint.sum(1, keepdims=True)


def test_responsibilities() -> None:
    x = FIVE.sample(50, seed=1)
    np.testing.assert_allclose(FIVE.responsibilities(x).numpy(), posterior(x), rtol=1e-10, atol=1e-14)
    assert FIVE.responsibilities(x.float()).dtype == torch.float32


def test_mode_weights_are_their_definition() -> None:
    x = FIVE.sample(50, seed=1) + 0.2
    excess = posterior(x) - FIVE.weights.numpy()

    def error(rows: np.ndarray) -> float:
        return float(np.mean([a @ b for i, a in enumerate(rows) for j, b in enumerate(rows) if i != j]))

    out = mode_weights(x, FIVE, blocks=5)
    assert out.error.value == pytest.approx(error(excess), rel=1e-9)
    left = [error(excess[(dealt(50, 5) != i).numpy()]) for i in range(5)]
    assert out.error.left == pytest.approx(left, rel=1e-9)
    assert [w.value for w in out.weights] == pytest.approx(posterior(x).mean(0), rel=1e-10)


def test_mode_weights_see_a_lost_mode() -> None:
    right = mode_weights(FIVE.sample(500, seed=2), FIVE)
    assert right.error.low < 0 < right.error.high
    for weight, truth in zip(right.weights, FIVE.weights.tolist(), strict=True):
        assert weight.low < truth < weight.high
    x = FIVE.sample(500, seed=2)
    lost = mode_weights(x[FIVE.responsibilities(x).argmax(1) != 3], FIVE)
    assert lost.error.low > 0
    assert lost.weights[3].high < 0.1
    assert difference(lost.weights[0], lost.weights[1]).high < 0


# -- bad input --------------------------------------------------------------------------------------------------------
SETS = {"w2": exact_wasserstein, "prdc": prdc, "c2st": c2st}


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize(
    ("x", "y", "error", "message"),
    [
        (BAD, GOOD, ValueError, "x has 1 values that are not finite"),
        (GOOD[:, :3], GOOD, ValueError, r"rows of one shape, got \(3,\) and \(4,\)"),
        (GOOD, GOOD[:5], ValueError, "y must have at least [24]0 rows, got 5"),
        (GOOD.long(), GOOD, TypeError, "x must be a floating-point tensor, got torch.int64"),
    ],
)
def test_bad_sets(name: str, x: Tensor, y: Tensor, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        SETS[name](x, y)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: exact_wasserstein(GOOD, GOOD, most=19), "most must be at least 20, got 19"),
        (lambda: prdc(GOOD, GOOD, k=0), r"k must be in \[1, 56\] for sets of 60 and 60 rows, got 0"),
        (lambda: prdc(GOOD, GOOD, k=57), r"k must be in \[1, 56\]"),
        (lambda: prdc(GOOD, GOOD, blocks=1), "blocks must be at least 2, got 1"),
        (lambda: c2st(GOOD, GOOD, hidden=-1), "hidden must be at least 0, got -1"),
        (lambda: negative_log_likelihood(GOOD, FIVE), r"x must have shape \(B, 2\), got \(60, 4\)"),
        (lambda: negative_log_likelihood(BAD[:, 1:3], FIVE), "samples has 1 values that are not finite"),
        (lambda: negative_log_likelihood(GOOD[:39, :2], FIVE), "samples must have at least 40 rows, got 39"),
        (lambda: negative_log_likelihood(GOOD[:, :2], FIVE, draws=30), "draws must be at least 40, got 30"),
        (lambda: negative_log_likelihood(GOOD, Empirical(GOOD)), "no density"),
        (lambda: mode_weights(GOOD[:, :2], FIVE, blocks=1), "blocks must be at least 2, got 1"),
        (lambda: mode_weights(GOOD, FIVE), r"x must have shape \(B, 2\), got \(60, 4\)"),
    ],
)
def test_bad_arguments(call, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        call()
