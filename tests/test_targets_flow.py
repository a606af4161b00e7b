"""The probability flow against recorded solutions, closed forms, another integrator, and its own symmetries."""

import math

import numpy as np
import pytest
import torch

from scoresde.sde import Point
from scoresde.targets import Empirical, GaussianMixture
from scoresde.targets.flow import integrate
from tests.exact import DATA, EVERY, NOISE, SMOOTH, draws, mixture, needs_golden, normals
from tests.golden.store import golden


# -- the golden data --------------------------------------------------------------------------------------------------
def check_references(every: int) -> None:
    """The recorded solutions; only one in `every` of those that take an integration."""
    folder, checked = golden(), 0
    for i, (key, entry) in enumerate(sorted(folder.manifest.get("ode_references", {}).items())):
        target, (name, _, scaled) = folder.target(entry["target"]), entry["x_start"].partition(" times ")
        recorded, start = f"ode_reference.npz:{key}", f"targets.npz:{name}"
        if not (folder.has(recorded) and folder.has(start)) or (isinstance(target, GaussianMixture) and i % every):
            continue
        x_end = torch.from_numpy(folder.array(recorded))
        x = torch.from_numpy(folder.array(start))[: len(x_end)] * (entry["sigma_start"] if scaled else 1.0)
        start_at, end_at = (Point(math.nan, entry[f"alpha_{s}"], entry[f"sigma_{s}"]) for s in ("start", "end"))
        torch.testing.assert_close(target.flow(x, start_at, end_at), x_end, rtol=0, atol=2e-13)
        checked += 1
    if not checked:
        pytest.skip(f"{folder.path} has no solutions of the probability flow")


@pytest.mark.slow
@needs_golden
def test_flow_meets_recorded_solutions() -> None:
    check_references(every=6)


@needs_golden
@pytest.mark.slow
def test_flow_meets_every_recorded_solution() -> None:
    check_references(every=1)


# -- the probability flow ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["spectrum", "images", "axes"])
@pytest.mark.parametrize("end", [DATA, Point(0.1, 0.9, 0.01), NOISE])
def test_integrator_meets_the_closed_form(name: str, end: Point) -> None:
    target, start = SMOOTH[name], Point(0.5, 0.2, 0.9)
    x = normals(4, *target.shape)
    mean, covariance = target.moments()
    spread = math.sqrt(float(covariance.diagonal().mean()))
    flat = integrate(target._posterior, mean, spread, x.reshape(4, -1), start, end, 1e-12)
    torch.testing.assert_close(flat.reshape(x.shape), target.flow(x, start, end), rtol=0, atol=1e-12)


def test_flow_meets_a_solver_of_another_kind() -> None:
    """scipy's DOP853 in log(sigma/alpha), where d(x/alpha)/d log rho = rho eps."""
    from scipy.integrate import solve_ivp

    target, start, end = mixture(), Point(1, 1.0, 20.0), Point(0, 1.0, 0.01)
    x = start.sigma * normals(3, 4)

    def slope(log_rho: float, y: np.ndarray) -> np.ndarray:
        rho = math.exp(log_rho)
        return (-(rho**2) * target.score(torch.from_numpy(y).reshape(3, 4), 1.0, rho)).numpy().ravel()

    span = (math.log(start.sigma), math.log(end.sigma))
    solution = solve_ivp(slope, span, x.numpy().ravel(), method="DOP853", rtol=3e-14, atol=1e-14)
    expected = torch.from_numpy(solution.y[:, -1]).reshape(3, 4)
    torch.testing.assert_close(target.flow(x, start, end), expected, rtol=0, atol=1e-11)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["five", "mixture", "spectrum"])
def test_flow_is_its_own_inverse(name: str) -> None:
    target = SMOOTH[name]
    x = normals(6, *target.shape)
    there = target.flow(x, NOISE, DATA)
    assert not torch.allclose(there, x, atol=0.1)
    torch.testing.assert_close(target.flow(there, DATA, NOISE), x, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ["five", "spectrum"])
def test_flow_composes_and_does_not_depend_on_the_process(name: str) -> None:
    """Stopping on the way changes nothing, nor does the scale of x: only sigma/alpha matters."""
    target, x, middle = SMOOTH[name], normals(4, *SMOOTH[name].shape), Point(0.5, 0.6, 0.8)
    direct = target.flow(x, NOISE, DATA)
    torch.testing.assert_close(target.flow(target.flow(x, NOISE, middle), middle, DATA), direct, rtol=0, atol=1e-11)
    other = Point(0.5, 3 * middle.alpha, 3 * middle.sigma)
    torch.testing.assert_close(target.flow(x, NOISE, other), 3 * target.flow(x, NOISE, middle), rtol=0, atol=1e-11)
    assert torch.equal(target.flow(x, middle, middle), x) or torch.allclose(
        target.flow(x, middle, middle), x, rtol=1e-15
    )


def test_flow_of_a_row_does_not_depend_on_the_others() -> None:
    target, x = GaussianMixture.five(), normals(8, 2)
    torch.testing.assert_close(target.flow(x, NOISE, DATA)[:1], target.flow(x[:1], NOISE, DATA), rtol=1e-13, atol=1e-13)


def test_flow_ignores_units_and_origin() -> None:
    five = GaussianMixture.five()
    far = GaussianMixture(five.weights, 255 * five.means + 1e4, 255**2 * five.covariances)
    x, start = normals(4, 2), Point(1, 0.01, 1.0)
    scaled = far.flow(255 * x + 0.01 * 1e4, Point(1, 0.01, 255.0), DATA)
    torch.testing.assert_close((scaled - 1e4) / 255, five.flow(x, start, DATA), rtol=0, atol=1e-11)


def test_flow_of_a_data_set_ends_in_the_data_and_returns() -> None:
    target, x = EVERY["data"], 80 * normals(5, 2, 3)
    start, near = Point(1, 1.0, 80.0), Point(0.1, 1.0, 0.05)
    end = target.flow(x, start, DATA)
    assert isinstance(target, Empirical)
    assert float((end[:, None] - target.data).abs().amax(dim=(2, 3)).amin(1).max()) < 1e-12
    back = target.flow(target.flow(x, start, near), near, start)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-7)  # the way back expands 80 / 0.05-fold where points compete


def test_flow_of_a_singular_mixture_ends_on_its_support() -> None:
    line = GaussianMixture(
        torch.ones(2), torch.tensor([[0.0, 0.0], [3.0, 1.0]]), torch.diag(torch.tensor([1.0, 0])).repeat(2, 1, 1)
    )
    end = line.flow(normals(6, 2), NOISE, DATA)[:, 1]
    assert float(torch.minimum(end.abs(), (end - 1).abs()).max()) < 1e-12


def test_flow_keeps_the_marginals() -> None:
    """Draws of one marginal are carried to draws of the other: compared by their second moments."""
    target, start, end = mixture(), Point(1, 0.3, 0.9), Point(0, 0.95, 0.2)
    x = target.flow(draws(target, start.alpha, start.sigma, n=4000), start, end, tol=1e-6)
    mean, covariance = target.moments()
    expected = end.alpha**2 * covariance + end.sigma**2 * torch.eye(4)
    assert float((x.mean(0) - end.alpha * mean).abs().max()) < 0.1
    assert float((x.T.cov() - expected).abs().max()) < 0.1 * float(expected.diagonal().max())


def test_a_denoiser_that_breaks_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="no progress for 2 of 2"):
        integrate(lambda x, a, s: (x * math.nan, x), torch.zeros(1), 1.0, torch.ones(2, 1).double(), NOISE, DATA, 1e-9)
