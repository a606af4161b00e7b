"""Lazy solvers behind ask/tell: what all of them share, and the black box."""

import gc
import threading
import time
from collections.abc import Sequence

import pytest
import torch

import scoresde as ss
from scoresde import noise
from scoresde.adaptive import Ask
from scoresde.run import NoiseSource
from scoresde.targets import Gaussian, GaussianMixture

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


class Drawing(ss.LazySolver):
    """Adds three noises with the weights 1, 2, 4, whatever the network says."""

    name, kind, order, noises = "drawing", "x0", 0, 3  # type: ignore[assignment]

    def integrate(self, ask: Ask, sde: ss.SDE, times: Sequence[float], x: torch.Tensor, noise: NoiseSource):
        ask(x, sde.point(times[0]), self.kind)
        return noise(0) + 2 * noise(1) + 4 * noise(2)


def test_noise_is_that_of_a_plan() -> None:
    """Noise k of a sample is a function of (seed, index, k), in stream 1 + k, or the user's."""
    plan, x_T = Drawing().plan(ss.VP(), [1.0, 0.0]), torch.zeros(3, 2, dtype=torch.float64)

    def run(x: torch.Tensor, **how) -> torch.Tensor:
        run = plan.start(x, **how)
        run.tell(x)
        return run.sample

    draws = [noise.normal((3, 2), 5, 7, 1 + k, dtype=torch.float64) for k in range(3)]
    assert torch.equal(run(x_T, seed=5, index=7), draws[0] + 2 * draws[1] + 4 * draws[2])
    assert torch.equal(run(x_T[:1], seed=5, index=[8]), run(x_T, seed=5, index=7)[1:2])
    own = torch.arange(18, dtype=torch.float64).reshape(3, 3, 2)
    assert torch.equal(run(x_T, noise=lambda k: own[k]), own[0] + 2 * own[1] + 4 * own[2])
    # A fixed-step plan draws the same.
    ddpm = ss.make_plan("ddpm", ss.VP(), [1.0, 0.5, 0.2]).start(x_T, seed=5, index=7)
    fed = ss.make_plan("ddpm", ss.VP(), [1.0, 0.5, 0.2]).start(x_T, noise=lambda k: draws[k])
    while not ddpm.done:
        ddpm.tell(x_T)
        fed.tell(x_T)
    assert torch.equal(ddpm.sample, fed.sample)


def test_a_limit_of_evaluations_is_an_error_that_says_where() -> None:
    solver = ss.get_solver("rk45", rtol=1e-9, atol=1e-9, max_nfe=20)
    with pytest.raises(
        ValueError, match=r"rk45 has made max_nfe=20 evaluations and stands at t=0\.\d+ on the way to t=0"
    ):
        ss.sample(MIXTURE.denoiser(ss.VP()), (4, 2), solver=solver)


LAZY = {name: solver for name, solver in ss.solvers().items() if isinstance(solver, ss.LazySolver)}
WIDE = Gaussian(torch.zeros(24, dtype=torch.float64), torch.logspace(-1, 0.5, 24, dtype=torch.float64))


@pytest.mark.parametrize("name", LAZY)
@pytest.mark.parametrize(
    "sde",
    [
        ss.RectifiedFlow(),
        *(pytest.param(s, marks=pytest.mark.slow) for s in (ss.VP(), ss.CosineVP(), ss.SubVP(), ss.VE(), ss.EDM())),
    ],
    ids=lambda s: s.name,
)
def test_every_lazy_solver_runs_on_every_process(name: str, sde: ss.SDE) -> None:
    """From one step up, from alpha = 0 where the process starts there, to both ends, in single precision."""
    denoiser = WIDE.denoiser(sde)
    for steps in (1, 3):
        for end in ("zero", "eps"):
            out = ss.sample(denoiser, (3, 24), solver=name, steps=steps, end=end)
            assert torch.isfinite(out).all()


def test_plans_say_what_they_are() -> None:
    assert str(ss.make_plan(ss.get_solver("rk45"), ss.VP(), [1.0, 0.5])) == (
        "LazyPlan(rk45, t=1 -> 0.5, steps of its own choice)"
    )
    plan = ss.plan_for(ss.get_solver("pc-langevin"), ss.VP(), steps=7)
    assert str(plan) == "LazyPlan(pc-langevin, t=1 -> 0, 7 steps)"
    assert (plan.begin.t, plan.end.t) == (1.0, 0.0)


def test_steps_of_a_grid_must_be_given() -> None:
    with pytest.raises(ValueError, match=r"pass steps .*: pc-langevin takes the steps of its grid"):
        ss.plan_for("pc-langevin", ss.VP())
    with pytest.raises(ValueError, match="nfe=9: pc-langevin fills no budget; pass steps"):
        ss.plan_for("pc-langevin", ss.VP(), nfe=9)


def test_errors_come_to_the_caller() -> None:
    run = ss.make_plan("rk45", ss.VP(), [1.0, 0.0]).start(torch.zeros(2, 2))
    with pytest.raises(ValueError, match=r"evaluation 0 .* it has 4 non-finite values of 4"):
        run.tell(torch.full((2, 2), torch.nan))
    with pytest.raises(ValueError, match=r"evaluation 0 .* is not finite"):
        ss.sample(ss.Denoiser(lambda x, t: x * torch.nan, ss.VP()), (2, 2), solver="rk45")
    with pytest.raises(ValueError, match="outside"):
        ss.make_plan("rk45", ss.VP(), [2.0, 0.0])
