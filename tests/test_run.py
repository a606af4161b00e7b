"""A run: no value is read in its loop, what it gave is not written to, editing the state, the kinds it is told."""

import math

import pytest
import torch
from torch import Tensor

import scoresde as ss
from scoresde.mix import linear
from scoresde.script import FIRST
from tests.problems import FIXED

SDE = ss.VP()


def plan_of(name: str, steps: int = 5, end: str = "eps") -> ss.Plan:
    plan = ss.make_plan(name, SDE, ss.get_grid("log-snr", SDE, steps, end=end))
    assert isinstance(plan, ss.Plan)
    return plan


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# -- no value is read --------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("own_noise", [False, True])
def test_nothing_in_the_loop_reads_a_value(own_noise: bool) -> None:
    """Tensors on the meta device have no values: whatever waited for the device to read one would fail."""
    x_T = torch.empty(2, 3, device="meta")
    noise = (lambda k: torch.empty(2, 3, device="meta")) if own_noise else None
    for name in FIXED:
        run = plan_of(name, steps=3, end="zero").start(x_T, noise=noise)
        while not run.done:
            run.tell(torch.empty_like(run.x), "epsilon", torch.empty_like(run.x))
        assert run.x.device.type == "meta"


@pytest.mark.slow
def test_reading_a_value_on_the_meta_device_fails() -> None:
    """What the test above relies on; marks of predictions are read at the end, and each time if that is asked for."""
    plan, x_T = plan_of("ddim"), torch.empty(2, 3, device="meta")
    with pytest.raises((RuntimeError, NotImplementedError)):
        plan.start(x_T, check="each").tell(x_T)
    run = plan.start(x_T)
    while not run.done:
        run.tell(x_T)
    with pytest.raises((RuntimeError, NotImplementedError)):
        _ = run.sample


# -- what it gives and takes --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["dpmpp-3m", "unipc-3", "heun", "ddpm", "dpm-solver-3", "sa-solver", "euler-cfgpp"])
def test_what_a_run_gave_or_was_told_is_never_written_to(name: str) -> None:
    plan = plan_of(name)
    run = plan.start(torch.randn(2, 3, dtype=torch.float64))
    seen: list[tuple[Tensor, Tensor]] = []
    while not run.done:
        state = run.state_dict()
        told = [torch.randn(2, 3, dtype=torch.float64) for _ in range(2)]
        seen += [(t, t.clone()) for t in (run.x, *state["history"], *state["held"].values(), *told)]
        run.tell(told[0], "v", told[1])
    assert all(torch.equal(now, then) for now, then in seen)


def test_a_run_may_be_told_another_kind_each_time() -> None:
    plan = plan_of("dpmpp-3m", steps=6)
    x_T = torch.randn(3, 2, dtype=torch.float64)
    kinds = ("x0", "epsilon", "v", "score", "flow", "x0")
    first, other = plan.start(x_T), plan.start(x_T)
    while not first.done:
        kind, at, x = kinds[first.nfe], first.point, first.x
        x0 = x / (1 + x * x)
        noise = (x - at.alpha * x0) / at.sigma
        told = {
            "x0": x0,
            "epsilon": noise,
            "v": at.alpha * noise - at.sigma * x0,
            "score": -noise / at.sigma,
            "flow": noise - x0,
        }
        first.tell(x0)
        other.tell(told[kind], kind)
    assert torch.allclose(first.sample, other.sample, atol=1e-12)


def test_a_run_may_be_told_the_output_of_a_preconditioned_network() -> None:
    """Its conversion to x0 is part of what the run does, and of what it saves doing."""
    plan, precondition = plan_of("dpmpp-3m"), ss.EDMPrecond(0.7)
    raw, told = (plan.start(torch.randn(3, 2, dtype=torch.float64, generator=seeded(1))) for _ in range(2))
    while not raw.done:
        output = torch.sin(raw.x)
        _, c_skip, c_out = precondition.coefficients(raw.point.alpha, raw.point.sigma)
        told.tell(c_skip * told.x + c_out * output)
        raw.tell(output, precondition)
    assert torch.allclose(raw.sample, told.sample, atol=1e-12)


def test_prediction_of_half_precision_is_taken_into_the_wider_state() -> None:
    run = plan_of("ddim").start(torch.zeros(1, 2))
    run.tell(torch.ones(1, 2, dtype=torch.bfloat16))
    assert run.x.dtype == torch.float32


# -- editing the state --------------------------------------------------------------------------------


