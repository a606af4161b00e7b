"""Sources, solvers and loops that the tests of the scheduler share."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

LATENT = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SOURCES: dict[str, dict[str, Any]] = {
    "ddim": {"_class_name": "DDIMScheduler", **LATENT, "clip_sample": False, "set_alpha_to_one": False,
             "steps_offset": 1},
    "euler": {"_class_name": "EulerDiscreteScheduler", **LATENT, "timestep_spacing": "leading", "steps_offset": 1},
    "dpm-karras": {"_class_name": "DPMSolverMultistepScheduler", **LATENT, "use_karras_sigmas": True},
    "pndm": {"_class_name": "PNDMScheduler", **LATENT, "skip_prk_steps": True, "steps_offset": 1},
    "flow": {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0},
    "flow-dynamic": {"_class_name": "FlowMatchEulerDiscreteScheduler", "use_dynamic_shifting": True},
    "edm": {"_class_name": "EDMEulerScheduler", "sigma_data": 0.5, "prediction_type": "epsilon"},
    "cosine": {"_class_name": "CosineDPMSolverMultistepScheduler", "sigma_min": 0.3, "sigma_max": 500.0,
               "sigma_data": 1.0, "prediction_type": "v_prediction"},
    "zero-snr": {"_class_name": "DDIMScheduler", **LATENT, "clip_sample": False, "prediction_type": "v_prediction",
                 "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"},
}  # fmt: skip
SHAPES = {
    "multistep": "dpmpp-2m",
    "singlestep": "dpmpp-3s",
    "predictor-corrector": "unipc-3",
    "stochastic": "sde-dpmpp-2m",
    "ancestral": "ddpm",
    "Heun-like": "heun",
    "high-order": "adams-4-rk",
    "multistage": "rk4",
}
MORE = {"flow-dynamic": {"mu": 0.8}}  # arguments of set_timesteps that a source needs

sources = pytest.mark.parametrize("source", SOURCES)
shapes = pytest.mark.parametrize("solver", SHAPES.values(), ids=SHAPES)


def make(source: str | dict[str, Any], solver: str = "dpmpp-2m", **options: Any) -> Any:
    """A scheduler from one of these sources, or from another configuration."""
    pytest.importorskip("diffusers")
    from scoresde.integrations.diffusers import Scheduler

    return Scheduler.from_config(SOURCES[source] if isinstance(source, str) else source, solver=solver, **options)


def noise(batch: int = 2, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 4, 4, 4, generator=generator, dtype=torch.float64).to(dtype)


def network(x: Tensor, t: Any) -> Tensor:
    """A bounded function of both."""
    return torch.tanh(x) * math.cos(float(t) / 700)


def generator(seed: int = 7) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def plan(scheduler: Any, steps: int) -> None:
    scheduler.set_timesteps(steps, **MORE.get(_source_of(scheduler), {}))


def _source_of(scheduler: Any) -> str:
    return "flow-dynamic" if scheduler.config.get("use_dynamic_shifting") else ""


def loop(scheduler: Any, x: Tensor, *, begin: int = 0, draw: Any = None, model: Any = network, **more: Any) -> Tensor:
    """What a pipeline does after set_timesteps."""
    for t in scheduler.timesteps[begin:]:
        x = scheduler.step(model(scheduler.scale_model_input(x, t), t), t, x, generator=draw, **more).prev_sample
    return x


def sampled(scheduler: Any, steps: int = 6, *, batch: int = 2, **more: Any) -> Tensor:
    plan(scheduler, steps)
    x = noise(batch) * scheduler.init_noise_sigma
    return loop(scheduler, x, draw=more.pop("draw", generator()), **more)


def level(scheduler: Any, t: Any) -> tuple[float, float]:
    """(alpha, sigma) at a timestep, as add_noise tells."""
    one, zero = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    return float(scheduler.add_noise(one, zero, t)), float(scheduler.add_noise(zero, one, t))


def edm_output(scheduler: Any, x0: Tensor, x: Tensor, sigma: float) -> Tensor:
    """What a network with EDM's preconditioning would have said; the sign of c_out depends on the prediction."""
    data = float(scheduler.config["sigma_data"])
    total = math.sqrt(data**2 + sigma**2)
    c_out = sigma * data / total * (-1 if scheduler.config["prediction_type"] == "v_prediction" else 1)
    return (x0 - (data / total) ** 2 * x) / c_out
