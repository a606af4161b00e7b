"""Plans: canonical matrices, printing, comparing, saving, validation; and the run's ask/tell, pausing and memory."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import scoresde as ss
from scoresde.plan import plan_steps
from scoresde.targets import GaussianMixture
from tests.problems import FIXED

SDE = ss.VP()
GRID = ss.get_grid("log-snr", SDE, 5)


def plan_of(name: str, steps: int = 5, end: str = "zero") -> ss.Plan:
    plan = ss.make_plan(name, SDE, ss.get_grid("log-snr", SDE, steps, end=end))
    assert isinstance(plan, ss.Plan)
    return plan


def drive(run: ss.Run, denoiser: ss.BaseDenoiser) -> torch.Tensor:
    while not run.done:
        run.tell(denoiser(run.x, run.t))
    return run.sample


# -- canonical form --------------------------------------------------------------------------------


def test_matrices_of_two_ddim_steps_by_hand() -> None:
    s, t = SDE.point(1.0), SDE.point(0.4)
    end = SDE.point(0.1)
    A, B, C = ss.make_plan("ddim", SDE, [1.0, 0.4, 0.1]).matrices()
    a1, a2 = t.sigma / s.sigma, end.sigma / t.sigma
    b1, b2 = t.alpha - a1 * s.alpha, end.alpha - a2 * t.alpha
    assert A.tolist() == pytest.approx([1.0, a1, a1 * a2], rel=1e-14)
    assert B.flatten().tolist() == pytest.approx([0, 0, b1, 0, a2 * b1, b2], rel=1e-13)
    assert C.shape == (3, 0)


@pytest.mark.parametrize("name", FIXED)
def test_running_is_the_canonical_form(name: str) -> None:
    """x_i = A_i x_T + sum B_ij m_j + sum C_ik z_k with the predictions and noises of a real run."""
    plan, denoiser = plan_of(name), GaussianMixture.five().denoiser(SDE)
    generator = torch.Generator().manual_seed(0)
    x_T = torch.randn(3, 2, dtype=torch.float64, generator=generator)
    z = torch.randn(max(plan.noises, 1), 3, 2, dtype=torch.float64, generator=generator)
    run, states, predictions, made = plan.start(x_T, noise=lambda k: z[k]), [], [], []
    for row in plan.rows:
        if row.at is not None:
            states.append(run.x)
            made.append(len(predictions))
            x0 = denoiser(run.x, run.t)
            predictions += [x0, 0.5 * x0][: row.made]
            run.tell(x0, unconditional=0.5 * x0)
    states.append(run.sample)
    A, B, C = plan.matrices()
    assert all(
        (B[i, j:] == 0).all() for i, j in enumerate(made)
    )  # no state depends on its own prediction or a later one
    expected = (
        A[:, None, None] * x_T
        + torch.einsum("ij,jbd->ibd", B, torch.stack(predictions))
        + torch.einsum("ik,kbd->ibd", C, z[: plan.noises])
    )
    assert torch.allclose(torch.stack(states), expected, atol=1e-10)


def test_plan_steps_need_not_join() -> None:
    plan = plan_steps(ss.get_solver("ddim"), SDE, [(1.0, 0.52), (0.5, 0.1)])
    assert plan.times == (1.0, 0.5)
    assert plan.end.t == 0.1


# -- data --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FIXED)
def test_json_round_trip_is_exact(name: str, tmp_path: Path) -> None:
    plan = plan_of(name)
    plan.save(tmp_path / "plan.json")
    assert ss.Plan.load(tmp_path / "plan.json") == plan
    json.loads(plan.to_json())


def test_flow_plans_have_finite_json() -> None:
    """alpha = 0 at the start and sigma = 0 at the end must not write infinities."""
    plan = ss.make_plan("dpmpp-3m", ss.RectifiedFlow(), ss.get_grid("uniform", ss.RectifiedFlow(), 4))
    assert ss.Plan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "not a plan of format"),
        ('{"format": "scoresde-plan/1"}', "not a valid plan"),
        ('{"format": "scoresde-plan/1", "rows": [{}], "begin": [1, 1, 0], "end": [1, 1, 0], "solver": "x"}', "'at'"),
        ("[1]", "not a plan"),
    ],
)
def test_bad_json(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ss.Plan.from_json(text)


def test_equality_with_tolerance() -> None:
    plan = plan_of("dpmpp-2m")
    row = plan.rows[1]
    near = replace(plan, rows=(plan.rows[0], row._replace(x=row.x._replace(x=row.x.x + 1e-9)), *plan.rows[2:]))
    assert near != plan
    assert near.allclose(plan, atol=1e-8)
    assert not near.allclose(plan, atol=1e-12)
    assert not plan.allclose(plan_of("ddim"))
    assert not plan.allclose(plan_of("dpmpp-2m", steps=6))


def test_print_is_a_table_of_every_row() -> None:
    plan = plan_of("heun", steps=2)
    text = str(plan)
    assert "heun" in text
    assert f"nfe={plan.nfe}" in text
    assert len(text.splitlines()) == 2 + len(plan.rows)
    assert "m[-1]" in text
    assert "anchor" in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: replace(p, rows=()), "at least one evaluation"),
        (lambda p: replace(p, rows=(p.rows[0]._replace(kind="x1"),)), "rows\\[0\\].kind='x1' is unknown"),
        (lambda p: replace(p, rows=(p.rows[0]._replace(x=ss.Mix(x=math.nan)),)), "rows\\[0\\] has a coefficient"),
        (lambda p: replace(p, rows=(p.rows[0]._replace(x=ss.Mix()),)), "no non-zero coefficient"),
        (lambda p: replace(p, rows=(p.rows[0]._replace(x=ss.Mix(d=(1.0, 1.0))),)), "only 1 have been made"),
        (lambda p: replace(p, rows=(p.rows[0]._replace(x=ss.Mix(x=1.0, z=((3, 1.0),))),)), "numbered 0, 1, 2"),
    ],
)
def test_invalid_plans(change, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        change(plan_of("ddim"))


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ([1.0], "at least 2 times, got 1"),
        ([0.5, 0.6], "grid\\[1\\]=0.6 increases from grid\\[0\\]=0.5"),
        ([0.5, 0.5], "grid\\[1\\]=0.5 repeats grid\\[0\\]"),
        ([0.5, 0.5 - 1e-16, 0.1], "grid\\[1\\]=0.49999.* is too close to grid\\[0\\]=0.5"),
        ([2.0, 0.5], "grid\\[0\\]=2.0 is outside"),
        ([1.0, -0.1], "grid\\[1\\]=-0.1 is outside"),
        ([1.0, math.nan], "grid\\[1\\]=nan is outside"),
    ],
)
def test_bad_grids(grid: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ss.make_plan("ddim", SDE, grid)


# -- running --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FIXED)
def test_nfe_is_counted_and_memory_is_bounded(name: str) -> None:
    plan, denoiser = plan_of(name, steps=7), GaussianMixture.five().denoiser(SDE)
    run, calls, most = plan.start(torch.randn(2, 2, dtype=torch.float64)), 0, 0
    while not run.done:
        state = run.state_dict()
        tensors = [state["x"], *state["history"], *([] if state["anchor"] is None else [state["anchor"]])]
        most = max(most, len({t.data_ptr() for t in tensors}))
        run.tell(denoiser(run.x, run.t))
        calls += 1
    assert calls == plan.nfe == run.nfe
    assert most <= plan.memory + 2


@pytest.mark.parametrize("name", ["dpmpp-3m", "heun", "dpm-solver-3", "ddpm", "euler-maruyama"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_pause_save_load_resume_is_bitwise(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    plan, denoiser = plan_of(name), GaussianMixture.five().denoiser(SDE)
    x_T = torch.randn(3, 2).to(dtype)
    expected = drive(plan.start(x_T, seed=7, index=5), denoiser)
    for stop in range(plan.nfe + 1):
        run = plan.start(x_T, seed=7, index=5)
        for _ in range(stop):
            run.tell(denoiser(run.x, run.t))
        run.save(tmp_path / "run.pt")
        assert torch.equal(drive(ss.Run.load(tmp_path / "run.pt"), denoiser), expected)


def test_loading_never_executes(tmp_path: Path) -> None:
    import os
    import pickle

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    torch.save({"format": "scoresde-run/1", "x": Evil()}, tmp_path / "run.pt")
    with pytest.raises(pickle.UnpicklingError):
        ss.Run.load(tmp_path / "run.pt")
    assert not (tmp_path / "executed").exists()


def test_user_noise_must_come_back_after_loading(tmp_path: Path) -> None:
    plan = plan_of("ddpm")
    noise = {k: torch.randn(2, 2) for k in range(plan.noises)}
    run = plan.start(torch.zeros(2, 2), noise=noise.__getitem__)
    run.save(tmp_path / "run.pt")
    with pytest.raises(ValueError, match="noise: this run was started with a noise function"):
        ss.Run.load(tmp_path / "run.pt")
    assert not ss.Run.load(tmp_path / "run.pt", noise=noise.__getitem__).done


def test_half_precision_accumulates_in_float32() -> None:
    """The bf16 run differs from the float64 one by the rounding of the network's input only, not of every step."""
    plan, denoiser = plan_of("dpmpp-2m", steps=50), GaussianMixture.five().denoiser(SDE)
    x_T = torch.randn(64, 2, generator=torch.Generator().manual_seed(0)).bfloat16()
    half = drive(plan.start(x_T), denoiser)
    assert half.dtype == torch.bfloat16
    run = plan.start(x_T)
    assert run.state_dict()["x"].dtype == torch.float32
    assert run.x.dtype == torch.bfloat16


