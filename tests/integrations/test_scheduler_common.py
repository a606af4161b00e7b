"""What every scheduler of diffusers is expected to do, of ours: from many sources, with solvers of every shape.

The networks here are closed formulas and the schedulers come from configurations, so no pipeline is built; those are in
test_pipelines.py.
"""

from __future__ import annotations

import copy
import json
import math
import pickle
import threading
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.integrations.scheduling import (
    LATENT,
    SHAPES,
    generator,
    loop,
    make,
    network,
    noise,
    plan,
    sampled,
    shapes,
    sources,
)

pytestmark = pytest.mark.slow  # importing diffusers takes seconds


# -- the loop
@sources
@shapes
def test_full_loop(source: str, solver: str) -> None:
    scheduler = make(source, solver)
    x = sampled(scheduler, steps=9)
    assert x.shape == noise().shape
    assert x.dtype == torch.float32
    assert torch.isfinite(x).all()
    times = [float(t) for t in scheduler.timesteps]
    assert 0 < len(times) <= 9  # a budget of calls
    assert len(times) == scheduler.plan.nfe
    assert scheduler.order == 1


@sources
@pytest.mark.parametrize("solver", ["ddim", "dpmpp-2m", "unipc-3"])
def test_one_call_a_step_fills_the_budget(source: str, solver: str) -> None:
    for steps in (1, 2, 5, 20):
        scheduler = make(source, solver)
        plan(scheduler, steps)
        assert len(scheduler.timesteps) == steps == scheduler.num_inference_steps


@shapes
def test_count_steps(solver: str) -> None:
    """With count="steps" there are as many steps as asked for, whatever they cost, and `order` tells what that is."""
    scheduler = make("ddim", solver, count="steps", textbook=True)
    scheduler.set_timesteps(6)
    evaluations = {"heun": 2, "dpmpp-3s": 3, "rk4": 4}.get(solver, 1)
    assert scheduler.order == evaluations
    assert len(scheduler.timesteps) == scheduler.plan.nfe
    assert len(scheduler.timesteps) >= 6
    assert torch.isfinite(loop(scheduler, noise(), draw=generator())).all()


@sources
@shapes
def test_a_loop_is_a_run_of_the_plan(source: str, solver: str) -> None:
    """The pipeline's loop gives what the plan gives in a loop of this package, to rounding."""
    scheduler = make(source, solver, seed=3)
    plan(scheduler, 7)
    start = noise(dtype=torch.float64) * scheduler.init_noise_sigma
    seen: list[Tensor] = []

    def model(x: Tensor, t: Any) -> Tensor:
        seen.append(x)
        return torch.tanh(x) * math.cos(float(t) / 700)

    x = loop(scheduler, start, model=model)
    denoised: list[Tensor] = []
    again = make(source, solver, seed=3)
    plan(again, 7)
    y = start
    for t in again.timesteps:
        out = again.step(network(again.scale_model_input(y, t), t), t, y)
        denoised.append(out.pred_original_sample)
        y = out.prev_sample
    assert torch.equal(x, y)
    run = scheduler.plan.start(start, seed=3)
    while not run.done:
        run.tell(denoised[run.nfe])
    torch.testing.assert_close(run.sample, x, rtol=1e-9, atol=1e-9)


@sources
def test_step_shapes(source: str) -> None:
    for shape in ((1, 1), (2, 3, 5), (1, 4, 2, 3, 3), (3, 6, 8)):
        scheduler = make(source)
        plan(scheduler, 3)
        x = torch.ones(shape)
        t = scheduler.timesteps[0]
        out = scheduler.step(0.1 * x, t, x)
        assert out.prev_sample.shape == out.pred_original_sample.shape == x.shape
        assert scheduler.scale_model_input(x, scheduler.timesteps[1]).shape == x.shape


@sources
def test_return_dict(source: str) -> None:
    """With or without it, the output can be read by attribute, by name, by place, and as a pair."""
    states = []
    for return_dict in (True, False):
        scheduler = make(source)
        plan(scheduler, 4)
        x, t = noise(), scheduler.timesteps[0]
        output = scheduler.step(network(x, t), t, x, return_dict=return_dict)
        state, denoised = output
        assert output.prev_sample is output[0] is output["prev_sample"] is state
        assert torch.equal(output.pred_original_sample, denoised)
        assert torch.equal(output[1], denoised)
        states.append(state)
    assert torch.equal(*states)


def test_inputs_are_not_changed() -> None:
    for solver in SHAPES.values():
        scheduler = make("ddim", solver)
        scheduler.set_timesteps(6)
        x = noise()
        for t in scheduler.timesteps:
            out = network(x, t)
            kept, kept_out = x.clone(), out.clone()
            new = scheduler.step(out, t, x, generator=generator()).prev_sample
            assert torch.equal(x, kept)
            assert torch.equal(out, kept_out)
            x = new


