"""Exact targets against recorded vectors, automatic differentiation and brute force."""

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from scoresde.denoiser import BaseDenoiser
from scoresde.sde import EDM, VP, Point, RectifiedFlow
from scoresde.targets import Empirical, Gaussian, GaussianMixture
from tests.exact import DATA, EVERY, NOISE, SMOOTH, draws, needs_golden, normals
from tests.golden.store import golden

LEVELS = [(0.9999, 0.0141), (0.8, 0.6), (0.1, 0.995), (1.0, 5.0), (1.0, 0.05), (0.3, 0.7)]


def rotation(n: int, seed: int) -> Tensor:
    return torch.linalg.qr(normals(n, n, seed=seed))[0]


# -- the golden data --------------------------------------------------------------------------------------------------
@needs_golden
def test_check_vectors() -> None:
    folder = golden()
    names = [name for name in folder.targets if folder.has(f"targets.npz:{name}/check_x")]
    if not names:
        pytest.skip(f"{folder.path} has no check vectors")
    for name in names:
        target = folder.target(name)
        levels, *vectors = (
            torch.from_numpy(folder.array(f"targets.npz:{name}/check_{part}"))
            for part in ("alpha_sigma", "x", "denoised", "eps", "logp")
        )
        for (alpha, sigma), x, d, eps, logp in zip(levels.tolist(), *vectors, strict=True):
            torch.testing.assert_close(target.x0(x, alpha, sigma), d, rtol=1e-13, atol=1e-13)
            torch.testing.assert_close(-sigma * target.score(x, alpha, sigma), eps, rtol=1e-13, atol=1e-13)
            torch.testing.assert_close(target.log_prob(x, alpha, sigma), logp, rtol=1e-13, atol=1e-13)


@needs_golden
def test_five_is_the_golden_mixture() -> None:
    if "A" not in golden().targets:
        pytest.skip(f"{golden().path} has no target A")
    theirs, five = golden().target("A"), GaussianMixture.five()
    for part in ("weights", "means", "covariances"):
        torch.testing.assert_close(getattr(five, part), getattr(theirs, part), rtol=1e-15, atol=0)


# -- denoiser, score and density agree with one another ---------------------------------------------------------------
@pytest.mark.parametrize(("alpha", "sigma"), LEVELS)
@pytest.mark.parametrize("name", EVERY)
def test_score_is_the_gradient_of_log_prob(name: str, alpha: float, sigma: float) -> None:
    target = EVERY[name]
    x = draws(target, alpha, sigma).requires_grad_()
    (gradient,) = torch.autograd.grad(target.log_prob(x, alpha, sigma).sum(), x)
    torch.testing.assert_close(target.score(x, alpha, sigma), gradient, rtol=1e-8, atol=1e-8 / sigma)


@pytest.mark.parametrize(("alpha", "sigma"), [*LEVELS, (0.0, 1.0)])
@pytest.mark.parametrize("name", EVERY)
def test_tweedie(name: str, alpha: float, sigma: float) -> None:
    """alpha D = x + sigma^2 score (Tweedie's formula; Efron 2011, J. Am. Stat. Assoc. 106)."""
    target = EVERY[name]
    x = draws(target, alpha, sigma)
    tweedie = x + sigma**2 * target.score(x, alpha, sigma)
    torch.testing.assert_close(alpha * target.x0(x, alpha, sigma), tweedie, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["five", "mixture", "spectrum"])
def test_denoiser_is_the_posterior_mean(name: str) -> None:
    """Importance sampling from the prior: D = E[w x_0] / E[w], with w = N(x; alpha x_0, sigma^2)."""
    target, alpha, sigma = EVERY[name], 0.6, 0.8
    x, prior = draws(target, alpha, sigma, n=3), target.sample(200_000, 7)
    share = (-(torch.cdist(x, alpha * prior) ** 2) / (2 * sigma**2)).softmax(1)
    mean = share @ prior
    spread = (share**2 @ prior**2 - 2 * mean * (share**2 @ prior) + mean**2 * (share**2).sum(1, keepdim=True)).sqrt()
    assert bool(((target.x0(x, alpha, sigma) - mean).abs() < 5 * spread).all())
    assert float(spread.max()) < 0.05  # else the test could not fail


