"""What the scheduler for diffusers refuses, and what it says."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.integrations.scheduling import (
    make,
    noise,
    sampled,
)

pytestmark = pytest.mark.slow  # importing diffusers takes seconds


# -- what is refused
@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"solver": "dpmpp-2n"}, "dpmpp-2m"),
        ({"solver": "DPM++ 2M Karras", "grid": "uniform"}, "grid"),
        ({"solver": "ddim", "solver_options": {"etta": 1.0}}, "eta"),
        ({"grid": "karas"}, "karras"),
        ({"grid_options": {"rho": 5.0}}, "grid"),
        ({"count": "calls"}, "nfe"),
        ({"rounding": "up"}, "label"),
        ({"end": "one"}, "zero"),
        ({"check": "always"}, "each"),
    ],
)
def test_bad_options(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        make("ddim", **options)


def test_unknown_options_of_from_config() -> None:
    with pytest.raises(TypeError, match="sovler"):
        make("ddim", sovler="heun")
    with pytest.raises(TypeError, match="config"):
        type(make("ddim")).from_config("euler")


def test_unsupported_source() -> None:
    with pytest.raises(ValueError, match="VQDiffusionScheduler"):
        make({"_class_name": "VQDiffusionScheduler", "num_vec_classes": 8})


def test_before_set_timesteps() -> None:
    scheduler = make("ddim")
    for call in (
        lambda: scheduler.step(noise(), 5, noise()),
        lambda: scheduler.plan,
        lambda: scheduler.sigmas,
    ):
        with pytest.raises(ValueError, match="set_timesteps"):
            call()
    assert len(scheduler.timesteps) == 1000


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"num_inference_steps": 0}, "num_inference_steps"),
        ({"num_inference_steps": -3}, "num_inference_steps"),
        ({"num_inference_steps": 2.5}, "num_inference_steps"),
        ({"num_inference_steps": "ten"}, "num_inference_steps"),
        ({}, "num_inference_steps"),
        ({"timesteps": [999, 500], "sigmas": [5.0, 1.0]}, "not both"),
        ({"num_inference_steps": 5, "timesteps": [999, 500]}, "num_inference_steps"),
        ({"timesteps": []}, "timesteps"),
        ({"timesteps": [10, 500]}, "decrease"),
        ({"timesteps": [math.nan, 500]}, "timesteps"),
        ({"sigmas": [5.0, -1.0]}, "sigmas"),
    ],
)
def test_bad_set_timesteps(arguments: dict[str, Any], named: str) -> None:
    with pytest.raises((ValueError, TypeError), match=named):
        make("euler").set_timesteps(**arguments)


def test_more_that_is_refused() -> None:
    with pytest.raises(ValueError, match="mu"):
        make("flow-dynamic").set_timesteps(5)
    with pytest.raises(ValueError, match="grid"):
        make("ddim", grid="karras").set_timesteps(timesteps=[900, 500])
    with pytest.raises(ValueError, match="eta"):
        sampled(make("ddim", "heun"), eta=0.5)
    scheduler = make("ddim")
    scheduler.set_timesteps(5)
    with pytest.raises(ValueError, match="shape"):
        scheduler.step(noise(3), scheduler.timesteps[0], noise(2))
    scheduler.set_timesteps(5)
    with pytest.raises(ValueError, match="announced"):
        scheduler.step(noise(), 123.4, noise())
    scheduler.set_timesteps(5)
    scheduler.set_begin_index(9)
    with pytest.raises(ValueError, match="begin_index"):
        scheduler.step(noise(), scheduler.timesteps[0], noise())


def test_a_bad_call_leaves_the_scheduler_usable() -> None:
    scheduler = make("ddim")
    expected = sampled(make("ddim"))
    with pytest.raises(ValueError, match="num_inference_steps"):
        scheduler.set_timesteps(0)
    assert torch.equal(sampled(scheduler), expected)


def test_not_finite() -> None:
    def bad(x: Tensor, t: Any) -> Tensor:
        return x * (math.nan if 300 < float(t) < 500 else 1.0)

    with pytest.raises(ValueError, match="finite"):
        sampled(make("ddim", check="each"), model=bad)
    with pytest.raises(ValueError, match="finite"):
        sampled(make("ddim", check="end"), model=bad)
    assert not torch.isfinite(sampled(make("ddim"), model=bad)).all()