EDITED = {"ddim", "dpmpp-3m", "unipc-3", "dpm-solver-3", "heun", "deis-tab3", "sa-solver"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in EDITED else pytest.mark.slow) for name in FIXED]
)
def test_an_edit_carries_on_in_full(name: str) -> None:
    """All predictions held fixed, the sample moves by the factor that takes the state there, whenever it is edited."""
    plan = plan_of(name)
    x_T, delta = torch.randn(1, 4, dtype=torch.float64), torch.randn(1, 4, dtype=torch.float64)
    told = torch.randn(plan.nfe, 2, 1, 4, dtype=torch.float64)

    def sample(edited_at: int | None, start: Tensor = x_T) -> tuple[Tensor, list[Tensor]]:
        run, states = plan.start(start, seed=3), []
        while not run.done:
            if run.nfe == edited_at:
                run.edit(run.x + delta)
            states.append(run.x)
            run.tell(told[run.nfe, 0], run.kind, told[run.nfe, 1])
        return run.sample, states

    plain, states = sample(None)
    moved, moved_states = sample(None, x_T + delta)  # by definition: an edit before the first evaluation
    for i in range(plan.nfe):
        factor = ((moved_states[i] - states[i]) / delta)[0, 0]
        assert torch.allclose((sample(i)[0] - plain) * factor, moved - plain, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_every_state_and_anchor_has_a_finite_share() -> None:
    for name in FIXED:
        assert all(map(math.isfinite, plan_of(name, steps=6, end="zero").script.shares))


def test_an_edit_keeps_the_state_wide_and_says_what_is_wrong() -> None:
    run = plan_of("heun").start(torch.zeros(2, 3, dtype=torch.bfloat16))
    run.edit(torch.ones(2, 3, dtype=torch.float32) * 1.001)
    assert run.state_dict()["x"].dtype == torch.float32
    assert run.state_dict()["anchor"] is None  # it is the state, edited or not
    with pytest.raises(ValueError, match=r"x must have the shape of the state, \(2, 3\); got \(2, 4\)"):
        run.edit(torch.zeros(2, 4))
    with pytest.raises(TypeError, match="x must be a tensor of floating-point numbers, got"):
        run.edit(torch.zeros(2, 3, dtype=torch.int64))


# -- the arithmetic --------------------------------------------------------------------------------


def test_linear_mix() -> None:
    a, b = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 5.0])
    assert linear([(1.0, a), (0.0, b)]) is a
    assert linear([(2.0, a)]).tolist() == [2.0, 4.0]
    assert linear([(2.0, a), (1.0, b)]).tolist() == [5.0, 9.0]
    assert linear([(2.0, a), (-1.0, b), (0.5, a)]).tolist() == [-0.5, 0.0]
    assert (a.tolist(), b.tolist()) == ([1.0, 2.0], [3.0, 5.0])
    with pytest.raises(ValueError, match="at least one non-zero coefficient"):
        linear([(0.0, a)])


def test_a_prediction_of_no_further_use_is_not_converted() -> None:
    """Its conversion is part of the mix. One that the history needs is made as the state needs it, without a factor."""
    assert plan_of("ddim").script[0, "epsilon"].converts == ()
    line = plan_of("dpmpp-2m").script[0, "epsilon"]
    assert len(line.converts) == 1
    assert line.x[0] == FIRST


def test_a_prediction_that_needs_no_conversion_is_kept_as_it_is() -> None:
    plan, told = plan_of("dpmpp-2m"), torch.randn(2, 3)
    run = plan.start(torch.randn(2, 3))
    run.tell(told)
    assert run.state_dict()["history"][0] is told


@pytest.mark.parametrize("kind", ["x0", "epsilon"])
def test_runs_saved_before_predictions_were_kept_times_a_number(kind: str) -> None:
    plan, x_T = plan_of("dpmpp-3m"), torch.randn(2, 3, dtype=torch.float64)
    run = plan.start(x_T)
    for _ in range(3):
        run.tell(torch.sin(run.x), kind)
    state = run.state_dict()
    scales = state.pop("scales")
    assert (set(scales) == {1.0}) == (kind == "x0")
    state["history"] = [m / c for m, c in zip(state["history"], scales, strict=True)]
    again = ss.Run.from_state_dict(state)
    for going in (run, again):
        while not going.done:
            going.tell(torch.sin(going.x), kind)
    assert torch.allclose(again.sample, run.sample, rtol=1e-12)


def test_resuming_is_bitwise_where_predictions_are_kept_times_a_number() -> None:
    run = plan_of("dpmpp-3m").start(torch.randn(2, 3))
    for _ in range(3):
        run.tell(torch.sin(run.x), "epsilon")
    again = ss.Run.from_state_dict(run.state_dict())
    for going in (run, again):
        while not going.done:
            going.tell(torch.sin(going.x), "epsilon")
    assert torch.equal(again.sample, run.sample)