# -- configurations, saved and loaded
@sources
@shapes
def test_save_and_load(source: str, solver: str, tmp_path: Any) -> None:
    options = {"rounding": "label", "end": "zero", "seed": 5, "check": "end"}
    scheduler = make(source, solver, **options)
    scheduler.save_pretrained(tmp_path)
    loaded = type(scheduler).from_pretrained(tmp_path)
    plain = {k: v for k, v in scheduler.config.items() if not k.startswith("_")}
    assert {k: v for k, v in loaded.config.items() if not k.startswith("_")} == plain
    again = type(scheduler).from_config(scheduler.config)
    assert {k: v for k, v in again.config.items() if not k.startswith("_")} == plain
    expected = sampled(scheduler)
    assert torch.equal(sampled(loaded), expected)
    assert torch.equal(sampled(again), expected)


def test_config_has_the_source_and_the_choice(tmp_path: Any) -> None:
    scheduler = make("flow", "unipc-2", solver_options={"variant": "bh1"}, grid="karras", grid_options={"rho": 5.0})
    for key, value in {
        "shift": 3.0,
        "solver": "unipc-2",
        "grid": "karras",
        "solver_options": {"variant": "bh1"},
    }.items():
        assert scheduler.config[key] == value
        assert scheduler.config.get(key) == value
    scheduler.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "scheduler_config.json").read_text())
    assert saved["_class_name"] == "Scheduler"
    assert saved["grid_options"] == {"rho": 5.0}
    assert saved["source_class"] == "FlowMatchEulerDiscreteScheduler"


def test_from_config_changes_what_is_named() -> None:
    scheduler = make("flow", "heun", grid="karras")
    other = type(scheduler).from_config(scheduler.config, solver="dpmpp-2m", shift=5.0)
    assert (other.config["solver"], other.config["grid"], other.config["shift"]) == ("dpmpp-2m", "karras", 5.0)
    assert (scheduler.config["solver"], scheduler.config["shift"]) == ("heun", 3.0)


def test_from_a_scheduler_or_its_config() -> None:
    diffusers = pytest.importorskip("diffusers")
    from scoresde.integrations.diffusers import Scheduler

    own = diffusers.FlowMatchEulerDiscreteScheduler(shift=2.0)
    loaded = diffusers.FlowMatchEulerDiscreteScheduler.from_config({"_class_name": type(own).__name__, **own.config})
    for given in (own, own.config, loaded, loaded.config):
        scheduler = Scheduler.from_config(given, solver="dpmpp-2m")
        assert scheduler.config["shift"] == 2.0
        assert scheduler.config["source_class"] == "FlowMatchEulerDiscreteScheduler"
    with pytest.raises(ValueError, match="_class_name"):
        Scheduler.from_config({"anything": 2.0}, solver="dpmpp-2m")


def test_there_and_back() -> None:
    """A scheduler of diffusers that was made from ours is what it is, though its config keeps our keys."""
    diffusers = pytest.importorskip("diffusers")
    from scoresde.integrations.diffusers import Scheduler

    first = make("ddim", "heun", grid="karras", rounding="grid")
    theirs = diffusers.EulerDiscreteScheduler.from_config({**first.config, "prediction_type": "v_prediction"})
    again = Scheduler.from_config(theirs, solver="dpmpp-2m")
    assert again.config["source_class"] == "EulerDiscreteScheduler"
    assert (again.config["solver"], again.config["grid"], again.config["rounding"]) == ("dpmpp-2m", None, "none")
    assert again.config["beta_end"] == LATENT["beta_end"]
    assert again.config["prediction_type"] == "v_prediction"


def test_attributes_of_the_config() -> None:
    """As of every scheduler of diffusers: own attributes, keys of the config with a warning, and nothing else."""
    scheduler = make("flow")
    scheduler.anything = 5
    assert scheduler.anything == 5
    with pytest.warns(FutureWarning, match="shift"):
        assert scheduler.shift == 3.0
    with pytest.raises(AttributeError, match="does_not_exist"):
        _ = scheduler.does_not_exist


def test_pickle_and_deepcopy() -> None:
    for solver in SHAPES.values():
        scheduler = make("ddim", solver)
        for copied in (copy.deepcopy(scheduler), pickle.loads(pickle.dumps(scheduler))):
            assert torch.equal(sampled(copied), sampled(make("ddim", solver)))


