"""comfy.sample: from a latent image and a seed to a sampled latent."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tests.integrations.comfy_stub import samplers


def prepare_noise(latent_image: Tensor, seed: int, noise_inds: Any = None) -> Tensor:
    return torch.randn(latent_image.size(), dtype=latent_image.dtype, generator=torch.manual_seed(seed), device="cpu")


def sample(
    model: Any,
    noise: Tensor,
    steps: int,
    cfg: float,
    sampler_name: str,
    scheduler: str,
    positive: Any,
    negative: Any,
    latent_image: Tensor,
    denoise: float = 1.0,
    disable_noise: bool = False,
    start_step: int | None = None,
    last_step: int | None = None,
    force_full_denoise: bool = False,
    noise_mask: Tensor | None = None,
    sigmas: Tensor | None = None,
    callback: Any = None,
    disable_pbar: bool = False,
    seed: int | None = None,
) -> Tensor:
    sampler = samplers.KSampler(
        model, steps, model.load_device, sampler_name, scheduler, denoise, model_options=model.model_options
    )
    return sampler.sample(
        noise,
        positive,
        negative,
        cfg=cfg,
        latent_image=latent_image,
        start_step=start_step,
        last_step=last_step,
        force_full_denoise=force_full_denoise,
        denoise_mask=noise_mask,
        sigmas=sigmas,
        callback=callback,
        disable_pbar=disable_pbar,
        seed=seed,
    )


def sample_custom(
    model: Any,
    noise: Tensor,
    cfg: float,
    sampler: Any,
    sigmas: Tensor,
    positive: Any,
    negative: Any,
    latent_image: Tensor,
    noise_mask: Tensor | None = None,
    callback: Any = None,
    disable_pbar: bool = False,
    seed: int | None = None,
) -> Tensor:
    options = model.model_options
    return samplers.sample(
        *(model, noise, positive, negative, cfg, model.load_device, sampler, sigmas, options, latent_image),
        *(noise_mask, callback, disable_pbar, seed),
    )
