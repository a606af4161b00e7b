"""Restart sampling: against a plain loop, the costs of the paper's settings, where it restarts, its law."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

import scoresde as ss
from scoresde.solvers import Restart, RungeKutta
from scoresde.solvers.restart import CIFAR10_EDM, CIFAR10_VP, IMAGENET64_EDM, Interval
from scoresde.targets import GaussianMixture
from scoresde.theory import gaussian_moments
from tests.problems import slopes

EDM = ss.EDM()


def planned(solver: ss.Solver, steps: int = 18, end: str | float = "zero", sde: ss.SDE = EDM) -> ss.Plan:
    return ss.make_plan(solver, sde, ss.get_grid("karras", sde, steps, end=end))


def levels(plan: ss.Plan) -> list[float]:
    return [round(row.at.rho, 6) if row.at else 0.0 for row in plan.rows]


@pytest.mark.parametrize(
    ("intervals", "steps", "nfe"), [(CIFAR10_EDM, 18, 43), (CIFAR10_VP, 18, 43), (IMAGENET64_EDM, 36, 203)]
)
def test_the_papers_settings_cost_what_the_paper_says(intervals: tuple[Interval, ...], steps: int, nfe: int) -> None:
    solver = Restart(intervals=intervals)
    plan = planned(solver, steps)
    assert plan.nfe == nfe == 2 * steps - 1 + solver.further_evaluations
    assert plan.noises == sum(i.restarts for i in intervals)


def plain_restart(denoise, x: Tensor, grid: list[float], intervals: tuple[Interval, ...], z: Tensor) -> Tensor:
    """Algorithms 1 and 2 with Heun, written out in the variable of EDM."""

    def heun(x: Tensor, s: float, t: float) -> Tensor:
        d = (x - denoise(x, s)) / s
        if t == 0:
            return x - s * d
        end = x + (t - s) * d
        return x + (t - s) * 0.5 * (d + (end - denoise(end, t)) / t)

    draws = iter(z)
    nodes = {min(range(len(grid)), key=lambda k: abs(grid[k] - i.t_min)): i for i in intervals}
    for n, (s, t) in enumerate(pairwise(grid), start=1):
        x = heun(x, s, t)
        if n not in nodes:
            continue
        _, t_max, restarts, points = nodes[n]
        sub = torch.linspace(t_max ** (1 / 7), t ** (1 / 7), points, dtype=torch.float64).pow(7).tolist()
        for _ in range(restarts):
            x = x + math.sqrt(t_max**2 - t**2) * next(draws)
            for a, b in pairwise(sub):
                x = heun(x, a, b)
    return x


@pytest.mark.parametrize("sde", [ss.EDM(), ss.VP(), ss.RectifiedFlow(T=0.98)], ids=lambda s: s.name)
@pytest.mark.parametrize("end", ["zero", "eps"])
def test_is_the_papers_algorithm(sde: ss.SDE, end: str) -> None:
    intervals = (Interval(5.0, 9.0, 1, 4), Interval(0.6, 1.1, 3, 3), Interval(0.06, 0.3, 2, 2))
    plan = planned(Restart(intervals=intervals), 12, end, sde)
    generator = torch.Generator().manual_seed(2)
    x = 30.0 * torch.randn(5, 2, dtype=torch.float64, generator=generator)
    z = torch.randn(6, 5, 2, dtype=torch.float64, generator=generator)
    target = GaussianMixture.five()
    denoiser, run = target.denoiser(sde), plan.start(x * plan.begin.alpha, noise=lambda k: z[k])
    while not run.done:
        run.tell(denoiser(run.x, run.t))
    assert plan.noises == 6
    of_edm = target.denoiser(EDM)
    grid = [sde.rho(t) for t in ss.get_grid("karras", sde, 12, end=end)]
    expected = plain_restart(lambda x, rho: of_edm(x, rho), x, grid, intervals, z)
    assert torch.allclose(run.sample / plan.end.alpha, expected, atol=1e-11)


def law_errors(points: list[int], steps: list[int]) -> list[float]:
    """Of the mean and the variance, with as many points of the restarts' grid for each number of steps."""
    sde, v = ss.VP(), torch.tensor([0.04, 0.5, 2.0], dtype=torch.float64)
    end = sde.t_at_lam(2.0)
    errors = []
    for n, steps_taken in zip(points, steps, strict=True):
        plan = planned(Restart(intervals=(Interval(0.14, 0.3, 2, n),)), steps_taken, end, sde)
        got = gaussian_moments(plan, v, 0.7)
        exact = sde.alpha(end) ** 2 * v + sde.sigma(end) ** 2
        errors.append(((got.mean - 0.7 * sde.alpha(end)).abs() + (got.variance - exact).abs()).max().item())
    return errors


def test_weak_order_2_if_the_restarts_are_refined_too() -> None:
    steps = [100, 200, 400]
    assert slopes(law_errors([6, 11, 21], steps), steps) == pytest.approx([2, 2], abs=0.15)
    coarse, fine = law_errors([3, 3], [400, 800])  # the error of two steps from 0.3 to 0.14 remains
    assert coarse == pytest.approx(fine, rel=0.01)
    assert fine > 1e-3


def test_noise_is_exact_on_a_point_mass() -> None:
    """There the inner steps are exact, and the law is that of the process whatever is restarted."""
    sde = ss.VP()
    solver = Restart(RungeKutta("euler"), IMAGENET64_EDM)
    law = gaussian_moments(planned(solver, 9, "eps", sde), torch.zeros(1, dtype=torch.float64), 0.7)
    assert law.variance.item() == pytest.approx(sde.sigma(sde.eps) ** 2, rel=1e-10)
    assert law.mean.item() == pytest.approx(0.7 * sde.alpha(sde.eps), rel=1e-10)