@pytest.mark.parametrize("name", EVERY)
def test_log_prob_integrates_the_noise(name: str) -> None:
    """p(x) = E over x_0 of N(x; alpha x_0, sigma^2 I), by Monte Carlo over x_0."""
    target, alpha, sigma = EVERY[name], 0.5, 2.0
    x, prior = draws(target, alpha, sigma, n=2), target.sample(50_000, 3)
    flat, many = x.reshape(2, -1), prior.reshape(50_000, -1)
    kernel = -(torch.cdist(flat, alpha * many) ** 2) / (2 * sigma**2) - target.dim / 2 * math.log(
        2 * math.pi * sigma**2
    )
    p = kernel.exp()
    error = p.std(1) / math.sqrt(p.shape[1])
    assert bool(((target.log_prob(x, alpha, sigma).exp() - p.mean(1)).abs() < 5 * error).all())


@pytest.mark.parametrize("name", EVERY)
def test_moments_are_those_of_samples(name: str) -> None:
    target = EVERY[name]
    mean, covariance = target.moments()
    x = target.sample(100_000, 11).reshape(100_000, -1)
    error = covariance.diagonal().sqrt()
    assert bool(((x.mean(0) - mean).abs() < 5 * error / math.sqrt(len(x)) + 1e-12).all())
    assert bool(((x.T.cov() - covariance).abs() < 0.03 * torch.outer(error, error) + 1e-12).all())


def test_images_have_the_stated_spectrum() -> None:
    target = Gaussian.natural_images((3, 8, 8), std=0.5)
    assert target.moments()[1].diagonal().mean() == pytest.approx(0.25)
    power = target.eigenvalues[0]
    assert float(power[0, 1] / power[0, 3]) == pytest.approx(5.0)  # (1 + 3^2) / (1 + 1^2)
    assert Gaussian.natural_images().x0(normals(1, 3, 32, 32), 0.5, 0.5).shape == (1, 3, 32, 32)


def test_separable_basis_is_its_kronecker_product() -> None:
    factors = (rotation(2, 1), rotation(3, 2))
    mean, values = normals(2, 3, seed=3), normals(2, 3, seed=4).exp()
    separable, dense = Gaussian(mean, values, factors), Gaussian(mean, values, torch.kron(*factors))
    x = normals(4, 2, 3, seed=5)
    torch.testing.assert_close(separable.x0(x, 0.7, 0.4), dense.x0(x, 0.7, 0.4))
    torch.testing.assert_close(separable.sample(3, 1), dense.sample(3, 1))
    torch.testing.assert_close(separable.moments()[1], dense.moments()[1])


# -- a data set -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("alpha", "sigma"), [*LEVELS, (0.0, 1.0)])
def test_empirical_is_brute_force(alpha: float, sigma: float) -> None:
    target = EVERY["data"]
    assert isinstance(target, Empirical)
    x = draws(target, alpha, sigma)
    away = ((x[:, None] - alpha * target.data) ** 2).sum(dim=(2, 3)) / (2 * sigma**2)
    share = (-away).softmax(1)
    expected = torch.einsum("bi,ijk->bjk", share, target.data)
    torch.testing.assert_close(target.x0(x, alpha, sigma), expected, rtol=1e-12, atol=1e-12)
    norm = math.log(7) + 3 * math.log(2 * math.pi * sigma**2)
    torch.testing.assert_close(target.log_prob(x, alpha, sigma), (-away).logsumexp(1) - norm)


