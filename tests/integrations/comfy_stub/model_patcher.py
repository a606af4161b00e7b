"""comfy.model_patcher and comfy.model_base: a network with its options, as it goes along the wires between nodes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def set_model_options_post_cfg_function(
    model_options: dict, post_cfg_function: Callable, disable_cfg1_optimization: bool = False
) -> dict:
    given = model_options.get("sampler_post_cfg_function", [])
    model_options["sampler_post_cfg_function"] = [*given, post_cfg_function]
    if disable_cfg1_optimization:
        model_options["disable_cfg1_optimization"] = True
    return model_options


class BaseModel:
    """A network ``net(x, timestep, cond)`` behind the preconditioning that its model_sampling states."""

    def __init__(self, diffusion_model: Callable[[Tensor, Tensor, float], Tensor], model_sampling: Any) -> None:
        self.diffusion_model, self.model_sampling = diffusion_model, model_sampling
        self.calls = 0

    def apply_model(self, x: Tensor, sigma: Tensor, cond: float) -> Tensor:
        self.calls += 1
        xc = self.model_sampling.calculate_input(sigma, x)
        output = self.diffusion_model(xc, self.model_sampling.timestep(sigma), cond)
        return self.model_sampling.calculate_denoised(sigma, output, x)

    def scale_latent_inpaint(self, sigma: Tensor, noise: Tensor, latent_image: Tensor, **kwargs: Any) -> Tensor:
        sigma = sigma.reshape([sigma.shape[0]] + [1] * (noise.ndim - 1))
        return self.model_sampling.noise_scaling(sigma, noise, latent_image)

    def process_latent_in(self, latent: Tensor) -> Tensor:
        return latent

    def process_latent_out(self, latent: Tensor) -> Tensor:
        return latent


class ModelPatcher:
    """A model with options and replaced parts; nodes pass clones of it along."""

    def __init__(self, model: BaseModel) -> None:
        self.model = model
        self.model_options: dict[str, Any] = {"transformer_options": {}}
        self.object_patches: dict[str, Any] = {}
        self.load_device = torch.device("cpu")

    def clone(self) -> ModelPatcher:
        new = copy.copy(self)
        new.model_options = {k: copy.copy(v) for k, v in self.model_options.items()}
        new.object_patches = dict(self.object_patches)
        return new

    def add_object_patch(self, name: str, obj: Any) -> None:
        self.object_patches[name] = obj

    def get_model_object(self, name: str) -> Any:
        return self.object_patches.get(name, getattr(self.model, name))

    def patched_model(self) -> BaseModel:
        """What loading the model for sampling gives: the model with its parts replaced."""
        for name, obj in self.object_patches.items():
            setattr(self.model, name, obj)
        return self.model
