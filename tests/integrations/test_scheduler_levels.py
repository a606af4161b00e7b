"""Noise levels, timesteps, precision and noises of the scheduler for diffusers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.integrations.scheduling import (
    LATENT,
    SHAPES,
    edm_output,
    generator,
    level,
    loop,
    make,
    network,
    noise,
    plan,
    sampled,
    sources,
)

pytestmark = pytest.mark.slow  # importing diffusers takes seconds


# -- noise levels
@sources
def test_add_noise_and_back(source: str) -> None:
    """A network that knows the noise gives back the image, at every timestep and of every kind of prediction."""
    scheduler = make(source, "ddim")
    plan(scheduler, 8)
    x0, z = 0.5 * noise(seed=1, dtype=torch.float64), noise(seed=2, dtype=torch.float64)
    before = -math.inf
    for i, t in enumerate(scheduler.timesteps):
        alpha, sigma = level(scheduler, t)
        assert math.log(max(alpha, 1e-30) / sigma) > before  # less noise at every step
        before = math.log(max(alpha, 1e-30) / sigma)
        noised = scheduler.add_noise(x0, z, t[None])
        torch.testing.assert_close(noised, alpha * x0 + sigma * z)
        scheduler.set_begin_index(i)
        kind = {"edm": "edm", "cosine": "edm", "flow": "flow", "flow-dynamic": "flow", "zero-snr": "v"}.get(source)
        output = {
            None: z,
            "v": alpha * z - sigma * x0,
            "flow": z - x0,
            "edm": edm_output(scheduler, x0, noised, sigma) if kind == "edm" else z,
        }[kind]
        denoised = scheduler.step(output, t, noised).pred_original_sample
        if alpha > 0:
            torch.testing.assert_close(denoised, x0, rtol=1e-5, atol=1e-5)


@sources
def test_add_noise_of_a_batch(source: str) -> None:
    scheduler = make(source)
    plan(scheduler, 8)
    x0, z = noise(3, seed=1), noise(3, seed=2)
    ts = scheduler.timesteps[torch.tensor([5, 0, 2])]
    together = scheduler.add_noise(x0, z, ts)
    apart = torch.cat([scheduler.add_noise(x0[i : i + 1], z[i : i + 1], ts[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, apart)
    assert torch.equal(scheduler.scale_noise(x0, ts, z), together)
    assert scheduler.add_noise(x0.bfloat16(), z.bfloat16(), ts).dtype == torch.bfloat16


@pytest.mark.parametrize("source", ["ddim", "euler", "dpm-karras", "pndm", "zero-snr", "flow"])
def test_the_network_sees_the_state_itself(source: str) -> None:
    """The state is as in training, whatever the source scheduler does with it; it starts from (nearly) unit noise."""
    scheduler = make(source)
    scheduler.set_timesteps(10)
    x = noise()
    assert scheduler.scale_model_input(x, scheduler.timesteps[0]) is x
    assert 0.95 < scheduler.init_noise_sigma <= 1.0
    alpha, sigma = level(scheduler, scheduler.timesteps[3])
    assert (alpha + sigma if source == "flow" else alpha**2 + sigma**2) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("source", ["edm", "cosine"])
def test_edm_scales_the_input(source: str) -> None:
    scheduler = make(source)
    scheduler.set_timesteps(10)
    x, data = noise(), float(scheduler.config["sigma_data"])
    for t in scheduler.timesteps:
        alpha, sigma = level(scheduler, t)
        assert alpha == pytest.approx(1.0)
        torch.testing.assert_close(scheduler.scale_model_input(x, t), x / math.sqrt(data**2 + sigma**2))
        x = scheduler.step(torch.zeros_like(x), t, x).prev_sample


# -- times
def test_real_valued_times_and_rounding() -> None:
    exact, label, grid = (make("ddim", grid="karras", rounding=r) for r in ("none", "label", "grid"))
    for scheduler in (exact, label, grid):
        scheduler.set_timesteps(7)
    t = exact.timesteps.double()
    assert (t != t.round()).any()
    assert torch.equal(label.timesteps.double(), t.round())
    assert (grid.timesteps.double() == grid.timesteps.double().round()).all()
    # "label" changes what the network is told and nothing else; "grid" moves the noise levels too.
    assert label.plan.times == exact.plan.times
    assert grid.plan.times != exact.plan.times
    for t in grid.timesteps:
        assert level(grid, t)[0] ** 2 == pytest.approx(float(grid.alphas_cumprod[int(t)]), rel=1e-5)


def test_trained_levels_at_integer_times() -> None:
    scheduler = make("ddim")
    table = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2, 0)
    for t in (0, 1, 499, 999):
        alpha, sigma = level(scheduler, torch.tensor([t]))
        assert alpha**2 == pytest.approx(float(table[t]), rel=1e-9)
        assert alpha**2 + sigma**2 == pytest.approx(1.0, rel=1e-12)
    torch.testing.assert_close(scheduler.alphas_cumprod.double(), table, rtol=1e-6, atol=0)


@pytest.mark.parametrize("end", ["source", "zero", "eps"])
@sources
def test_ends(source: str, end: str) -> None:
    scheduler = make(source, end=end)
    plan(scheduler, 6)
    last = scheduler.plan.end
    assert (last.sigma == 0.0) == (end == "zero" or (end == "source" and source != "ddim" and source != "pndm"))
    assert float(scheduler.sigmas[-1]) == pytest.approx(last.sigma / last.alpha if last.alpha else 0.0, rel=1e-4, abs=1)
    assert len(scheduler.sigmas) == len(scheduler.timesteps) + 1
    assert torch.isfinite(loop(scheduler, noise() * scheduler.init_noise_sigma)).all()


def test_timesteps_given() -> None:
    scheduler = make("ddim", "dpmpp-2m")
    scheduler.set_timesteps(timesteps=[981, 700, 333, 50])
    assert scheduler.timesteps.tolist() == [981, 700, 333, 50]
    assert torch.isfinite(loop(scheduler, noise())).all()
    for t in scheduler.timesteps:
        assert level(scheduler, t)[0] ** 2 == pytest.approx(float(scheduler.alphas_cumprod[int(t)]), rel=1e-5)


def test_sigmas_given() -> None:
    """The published ten steps for Stable Diffusion 1.5 (AYS), as people pass them."""
    published = [14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152]
    for sigmas in (published, [*published, 0.0]):
        scheduler = make("euler", "dpmpp-2m")
        scheduler.set_timesteps(sigmas=sigmas)
        assert scheduler.sigmas.tolist() == pytest.approx(
            [*published, 0.0], rel=1e-4
        )  # the first is beyond the training
        for t, rho in zip(scheduler.timesteps, published, strict=True):
            alpha, sigma = level(scheduler, t)
            assert sigma / alpha == pytest.approx(rho, rel=1e-4)
        assert torch.isfinite(loop(scheduler, noise())).all()


def test_sigmas_of_a_flow_are_shifted() -> None:
    scheduler = make("flow-dynamic", "dpmpp-2m")
    given = [1.0, 0.8, 0.3, 0.1]
    scheduler.set_timesteps(sigmas=given, mu=0.8)
    shift = math.exp(0.8)
    expected = [shift * s / (1 + (shift - 1) * s) for s in given]
    assert scheduler.sigmas.tolist() == pytest.approx([*expected, 0.0], rel=1e-5)
    assert scheduler.timesteps.tolist() == pytest.approx([1000 * s for s in expected], rel=1e-5)


@pytest.mark.parametrize("solver", ["dpmpp-2m", "heun", "unipc-3"])
def test_even_sigmas_are_a_number_of_steps(solver: str) -> None:
    """Flux passes N evenly spaced sigmas in place of N: a budget of N calls then."""
    scheduler = make("flow-dynamic", solver)
    scheduler.set_timesteps(sigmas=torch.linspace(1.0, 1 / 9, 9).numpy(), mu=0.8)
    assert 7 < len(scheduler.timesteps) <= 9
    assert float(scheduler.timesteps[0]) == 1000.0
    assert torch.isfinite(loop(scheduler, noise())).all()


# -- half precision
def gaussian(x: Tensor, t: Any, c: float = 0.5) -> Tensor:
    """The velocity of a flow to normal data of standard deviation c."""
    sigma = float(t) / 1000
    alpha = 1 - sigma
    return x * (sigma - alpha * c * c) / (alpha**2 * c**2 + sigma**2)


@pytest.mark.parametrize("solver", ["ddim", "dpmpp-2m", "unipc-3", "heun"])
def test_half_precision_state_is_kept_in_float32(solver: str) -> None:
    """Against float64 all that is lost is the rounding of the sample; rounding every state loses many times more."""
    start = noise(8).bfloat16()

    def run(dtype: torch.dtype, edit: Callable[[Tensor], Tensor]) -> Tensor:
        scheduler = make("flow", solver)
        scheduler.set_timesteps(60)
        x = start.to(dtype)
        for t in scheduler.timesteps:
            out = gaussian(x.double(), t)  # so that only the rounding of the sampler counts
            x = edit(scheduler.step(out, t, x).prev_sample)
            assert x.dtype == dtype
        return x.double()

    exact = run(torch.float64, lambda x: x)
    kept = run(torch.bfloat16, lambda x: x)
    rounded = run(torch.bfloat16, torch.clone)  # another tensor: for all that is known, the pipeline has changed it
    once, each, least = (float((x - exact).square().mean().sqrt()) for x in (kept, rounded, exact.bfloat16()))
    assert once < 1.2 * least
    assert each > 4 * once


@sources
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_everywhere(source: str, dtype: torch.dtype) -> None:
    for solver in SHAPES.values():
        scheduler = make(source, solver)
        plan(scheduler, 5)
        x = (noise() * scheduler.init_noise_sigma).to(dtype)
        for t in scheduler.timesteps:
            shown = scheduler.scale_model_input(x, t)
            assert shown.dtype == dtype
            out = scheduler.step(network(shown, t), t, x, generator=generator())
            x = out.prev_sample
            assert x.dtype == out.pred_original_sample.dtype == dtype
        assert torch.isfinite(x).all()


# -- noises
@pytest.mark.parametrize("solver", ["sde-dpmpp-2m", "ddpm"])
def test_a_generator_for_each_sample(solver: str) -> None:
    """With them a sample is the same in any batch."""

    def draw(which: Sequence[int]) -> Tensor:
        scheduler = make("ddim", solver)
        scheduler.set_timesteps(6)
        return loop(scheduler, noise(4)[list(which)], draw=[generator(i) for i in which])

    together = draw(range(4))
    torch.testing.assert_close(draw([2]), together[2:3])
    torch.testing.assert_close(draw([3, 1]), together[[3, 1]])
    assert not torch.equal(together[0], together[1])


@pytest.mark.parametrize("solver", ["sde-dpmpp-2m", "ddpm"])
def test_seed(solver: str) -> None:
    """With a seed the noises are a function of it and of the place in the batch; generators are not read."""

    def draw(batch: int, seed: int) -> Tensor:
        scheduler = make("ddim", solver, seed=seed)
        scheduler.set_timesteps(6)
        used = generator()
        state = used.get_state()
        x = loop(scheduler, noise(4)[:batch], draw=used)
        assert torch.equal(used.get_state(), state)
        return x

    torch.testing.assert_close(draw(2, 0), draw(4, 0)[:2])
    assert not torch.allclose(draw(2, 0), draw(2, 1))


def test_eta() -> None:
    """eta of `step` is that of the solver: DDIM with eta = 1 is DDPM, to the last bit."""
    one, other = make("ddim", "ddim"), make("ddim", "ddpm")
    assert torch.equal(sampled(one, eta=1.0), sampled(other))
    half = make("ddim", "ddim", solver_options={"eta": 0.5})
    assert torch.equal(sampled(make("ddim", "ddim"), eta=0.5), sampled(half))
    assert not torch.equal(sampled(make("ddim", "ddim")), sampled(one, eta=1.0))


def test_variance_noise() -> None:
    scheduler = make("ddim", "ddpm")
    scheduler.set_timesteps(5)
    x, drawn, t = noise(), noise(seed=9), scheduler.timesteps[0]
    given = scheduler.step(network(x, t), t, x, variance_noise=drawn).prev_sample
    scheduler.set_timesteps(5)
    without = scheduler.step(network(x, t), t, x, variance_noise=torch.zeros_like(x)).prev_sample
    change = given - without
    torch.testing.assert_close(change / drawn, torch.full_like(change, float((change / drawn).mean())))
    assert float((change / drawn).mean()) > 0.05


# -- noise levels that others read
@pytest.mark.parametrize("karras", [True, False])
def test_continuous_labels(karras: bool) -> None:
    """Stable Video Diffusion tells its network log(sigma)/4, up to a noise level that no table has."""
    diffusers = pytest.importorskip("diffusers")

    ends = {"sigma_min": 0.002, "sigma_max": 700.0, "use_karras_sigmas": True} if karras else {}
    config = {**LATENT, "prediction_type": "v_prediction", "timestep_type": "continuous", **ends}
    theirs = diffusers.EulerDiscreteScheduler(**config, timestep_spacing="leading", steps_offset=1)
    scheduler = make({"_class_name": "EulerDiscreteScheduler", **theirs.config}, "ddim", rounding="grid")
    for steps in (2, 5, 25):
        theirs.set_timesteps(steps)
        scheduler.set_timesteps(steps)
        torch.testing.assert_close(scheduler.sigmas, theirs.sigmas, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(scheduler.timesteps, theirs.timesteps, rtol=1e-5, atol=1e-5)


def test_timesteps_put_back() -> None:
    """Dance Diffusion's pipeline puts them back in the dtype of its weights."""
    scheduler = make("flow", "unipc-3")
    expected = sampled(scheduler)
    plan(scheduler, 6)
    scheduler.timesteps = scheduler.timesteps.to(torch.float64)
    torch.testing.assert_close(loop(scheduler, noise(), draw=generator()), expected)
    with pytest.raises(ValueError, match="set_timesteps"):
        scheduler.timesteps = scheduler.timesteps[2:]


