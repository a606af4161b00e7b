"""The stock nodes that take samplers and schedulers, and how custom nodes are loaded."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from tests.integrations.comfy_stub import sample as comfy_sample
from tests.integrations.comfy_stub import samplers

Latent = dict[str, Any]


def load_custom_node(module_path: str) -> ModuleType:
    """A folder becomes a module whose name is its path, whatever characters that has."""
    name = module_path.replace(".", "_x_")
    spec = importlib.util.spec_from_file_location(name, os.path.join(module_path, "__init__.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def prepare_callback(steps: int, x0_output: dict | None = None, progress: list | None = None) -> Callable:
    def callback(step: int, x0: Tensor, x: Tensor, total_steps: int) -> None:
        if x0_output is not None:
            x0_output["x0"] = x0
        if progress is not None:
            progress.append((step + 1, total_steps))

    return callback


def common_ksampler(
    model: Any,
    seed: int,
    steps: int,
    cfg: float,
    sampler_name: str,
    scheduler: str,
    positive: Any,
    negative: Any,
    latent: Latent,
    denoise: float = 1.0,
    disable_noise: bool = False,
    start_step: int | None = None,
    last_step: int | None = None,
    force_full_denoise: bool = False,
    progress: list | None = None,
) -> tuple[Latent]:
    image = latent["samples"]
    noise = torch.zeros_like(image) if disable_noise else comfy_sample.prepare_noise(image, seed)
    samples = comfy_sample.sample(
        *(model, noise, steps, cfg, sampler_name, scheduler, positive, negative, image, denoise, disable_noise),
        *(start_step, last_step, force_full_denoise, latent.get("noise_mask"), None),
        *(prepare_callback(steps, progress=progress), True, seed),
    )
    return ({**latent, "samples": samples},)


class KSampler:
    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {
            "required": {"sampler_name": (samplers.KSampler.SAMPLERS,), "scheduler": (samplers.KSampler.SCHEDULERS,)}
        }

    def sample(
        self,
        model: Any,
        seed: int,
        steps: int,
        cfg: float,
        sampler_name: str,
        scheduler: str,
        positive: Any,
        negative: Any,
        latent_image: Latent,
        denoise: float = 1.0,
        progress: list | None = None,
    ) -> tuple[Latent]:
        return common_ksampler(
            *(model, seed, steps, cfg, sampler_name, scheduler, positive, negative, latent_image),
            denoise=denoise,
            progress=progress,
        )


class KSamplerAdvanced:
    def sample(
        self,
        model: Any,
        add_noise: str,
        noise_seed: int,
        steps: int,
        cfg: float,
        sampler_name: str,
        scheduler: str,
        positive: Any,
        negative: Any,
        latent_image: Latent,
        start_at_step: int,
        end_at_step: int,
        return_with_leftover_noise: str,
        denoise: float = 1.0,
    ) -> tuple[Latent]:
        return common_ksampler(
            *(model, noise_seed, steps, cfg, sampler_name, scheduler, positive, negative, latent_image),
            denoise=denoise,
            disable_noise=add_noise == "disable",
            start_step=start_at_step,
            last_step=end_at_step,
            force_full_denoise=return_with_leftover_noise != "enable",
        )


class KSamplerSelect:
    def get_sampler(self, sampler_name: str) -> tuple[Any]:
        return (samplers.sampler_object(sampler_name),)


class BasicScheduler:
    def get_sigmas(self, model: Any, scheduler: str, steps: int, denoise: float) -> tuple[Tensor]:
        total = steps
        if denoise < 1.0:
            if denoise <= 0.0:
                return (torch.FloatTensor([]),)
            total = int(steps / denoise)
        sigmas = samplers.calculate_sigmas(model.get_model_object("model_sampling"), scheduler, total).cpu()
        return (sigmas[-(steps + 1) :],)


class SamplerCustom:
    def sample(
        self,
        model: Any,
        add_noise: bool,
        noise_seed: int,
        cfg: float,
        positive: Any,
        negative: Any,
        sampler: Any,
        sigmas: Tensor,
        latent_image: Latent,
        progress: list | None = None,
    ) -> tuple[Latent, Latent]:
        image = latent_image["samples"]
        noise = comfy_sample.prepare_noise(image, noise_seed) if add_noise else torch.zeros_like(image)
        x0_output: dict[str, Tensor] = {}
        callback = prepare_callback(sigmas.shape[-1] - 1, x0_output, progress)
        mask = latent_image.get("noise_mask")
        samples = comfy_sample.sample_custom(
            *(model, noise, cfg, sampler, sigmas, positive, negative, image, mask, callback, True, noise_seed)
        )
        out = {**latent_image, "samples": samples}
        denoised = {**latent_image, "samples": model.model.process_latent_out(x0_output["x0"])} if x0_output else out
        return out, denoised
