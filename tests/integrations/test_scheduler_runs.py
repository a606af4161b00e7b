"""Runs that begin anywhere, are changed on the way, choose their own steps, or may not read the device."""

from __future__ import annotations

import math
from collections.abc import Callable

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
    shapes,
    sources,
)

pytestmark = pytest.mark.slow  # importing diffusers takes seconds


# -- image to image
@pytest.mark.parametrize("source", ["ddim", "euler", "flow", "edm", "zero-snr"])
@shapes
def test_begin_anywhere(source: str, solver: str) -> None:
    """From every place of `timesteps`: as many calls as are left, from the noise level that add_noise gives there."""
    scheduler = make(source, solver)
    scheduler.set_timesteps(9)
    count = len(scheduler.timesteps)
    x0, z = 0.5 * noise(seed=1), noise(seed=2)
    for begin in range(count):
        for told in (True, False):
            scheduler.set_timesteps(9)
            if told:
                scheduler.set_begin_index(begin)
            left = scheduler.timesteps[begin:]
            x = scheduler.add_noise(x0, z, left[:1])
            calls = 0
            for t in left:
                x = scheduler.step(network(scheduler.scale_model_input(x, t), t), t, x, generator=generator())[0]
                calls += 1
            assert calls == count - begin
            assert torch.isfinite(x).all()
        with pytest.raises(ValueError, match="over"):
            scheduler.step(network(x, 0.0), left[-1], x)


@pytest.mark.parametrize("source", ["ddim", "flow", "edm"])
@pytest.mark.parametrize("solver", [s for k, s in SHAPES.items() if k not in ("stochastic", "ancestral")])
def test_begin_anywhere_with_a_network_that_knows(source: str, solver: str) -> None:
    """If the network always says the image that was noised, that image comes out, wherever the run began."""
    scheduler = make(source, solver, end="zero")
    scheduler.set_timesteps(9)
    x0, z = 0.5 * noise(seed=1, dtype=torch.float64), noise(seed=2, dtype=torch.float64)
    for begin in range(len(scheduler.timesteps)):
        scheduler.set_begin_index(begin)
        left = scheduler.timesteps[begin:]
        x = scheduler.add_noise(x0, z, left[:1])
        for t in left:
            alpha, sigma = level(scheduler, t)
            output = {"ddim": (x - alpha * x0) / sigma, "flow": (x - x0) / sigma}.get(source)
            output = edm_output(scheduler, x0, x, sigma) if output is None else output
            x = scheduler.step(output, t, x)[0]
        torch.testing.assert_close(x, x0, rtol=1e-4, atol=1e-4)


def test_the_same_timestep_after_set_begin_index() -> None:
    """Pipelines noise with timesteps[:1].repeat(batch) and step with the entries of the slice."""
    scheduler = make("flow", "heun")
    scheduler.set_timesteps(9)
    scheduler.set_begin_index(4)
    left = scheduler.timesteps[4:]
    x = scheduler.scale_noise(noise(seed=1), left[:1].repeat(2), noise(seed=2))
    assert scheduler.begin_index == 4
    assert torch.isfinite(loop(scheduler, x, begin=4)).all()


# -- latents that are changed between steps
@shapes
def test_edits_between_steps(solver: str) -> None:
    """Inpainting puts half of the image back, at the noise level of the next call."""
    scheduler = make("ddim", solver)
    scheduler.set_timesteps(9)
    known, z = 0.5 * noise(seed=1), noise(seed=2)
    ts, x = scheduler.timesteps, noise()
    for i, t in enumerate(ts):
        x = scheduler.step(network(x, t), t, x, generator=generator())[0]
        put = known if i + 1 == len(ts) else scheduler.add_noise(known, z, ts[i + 1][None])
        x = torch.cat([put[..., :2], x[..., 2:]], dim=-1)
    assert torch.equal(x[..., :2], known[..., :2])
    assert torch.isfinite(x).all()