@pytest.mark.parametrize("solver", ["unipc-3", "heun", "dpmpp-23"])
def test_sigmas_at_every_call(solver: str) -> None:
    """Wan reads sigmas[i] at its i-th call, whatever the solver."""
    scheduler = make("flow", solver)
    scheduler.set_timesteps(8)
    x = noise()
    for i, t in enumerate(scheduler.timesteps):
        assert float(scheduler.sigmas[i]) == pytest.approx(float(t) / 1000, rel=1e-5)
        x = scheduler.step(network(x, t), t, x)[0]


@pytest.mark.parametrize(
    ("solver", "order"), [("ddim", 1), ("dpmpp-2m", 2), ("heun", 2), ("unipc-2", 3), ("adams-3", 3)]
)
def test_orders_are_kept(solver: str, order: int) -> None:
    """The network is told the very time at which it is evaluated: on normal data, errors fall with the solver's order.

    This network knows only the trained table, and that alpha is geometric between its entries.
    """
    c, calls = 0.5, (32, 64)
    table = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2, 0).log()

    def model(x: Tensor, t: Any) -> Tensor:
        i = min(int(t), 998)
        alpha2 = math.exp(float(table[i] + (float(t) - i) * (table[i + 1] - table[i])))
        return x * math.sqrt(1 - alpha2) / (alpha2 * c**2 + 1 - alpha2)

    errors = []
    for number in calls:
        scheduler = make("ddim", solver, grid="log-snr", end="eps")
        scheduler.set_timesteps(number)
        begin, end = scheduler.plan.begin, scheduler.plan.end
        x = noise(dtype=torch.float64)
        spread = [math.sqrt((p.alpha * c) ** 2 + p.sigma**2) for p in (begin, end)]
        found = loop(scheduler, x, model=model)
        errors.append(float((found - x * spread[1] / spread[0]).abs().max()))
    assert math.log2(errors[0] / errors[1]) > order - 0.35, errors
