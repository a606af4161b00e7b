"""The analytical first step: what it replaces, what it saves and what it costs."""

import math

import pytest
import torch
from torch import Tensor

import scoresde as ss
from scoresde.rows import Mix, Row, Solver, Step
from scoresde.solvers import AnalyticalFirstStep, ProbabilityFlow, RungeKutta, SinglestepDPM
from scoresde.targets import GaussianMixture
from tests.problems import OnMixture

PROCESSES = {"vp": ss.VP(), "edm": ss.EDM(), "flow": ss.RectifiedFlow()}
TARGET = GaussianMixture.five()


@pytest.fixture(params=PROCESSES.values(), ids=list(PROCESSES))
def sde(request: pytest.FixtureRequest) -> ss.SDE:
    return request.param


class KnownFirst:
    """A denoiser that answers the first call with the closed form."""

    def __init__(self, sde: ss.SDE) -> None:
        self.denoiser, self.sde, self.calls = TARGET.denoiser(sde), sde, 0

    def __call__(self, x: Tensor, t: float) -> Tensor:
        self.calls += 1
        if self.calls > 1:
            return self.denoiser(x, t)
        alpha, sigma = self.sde.alpha(t), self.sde.sigma(t)
        # (x - sigma epsilon) / alpha with epsilon = x / sqrt(alpha^2 + sigma^2); 0 where alpha is.
        return x * (1 - sigma / math.hypot(alpha, sigma)) / alpha if alpha else 0 * x


def sampled(plan: ss.Plan, denoise) -> Tensor:
    x = torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    run = plan.start(x * plan.begin.sigma)
    while not run.done:
        run.tell(denoise(run.x, run.t))
    return run.sample


@pytest.mark.parametrize(
    "inner",
    [
        *(RungeKutta(m, k) for m, k in (("euler", "epsilon"), ("heun", "flow"), ("rk4", "epsilon"), ("kutta3", "x0"))),
        *(SinglestepDPM(2), SinglestepDPM(3), SinglestepDPM(3, kind="x0"), ss.get_solver("ddim")),
        *(ss.get_solver(n) for n in ("ipndm-4", "dpmpp-3m", "lms-4", "deis-tab2", "adams-3-flow", "unipc-3")),
    ],
    ids=lambda s: s.name,
)
@pytest.mark.parametrize("end", ["zero", "eps"])
def test_is_the_inner_solver_whose_first_call_is_answered(inner: Solver, sde: ss.SDE, end: str) -> None:
    grid = ss.get_grid("karras", sde, 6, end=end)
    plan, full = ss.make_plan(AnalyticalFirstStep(inner), sde, grid), ss.make_plan(inner, sde, grid)
    assert plan.nfe == full.nfe - 1
    assert plan.times == full.times[1:]
    ours, theirs = sampled(plan, TARGET.denoiser(sde)), sampled(full, KnownFirst(sde))
    assert torch.allclose(ours, theirs, atol=1e-11)
    assert not torch.allclose(ours, sampled(full, TARGET.denoiser(sde)), atol=1e-6)


def test_a_run_of_one_evaluation_keeps_it(sde: ss.SDE) -> None:
    grid = ss.get_grid("karras", sde, 1)
    assert ss.make_plan("euler-afs", sde, grid).allclose(ss.make_plan("euler", sde, grid))
    two_stages = AnalyticalFirstStep(RungeKutta("heun"))
    assert ss.make_plan(two_stages, ss.EDM(), [80.0, 1.0]).times == (1.0,)


@pytest.mark.slow
def test_the_error_is_of_first_order_and_small_at_high_noise() -> None:
    heun = AnalyticalFirstStep(RungeKutta("heun"))
    assert (heun.order, heun.converges) == (2, 1)
    problem = OnMixture(ss.EDM(), end=0.1)
    assert problem.slopes(heun, (640, 1280))[0] == pytest.approx(1, abs=0.2)
    assert problem.error(heun, 20) < 1.05 * problem.error(RungeKutta("heun"), 20)


@pytest.mark.parametrize("name", ["ddpm", "ddim-cfgpp", "adams-4-rk", "pndm", "sa-solver"])
def test_some_solvers_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="inner must be deterministic, singlestep or with one evaluation"):
        ss.get_solver("afs", inner=ss.get_solver(name))


class Forgetful(ProbabilityFlow):
    """Two stages, the second from where the first has gone."""

    def rows(self, step: Step) -> list[Row]:
        first = Row(step.s, "score", Mix(x=1.0, d=(0.1,)))
        return [first, Row(step.t, "score", Mix(x=1.0, d=(0.1, 0.1)))]


def test_a_step_that_loses_its_start_is_refused() -> None:
    with pytest.raises(ValueError, match="inner must keep the start of its step"):
        ss.make_plan(AnalyticalFirstStep(Forgetful("heun")), ss.EDM(), [80.0, 10.0, 1.0])
