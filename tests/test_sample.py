"""sample(): reproducibility, budgets, conditions, trajectories, and clear errors before any work."""

import math

import pytest
import torch

import scoresde as ss
from scoresde.targets import GaussianMixture

SDE = ss.VP()
MIXTURE = GaussianMixture.five()


class Counting(torch.nn.Module):
    """A small network that counts its calls; its arithmetic rounds differently in batches of different size."""

    def __init__(self, dim: int = 24) -> None:
        super().__init__()
        self.calls = 0
        generator = torch.Generator().manual_seed(0)
        self.a = torch.randn(dim + 1, 64, generator=generator) / dim**0.5
        self.b = torch.randn(64, dim, generator=generator) / 8

    def forward(self, x: torch.Tensor, t: torch.Tensor, shift: torch.Tensor | float = 0.0) -> torch.Tensor:
        self.calls += 1
        flat = torch.cat([x.flatten(1), t[:, None].to(x)], 1)
        return (torch.tanh(flat @ self.a.to(x)) @ self.b.to(x)).reshape(x.shape) + shift


@pytest.mark.parametrize("solver", ["dpmpp-2m", "heun", "ddpm", "euler-maruyama", "dpm-solver-fast"])
def test_a_sample_is_a_function_of_seed_and_index_in_any_batch(solver: str) -> None:
    denoiser = ss.Denoiser(Counting(), SDE)

    def draw(batch: int, index: int = 0, seed: int = 0) -> torch.Tensor:
        return ss.sample(denoiser, (batch, 4, 6), solver=solver, nfe=9, seed=seed, index=index, chunk=16)

    whole = draw(16)
    assert torch.equal(draw(1), whole[:1])
    assert torch.equal(draw(3), whole[:3])
    assert torch.equal(draw(3, index=7), whole[7:10])
    assert torch.equal(torch.cat([draw(5), draw(11, index=5)]), whole)
    assert torch.equal(draw(20)[:16], whole)
    assert not torch.allclose(draw(1, seed=1), whole[:1], atol=1e-2)
    assert len({tuple(row.flatten().tolist()) for row in whole}) == 16


def test_without_chunks_samples_agree_to_rounding() -> None:
    denoiser = ss.Denoiser(Counting(), SDE)
    whole = ss.sample(denoiser, (16, 4, 6), steps=5)
    assert torch.allclose(ss.sample(denoiser, (3, 4, 6), steps=5, index=4), whole[4:7], atol=1e-4)


# Of the other fixed-step solvers, tests/test_nfe.py counts for many numbers of steps.
@pytest.mark.parametrize(
    "solver", ["dpmpp-2m", "heun", *(n for n, s in ss.solvers().items() if not isinstance(s, ss.Solver))]
)
def test_nfe_is_the_networks_own_count(solver: str) -> None:
    net = Counting()
    plan = ss.plan_for(solver, SDE, steps=6)
    ss.sample(ss.Denoiser(net, SDE), (2, 24), solver=solver, steps=6)
    if isinstance(plan, ss.Plan):
        assert net.calls == plan.nfe
        net.calls = 0
        ss.sample(ss.Denoiser(net, SDE), (2, 24), solver=solver, nfe=13)
        assert net.calls == ss.plan_for(solver, SDE, nfe=13).nfe <= 13
    else:
        assert net.calls > 6


def test_conditions_go_with_their_samples() -> None:
    denoiser = ss.Denoiser(Counting(), SDE)
    shift = torch.arange(5.0).reshape(5, 1)
    whole = ss.sample(denoiser, (5, 24), steps=3, cond={"shift": shift})
    chunked = ss.sample(denoiser, (5, 24), steps=3, cond={"shift": shift}, chunk=2)
    assert torch.allclose(whole, chunked, atol=1e-4)
    assert not torch.allclose(whole, ss.sample(denoiser, (5, 24), steps=3), atol=1e-2)


def test_trajectory_and_callback() -> None:
    denoiser, seen = MIXTURE.denoiser(SDE), []
    got = ss.sample(
        denoiser, (3, 2), steps=4, trajectory=True, callback=lambda run: seen.append((run.t, run.x.clone()))
    )
    assert got.states.shape == (5, 3, 2)
    assert torch.equal(got.states[-1], got.sample)
    assert got.times == (*(t for t, _ in seen), 0.0)
    assert all(torch.equal(x, state) for (_, x), state in zip(seen, got.states, strict=False))
    assert torch.equal(got.sample, ss.sample(denoiser, (3, 2), steps=4))


def test_dtype_device_and_prior() -> None:
    denoiser = MIXTURE.denoiser(ss.EDM())
    start = ss.sample(denoiser, (500, 2), steps=1, trajectory=True, dtype=torch.float64).states[0]
    assert start.dtype == torch.float64
    assert start.std().item() == pytest.approx(80.0, rel=0.1)
    x_T = torch.zeros(2, 2, dtype=torch.float64)
    assert ss.sample(denoiser, (2, 2), steps=2, x_T=x_T).dtype == torch.float64


def test_no_gradients_are_kept() -> None:
    net = torch.nn.Linear(3, 3)
    out = ss.sample(ss.Denoiser(lambda x, t: net(x), SDE), (2, 3), steps=2)
    assert not out.requires_grad


