"""Runs by one compiled kernel a row: equal to plain runs, compiled once for a plan."""

import pytest
import torch

import scoresde as ss
from scoresde.fused import Form, FusedRun, advance
from tests.problems import FIXED

SDE = ss.VP()
X_T = torch.randn(2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


def plan_of(solver: str | ss.Solver, steps: int = 5) -> ss.Plan:
    plan = ss.make_plan(solver, SDE, ss.get_grid("log-snr", SDE, steps))
    assert isinstance(plan, ss.Plan)
    return plan


def tell(run: ss.Run) -> None:
    run.tell(torch.sin(3 * run.x), "epsilon", torch.cos(run.x))


def finish(run: ss.Run) -> torch.Tensor:
    while not run.done:
        tell(run)
    return run.sample


FEW = {"ddim", "unipc-3", "dpm-solver-3", "sa-solver", "dpmpp-2m-sde", "euler-cfgpp", "restart"}


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in FEW else pytest.mark.slow) for name in FIXED])
def test_fused_rows_are_those_of_a_run(name: str) -> None:
    plan = plan_of(name)
    expected, got = finish(plan.start(X_T)), finish(FusedRun(plan, X_T, compile=False))
    assert torch.allclose(got, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
def test_compiled_once_for_a_plan_and_never_again_from_row_to_row() -> None:
    """Over the whole catalogue: one graph for each form of plan, whatever the solver and the row."""
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    counters.clear()
    forms = set()
    for solver in FIXED.values():
        plan = plan_of(solver)
        forms.add(Form.of(plan))
        run = FusedRun(plan, X_T, compile="eager")
        while not run.done:
            tell(run)
            assert counters["stats"]["unique_graphs"] == len(forms)
        assert torch.allclose(run.sample, finish(plan.start(X_T)), rtol=1e-9, atol=1e-9)
    assert len(forms) < len(FIXED) / 3


@pytest.mark.slow
@pytest.mark.parametrize("name", ["unipc-3", "dpmpp-2m-sde"])
def test_compiled_to_machine_code(name: str) -> None:
    from torch._inductor.exc import InductorError

    plan, x_T = plan_of(name), X_T.float()
    try:
        got = finish(FusedRun(plan, x_T))
    except InductorError as error:
        pytest.skip(f"no C++ compiler: {error}")
    assert torch.allclose(got, finish(plan.start(x_T)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["unipc-3", "dpm-solver-3", "sa-solver"])
def test_pausing_and_editing(name: str) -> None:
    """A fused run saves what a run saves, and either goes on from it."""
    plan = plan_of(name)
    plain, fused = plan.start(X_T), FusedRun(plan, X_T, compile=False)
    for run in (plain, fused):
        tell(run)
        tell(run)
        run.edit(run.x + 0.1)
    state = fused.state_dict()
    expected = finish(plain)
    for run in (fused, ss.Run.from_state_dict(state)):
        assert torch.allclose(finish(run), expected, rtol=1e-9, atol=1e-9)


def test_half_precision() -> None:
    run = FusedRun(plan_of("dpmpp-2m"), X_T.bfloat16(), compile=False)
    tell(run)
    assert run.x.dtype == torch.bfloat16
    assert run.state_dict()["x"].dtype == torch.float32


def test_kinds_that_cannot_be_converted_are_refused_where_they_are_told() -> None:
    flow = ss.RectifiedFlow()
    plan = ss.make_plan("dpmpp-2m", flow, ss.get_grid("uniform", flow, 3))
    run = FusedRun(plan, X_T, compile=False)
    with pytest.raises(ValueError, match="cannot become 'x0' where alpha = 0"):
        run.tell(X_T, "epsilon")
    run.tell(X_T, "flow")
    run.tell(X_T, "epsilon")
    assert run.nfe == 2


def test_advance_by_hand() -> None:
    """The state x, one prediction that is kept as 2 x + 3 m, an older one, one noise."""
    x, m, old, z = (torch.tensor([v]) for v in (1.0, 10.0, 100.0, 1000.0))
    coefficients = torch.tensor([2.0, 3.0, 1.0, 0.5, 0.25, 0.125])
    new, kept = advance((x,), (m,), (old,), (z,), coefficients)
    assert kept[0].tolist() == [32.0]
    assert new[0].tolist() == [1.0 + 16.0 + 25.0 + 125.0]