@pytest.mark.parametrize("solver", ["dpmpp-2m", "unipc-3", "heun", "dpmpp-3s", "adams-4-rk"])
def test_an_edit_without_a_change_changes_nothing(solver: str) -> None:
    """A copy of the latents is the same latents, in float64 to rounding."""

    def run(edit: Callable[[Tensor], Tensor]) -> Tensor:
        scheduler = make("ddim", solver)
        scheduler.set_timesteps(9)
        x = noise(dtype=torch.float64)
        for t in scheduler.timesteps:
            x = edit(scheduler.step(network(x, t), t, x)[0])
        return x

    plain = run(lambda x: x)
    torch.testing.assert_close(run(torch.clone), plain, rtol=1e-9, atol=1e-9)
    assert not torch.allclose(run(lambda x: x + 0.01), plain, rtol=1e-3, atol=1e-3)


def test_an_edit_in_place_counts() -> None:
    results = []
    for in_place in (True, False):
        scheduler = make("ddim", "unipc-3")
        scheduler.set_timesteps(6)
        x = noise()
        for i, t in enumerate(scheduler.timesteps):
            x = scheduler.step(network(x, t), t, x)[0]
            if i == 2:
                x = x.mul_(0.5) if in_place else x * 0.5
        results.append(x)
    torch.testing.assert_close(results[0], results[1])


# -- adaptive solvers
@pytest.mark.parametrize("solver", ["dpm-solver-23", "dpmpp-12"])
@pytest.mark.parametrize("source", ["ddim", "flow", "edm"])
def test_adaptive(source: str, solver: str) -> None:
    """It runs in a plain loop; the loop ends when the solver has arrived."""
    scheduler = make(source, solver)
    scheduler.set_timesteps(10)
    assert len(scheduler.timesteps) == 10  # for progress bars
    x, calls = noise() * scheduler.init_noise_sigma, 0
    before = math.inf
    for t in scheduler.timesteps:
        assert isinstance(t, Tensor)
        x = scheduler.step(network(scheduler.scale_model_input(x, t), t), t, x)[0]
        calls += 1
        before = min(before, float(t))
    assert calls >= 4
    assert torch.isfinite(x).all()
    scheduler.set_timesteps(10)
    begun = scheduler.timesteps[6:]
    assert len(begun) == 4
    x = scheduler.add_noise(0.5 * noise(seed=1), noise(seed=2), begun[:1])
    scheduler.set_begin_index(6)
    for t in begun:
        x = scheduler.step(network(scheduler.scale_model_input(x, t), t), t, x)[0]
    assert torch.isfinite(x).all()
    scheduler.set_timesteps(10)
    with pytest.raises(RuntimeError, match="fixed-step"):
        list(scheduler.timesteps)


# -- without a device to wait for
@sources
@shapes
def test_no_synchronisation(source: str, solver: str) -> None:
    """On the meta device nothing can be read, so a step that read the state or the prediction would fail."""
    scheduler = make(source, solver)
    plan(scheduler, 6)
    x = torch.empty(2, 4, 4, 4, device="meta")
    for t in scheduler.timesteps:
        shown = scheduler.scale_model_input(x, t)
        out = scheduler.step(0.5 * shown, t, x)
        x = out.prev_sample
        assert x.device.type == out.pred_original_sample.device.type == "meta"


@shapes
def test_no_synchronisation_with_timesteps_on_the_device(solver: str) -> None:
    """The timesteps too may be where nothing can be read, if the pipeline says where it begins."""
    for begin in (0, 3):
        scheduler = make("ddim", solver)
        scheduler.set_timesteps(6, device="meta")
        scheduler.set_begin_index(begin)
        x = torch.empty(2, 4, 4, 4, device="meta", dtype=torch.bfloat16)
        for t in scheduler.timesteps[begin:]:
            x = scheduler.step(0.5 * x, t, x, return_dict=False)[0]
        assert x.dtype == torch.bfloat16


