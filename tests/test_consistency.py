"""LCM and TCD: exact with exact consistency functions, and what they do to an ordinary denoiser."""

import math
from collections.abc import Callable

import pytest
import torch

import scoresde as ss
from scoresde.sde import Point
from scoresde.solvers import LCM, TCD
from scoresde.theory import gaussian_moments

PROCESSES = {"vp": ss.VP(), "subvp": ss.SubVP(), "edm": ss.EDM(), "flow": ss.RectifiedFlow()}
VARIANCE = torch.tensor([0.04, 0.5, 2.0], dtype=torch.float64)


@pytest.fixture(params=PROCESSES.values(), ids=list(PROCESSES))
def sde(request: pytest.FixtureRequest) -> ss.SDE:
    return request.param


def planned(solver: ss.Solver, sde: ss.SDE, steps: int = 6, end: str | float = "zero") -> ss.Plan:
    return ss.make_plan(solver, sde, ss.get_grid("uniform", sde, steps, end=end))


def law(plan: ss.Plan, gain: Callable[[int, Point], torch.Tensor]) -> torch.Tensor:
    """The variance of the sample for centred data and a network that multiplies the state by ``gain``."""
    unit = torch.eye(1 + plan.noises, dtype=torch.float64)
    run = plan.start(unit[0].repeat(len(VARIANCE), 1), noise=lambda k: unit[1 + k].repeat(len(VARIANCE), 1))
    while not run.done:
        run.tell(gain(run.nfe, run.point)[:, None] * run.x)
    start = plan.begin.alpha**2 * VARIANCE + plan.begin.sigma**2
    return run.sample[:, 0] ** 2 * start + (run.sample[:, 1:] ** 2).sum(1)


def exact_law(at: Point) -> torch.Tensor:
    return at.alpha**2 * VARIANCE + at.sigma**2


def test_lcm_keeps_nothing_and_tcd_lies_between(sde: ss.SDE) -> None:
    """DDIM, TCD and LCM differ in the noise that they keep."""
    assert planned(TCD(0.0), sde, end="eps").allclose(planned(ss.get_solver("ddim"), sde, end="eps"))
    for end in ("zero", "eps"):
        assert planned(TCD(1.0), sde, end=end).allclose(planned(LCM(), sde, end=end))
        A, B, C = planned(LCM(), sde, end=end).matrices()
        assert (A[1:] == 0).all()
        for M in (B, C):  # each state is the prediction and the noise of its own step
            assert torch.equal(M, M.tril(-1).triu(-1))
            assert (M.diagonal(-1) > 0).all()


@pytest.mark.parametrize("gamma", [0.2, 0.5])
def test_tcd_is_ddim_to_an_earlier_time_and_noise_of_the_process(sde: ss.SDE, gamma: float) -> None:
    """diffusers' formula: x_t = (alpha_t / alpha_u) x_u + sqrt(1 - (alpha_t sigma_u / alpha_u sigma_t)^2) sigma_t z."""
    s, t = sde.point(0.6 * sde.T), sde.point(0.4 * sde.T)
    u = sde.point((1 - gamma) * t.t)
    row = ss.make_plan(TCD(gamma), sde, [s.t, t.t]).rows[0].x
    ddim = ss.make_plan("ddim", sde, [s.t, u.t]).rows[0].x
    c = t.alpha / u.alpha
    assert row.x == pytest.approx(c * ddim.x, rel=1e-12)
    assert row.d[0] == pytest.approx(c * ddim.d[0], rel=1e-12)
    assert row.z[0][1] == pytest.approx(math.sqrt(t.sigma**2 - (c * u.sigma) ** 2), rel=1e-11)


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("end", ["zero", "eps"])
def test_lcm_is_exact_with_a_consistency_function(sde: ss.SDE, steps: int, end: str) -> None:
    """The flow of a Gaussian ends at sqrt(v / (alpha^2 v + sigma^2)) x: one step has the law, and more keep it."""
    plan = planned(LCM(), sde, steps, end)
    got = law(plan, lambda i, at: (VARIANCE / exact_law(at)).sqrt())
    assert torch.allclose(got, exact_law(plan.end), rtol=1e-12)