def test_names_of_solver_and_grid_together() -> None:
    denoiser = MIXTURE.denoiser(SDE)
    a = ss.sample(denoiser, (2, 2), solver="DPM++ 2M Karras", steps=5)
    assert torch.equal(a, ss.sample(denoiser, (2, 2), solver="dpmpp-2m", grid="karras", steps=5))


def test_progress_bar_does_not_change_the_sample() -> None:
    denoiser = MIXTURE.denoiser(SDE)
    assert torch.equal(ss.sample(denoiser, (2, 2), steps=3, progress=True), ss.sample(denoiser, (2, 2), steps=3))


def test_samples_of_the_mixture_follow_it() -> None:
    samples = ss.sample(MIXTURE.denoiser(SDE), (4000, 2), solver="dpmpp-3m", steps=25)
    mean, covariance = MIXTURE.moments()
    assert torch.allclose(samples.double().mean(0), mean, atol=0.1)
    assert torch.allclose(torch.cov(samples.double().T), covariance, atol=0.15)


def never_called(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    raise AssertionError("the network was called although the arguments are wrong")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"solver": "dpm++2n", "steps": 5}, ValueError, "solver='dpm..2n' is unknown; nearest: .*dpmpp-2m"),
        ({"grid": "karas", "steps": 5}, ValueError, "grid='karas' is unknown; nearest: karras"),
        ({"steps": 0}, ValueError, "steps must be at least 1, got 0"),
        ({"steps": -3}, ValueError, "steps must be at least 1, got -3"),
        ({"steps": 2.5}, TypeError, "steps must be an int"),
        ({"nfe": 0}, ValueError, "nfe must be at least 1, got 0"),
        (
            {"solver": "dpm-solver-3", "end": "eps", "nfe": 2, "most_gain": math.inf},
            ValueError,
            "nfe=2 is too small for dpm-solver-3, .* least 3",
        ),
        ({}, ValueError, "pass steps .* or nfe"),
        ({"steps": 5, "nfe": 5}, ValueError, "pass steps or nfe, not both"),
        ({"solver": "rk45", "nfe": 5}, ValueError, "rk45 fills no budget; it is adaptive"),
        (
            {"grid": [1.0, 0.5, 0.6]},
            ValueError,
            r"grid must decrease strictly: grid\[2\]=0.6 increases from grid\[1\]=0.5",
        ),
        ({"grid": [1.0, 0.5, 0.5]}, ValueError, r"grid\[2\]=0.5 repeats grid\[1\]=0.5"),
        ({"grid": [1.0, 0.5], "steps": 3}, ValueError, "steps=3 does not fit your own grid of 2 times"),
        ({"grid": [1.0, 0.5], "nfe": 3}, ValueError, "leave nfe out"),
        ({"end": "sero", "steps": 5}, ValueError, "end='sero' is unknown; nearest: zero"),
        ({"end": 2.0, "steps": 5}, ValueError, "outside"),
        ({"solver": "DPM++ 2M Karras", "grid": "edm", "steps": 5}, ValueError, "names a grid already"),
        ({"shape": (0, 2), "steps": 5}, ValueError, "shape must be"),
        ({"shape": (2,), "steps": 5}, ValueError, "shape must be"),
        ({"x_T": torch.zeros(3, 2), "steps": 5}, ValueError, r"x_T must have the shape \(2, 2\), got \(3, 2\)"),
        (
            {"x_T": torch.zeros(2, 2, dtype=torch.int64), "steps": 5},
            TypeError,
            "x_T must be a tensor of floating-point",
        ),
        ({"x_T": torch.zeros(2, 2), "chunk": 2, "steps": 5}, ValueError, "chunk needs x_T to be drawn here"),
        ({"dtype": torch.int32, "steps": 5}, TypeError, "dtype must be a floating-point dtype"),
        ({"chunk": 0, "steps": 5}, ValueError, "chunk must be at least 1"),
        ({"check": "ech", "steps": 5}, ValueError, "check='ech' is unknown; nearest: each"),
        ({"solver": 3, "steps": 5}, TypeError, "solver must be"),
        ({"index": -1, "steps": 5}, ValueError, "index must be"),
    ],
)
def test_bad_arguments_are_named_before_any_work(arguments: dict, error: type[Exception], message: str) -> None:
    arguments = {"shape": (2, 2), **arguments}
    with pytest.raises(error, match=message):
        ss.sample(ss.Denoiser(never_called, SDE), **arguments)


def test_a_bare_network_is_told_to_be_wrapped() -> None:
    with pytest.raises(TypeError, match="wrap your network"):
        ss.sample(never_called, (2, 2), steps=5)  # type: ignore[arg-type]


def test_nan_from_the_network_names_step_and_time() -> None:
    def net(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return torch.where(t[:, None] < 0.5, torch.nan, x)

    plan = ss.plan_for("dpmpp-2m", SDE, steps=8)
    assert isinstance(plan, ss.Plan)
    first = next(i for i, t in enumerate(plan.times) if t < 0.5)
    for check in ("end", "each"):
        with pytest.raises(
            ValueError,
            match=rf"evaluation {first} of .*t={plan.times[first]:.6g}.* is not finite; .* has 4 non-finite values",
        ):
            ss.sample(ss.Denoiser(net, SDE), (2, 2), steps=8, check=check)


def test_pure_noise_needs_a_network_that_sees_data_there() -> None:
    with pytest.raises(ValueError, match="alpha = 0"):
        ss.sample(ss.Denoiser(Counting(2), ss.RectifiedFlow(), prediction="epsilon"), (2, 2), steps=3)
