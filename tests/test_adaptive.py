"""Black-box solvers behind ask/tell."""

import gc
import threading
import time

import pytest
import torch

import scoresde as ss
from scoresde.targets import GaussianMixture

pytest.importorskip("torchdiffeq")
MIXTURE = GaussianMixture.five()


@pytest.mark.parametrize("sde", [ss.VP(), ss.SubVP(), ss.EDM(), ss.RectifiedFlow()], ids=lambda s: s.name)
def test_rk45_reaches_its_tolerance(sde: ss.SDE) -> None:
    x_T = torch.randn(16, 2, dtype=torch.float64) * sde.prior_std()
    exact = MIXTURE.flow(x_T, sde.point(sde.T), sde.point(sde.eps))
    errors = []
    for tol in (1e-4, 1e-9):
        solver = ss.get_solver("rk45", rtol=tol, atol=tol)
        got = ss.sample(MIXTURE.denoiser(sde), (16, 2), solver=solver, end="eps", x_T=x_T)
        errors.append((got - exact).abs().max().item())
    assert errors[1] < 1e-6
    assert errors[1] < errors[0]


def test_rk45_ends_at_the_data_with_one_denoising() -> None:
    sde = ss.VP()
    denoiser = MIXTURE.denoiser(sde)
    x_T = torch.randn(4, 2, dtype=torch.float64)
    at_eps = ss.sample(denoiser, (4, 2), solver="rk45", end="eps", x_T=x_T)
    assert torch.allclose(ss.sample(denoiser, (4, 2), solver="rk45", x_T=x_T), denoiser(at_eps, sde.eps))


def test_ask_tell_from_outside_and_any_prediction() -> None:
    sde = ss.VP()
    denoiser = MIXTURE.denoiser(sde)
    x_T = torch.randn(4, 2, dtype=torch.float64)
    run = ss.make_plan("rk45", sde, [sde.T, sde.eps]).start(x_T)
    while not run.done:
        run.tell(denoiser.predict(run.x, run.t, "epsilon"), "epsilon")
    assert torch.allclose(run.sample, ss.sample(denoiser, (4, 2), solver="rk45", end="eps", x_T=x_T), atol=1e-6)
    with pytest.raises(ValueError, match="done"):
        run.tell(x_T)


def test_abandoned_runs_end_their_threads() -> None:
    before = threading.active_count()
    for _ in range(5):
        ss.make_plan("rk45", ss.VP(), [1.0, 0.0]).start(torch.zeros(2, 2))
    gc.collect()
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before


def test_errors_come_to_the_caller() -> None:
    run = ss.make_plan("rk45", ss.VP(), [1.0, 0.0]).start(torch.zeros(2, 2))
    with pytest.raises(ValueError, match=r"evaluation 0 .* it has 4 non-finite values of 4"):
        run.tell(torch.full((2, 2), torch.nan))
    with pytest.raises(ValueError, match=r"evaluation 0 .* is not finite"):
        ss.sample(ss.Denoiser(lambda x, t: x * torch.nan, ss.VP()), (2, 2), solver="rk45")
    with pytest.raises(ValueError, match="outside"):
        ss.make_plan("rk45", ss.VP(), [2.0, 0.0])
