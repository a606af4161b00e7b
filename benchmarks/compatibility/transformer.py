"""Pipelines on transformers: Stable Diffusion 3, Flux, AuraFlow, Sana."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from .cases import EDITS, Call, Case, Peer
from .parts import autoencoder, fixed, mask, named, picture, tiny, words

STRENGTH = 0.6  # of image to image
SIZE = {"height": 16, "width": 16}  # 8 latents


def after_strength(timesteps: Sequence[float], order: int, asked: int) -> int:
    """Image to image: the steps before the strength are left out."""
    skipped = int(asked - min(asked * STRENGTH, asked))
    return max(len(timesteps) - skipped * order, 0)


def after_strength_of_timesteps(timesteps: Sequence[float], order: int, asked: int) -> int:
    """The same where the pipeline takes for the number of steps how many timesteps there are."""
    return after_strength(timesteps, order, len(timesteps))


def with_image(call: Call, masked: bool = False) -> Call:
    """Image to image, or inpainting."""

    def run(pipe: Any, steps: int, generator: Any, **more: Any) -> Tensor:
        dtype = pipe.transformer.dtype
        given = {"image": picture(16, dtype), "strength": STRENGTH}
        given |= {"mask_image": mask(16, dtype)} if masked else {}
        return call(pipe, steps, generator, **given, **more)

    return run


def _pooled(dtype: torch.dtype) -> dict[str, Tensor]:
    return {
        "pooled_prompt_embeds": fixed(1, 8, dtype=dtype, seed=2),
        "negative_pooled_prompt_embeds": fixed(1, 8, dtype=dtype, seed=3),
    }


def masked_words(dtype: torch.dtype) -> dict[str, Tensor]:
    """Embeddings of a prompt and of a negative one, with their attention masks."""
    masks = dict.fromkeys(("prompt_attention_mask", "negative_prompt_attention_mask"), torch.ones(1, 4).long())
    return {**words(dtype), **masks}


def sd3(kind: str, **scheduler: Any) -> Callable[[torch.dtype], Any]:
    """Stable Diffusion 3, without its three text encoders."""

    def build(dtype: torch.dtype) -> Any:
        transformer = tiny(
            "SD3Transformer2DModel", dtype, sample_size=8, patch_size=2, in_channels=16, out_channels=16, num_layers=2,
            attention_head_dim=8, num_attention_heads=2, joint_attention_dim=8, caption_projection_dim=16,
            pooled_projection_dim=8, pos_embed_max_size=8,
        )  # fmt: skip
        own = named("FlowMatchEulerDiscreteScheduler")(**{"shift": 3.0, **scheduler})
        names = [f"{part}{i}" for part in ("text_encoder", "tokenizer") for i in ("", "_2", "_3")]
        vae = _flow_autoencoder(dtype, 16, scaling_factor=1.5305, shift_factor=0.0609)
        return named(kind)(transformer=transformer, scheduler=own, vae=vae, **dict.fromkeys(names))

    return build


def _flow_autoencoder(dtype: torch.dtype, channels: int, **config: float) -> Any:
    return autoencoder(dtype, channels, use_quant_conv=False, use_post_quant_conv=False, **config)


def call_sd3(pipe: Any, steps: int, generator: Any, **more: Any) -> Tensor:
    """Text to image, guided."""
    dtype = pipe.transformer.dtype
    given = {**words(dtype), **_pooled(dtype), **SIZE, "output_type": "latent", "guidance_scale": 3.0}
    return pipe(num_inference_steps=steps, generator=generator, **given, **more).images


def flux(kind: str) -> Callable[[torch.dtype], Any]:
    """Flux (dev), without its text encoders."""

    def build(dtype: torch.dtype) -> Any:
        transformer = tiny(
            "FluxTransformer2DModel", dtype, patch_size=1, in_channels=16, num_layers=1, num_single_layers=1,
            attention_head_dim=16, num_attention_heads=2, joint_attention_dim=8, pooled_projection_dim=8,
            guidance_embeds=True, axes_dims_rope=(4, 4, 8),
        )  # fmt: skip
        shift = {"base_shift": 0.5, "max_shift": 1.15, "base_image_seq_len": 256, "max_image_seq_len": 4096}
        own = named("FlowMatchEulerDiscreteScheduler")(shift=3.0, use_dynamic_shifting=True, **shift)
        names = ("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2")
        vae = _flow_autoencoder(dtype, 4, scaling_factor=0.3611, shift_factor=0.1159)
        return named(kind)(transformer=transformer, scheduler=own, vae=vae, **dict.fromkeys(names))

    return build


def call_flux(pipe: Any, steps: int, generator: Any, **more: Any) -> Tensor:
    """Text to image, with the guidance as an input of the network."""
    dtype = pipe.transformer.dtype
    given = {"prompt_embeds": fixed(1, 4, 8, dtype=dtype), "pooled_prompt_embeds": fixed(1, 8, dtype=dtype, seed=2)}
    return pipe(num_inference_steps=steps, generator=generator, output_type="latent", **SIZE, **given, **more).images


def auraflow(dtype: torch.dtype) -> Any:
    """AuraFlow, without its text encoder."""
    transformer = tiny(
        "AuraFlowTransformer2DModel", dtype, sample_size=8, patch_size=2, in_channels=4, out_channels=4,
        num_mmdit_layers=1, num_single_dit_layers=1, attention_head_dim=8, num_attention_heads=2,
        joint_attention_dim=8, caption_projection_dim=16, pos_embed_max_size=64,
    )  # fmt: skip
    own = named("FlowMatchEulerDiscreteScheduler")(shift=1.73)
    modules = {"transformer": transformer, "vae": autoencoder(dtype), "scheduler": own}
    return named("AuraFlowPipeline")(tokenizer=None, text_encoder=None, **modules)


def call_auraflow(pipe: Any, steps: int, generator: Any, **more: Any) -> Tensor:
    """Text to image, guided."""
    given = {**masked_words(pipe.transformer.dtype), **SIZE, "output_type": "latent", "guidance_scale": 3.0}
    return pipe(num_inference_steps=steps, generator=generator, **given, **more).images


def sana(dtype: torch.dtype) -> Any:
    """Sana, without its language model."""
    transformer = tiny(
        "SanaTransformer2DModel", dtype, in_channels=4, out_channels=4, num_layers=1, num_attention_heads=2,
        attention_head_dim=8, num_cross_attention_heads=2, cross_attention_head_dim=8, cross_attention_dim=16,
        caption_channels=8, sample_size=8,
    )  # fmt: skip
    halves = {f"{half}_{name}": value for half in ("encoder", "decoder") for name, value in _SANA_BLOCKS.items()}
    vae = tiny(
        "AutoencoderDC", dtype, latent_channels=4, attention_head_dim=2, downsample_block_type="conv",
        upsample_block_type="interpolate", **halves,
    )  # fmt: skip
    own = named("DPMSolverMultistepScheduler")(**ON_FLOW)
    modules = {"transformer": transformer, "vae": vae, "scheduler": own}
    return named("SanaPipeline")(tokenizer=None, text_encoder=None, **modules)


_SANA_BLOCKS = {
    "block_types": ("ResBlock", "EfficientViTBlock"),
    "block_out_channels": (8, 8),
    "qkv_multiscales": ((), (5,)),
    "layers_per_block": (1, 1),
}


def call_sana(pipe: Any, steps: int, generator: Any, **more: Any) -> Tensor:
    """Text to image, guided."""
    given = {**masked_words(pipe.transformer.dtype), "height": 32, "width": 32, "guidance_scale": 3.0}
    rest = {"negative_prompt": None, "use_resolution_binning": False, "output_type": "latent"}
    return pipe(num_inference_steps=steps, generator=generator, **given, **rest, **more).images


# Multistep schedulers on a rectified flow.
ON_FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 3.0}
EULER = Peer("euler-flow", "FlowMatchEulerDiscreteScheduler")
HEUN = Peer("heun-flow", "FlowMatchHeunDiscreteScheduler")
DPM = Peer("dpmpp-2m", "DPMSolverMultistepScheduler", ON_FLOW)
UNIPC = Peer("unipc-2", "UniPCMultistepScheduler", ON_FLOW)

CASES = (
    Case(
        "Stable Diffusion 3", "transformer", sd3("StableDiffusion3Pipeline"), call_sd3, "transformer",
        peers=(EULER, HEUN, DPM, UNIPC),
    ),
    Case(
        "Stable Diffusion 3, dynamic shift", "transformer", sd3("StableDiffusion3Pipeline", use_dynamic_shifting=True),
        call_sd3, "transformer", peers=(EULER,), note="the pipeline computes mu from the number of tokens",
    ),
    Case(
        "Stable Diffusion 3 img2img", "transformer", sd3("StableDiffusion3Img2ImgPipeline"), with_image(call_sd3),
        "transformer", runs=after_strength, peers=(EULER, HEUN),
    ),
    Case(
        "Stable Diffusion 3 inpaint", "transformer", sd3("StableDiffusion3InpaintPipeline"),
        with_image(call_sd3, masked=True), "transformer", runs=after_strength, peers=(EULER,), not_adaptive=EDITS,
        note="the known half is put back, with noise, after every evaluation",
    ),
    Case(
        "Flux", "transformer", flux("FluxPipeline"), call_flux, "transformer", peers=(EULER,),
        note="the pipeline passes one noise level for each step, and mu",
    ),
    Case(
        "Flux img2img", "transformer", flux("FluxImg2ImgPipeline"), with_image(call_flux), "transformer",
        runs=after_strength_of_timesteps, peers=(EULER,),
    ),
    Case(
        "AuraFlow", "transformer", auraflow, call_auraflow, "transformer", peers=(EULER, HEUN),
        note="the network is told the noise level itself",
    ),
    Case(
        "Sana", "transformer", sana, call_sana, "transformer",
        peers=tuple(replace(peer, tolerance=1e-6) for peer in (DPM, UNIPC)),
        note="float32 latents, whatever the weights",
    ),
)  # fmt: skip
