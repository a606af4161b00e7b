"""The exact targets of the benchmark: formulas against samples, constructions, costs that are known."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

import scoresde as ss
from scoresde.bench.problems import ExactProblem, check_target, make_problem
from scoresde.bench.problems.exact import GaussianProblem
from scoresde.bench.suite import Choice, choice
from scoresde.metrics import FrechetStats, frechet_distance, frechet_stats
from scoresde.noise import normal
from scoresde.targets import Empirical, Gaussian, GaussianMixture
from scoresde.targets.base import Target

SMALL = {"natural-gaussian": {"size": 4}, "digits-empirical": {"split": "held-out"}}


def small(name: str) -> Choice:
    return choice(name, **SMALL.get(name, {}))


def exact(name: str) -> ExactProblem:
    problem = make_problem(small(name))
    assert isinstance(problem, ExactProblem)
    return problem


EXACT = ["mixture", "mixture-64", "natural-gaussian", "digits-gaussian", "digits-empirical"]


@pytest.mark.parametrize("name", EXACT)
def test_moments_of_features_are_those_of_many_draws(name: str):
    problem = exact(name)
    moments = problem.exact_moments()
    assert moments is not None
    mean, covariance = moments
    drawn = problem.features(problem.target.sample(3000, seed=3))
    varies = covariance.diagonal() > 1e-3  # some pixels of the digits hardly ever do
    scale = covariance.diagonal()[varies].sqrt()
    assert float(((drawn.mean(0) - mean)[varies] / scale).abs().max()) < 5 / math.sqrt(3000)
    apart = (torch.cov(drawn.T) - covariance)[varies][:, varies] / scale / scale[:, None]
    assert float(apart.abs().max()) < 0.2


@pytest.mark.slow
@pytest.mark.parametrize("name", EXACT)
def test_a_fine_solution_meets_the_exact_flow(name: str):
    problem = exact(name)
    sde = ss.EDM(sigma_min=0.02)
    x = normal((3, *problem.shape), 5, dtype=torch.float64) * sde.prior_std()
    flow = problem.converged(sde, x, sde.T, sde.eps)
    fine = ss.sample(problem.denoiser(sde), x.shape, solver="dpmpp-3m", nfe=300, x_T=x, grid="log-snr", end="eps")
    assert float((flow - fine).square().mean().sqrt()) < 2e-3


# ---- Gaussians -------------------------------------------------------------------------------------------------------


def with_matrix(target: Gaussian) -> Gaussian:
    """The same law with one matrix of eigenvectors, the rows of which are what each unit vector turns into."""
    return replace(target, eigenvectors=target.principal(torch.eye(target.dim).double().reshape(-1, *target.shape)))


@pytest.mark.parametrize("solver", ["dpmpp-2m", "euler-maruyama"])
def test_the_closed_form_is_the_same_with_factors_and_with_a_matrix(solver: str):
    factors = replace(Gaussian.natural_images((3, 4, 5)), mean=normal((3, 4, 5), 1, dtype=torch.float64))
    sde = ss.VP()
    plan = ss.plan_for(ss.get_solver(solver), sde, nfe=6, grid="log-snr", end="zero")
    assert isinstance(plan, ss.Plan)
    found = [
        GaussianProblem(target, "", ()).closed_form(plan, sde.prior_std())["frechet_exact"]
        for target in (factors, with_matrix(factors))
    ]
    assert found[0] == pytest.approx(found[1], rel=1e-10)


def test_the_closed_form_is_the_distance_of_many_samples():
    target = Gaussian.natural_images((3, 4, 4))
    problem = GaussianProblem(replace(target, mean=torch.linspace(-3, 5, 48).reshape(3, 4, 4)), "", ())
    sde = ss.VP()
    plan = ss.plan_for(ss.get_solver("ddim"), sde, nfe=5, grid="log-snr", end="zero")
    assert isinstance(plan, ss.Plan)
    drawn = ss.sample(problem.denoiser(sde), (10000, *problem.shape), solver="ddim", nfe=5, end="zero", seed=1)
    mean, covariance = problem.target.moments()
    got = frechet_distance(frechet_stats(drawn), FrechetStats.exact(mean, covariance))
    assert got == pytest.approx(problem.closed_form(plan, sde.prior_std())["frechet_exact"], rel=0.03)


def test_features_of_the_large_gaussian_span_its_spectrum():
    problem = make_problem(choice("natural-gaussian"))
    assert problem.shape == (3, 32, 32)
    target = problem.target
    assert isinstance(target, Gaussian)
    chosen = target.eigenvalues.reshape(-1)[problem._chosen]  # type: ignore[attr-defined]
    assert chosen.max() == target.eigenvalues.max()
    assert chosen.min() == target.eigenvalues.min()
    assert 24 <= len(chosen) <= 32
    assert problem.features(target.sample(2)).shape == (2, len(chosen))


@pytest.mark.parametrize("eigenvectors", ["none", "matrix", "factors"])
def test_principal_coordinates_have_the_variances_of_the_target(eigenvectors: str):
    factors = Gaussian.natural_images((3, 4, 2))
    target = {"none": replace(factors, eigenvectors=None), "matrix": with_matrix(factors), "factors": factors}[
        eigenvectors
    ]
    _, covariance = target.moments()
    identity = torch.eye(24, dtype=torch.float64).reshape(24, 3, 4, 2)
    turn = target.principal(identity)  # rows: unit vectors in principal coordinates
    assert torch.allclose(turn.T @ covariance @ turn, target.eigenvalues.reshape(-1).diag(), atol=1e-12)


def test_the_denoiser_alone_is_that_of_the_posterior():
    target = Gaussian.natural_images((3, 4, 2))
    x, alpha, sigma = target.sample(5, 2).flatten(1), torch.tensor([[0.6]]).double(), torch.tensor([[0.8]]).double()
    assert torch.allclose(target._denoised(x, alpha, sigma), Target._denoised(target, x, alpha, sigma), atol=1e-14)


# ---- the mixture in 64 dimensions, and the digits --------------------------------------------------------------------


def test_modes_of_the_large_mixture_are_far_apart_and_unequal():
    target = exact("mixture-64").target
    assert isinstance(target, GaussianMixture)
    assert target.weights.tolist() == pytest.approx([k / 36 for k in range(1, 9)])
    means = target.means
    for i in range(8):
        for j in range(8):
            way = means[j] - means[i]
            if i != j:
                spread = (way @ target.covariances[i] @ way).sqrt() / way.norm()  # of mode i towards mode j
                assert way.norm() > 2.8
                assert way.norm() / 2 > 3.4 * spread
    drawn = target.sample(2000, seed=1)
    joint = target._components(drawn, torch.ones(1, 1).double(), torch.zeros(1, 1).double())[2]
    assert float(joint.softmax(-1).amax(-1).min()) > 0.999
    other = make_problem(choice("mixture-64", seed=1)).target
    assert isinstance(other, GaussianMixture)
    assert not torch.equal(means, other.means)


def test_samples_of_the_learnt_digits_are_digits():
    problem = exact("digits-empirical")
    sde = ss.EDM()
    x = normal((4, 1, 8, 8), 2, dtype=torch.float64) * sde.prior_std()
    end = problem.converged(sde, x, sde.T, 0.0)
    assert isinstance(problem.target, Empirical)
    assert float(torch.cdist(end.flatten(1), problem.target.data.flatten(1)).amin(1).max()) < 1e-3
    assert "898" in problem.note


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (choice("natural-gaussian", size=0), "size must be at least 1"),
        (choice("natural-gaussian", exponent=-1.0), "exponent must be at least 0"),
        (choice("mixture-64", seed=-1), "seed must be at least 0"),
        (choice("digits-empirical", split="third"), "split='third'"),
        (choice("mixture-64", modes=3), "its options are seed"),
        (choice("mixture-65"), "nearest: mixture-64"),
    ],
)
def test_bad_options_are_refused_by_name(target: Choice, words: str):
    with pytest.raises(ValueError, match=words):
        make_problem(target)
    check_target(small("mixture-64"))
