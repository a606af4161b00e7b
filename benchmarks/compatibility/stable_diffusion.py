"""Stable Diffusion 1, 2 and XL: from text, from an image, inpainting, ControlNet, base and refiner."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from . import peers
from .cases import EDITS, LOOKS_AHEAD, STRENGTH, Case, after_strength
from .parts import autoencoder, fixed, named, text_unet, tiny, unet_sizes, with_picture, words

Build = Callable[[torch.dtype], Any]

SPLIT = 0.6  # where the base model hands over to the refiner


def _sd_betas() -> dict[str, Any]:
    """As its checkpoints have them; keys that the scheduler's class does not know stay in its config."""
    betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
    return betas | {"clip_sample": False, "set_alpha_to_one": False}


def _sd(kind: str, channels: int = 4, prediction: str = "epsilon", control: bool = False) -> Build:
    """Builds a pipeline of Stable Diffusion 1 (or 2, which predicts v) of this class."""

    def build(dtype: torch.dtype) -> Any:
        betas = _sd_betas()
        if prediction == "epsilon":
            scheduler = named("PNDMScheduler").from_config({**betas, "skip_prk_steps": True})
        else:
            scheduler = named("DDIMScheduler").from_config({**betas, "prediction_type": prediction})
        modules = {"unet": text_unet(dtype, channels), "vae": autoencoder(dtype), "scheduler": scheduler}
        if control:
            scales: dict[str, Any] = {"conditioning_embedding_out_channels": (8, 8)}  # 2 times smaller, as the VAE
            modules["controlnet"] = tiny("ControlNetModel", dtype, **unet_sizes(), **scales)
        nothing = ("text_encoder", "tokenizer", "safety_checker", "feature_extractor")
        return named(kind)(**modules, **dict.fromkeys(nothing), requires_safety_checker=False)

    return build


def _sd_call(pipe: Any, steps: int, generator: Any, **more: Any) -> Tensor:
    said = words(pipe.unet.dtype)
    return pipe(num_inference_steps=steps, generator=generator, output_type="latent", **said, **more).images