def test_telling_other_kinds_is_the_same() -> None:
    plan, denoiser = plan_of("dpm-solver-3"), GaussianMixture.five().denoiser(SDE)
    x_T = torch.randn(3, 2, dtype=torch.float64)
    expected = drive(plan.start(x_T), denoiser)
    for kind in ("epsilon", "v", "score", "flow"):
        run = plan.start(x_T)
        while not run.done:
            run.tell(denoiser.predict(run.x, run.t, kind), kind)
        assert torch.allclose(run.sample, expected, atol=1e-10)


def test_a_run_says_what_is_wrong() -> None:
    plan, x = plan_of("ddim"), torch.zeros(2, 3)
    run = plan.start(x)
    with pytest.raises(
        ValueError, match=r"prediction must be a tensor of shape \(2, 3\), like the state; got \(2, 4\)"
    ):
        run.tell(torch.zeros(2, 4))
    with pytest.raises(TypeError, match="floating-point"):
        run.tell(torch.zeros(2, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"nearest: .*epsilon"):
        run.tell(x, kind="eps")
    with pytest.raises(ValueError, match="not done: 0 of 5"):
        _ = run.sample
    while not run.done:
        run.tell(x)
    with pytest.raises(ValueError, match="done"):
        run.tell(x)
    with pytest.raises(TypeError, match="x_T must be a tensor of floating-point"):
        plan.start(torch.zeros(2, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match="at least one sample"):
        plan.start(torch.zeros(0, 3))
    with pytest.raises(ValueError, match="check='never' is unknown"):
        plan.start(x, check="never")


def test_non_finite_predictions_name_the_step_the_time_and_the_count() -> None:
    plan, x = plan_of("dpmpp-2m", end="eps"), torch.zeros(2, 3)
    bad = torch.zeros(2, 3)
    bad[0, 1] = math.nan
    run = plan.start(x)
    for i in range(plan.nfe):
        run.tell(bad if i == 2 else x)
    message = rf"evaluation 2 of 5 \(t={plan.times[2]:.6g}\) is not finite; the sample has 1 non-finite values of 6"
    with pytest.raises(ValueError, match=message):
        _ = run.sample
    run = plan.start(x, check="each")
    run.tell(x)
    with pytest.raises(ValueError, match=r"evaluation 1 of 2 .* is not finite; it has 1 non-finite values of 6"):
        run.tell(bad)
    run = plan.start(x, check="off")
    while not run.done:
        run.tell(bad)
    assert run.sample.isnan().any()


@given(seed=st.integers(0, 2**32), index=st.integers(0, 10**9))
def test_noise_of_a_run_follows_seed_and_index(seed: int, index: int) -> None:
    plan = plan_of("ddpm", steps=2)
    both = plan.start(torch.zeros(2, 3), seed=seed, index=index)
    second = plan.start(torch.zeros(1, 3), seed=seed, index=index + 1)
    for run in (both, second):
        while not run.done:
            run.tell(torch.zeros_like(run.x))
    assert torch.equal(both.sample[1:], second.sample)
