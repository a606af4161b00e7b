"""DPM-Solver with steps of its own choice: tolerances, the pair, the controllers, what a rejected step costs."""

import math
from itertools import pairwise
from typing import Any

import pytest
import torch

import scoresde as ss
from scoresde.adaptive import PID, AdaptiveDPM, Elementary
from scoresde.plan import plan_step
from scoresde.solvers import SinglestepDPM
from scoresde.targets import Gaussian, GaussianMixture
from tests.problems import OnMixture

NAMES = ["dpm-solver-12", "dpm-solver-23", "dpm-solver-23-pid", "dpmpp-12", "dpmpp-23"]
SLOW = pytest.mark.slow


def drive(solver: Any, denoiser: ss.BaseDenoiser, x_T: torch.Tensor, grid, **how) -> tuple[torch.Tensor, int]:
    run = ss.make_plan(solver, denoiser.sde, grid).start(x_T, **how)
    while not run.done:
        run.tell(denoiser.predict(run.x, run.t, run.kind), run.kind)
    return run.sample, run.nfe


@pytest.mark.parametrize(
    "sde",
    [ss.VP(), *(pytest.param(s, marks=SLOW) for s in (ss.EDM(), ss.SubVP(), ss.RectifiedFlow()))],
    ids=lambda s: s.name,
)
@pytest.mark.parametrize("name", [pytest.param(n, marks=SLOW if n != "dpm-solver-23-pid" else ()) for n in NAMES])
def test_the_error_follows_the_tolerance(name: str, sde: ss.SDE) -> None:
    """A tenth of the tolerance: about a tenth of the error, for more evaluations."""
    problem = OnMixture(sde)
    errors, calls = [], []
    for tol in (1e-3, 1e-4, 1e-5):
        solver = ss.get_solver(name, rtol=tol, atol=tol, max_nfe=20_000)
        sample, nfe = drive(solver, problem.denoiser, problem.x_T, [sde.T, sde.eps])
        errors.append((sample - problem.exact).square().mean().sqrt().item())
        calls.append(nfe)
        assert errors[-1] < 2.5 * tol
    assert all(b < 0.2 * a for a, b in pairwise(errors)), errors
    assert calls == sorted(calls)


@pytest.mark.parametrize("kind", ["epsilon", "x0"])
@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("sde", [ss.VP(), ss.EDM()], ids=lambda s: s.name)
def test_a_step_is_that_of_the_fixed_method(kind: str, order: int, sde: ss.SDE) -> None:
    s, t = 0.7 * sde.T, 0.2 * sde.T
    denoiser, x = GaussianMixture.five().denoiser(sde), torch.randn(5, 2, dtype=torch.float64) * sde.sigma(s)
    got, nfe = drive(AdaptiveDPM(order, kind, rtol=1e9, atol=1e9, h_init=1e3), denoiser, x, [s, t])
    run = ss.make_plan(SinglestepDPM(order, kind), sde, [s, t]).start(x)
    while not run.done:
        run.tell(denoiser(run.x, run.t))
    assert nfe == order
    assert torch.allclose(got, run.sample, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("order", "kind"), [(2, "epsilon"), (3, "epsilon"), (3, "x0")])
def test_the_lower_method_looks_where_the_higher_one_does(order: int, kind: str) -> None:
    low, high = AdaptiveDPM(order, kind)._pair()
    step = ss.Step(ss.VP(), ss.VP().point(0.6), ss.VP().point(0.3))
    a, b = plan_step(low, step), plan_step(high, step)
    assert (a.nfe, b.nfe) == (order - 1, order)
    assert a.rows[:-1] == b.rows[: order - 2]  # all but its last row, which goes to the end
    assert [r.at for r in a.rows] == [r.at for r in b.rows[:-1]]


def test_a_rejected_step_leaves_its_first_prediction() -> None:
    sde = ss.VP()
    denoiser, x_T = GaussianMixture.five().denoiser(sde), torch.randn(8, 2, dtype=torch.float64)
    kept, few = drive(AdaptiveDPM(h_init=2.0), denoiser, x_T, [1.0, 1e-3])
    again, more = drive(AdaptiveDPM(h_init=2.0, reuse=False), denoiser, x_T, [1.0, 1e-3])
    assert torch.equal(kept, again)
    assert more % 3 == 0
    assert few < more


def test_ends_at_the_data_with_one_denoising() -> None:
    sde = ss.VP()
    denoiser, x_T = GaussianMixture.five().denoiser(sde), torch.randn(4, 2, dtype=torch.float64)
    near, calls = drive(AdaptiveDPM(), denoiser, x_T, [1.0, sde.eps])
    sample, more = drive(AdaptiveDPM(), denoiser, x_T, [1.0, 0.0])
    assert torch.equal(sample, denoiser(near, sde.eps))
    assert more == calls + 1


def test_starts_from_pure_noise() -> None:
    sde = ss.RectifiedFlow()
    denoiser, x_T = GaussianMixture.five().denoiser(sde), torch.randn(4, 2, dtype=torch.float64)
    run = ss.make_plan(AdaptiveDPM(atol=1e-4), sde, [1.0, 0.0]).start(x_T)
    assert run.point.alpha == 0.0
    run.tell(denoiser(run.x, run.t))
    assert run.point.rho == pytest.approx(100.0)  # where (alpha / sigma)^2 is atol