def test_empirical_tells_close_points_apart_far_from_the_origin() -> None:
    """Two points 1e-5 apart at 1e4: distances by products would be noise."""
    data = 1e4 + torch.tensor([[0.0, 0.0], [1e-5, 0.0]], dtype=torch.float64)
    x = data.mean(0, keepdim=True) + torch.tensor([[1e-6, 0.0]])
    share = (Empirical(data).x0(x, 1.0, 3e-6) - data[0])[0, 0] / 1e-5
    expected = torch.sigmoid(torch.tensor(1e-6 * 1e-5 / 3e-6**2))
    assert float(share) == pytest.approx(float(expected), rel=1e-5)


def test_empirical_is_the_limit_of_a_mixture() -> None:
    data = normals(6, 3)
    points = GaussianMixture(torch.ones(6), data, torch.zeros(6, 3, 3))
    x = draws(points, 0.8, 0.6)
    torch.testing.assert_close(Empirical(data).score(x, 0.8, 0.6), points.score(x, 0.8, 0.6))
    torch.testing.assert_close(Empirical(data).log_prob(x, 0.8, 0.6), points.log_prob(x, 0.8, 0.6))


@pytest.mark.parametrize("sigma", [0.0, 1e-160, 1e-8])
def test_small_noise_gives_the_nearest_point(sigma: float) -> None:
    data = normals(50, 3)
    near = 0.9 * data[[4, 17]] + 1e-6
    for target in (Empirical(data), GaussianMixture(torch.ones(50), data, torch.zeros(50, 3, 3))):
        torch.testing.assert_close(target.x0(near, 0.9, sigma), data[[4, 17]], rtol=0, atol=1e-14)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    target, x = EVERY["data"], normals(11, 2, 3)
    levels = normals(11).abs(), normals(11, seed=9).abs()
    whole = target.x0(x, *levels), target.score(x, 0.5, 0.5)
    monkeypatch.setattr("scoresde.targets.base._CHUNK", 15)  # two rows of seven distances
    torch.testing.assert_close((target.x0(x, *levels), target.score(x, 0.5, 0.5)), whole, rtol=1e-14, atol=1e-14)


# -- extremes, dtypes, noise levels for each sample -------------------------------------------------------------------
@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("sigma", [1e-10, 1e-3, 1e3, 1e10])
def test_extreme_noise_is_finite_and_right(name: str, sigma: float) -> None:
    target = EVERY[name]
    x = draws(target, 1.0, sigma)
    x0 = target.x0(x, 1.0, sigma)
    assert bool(torch.isfinite(target.log_prob(x, 1.0, sigma)).all())
    assert bool(torch.isfinite(target.score(x, 1.0, sigma)).all())
    if sigma < 1e-6:
        torch.testing.assert_close(x0, x, rtol=0, atol=1e-5)
    if sigma > 1e6:
        torch.testing.assert_close(x0, target.moments()[0].reshape(target.shape).expand_as(x), rtol=0, atol=1e-7)


@pytest.mark.parametrize("name", SMOOTH)
def test_no_noise_gives_x_back(name: str) -> None:
    target = SMOOTH[name]
    x = 0.5 * target.sample(4)
    torch.testing.assert_close(target.x0(x, 0.5, 0.0), x / 0.5)
    assert bool(torch.isfinite(target.score(x, 0.5, 0.0)).all())


@pytest.mark.parametrize("name", EVERY)
def test_dtype_is_kept_and_arithmetic_is_double(name: str) -> None:
    target = EVERY[name]
    x = draws(target, 0.9, 0.1).float()
    out = target.x0(x, 0.9, 0.1)
    assert out.dtype == torch.float32
    assert torch.equal(out, target.x0(x.double(), 0.9, 0.1).float())
    assert target.log_prob(x, 0.9, 0.1).dtype == torch.float32
    assert target.flow(x, Point(1, 0.9, 0.1), Point(0, 1.0, 0.05)).dtype == torch.float32


