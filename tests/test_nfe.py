"""A plan says how often it calls the network, and a budget is filled as well as the solver allows."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from torch import Tensor

import scoresde as ss
from scoresde.rows import Mix, Row, Solver, Step
from tests.problems import FIXED, SOME_SLOW

STEPS = (1, 2, 3, 4, 5, 6, 10)
BUDGETS = range(1, 21)


@dataclass
class Counting:
    """A network that counts its calls."""

    calls: int = 0

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        self.calls += 1
        return 0.5 * x


@pytest.mark.parametrize("solver", FIXED.values(), ids=FIXED)
@pytest.mark.parametrize("end", ["zero", pytest.param("eps", marks=pytest.mark.slow)])
def test_nfe_is_what_a_network_counts(solver: Solver, end: str) -> None:
    sde = ss.VP()
    for steps in STEPS:
        network = Counting()
        denoiser = ss.Denoiser(network, sde, prediction="x0")
        ss.sample(denoiser, (2, 1), solver=solver, steps=steps, grid="uniform", end=end)
        plan = ss.plan_for(solver, sde, steps=steps, grid="uniform", end=end)
        assert network.calls == plan.nfe == len(plan.times)


def assert_filled(solver: Solver, budgets: Sequence[int], end: str, most_gain: float | None = None) -> None:
    """Of all step counts whose evaluations fit, the largest is taken."""
    sde = ss.VP()

    def planned(variant: Solver) -> list[ss.Plan]:
        return [ss.plan_for(variant, sde, steps=n, end=end, most_gain=most_gain) for n in range(1, max(budgets) + 2)]

    own = planned(solver)
    for budget in budgets:
        variant = solver.for_budget(budget, to_data=end == "zero")
        plans = own if variant is solver else planned(variant)
        fitting = [plan for plan in plans if plan.nfe <= budget]
        if fitting:
            assert ss.plan_for(solver, sde, nfe=budget, end=end, most_gain=most_gain) == fitting[-1]
        else:
            with pytest.raises(ValueError, match=f"nfe={budget} is too small for {solver.name}"):
                ss.plan_for(solver, sde, nfe=budget, end=end, most_gain=most_gain)


@pytest.mark.parametrize("solver", SOME_SLOW)
def test_some_budgets_are_filled(solver: Solver) -> None:
    assert_filled(solver, (1, 4, 9), "eps")


@pytest.mark.slow
@pytest.mark.parametrize("solver", FIXED.values(), ids=FIXED)
@pytest.mark.parametrize(("end", "most_gain"), [("zero", None), ("eps", float("inf"))])
def test_every_budget_is_filled(solver: Solver, end: str, most_gain: float | None) -> None:
    assert_filled(solver, BUDGETS, end, most_gain=most_gain)


@dataclass(frozen=True)
class Jumpy(Solver):
    """Euler that looks twice in grids of an even number of steps: its cost goes up and down."""

    order = 1
    kind = "x0"
    evaluations = 2
    memory = 0  # type: ignore[assignment]
    name = "jumpy"  # type: ignore[assignment]

    def rows(self, step: Step) -> list[Row]:
        kept = step.t.sigma / step.s.sigma
        last = Row(step.s, "x0", Mix(x=kept, d=(step.t.alpha - kept * step.s.alpha,)))
        return [Row(step.s, "x0", Mix(x=1.0)), last] if step.steps % 2 == 0 else [last]


def test_a_cost_that_goes_up_and_down_is_searched_rightly() -> None:
    assert_filled(Jumpy(), BUDGETS, "eps")
    assert [ss.plan_for(Jumpy(), ss.VP(), nfe=n, end="eps").nfe for n in (5, 6, 7)] == [5, 5, 7]


def test_large_budgets_take_few_plans(monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules["scoresde.sample"]  # as an attribute of scoresde it is the function
    made = []
    make = module.make_fixed_plan
    monkeypatch.setattr(module, "make_fixed_plan", lambda *a, **k: made.append(a) or make(*a, **k))
    assert ss.plan_for("heun", ss.VP(), nfe=401, end="zero").nfe == 401
    assert len(made) < 20


def test_a_budget_below_one_step_says_what_one_costs() -> None:
    with pytest.raises(ValueError, match="nfe=2 is too small for dpm-solver-3, which needs at least 3"):
        ss.plan_for("dpm-solver-3", ss.EDM(), nfe=2, end="eps", most_gain=float("inf"))
    assert ss.plan_for("dpm-solver-3", ss.EDM(), nfe=2, end="eps").nfe == 2  # as steps of order 1