@pytest.mark.parametrize("source", ["ddim", "flow", "edm"])
@shapes
def test_no_synchronisation_on_a_fake_accelerator(source: str, solver: str) -> None:
    """Latents on a GPU that is not there: their values can be neither read nor awaited."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    scheduler = make(source, solver)
    scheduler.set_timesteps(6)
    timesteps = list(scheduler.timesteps)
    with FakeTensorMode(allow_non_fake_inputs=True):
        x = torch.empty(2, 4, 4, 4, device="cuda", dtype=torch.float16)
        for t in timesteps:
            x = scheduler.step(0.5 * scheduler.scale_model_input(x, t), t, x)[0]
        assert x.device.type == "cuda"
        assert x.dtype == torch.float16


@shapes
def test_no_synchronisation_without_a_begin_index(solver: str) -> None:
    """Most pipelines never call set_begin_index: an entry of `timesteps` is known by its place in memory."""
    scheduler = make("ddim", solver)
    scheduler.set_timesteps(6, device="meta")
    x = torch.empty(2, 4, 4, 4, device="meta")
    for t in scheduler.timesteps[2:]:
        x = scheduler.step(0.5 * x, t, x, return_dict=False)[0]
    assert scheduler.step_index == scheduler.plan.nfe


# -- limits of the source
def test_learned_variance_is_left_aside() -> None:
    fixed = {"_class_name": "DDPMScheduler", "clip_sample": False, **LATENT}
    learned, plain = make({**fixed, "variance_type": "learned_range"}), make(fixed)
    for scheduler in (learned, plain):
        scheduler.set_timesteps(5)
    x = y = noise()
    for t in learned.timesteps:
        out = network(x, t)
        x = learned.step(torch.cat([out, 9 * torch.ones_like(out)], dim=1), t, x)[0]
        y = plain.step(network(y, t), t, y)[0]
    assert torch.equal(x, y)


def test_clipping() -> None:
    clipped = make({"_class_name": "DDPMScheduler", "clip_sample": True})
    clipped.set_timesteps(5)
    x = noise()
    for t in clipped.timesteps:
        out = clipped.step(3 * network(x, t), t, x)
        x = out.prev_sample
        assert float(out.pred_original_sample.abs().max()) <= 1.0
    assert float(x.abs().max()) <= 1.0


def test_thresholding() -> None:
    config = {"_class_name": "DDPMScheduler", "thresholding": True, "clip_sample": False, "sample_max_value": 1.5}
    scheduler = make(config, "unipc-2")
    scheduler.set_timesteps(5)
    x = noise()
    for t in scheduler.timesteps:
        out = scheduler.step(3 * network(x, t), t, x)
        x = out.prev_sample
        assert float(out.pred_original_sample.abs().max()) <= 1.0 + 1e-6


def test_a_start_of_several_calls_is_left_out_of_a_run_that_begins_later() -> None:
    """It would be more calls than were announced; the multistep method begins with lower orders, and not as DDIM."""
    scheduler = make("ddim", "adams-4-rk")
    scheduler.set_timesteps(24)
    count = len(scheduler.timesteps)
    scheduler.set_begin_index(count - 6)
    x = scheduler.add_noise(noise(), noise(seed=1), scheduler.timesteps[count - 6])
    sample = loop(scheduler, x, begin=count - 6)
    labels = scheduler.timesteps[count - 6 :].tolist()
    scheduler = make("ddim", "ddim")
    scheduler.set_timesteps(timesteps=labels)
    assert not torch.allclose(sample, loop(scheduler, x), rtol=1e-3)


@shapes
def test_a_change_in_place_is_as_good_as_new_latents(solver: str) -> None:
    """Also where the method goes on from an anchor, which a change in place of the latents alone would not reach."""
    results = []
    for in_place in (True, False):
        scheduler = make("ddim", solver)
        scheduler.set_timesteps(9)
        x, z = noise(), generator()
        for i, t in enumerate(scheduler.timesteps):
            x = scheduler.step(network(x, t), t, x, generator=z)[0]
            if 1 <= i < 6:
                x = x.add_(0.5) if in_place else x + 0.5
        results.append(x)
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-6)


# -- compiled steps
@pytest.mark.parametrize("source", ["ddim", "flow", "edm"])
@shapes
def test_compiled_steps_are_the_same_and_compiled_once(source: str, solver: str) -> None:
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    counters.clear()
    graphs, results = [], []

    def counting(x: Tensor, t: Tensor) -> Tensor:
        graphs.append(counters["stats"]["unique_graphs"])
        return network(x, t)

    for scheduler, model in ((make(source, solver, compile="eager"), counting), (make(source, solver), network)):
        scheduler.set_timesteps(9)
        x = noise() * scheduler.init_noise_sigma
        results.append(loop(scheduler, x, draw=generator(), model=model))
    assert graphs == [0, *[1] * (len(graphs) - 1)]
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)


def test_adaptive_solvers_are_not_compiled() -> None:
    with pytest.raises(ValueError, match="leave compile out"):
        make("ddim", "dpm-solver-23", compile=True)
