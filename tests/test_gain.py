"""The gain of a step: its known values, and that limiting it makes few steps better and leaves fine grids alone."""

import math
from itertools import pairwise

import pytest

import scoresde as ss
from scoresde.gain import step_gain
from scoresde.rows import Step
from tests.problems import FIXED, OnMixture
from tests.test_sde import PROCESSES


def gain(name: str, sde: ss.SDE, s: float, t: float, past: tuple[float, ...] = ()) -> float:
    solver = ss.get_solver(name)
    step = Step(sde, sde.point(s), sde.point(t), tuple(map(sde.point, past)), 5, 10)
    return step_gain(solver.rows(step), step, step.s.sigma, not solver.deterministic)[0]


@pytest.mark.parametrize("sde", PROCESSES.values(), ids=PROCESSES)
@pytest.mark.parametrize("name", ["ddim", "ddpm", "euler-flow", "dpmpp-1", "sde-dpmpp-1", "er-sde-1"])
def test_first_order_exponential_steps_have_gain_1(name: str, sde: ss.SDE) -> None:
    s, t = sde.t_at_lam(-2.0), sde.t_at_lam(1.5)
    assert gain(name, sde, s, t) == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("h", [0.1, 1.0, 3.0])
def test_gain_of_heun_grows_as_the_step_in_sigma(h: float) -> None:
    """In EDM, x_t = x_s + (t - s) (eps_s + eps_t) / 2 puts the weight (exp(h) - 1) / 2 on the prediction at t."""
    t, e = 0.5, math.exp(h)
    on_t = (e - 1) / 2
    # eps_s = (x_s - D_s) / s, and eps_t = (x_u - D_t) / t with x_u = x_s + (t - s) eps_s; all weights sum to 1.
    in_state = 1 + (1 - e) / (2 * e) - on_t * (1 / e)
    on_s = 1 - in_state - on_t
    expected = (abs(in_state) + abs(on_s) + on_t + t) / (1 + t)
    assert gain("heun", ss.EDM(), e * t, t) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("solver", FIXED.values(), ids=FIXED)
def test_gain_tends_to_1(solver: ss.Solver) -> None:
    sde = ss.VP()
    t, s, *past = (sde.point(sde.t_at_lam(-0.002 * i)) for i in range(20))
    route = tuple(pairwise([*reversed(past), s, t]))
    step = Step(sde, s, t, tuple(past[: solver.memory]), len(past), len(past) + 30, route)
    # diffusers' slip in the sign of a term of order h leaves weights that do not vanish with h: its order is 1.
    limit = 2.0 if solver.name == "sde-dpmpp-3m-diffusers" else 1.0
    gain, _ = step_gain(solver.rows(step), step, step.s.sigma, not solver.deterministic)
    assert gain == pytest.approx(limit, abs=0.15 if solver.name == "exprk6s16" else 0.1)  # its weights are large


@pytest.mark.slow
@pytest.mark.parametrize("solver", FIXED.values(), ids=FIXED)
def test_fine_grids_are_left_alone(solver: ss.Solver) -> None:
    sde = ss.VP()
    # The sixth order has weights of up to a thousand in an inner stage.
    grid = ss.get_grid("log-snr", sde, 480 if solver.name == "exprk6s16" else 120, end=sde.t_at_lam(3.0))
    assert ss.plan_for(solver, sde, grid=grid) == ss.make_plan(solver, sde, grid)


def test_a_long_last_step_has_a_lower_order() -> None:
    """What dpm-solver and diffusers have a rule for below 10 and 15 steps; here of any number."""
    problem = OnMixture(PROCESSES["discrete"])
    grid = ss.get_grid("uniform", problem.sde, 20, end="eps")
    limited, textbook = (ss.plan_for("dpmpp-2m", problem.sde, grid=grid, most_gain=g) for g in (None, math.inf))
    assert limited.rows[:-1] == textbook.rows[:-1]
    assert (len(limited.rows[-1].x.d), len(textbook.rows[-1].x.d)) == (1, 2)


@pytest.mark.parametrize(
    ("name", "process", "grid", "steps", "at_least"),
    [
        ("heun", "edm", "karras", 4, 3.0),
        ("dpmpp-2m", "discrete", "uniform", 10, 3.0),
        ("unipc-3", "discrete", "uniform", 10, 10.0),
        ("adams-5-rk", "vp", "log-snr", 6, 10.0),
    ],
)
def test_errors_at_few_steps_are_smaller(name: str, process: str, grid: str, steps: int, at_least: float) -> None:
    problem, solver = OnMixture(PROCESSES[process]), ss.get_solver(name)
    plans = (ss.plan_for(solver, problem.sde, steps=steps, grid=grid, end="eps", most_gain=g) for g in (None, math.inf))
    limited, textbook = (error_of(problem, plan) for plan in plans)
    assert limited < textbook / at_least


def error_of(problem: OnMixture, plan: ss.Plan) -> float:
    run = plan.start(problem.x_T)
    while not run.done:
        run.tell(problem.denoiser(run.x, run.t))
    return (run.sample - problem.exact).square().mean().sqrt().item()


def test_noise_that_a_step_leaves_counts_in_the_next() -> None:
    """Each step of reverse diffusion leaves too much noise for one; together they would leave ever more."""
    sde = ss.EDM()
    step = Step(sde, sde.point(40.0), sde.point(10.0), (), 1, 3)
    rows = ss.get_solver("sde-dpm-solver-1").rows(step)
    alone, left = step_gain(rows, step, 40.0, True)
    after, more = step_gain(rows, step, 80.0, True)
    assert left > 10.0
    assert more > left
    assert after > alone


def test_a_limit_below_1_is_refused() -> None:
    with pytest.raises(ValueError, match=r"most_gain must be at least 1, the gain of DDIM, got 0\.5"):
        ss.make_plan("heun", ss.EDM(), [10.0, 1.0], most_gain=0.5)