# -- where


def restarted_at(t_min: float, grid: list[float], t_max: float = 50.0) -> list[float]:
    """The levels that a restart from t_min goes down to."""
    plan = ss.make_plan(Restart(RungeKutta("euler"), (Interval(t_min, t_max, 1, 2),)), EDM, grid)
    after_noise = [i for i, row in enumerate(plan.rows) if row.at is None]
    points = [*(row.at for row in plan.rows), plan.end]
    reached = [(points[i + 1], points[i + 2]) for i in after_noise]
    assert all(top and top.rho == pytest.approx(t_max) for top, _ in reached)
    return [round(node.rho, 9) for _, node in reached if node]


@pytest.mark.parametrize(
    ("t_min", "node"),
    [
        *[(4.0, 4.0), (5.9, 4.0), (3.1, 4.0), (2.9, 2.0), (2.0, 2.0), (1.4, 1.0), (1.0, 1.0), (0.7, 1.0), (0.2, 1.0)],
        *[(6.1, None), (8.0, None), (20.0, None)],
    ],
)
def test_restarts_at_the_nearest_node_that_was_reached(t_min: float, node: float | None) -> None:
    """The first node is not reached by a step, and the sample is no node."""
    assert restarted_at(t_min, [8.0, 4.0, 2.0, 1.0, 0.0]) == ([] if node is None else [node])


def test_at_the_end_of_a_grid_and_beyond() -> None:
    grid = [8.0, 4.0, 2.0]
    assert restarted_at(2.0, grid) == restarted_at(2.9, grid) == [2.0]
    assert restarted_at(1.9, grid) == []
    assert restarted_at(2.0, grid, t_max=3.0) == [2.0]
    coarse = [8.0, 4.0, 0.0]
    assert restarted_at(0.5, coarse, t_max=3.9) == []  # the node, 4, is not below t_max
    assert restarted_at(0.5, coarse, t_max=4.1) == [4.0]


def test_intervals_that_share_a_node_follow_each_other() -> None:
    grid = [8.0, 4.0, 2.0, 0.0]
    solver = Restart(RungeKutta("euler"), (Interval(2.1, 5.0, 1, 2), Interval(1.9, 3.0, 2, 2)))
    plan = ss.make_plan(solver, EDM, grid)
    assert levels(plan) == [8.0, 4.0, 0.0, 5.0, 0.0, 3.0, 0.0, 3.0, 2.0]
    assert plan.noises == 3


def test_after_a_first_step_from_pure_noise() -> None:
    sde = ss.RectifiedFlow()
    solver = Restart(RungeKutta("heun"), (Interval(1.0, 5.0, 2, 3),))
    plan = ss.make_plan(solver, sde, [1.0, 0.5, 0.25, 0.0])
    assert plan.rows[0].kind == "x0"
    assert [row.at is None for row in plan.rows[:7]] == [False, True, False, False, False, False, True]
    assert plan.noises == 2


def test_a_budget_is_kept() -> None:
    for nfe in (1, 5, 9, 17, 30, 43):
        assert ss.plan_for("restart", EDM, nfe=nfe, grid="karras").nfe <= nfe
    assert ss.plan_for("restart", EDM, nfe=43, grid="karras").nfe == 43


# -- what is declared, and errors


def test_a_wrapper_declares_what_its_inner_solver_does() -> None:
    inner = ss.get_solver("dpm-solver-3")
    for wrapped in (ss.get_solver("heun-churn", inner=inner), Restart(inner)):
        for name in ("kind", "order", "evaluations", "memory", "keeps_constant_data", "shows_order_at"):
            assert getattr(wrapped, name) == getattr(inner, name)
        assert wrapped.name.startswith("dpm-solver-3-")
    assert Restart(inner, ()).converges == 3
    assert planned(Restart(inner, ())).allclose(planned(inner))
    slow = ss.get_solver("pf-heun")
    assert not Restart(slow).keeps_constant_data
    assert ss.get_solver("heun-churn", inner=ss.get_solver("heun-flow")).starts_at_zero_snr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"intervals": ((0.3, 0.1, 1, 3),)}, "needs 0 < t_min < t_max, restarts >= 1 and points >= 2"),
        ({"intervals": ((0.1, 0.3, 0, 3),)}, "restarts >= 1"),
        ({"intervals": ((0.1, 0.3, 1, 1),)}, "points >= 2"),
        ({"intervals": ((0.1, 0.3),)}, r"tuples \(t_min, t_max, restarts, points\)"),
        ({"intervals": 0.1}, r"tuples \(t_min, t_max, restarts, points\)"),
        ({"exponent": 0.0}, "exponent must be positive"),
        ({"s_noise": -1.0}, "s_noise must be finite and at least 0"),
        ({"inner": ss.get_solver("dpmpp-2m")}, "inner must be deterministic and keep nothing across steps"),
        ({"inner": ss.get_solver("ddpm")}, "inner must be deterministic"),
        ({"inner": Restart()}, "inner must be deterministic"),
    ],
)
def test_bad_options(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ss.get_solver("restart", **options)


def test_an_interval_above_the_process_is_refused() -> None:
    with pytest.raises(ValueError, match=r"goes above the highest noise level of EDM.*80"):
        planned(Restart(intervals=(Interval(0.2, 100.0, 1, 3),)))