@pytest.mark.parametrize("end", ["zero", "eps"])
def test_a_consistency_model_may_end_at_some_noise(sde: ss.SDE, end: str) -> None:
    """Its samples have that noise, and no more is added than is missing."""
    solver = ss.get_solver("consistency", rho_min=0.05)
    start, last = sde.t_at_lam(-3.0), sde.t_at_lam(2.0)  # rho = 20 and 0.14
    grid = ss.get_grid("log-snr", sde, 5, start=start, end=last)
    plan = ss.make_plan(solver, sde, grid if end == "eps" else [*grid, 0.0])
    data = VARIANCE + 0.05**2
    got = law(plan, lambda i, at: (data / exact_law(at)).sqrt())
    expected = exact_law(plan.end) if end == "eps" else data
    assert torch.allclose(got, expected, rtol=1e-12)
    below = ss.make_plan(solver, sde, [start, last, sde.t_at_lam(4.0)])
    assert below.noises == 1  # the last level is below 0.05


@pytest.mark.parametrize("gamma", [0.0, 0.3, 0.8])
@pytest.mark.parametrize("end", ["zero", "eps"])
def test_tcd_is_exact_with_a_trajectory_function(sde: ss.SDE, gamma: float, end: str) -> None:
    """A prediction from which DDIM reaches the flow's own point at the time (1 - gamma) t."""
    plan = planned(TCD(gamma), sde, 5, end)
    times = [*plan.times[1:], plan.end.t]

    def gain(i: int, at: Point) -> torch.Tensor:
        aim = sde.point((1 - gamma) * times[i])
        kept = aim.sigma / at.sigma
        return ((exact_law(aim) / exact_law(at)).sqrt() - kept) / (aim.alpha - kept * at.alpha)

    assert torch.allclose(law(plan, gain), exact_law(plan.end), rtol=1e-11)


@pytest.mark.parametrize("sde", [ss.VP(), ss.EDM()], ids=lambda s: s.name)
@pytest.mark.parametrize("solver", [LCM(), TCD(0.5)], ids=["lcm", "tcd"])
@pytest.mark.slow
def test_with_an_ordinary_denoiser_the_law_tends_to_another(solver: ss.Solver, sde: ss.SDE) -> None:
    end = sde.point_at_lam(1.0)
    kept = sde.rho(0.5 * end.t) / end.rho if isinstance(solver, TCD) else 0.0
    v, rho = VARIANCE, end.rho
    limit = end.alpha**2 * (1 + kept) * (v + rho**2) ** 2 / (2 * v + (1 + kept) * rho**2)
    errors = []
    for steps in (400, 1600):
        plan = ss.make_plan(solver, sde, ss.get_grid("karras", sde, steps, end=end.t))
        errors.append((gaussian_moments(plan, v).variance / limit - 1).abs().max().item())
    assert errors[1] < 0.01
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.15)  # tends to this limit, with order 1
    assert (limit / exact_law(end)).max() < 0.94


def test_lcm_loses_half_of_the_variance_with_an_ordinary_denoiser() -> None:
    plan = ss.make_plan("lcm", ss.VP(), ss.get_grid("karras", ss.VP(), 2000))
    got = gaussian_moments(plan, VARIANCE, 0.7)
    assert torch.allclose(got.variance, VARIANCE / 2, rtol=0.01)
    assert got.mean.tolist() == pytest.approx([0.7] * 3, rel=1e-10)
    one = ss.make_plan("lcm", ss.VP(), ss.get_grid("karras", ss.VP(), 1))
    assert gaussian_moments(one, VARIANCE).variance.max() < 1e-3  # the mean of the data


def test_declared_orders() -> None:
    assert [s.order for s in (LCM(), TCD(), TCD(1.0), TCD(0.0))] == [0, 0, 0, 1]
    assert [s.noises for s in (LCM(), TCD(), TCD(0.0))] == [1, 1, 0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ss.get_solver("lcm", s_noise=-1.0), "s_noise must be finite and at least 0"),
        (lambda: ss.get_solver("lcm", rho_min=-1.0), "rho_min must be finite and at least 0"),
        (lambda: ss.get_solver("tcd", gamma=1.5), r"gamma must be within \[0, 1\], got 1.5"),
        (lambda: ss.get_solver("TCDScheduler", eta=0.3), "'eta' is not an option of solver 'tcd'"),
    ],
)
def test_bad_options(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
