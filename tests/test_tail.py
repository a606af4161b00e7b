"""The rest of a plan from one of its evaluations: announced times, and a sound start."""

import math
from collections.abc import Sequence
from dataclasses import fields, replace
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import scoresde as ss
from scoresde.plan import Plan
from scoresde.rows import Solver
from scoresde.tail import tail
from tests.problems import FIXED

SDE = ss.VP()
NODES = ss.get_grid("log-snr", SDE, 6)


def planned(solver: Solver, nodes: Sequence[float]) -> Plan:
    return ss.make_plan(solver, SDE, nodes, most_gain=solver.most_gain)


def without_start(solver: Solver) -> Solver:
    own = {f.name for f in fields(solver)}  # type: ignore[arg-type]
    return replace(solver, start="lower") if "start" in own else solver  # type: ignore[type-var]


def rest_of(solver: Solver, first: int) -> tuple[Plan, Plan]:
    whole = planned(solver, NODES)
    return whole, tail(whole, first, NODES, partial(planned, without_start(solver)))


@pytest.mark.slow
@pytest.mark.parametrize("solver", FIXED.values(), ids=FIXED)
def test_every_tail_evaluates_at_the_announced_times(solver: Solver) -> None:
    whole = planned(solver, NODES)
    for first in range(whole.nfe):
        rest = tail(whole, first, NODES, partial(planned, without_start(solver)))
        assert rest.times == pytest.approx(whole.times[first:], rel=1e-12)
        assert (rest.begin.t, rest.end) == (pytest.approx(whole.times[first], rel=1e-12), whole.end)


@given(st.sampled_from(sorted(FIXED)), st.floats(0, 1), st.floats(-2, 2))
def test_a_tail_keeps_constant_data(name: str, where: float, value: float) -> None:
    """With a network that always finds the same x0, a state of its marginal ends at this x0, noise apart."""
    solver = FIXED[name]
    whole = planned(solver, NODES)
    rest = tail(whole, int(where * (whole.nfe - 1)), NODES, partial(planned, without_start(solver)))
    if not (solver.keeps_constant_data and solver.deterministic):
        return
    x = torch.full((1, 1), value * rest.begin.alpha + 0.3 * rest.begin.sigma, dtype=torch.float64)
    run = rest.start(x)
    while not run.done:
        run.tell(torch.full_like(x, value))
    assert float(run.sample) == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize("name", ["midpoint", "dpm-solver-2", "dpmpp-2s", "ralston3", "unipc-2"])
def test_a_tail_that_begins_inside_a_step_keeps_constant_data(name: str) -> None:
    """Inner stages go on from the start of their step, which a run that begins at one of them never was at."""
    whole = planned(ss.get_solver(name), NODES)
    for first in range(whole.nfe):
        _, rest = rest_of(ss.get_solver(name), first)
        run = rest.start(torch.full((1, 1), 0.7 * rest.begin.alpha + 0.3 * rest.begin.sigma, dtype=torch.float64))
        states = []
        while not run.done:
            states.append(float(run.x) - 0.7 * run.point.alpha)
            run.tell(torch.full_like(run.x, 0.7))
        assert float(run.sample) == pytest.approx(0.7, abs=1e-9)
        levels = [row.at.sigma for row in rest.rows if row.at is not None]
        assert states == pytest.approx([0.3 * sigma for sigma in levels], abs=1e-9)


@pytest.mark.parametrize("name", ["dpmpp-2m", "unipc-3", "adams-3", "deis-tab-3", "ipndm-4"])
def test_a_multistep_tail_is_the_solver_on_the_rest_of_the_grid(name: str) -> None:
    whole, rest = rest_of(ss.get_solver(name), 2)
    assert rest.allclose(planned(ss.get_solver(name), NODES[2:]))
    assert whole.nfe == rest.nfe + 2


@pytest.mark.parametrize(("name", "stages"), [("heun", 2), ("dpm-solver-3", 3), ("dpmpp-2s", 2), ("rk4", 4)])
def test_a_singlestep_tail_from_a_step_is_the_solver_on_the_rest_of_the_grid(name: str, stages: int) -> None:
    _, rest = rest_of(ss.get_solver(name), 2 * stages)
    assert rest.allclose(planned(ss.get_solver(name), NODES[2:]))


def test_inside_a_step_it_is_ddim_to_the_next_one() -> None:
    whole, rest = rest_of(ss.get_solver("dpm-solver-3"), 4)
    first, second = rest.rows[:2]
    assert (first.x.x, second.x.x) == pytest.approx(
        [SDE.sigma(b) / SDE.sigma(a) for a, b in ((whole.times[4], whole.times[5]), (whole.times[5], whole.times[6]))]
    )
    begin = rest.rows[2].at
    assert begin is not None
    assert Plan(rest.rows[2:], begin, rest.end).allclose(planned(ss.get_solver("dpm-solver-3"), NODES[2:]))


def test_where_the_times_rise_noise_is_added() -> None:
    """Restart goes back to more noise; a tail that begins just before it arrives with the variance of that level."""
    solver = ss.get_solver("restart")
    whole = planned(solver, ss.get_grid("log-snr", SDE, 12))
    rises = [i for i, (a, b) in enumerate(zip(whole.times, whole.times[1:], strict=False)) if b > a]
    assert rises
    for i in rises:
        rest = tail(whole, i, ss.get_grid("log-snr", SDE, 12), partial(planned, solver))
        assert rest.times == pytest.approx(whole.times[i:], rel=1e-12)
        assert rest.noises >= 1


@pytest.mark.parametrize("first", [-1, 6, 100])
def test_no_such_evaluation(first: int) -> None:
    with pytest.raises(ValueError, match="evaluation of the plan, 0 to 5"):
        rest_of(ss.get_solver("ddim"), first)


def test_a_tail_of_none_is_the_whole() -> None:
    whole, rest = rest_of(ss.get_solver("dpmpp-2m"), 0)
    assert rest.allclose(whole)
    assert math.isclose(rest.begin.t, SDE.T)