@pytest.mark.parametrize("controller", [Elementary(), PID(), PID(0.3, 0.5, 0.1)], ids=repr)
def test_a_prediction_that_does_not_change_is_integrated_in_a_few_steps(controller) -> None:
    sde = ss.VP()
    x_T, x0 = torch.randn(4, 2, dtype=torch.float64), torch.full((4, 2), 0.3, dtype=torch.float64)
    run = ss.make_plan(AdaptiveDPM(kind="x0", controller=controller), sde, [1.0, 0.05]).start(x_T)
    while not run.done:
        run.tell(x0)
    end = sde.point(0.05)
    exact = end.alpha * x0 + end.sigma / sde.sigma(1.0) * (x_T - sde.alpha(1.0) * x0)
    assert torch.allclose(run.sample, exact, atol=1e-12)
    assert run.nfe <= 18


def test_noise_is_renewed_and_the_law_kept() -> None:
    """With eta = 1 every step renews noise; of Gaussian data the variance is right, and the mean too."""
    sde, n = ss.EDM(sigma_max=20.0), 20_000
    variance = torch.tensor([0.04, 0.5, 2.0], dtype=torch.float64)
    denoiser = Gaussian(torch.tensor([0.5, 0.0, -0.5], dtype=torch.float64), variance).denoiser(sde)
    x_T = torch.randn(n, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 20.0
    solver = ss.get_solver("dpm_adaptive", eta=1.0, rtol=1e-3, atol=1e-3)
    assert solver.noises == 1
    sample, _ = drive(solver, denoiser, x_T, [20.0, 0.01])
    assert (sample.var(0) / (variance + 1e-4) - 1).abs().max() < 4 * math.sqrt(2 / n) + 0.01
    assert (sample.mean(0) - torch.tensor([0.5, 0.0, -0.5])).abs().max() < 4 * math.sqrt(2 / n) + 0.005
    quiet, _ = drive(ss.get_solver("dpm_adaptive", rtol=1e-3, atol=1e-3), denoiser, x_T[:50], [20.0, 0.01])
    corr = torch.corrcoef(torch.stack([quiet[:, 2], sample[:50, 2]]))[0, 1].item()
    assert corr < 0.5  # not the flow's point
    other, _ = drive(solver, denoiser, x_T[:50], [20.0, 0.01], seed=1)
    assert not torch.allclose(other, drive(solver, denoiser, x_T[:50], [20.0, 0.01])[0], atol=0.1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_other_dtypes(dtype: torch.dtype) -> None:
    denoiser = GaussianMixture.five().denoiser(ss.VP())
    for name in NAMES:
        x = ss.sample(denoiser, (4, 2), solver=name, dtype=dtype)
        assert x.dtype == dtype
        assert torch.isfinite(x).all()


def test_controllers_judge_as_their_formulas_say() -> None:
    assert Elementary(0.8).judge(8.0, (), 3) == (False, pytest.approx(0.4))
    assert Elementary(0.8).judge(0.125, (), 3) == (True, pytest.approx(1.6))
    integral = PID(accept_safety=0.9)
    assert integral.judge(0.25, (9.0, 9.0), 2) == (True, pytest.approx(1 + math.atan(1.0), rel=1e-6))
    accept, factor = integral.judge(4.0, (9.0, 9.0), 2)
    assert (accept, factor) == (False, pytest.approx(1 + math.atan(-0.5), rel=1e-6))
    # p^(0.9/2) q^-(0.5/2) r^(0.1/2) with inverse errors p, q, r of this step and the two before
    raw = 2.0**0.45 * 4.0**-0.25 * 8.0**0.05
    assert PID(0.3, 0.5, 0.1).judge(0.5, (0.25, 0.125), 2)[1] == pytest.approx(1 + math.atan(raw - 1), rel=1e-6)


def test_a_limit_of_evaluations() -> None:
    denoiser = GaussianMixture.five().denoiser(ss.VP())
    with pytest.raises(ValueError, match=r"dpm-solver-23 has made max_nfe=30 evaluations and stands at t=0\.\d+"):
        ss.sample(denoiser, (4, 2), solver=ss.get_solver("dpm-solver-23", max_nfe=30))


def test_an_error_that_is_not_finite_ends_the_run() -> None:
    broken = ss.Denoiser(lambda x, t: x * torch.nan, ss.VP())
    with pytest.raises(ValueError, match=r"error of the step from t=1 to .* is not finite"):
        ss.sample(broken, (2, 2), solver="dpm-solver-23", check="off")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AdaptiveDPM(order=1), "order must be 2 or 3, got 1"),
        (lambda: AdaptiveDPM(kind="v"), "kind='v' is unknown"),
        (lambda: AdaptiveDPM(norm="max"), "norm='max' is unknown"),
        (lambda: AdaptiveDPM(solver_type="heun"), "solver_type='heun' is unknown"),
        (lambda: AdaptiveDPM(atol=0.0), "rtol and atol must be positive"),
        (lambda: AdaptiveDPM(h_init=math.inf), "h_init must be positive and finite"),
        (lambda: AdaptiveDPM(eta=2.0), r"eta must be within \[0, 1\]"),
        (lambda: AdaptiveDPM(max_nfe=0), "max_nfe must be at least 1"),
        (lambda: AdaptiveDPM(controller="pid"), "controller must be Elementary"),  # type: ignore[arg-type]
        (lambda: Elementary(1.0), r"theta must be within \(0, 1\)"),
        (lambda: PID(accept_safety=0.0), "accept_safety must be within"),
        (lambda: PID(icoeff=0.0), "pcoeff . icoeff . dcoeff must be positive"),
        (lambda: PID(pcoeff=math.nan), "must be finite"),
    ],
)
def test_bad_options(make, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        make()


@pytest.mark.parametrize("alias", ["dpm_adaptive", "sample_dpm_adaptive", "DPM adaptive"])
def test_names_that_users_know(alias: str) -> None:
    assert ss.get_solver(alias) == AdaptiveDPM(3, controller=PID(), norm="batch")