@pytest.mark.parametrize("name", EVERY)
def test_a_noise_level_for_each_sample(name: str) -> None:
    target = EVERY[name]
    alpha, sigma = torch.tensor([0.9, 0.5, 0.0]), torch.tensor([0.1, 0.5, 1.0])
    x = normals(3, *target.shape)
    for method in (target.x0, target.score, target.log_prob):
        each = torch.cat([method(x[i : i + 1], float(alpha[i]), float(sigma[i])) for i in range(3)])
        torch.testing.assert_close(method(x, alpha, sigma), each, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", EVERY)
def test_sample_is_a_function_of_seed_and_index(name: str) -> None:
    target = EVERY[name]
    assert target.sample(3, 5).shape == (3, *target.shape)
    assert target.sample(3, 5).dtype == torch.float64
    # Rounding of a matrix product may depend on its shape, the draw may not.
    torch.testing.assert_close(target.sample(9, 5)[:3], target.sample(3, 5), rtol=1e-14, atol=1e-14)
    assert not torch.allclose(target.sample(9, 6), target.sample(9, 5))


def test_mixture_draws_its_components_by_weight() -> None:
    target = GaussianMixture(torch.tensor([1.0, 3.0]), torch.tensor([[-9.0], [9.0]]), torch.ones(2, 1, 1))
    assert float((target.sample(40_000) > 0).double().mean()) == pytest.approx(0.75, abs=0.01)


# -- as a denoiser ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("sde", [VP(), EDM(), RectifiedFlow()], ids=lambda sde: sde.name)
def test_denoiser(sde: VP | EDM | RectifiedFlow) -> None:
    target = GaussianMixture.five()
    denoiser = target.denoiser(sde)
    assert isinstance(denoiser, BaseDenoiser)
    assert denoiser.sde is sde
    x, t = normals(3, 2).float(), torch.tensor([0.1, 0.4, 0.9])
    for time in (0.0, 0.4):
        assert torch.equal(denoiser(x, time), target.x0(x, sde.alpha(time), sde.sigma(time)))
    assert torch.equal(denoiser(x, t), target.x0(x, sde.alpha(t), sde.sigma(t)))
    torch.testing.assert_close(denoiser(x, t)[1:2], denoiser(x[1:2], float(t[1])))
    score = denoiser.predict(x.double(), 0.4, "score")
    torch.testing.assert_close(score, target.score(x.double(), sde.alpha(0.4), sde.sigma(0.4)))
    with pytest.raises(TypeError, match="no conditions, got label"):
        denoiser(x, 0.4, label=1)


# -- bad input --------------------------------------------------------------------------------------------------------
FIVE = GaussianMixture.five()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: FIVE.x0(torch.zeros(3, 3), 1.0, 1.0), ValueError, r"x must have shape \(B, 2\), got \(3, 3\)"),
        (lambda: FIVE.x0(torch.zeros(2), 1.0, 1.0), ValueError, "x must have shape"),
        (lambda: FIVE.x0(torch.zeros(3, 2, dtype=torch.int64), 1.0, 1.0), TypeError, "floating-point"),
        (lambda: FIVE.x0([[0.0, 0.0]], 1.0, 1.0), TypeError, "got list"),  # type: ignore[arg-type]
        (lambda: FIVE.x0(torch.zeros(3, 2, device="meta"), 1.0, 1.0), ValueError, r"use target.to\('meta'\)"),
        (lambda: FIVE.x0(torch.zeros(3, 2), -1.0, 1.0), ValueError, "alpha must be finite and >= 0, got -1.0"),
        (lambda: FIVE.x0(torch.zeros(3, 2), 1.0, math.nan), ValueError, "sigma must be finite"),
        (lambda: FIVE.x0(torch.zeros(3, 2), 1.0, torch.tensor([1.0, -1.0, 0.0])), ValueError, "sigma must be finite"),
        (lambda: FIVE.x0(torch.zeros(3, 2), 1.0, torch.ones(2)), ValueError, r"shape \(3,\), got \(2,\)"),
        (lambda: FIVE.x0(torch.zeros(3, 2), 0.0, 0.0), ValueError, "both 0"),
        (lambda: FIVE.x0(torch.zeros(3, 2), torch.tensor([1.0, 0, 1]), 0.0), ValueError, "both 0"),
        (lambda: FIVE.sample(0), ValueError, "n must be a positive integer"),
        (lambda: FIVE.flow(torch.zeros(3, 2), NOISE, DATA, tol=0.0), ValueError, "tol"),
        (lambda: FIVE.flow(torch.full((3, 2), math.inf), NOISE, DATA), ValueError, "x has 6 values"),
        (lambda: FIVE.flow(torch.zeros(3, 2), NOISE, Point(0, 0.0, 0.0)), ValueError, "both 0"),
        (lambda: Empirical(torch.zeros(3, 2)).score(torch.zeros(1, 2), 1.0, 0.0), ValueError, "no density"),
        (lambda: Empirical(torch.zeros(3, 2)).flow(torch.zeros(1, 2), DATA, NOISE), ValueError, "start has sigma = 0"),
        (
            lambda: Gaussian(torch.zeros(2), torch.tensor([1.0, 0])).log_prob(torch.zeros(1, 2), 1.0, 0.0),
            ValueError,
            "no d",
        ),
        (lambda: Empirical(torch.zeros(3)), ValueError, "data must have shape"),
        (lambda: Empirical(torch.full((3, 2), math.nan)), ValueError, "data has 6 values"),
        (lambda: Gaussian(torch.zeros(2), torch.ones(3)), ValueError, "eigenvalues must be as many"),
        (lambda: Gaussian(torch.zeros(2), torch.tensor([1.0, -1])), ValueError, "eigenvalues must be >= 0"),
        (lambda: Gaussian(torch.zeros(2), torch.ones(2), torch.ones(2, 2)), ValueError, "orthonormal"),
        (lambda: Gaussian(torch.zeros(2), torch.ones(2), torch.eye(3)), ValueError, r"shape \(2, 2\), got \(3, 3\)"),
        (lambda: Gaussian(torch.zeros(2), torch.ones(2), (torch.eye(2),) * 2), ValueError, "each of the 1 axes"),
        (lambda: Gaussian.log_spaced(4, 2.0, 1.0), ValueError, "low"),
        (lambda: Gaussian.natural_images((0, 4, 4)), ValueError, "shape must be"),
        (
            lambda: GaussianMixture(torch.tensor([1.0, 0]), torch.zeros(2, 1), torch.ones(2, 1, 1)),
            ValueError,
            "weights",
        ),
        (lambda: GaussianMixture(torch.ones(2), torch.zeros(3, 1), torch.ones(3, 1, 1)), ValueError, "means"),
        (
            lambda: GaussianMixture(torch.ones(1), torch.zeros(1, 2), torch.ones(1, 2)),
            ValueError,
            "covariances must have",
        ),
        (
            lambda: GaussianMixture(torch.ones(1), torch.zeros(1, 2), torch.ones(1, 2, 2).triu()),
            ValueError,
            "symmetric",
        ),
        (lambda: GaussianMixture(torch.ones(1), torch.zeros(1, 2), -torch.eye(2)[None]), ValueError, "semidefinite"),
    ],
)
def test_bad_input(call, error, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("name", EVERY)
def test_immutable_and_private(name: str) -> None:
    target = EVERY[name]
    first = dataclasses.fields(target)[0].name  # type: ignore[arg-type]
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(target, first, None)
    data = torch.zeros(2, 2)
    kept = Empirical(data)
    data += 1
    assert float(kept.data.abs().max()) == 0.0
    assert torch.equal(target.to("cpu").sample(2), target.sample(2))