def _sdxl(kind: str, refiner: bool = False) -> Build:
    """Builds a pipeline of Stable Diffusion XL of this class."""

    def build(dtype: torch.dtype) -> Any:
        numbers = 5 if refiner else 6  # sizes and crops; a score in place of the target size
        unet = text_unet(
            dtype,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=8 * numbers + 8,
        )
        nothing = ("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "image_encoder", "feature_extractor")
        scheduler = named("EulerDiscreteScheduler").from_config({**_sd_betas(), "timestep_spacing": "leading"})
        modules = {"unet": unet, "vae": autoencoder(dtype), "scheduler": scheduler, "add_watermarker": False}
        if refiner:
            modules["requires_aesthetics_score"] = True
        return named(kind)(**modules, **dict.fromkeys(nothing))

    return build


def _sdxl_call(pipe: Any, steps: int, generator: Any, **more: Any) -> Tensor:
    dtype = pipe.unet.dtype
    said = words(dtype)
    said |= {f"{name.removesuffix('prompt_embeds')}pooled_prompt_embeds": e.mean(1) for name, e in said.items()}
    return pipe(num_inference_steps=steps, generator=generator, output_type="latent", **said, **more).images


def _sdxl_base(pipe: Any, steps: int, generator: Any, **more: Any) -> Tensor:
    return _sdxl_call(pipe, steps, generator, denoising_end=SPLIT, **more)


def _sdxl_refine(pipe: Any, steps: int, generator: Any, **more: Any) -> Tensor:
    """The base model's latents, noisy still, are the refiner's image."""
    latents = fixed(1, 4, 8, 8, dtype=pipe.unet.dtype, seed=3)
    return _sdxl_call(pipe, steps, generator, image=latents, denoising_start=SPLIT, **more)


def _cut(timesteps: Sequence[float]) -> int:
    """How many timesteps come before the split, for a table of 1000."""
    return sum(t >= round(1000 * (1 - SPLIT)) for t in timesteps)


def before_split(timesteps: Sequence[float], order: int, asked: int) -> int:
    """What the base model runs with denoising_end."""
    return _cut(timesteps)


def after_split(timesteps: Sequence[float], order: int, asked: int) -> int:
    """What the refiner runs with denoising_start: where the scheduler's order is 2, an odd number."""
    rest = len(timesteps) - _cut(timesteps)
    return rest + (order == 2 and rest % 2 == 0)


def _lcm(dtype: torch.dtype) -> Any:
    """Latent Consistency Models: the scale of the guidance is an input of the network."""
    nothing = dict.fromkeys(("text_encoder", "tokenizer", "safety_checker", "feature_extractor"))
    scheduler = named("LCMScheduler").from_config({**_sd_betas(), "set_alpha_to_one": True})
    modules = {"unet": text_unet(dtype, time_cond_proj_dim=8), "vae": autoencoder(dtype), "scheduler": scheduler}
    return named("LatentConsistencyModelPipeline")(**modules, **nothing, requires_safety_checker=False)


def _lcm_call(pipe: Any, steps: int, generator: Any, **more: Any) -> Tensor:
    said = {"prompt_embeds": words(pipe.unet.dtype)["prompt_embeds"]}
    return pipe(num_inference_steps=steps, generator=generator, output_type="latent", **said, **more).images


def _upscale(dtype: torch.dtype) -> Any:
    """Four times larger, as the third stage of DeepFloyd IF: the network sees the small image with some noise."""
    betas = {**_sd_betas(), "prediction_type": "v_prediction"}
    modules = {
        "unet": text_unet(dtype, 7, num_class_embeds=1000, out_channels=4),
        "vae": autoencoder(dtype),
        "scheduler": named("DDIMScheduler").from_config(betas),
        "low_res_scheduler": named("DDPMScheduler").from_config({"beta_schedule": "scaled_linear"}),
    }
    return named("StableDiffusionUpscalePipeline")(text_encoder=None, tokenizer=None, **modules)


INPAINT = with_picture(_sd_call, masked=True, strength=STRENGTH, height=16, width=16)

CASES = (
    Case("Stable Diffusion 1", "stable diffusion", _sd("StableDiffusionPipeline"), _sd_call, peers=peers.ALL),
    Case(
        "Stable Diffusion 2",
        "stable diffusion",
        _sd("StableDiffusionPipeline", prediction="v_prediction"),
        _sd_call,
        peers=(*peers.EVERYWHERE, *peers.SCALED, peers.DDPM, peers.PLMS_OF_V),
    ),
    Case(
        "Stable Diffusion img2img",
        "stable diffusion",
        _sd("StableDiffusionImg2ImgPipeline"),
        with_picture(_sd_call, strength=STRENGTH),
        runs=after_strength,
        peers=(*peers.EVERYWHERE, *peers.SCALED, peers.PLMS_FROM_THE_MIDDLE, peers.LMS_FROM_THE_MIDDLE),
    ),
    Case(
        "Stable Diffusion inpaint",
        "stable diffusion",
        _sd("StableDiffusionInpaintPipeline"),
        INPAINT,
        runs=after_strength,
        note="a network of 4 channels: the known half is put back, with noise, after every evaluation",
        not_adaptive=EDITS,
        peers=(*peers.EVERYWHERE, *peers.SCALED, peers.PLMS_FROM_THE_MIDDLE, peers.LMS_FROM_THE_MIDDLE),
    ),
    Case(
        "Stable Diffusion inpaint, 9 channels",
        "stable diffusion",
        _sd("StableDiffusionInpaintPipeline", 9),
        INPAINT,
        runs=after_strength,
        note="the network sees mask and image",
        peers=(*peers.EVERYWHERE, *peers.SCALED),
    ),
    Case(
        "Stable Diffusion ControlNet",
        "stable diffusion",
        _sd("StableDiffusionControlNetPipeline", control=True),
        with_picture(_sd_call, height=16, width=16),
        not_adaptive=LOOKS_AHEAD,
        peers=(*peers.EVERYWHERE, *peers.SCALED, peers.PLMS),
    ),
    Case(
        "Stable Diffusion XL",
        "stable diffusion",
        _sdxl("StableDiffusionXLPipeline"),
        _sdxl_call,
        peers=(*peers.EVERYWHERE, *peers.SCALED, peers.DDPM, peers.PLMS),
    ),
    Case(
        "Stable Diffusion XL img2img",
        "stable diffusion",
        _sdxl("StableDiffusionXLImg2ImgPipeline"),
        with_picture(_sdxl_call, strength=STRENGTH),
        runs=after_strength,
        peers=(*peers.EVERYWHERE, *peers.SCALED, peers.PLMS_FROM_THE_MIDDLE, peers.LMS_FROM_THE_MIDDLE),
    ),
    Case(
        "Stable Diffusion XL base, denoising_end",
        "stable diffusion",
        _sdxl("StableDiffusionXLPipeline"),
        _sdxl_base,
        runs=before_split,
        not_adaptive=LOOKS_AHEAD,
        peers=(*peers.EVERYWHERE, peers.SPLIT),
    ),
    Case(
        "Stable Diffusion XL refiner, denoising_start",
        "stable diffusion",
        _sdxl("StableDiffusionXLImg2ImgPipeline", refiner=True),
        _sdxl_refine,
        runs=after_split,
        not_adaptive=LOOKS_AHEAD,
        peers=(*peers.EVERYWHERE, peers.SPLIT),
    ),
    Case(
        "Stable Diffusion upscaling x4",
        "stable diffusion",
        _upscale,
        with_picture(_sd_call, noise_level=20),
        peers=peers.EVERYWHERE,
    ),
    Case(
        "Latent Consistency Models",
        "stable diffusion",
        _lcm,
        _lcm_call,
        peers=(peers.LCM,),
        note="for distilled networks: other solvers run, but their samples are what few steps of them are worth",
    ),
)