def test_deepcopy_in_the_middle_of_a_run() -> None:
    scheduler = make("ddim", "unipc-3")
    scheduler.set_timesteps(6)
    x = noise()
    for t in scheduler.timesteps[:3]:
        x = scheduler.step(network(x, t), t, x).prev_sample
    other, y = copy.deepcopy(scheduler), x.clone()
    for t in scheduler.timesteps[3:]:
        x = scheduler.step(network(x, t), t, x).prev_sample
    for t in other.timesteps[3:]:
        y = other.step(network(y, t), t, y).prev_sample
    torch.testing.assert_close(x, y)


# -- nothing is shared, nothing stays
@shapes
def test_deterministic_with_a_generator(solver: str) -> None:
    first, second = sampled(make("ddim", solver)), sampled(make("ddim", solver))
    assert torch.equal(first, second)
    other = sampled(make("ddim", solver), draw=generator(8))
    assert torch.equal(first, other) == (solver not in ("sde-dpmpp-2m", "ddpm"))


@shapes
def test_without_a_generator_torch_draws(solver: str) -> None:
    scheduler = make("ddim", solver)
    torch.manual_seed(1)
    first = sampled(scheduler, draw=None)
    torch.manual_seed(1)
    assert torch.equal(sampled(scheduler, draw=None), first)


@sources
@shapes
def test_set_timesteps_twice_and_run_again(source: str, solver: str) -> None:
    scheduler = make(source, solver)
    first = sampled(scheduler)
    assert torch.equal(sampled(scheduler), first)
    sampled(scheduler, steps=9)
    plan(scheduler, 6)
    plan(scheduler, 6)
    assert torch.equal(sampled(scheduler), first)


@shapes
def test_a_run_that_stopped_leaves_nothing(solver: str) -> None:
    scheduler = make("ddim", solver)
    scheduler.set_timesteps(8)
    x = noise(seed=5)
    for t in scheduler.timesteps[:3]:
        x = scheduler.step(network(x, t), t, x, generator=generator()).prev_sample
    assert torch.equal(sampled(scheduler), sampled(make("ddim", solver)))


@shapes
def test_two_schedulers_share_nothing(solver: str) -> None:
    alone = [sampled(make("ddim", solver), batch=b) for b in (1, 3)]
    one, other = make("ddim", solver), make("ddim", solver)
    for scheduler in (one, other):
        scheduler.set_timesteps(6)
    states = [noise(1) * one.init_noise_sigma, noise(3) * other.init_noise_sigma]
    draws = [generator(), generator()]
    for t in one.timesteps:  # step by step in turn
        for i, scheduler in enumerate((one, other)):
            out = network(states[i], t)
            states[i] = scheduler.step(out, t, states[i], generator=draws[i]).prev_sample
    assert torch.equal(states[0], alone[0])
    assert torch.equal(states[1], alone[1])


def test_two_runs_at_once() -> None:
    """Each thread its scheduler, as two pipelines in one server."""
    names = list(SHAPES.values())
    alone = {name: sampled(make("ddim", name), steps=20) for name in names}
    gate, found = threading.Barrier(len(names)), {}

    def work(name: str) -> None:
        scheduler = make("ddim", name)
        gate.wait()
        found[name] = sampled(scheduler, steps=20)

    threads = [threading.Thread(target=work, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(found) == set(alone)
    for name in names:
        assert torch.equal(found[name], alone[name])


# -- a pipeline with our scheduler in it, saved and loaded
def test_a_pipeline_is_saved_and_loaded(tmp_path: Any) -> None:
    diffusers = pytest.importorskip("diffusers")
    from scoresde.integrations.diffusers import Scheduler

    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = diffusers.UNet2DModel(
            sample_size=8, in_channels=1, out_channels=1, layers_per_block=1, block_out_channels=(8,),
            norm_num_groups=4, down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",),
        )  # fmt: skip
    pipe = diffusers.DDPMPipeline(unet=unet, scheduler=diffusers.DDIMScheduler(clip_sample=False))
    pipe.scheduler = Scheduler.from_config(pipe.scheduler, solver="unipc-3", grid="karras", rounding="label")
    pipe.set_progress_bar_config(disable=True)
    pipe.save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["scheduler"] == ["scoresde.integrations.diffusers", "Scheduler"]
    loaded = diffusers.DiffusionPipeline.from_pretrained(tmp_path, local_files_only=True)
    loaded.set_progress_bar_config(disable=True)
    assert type(loaded.scheduler) is Scheduler
    assert loaded.scheduler.config["grid"] == "karras"
    first, second = (p(num_inference_steps=4, generator=generator(), output_type="np").images for p in (pipe, loaded))
    assert abs(first - second).max() < 1e-3  # convolutions of loaded weights may round differently
