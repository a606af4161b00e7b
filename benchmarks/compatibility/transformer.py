"""Pipelines on transformers: Stable Diffusion 3, Flux, AuraFlow, Sana."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.compatibility.cases import Case, Peer
from benchmarks.compatibility.parts import (
    SIDE,
    WIDTH,
    autoencoder,
    fixed,
    made,
    mask,
    masked_embeddings,
    picture,
    quiet,
)

STRENGTH = 0.6  # of image to image


def flow_autoencoder(dtype: torch.dtype, **config: Any) -> Any:
    """The autoencoder of Stable Diffusion 3 and Flux: no convolutions between it and the latents."""
    return autoencoder(dtype, use_quant_conv=False, use_post_quant_conv=False, **config)


# -- Stable Diffusion 3
def sd3(dtype: torch.dtype, *, kind: str = "StableDiffusion3Pipeline", **scheduler: Any) -> Any:
    """Stable Diffusion 3, without its three text encoders."""
    import diffusers

    transformer = made(
        lambda: diffusers.SD3Transformer2DModel(
            sample_size=SIDE, patch_size=2, in_channels=16, out_channels=16, num_layers=2, attention_head_dim=8,
            num_attention_heads=2, joint_attention_dim=WIDTH, caption_projection_dim=16, pooled_projection_dim=WIDTH,
            pos_embed_max_size=SIDE,
        ), dtype,
    )  # fmt: skip
    none = dict.fromkeys(
        ("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2", "text_encoder_3", "tokenizer_3")
    )
    own = diffusers.FlowMatchEulerDiscreteScheduler(**{"shift": 3.0, **scheduler})
    vae = autoencoder(
        dtype,
        latent_channels=16,
        scaling_factor=1.5,
        shift_factor=0.06,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )
    return quiet(getattr(diffusers, kind)(transformer=transformer, scheduler=own, vae=vae, **none))


def sd3_embeddings(dtype: torch.dtype) -> dict[str, Tensor]:
    """Embeddings of a prompt and of a negative one."""
    return {
        "prompt_embeds": fixed((1, 5, WIDTH), dtype, 1),
        "negative_prompt_embeds": fixed((1, 5, WIDTH), dtype, 2),
        "pooled_prompt_embeds": fixed((1, WIDTH), dtype, 3),
        "negative_pooled_prompt_embeds": fixed((1, WIDTH), dtype, 4),
    }


def call_sd3(pipe: Any, steps: int, generator: Any, **more: Any) -> Tensor:
    """Text to image, guided."""
    given = sd3_embeddings(pipe.transformer.dtype) | {"height": 2 * SIDE, "width": 2 * SIDE, "guidance_scale": 3.0}
    return pipe(num_inference_steps=steps, generator=generator, output_type="latent", **(given | more)).images


def call_sd3_image(pipe: Any, steps: int, generator: Any, **more: Any) -> Tensor:
    """Image to image."""
    return call_sd3(pipe, steps, generator, image=picture(pipe.transformer.dtype), strength=STRENGTH, **more)


def call_sd3_inpaint(pipe: Any, steps: int, generator: Any, **more: Any) -> Tensor:
    """Half of an image is painted; the other half is put back after every step."""
    return call_sd3_image(pipe, steps, generator, mask_image=mask(pipe.transformer.dtype), **more)


# -- Flux
def flux(dtype: torch.dtype, *, kind: str = "FluxPipeline") -> Any:
    """Flux (dev), without its text encoders."""
    import diffusers

    transformer = made(
        lambda: diffusers.FluxTransformer2DModel(
            patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16,
            num_attention_heads=2, joint_attention_dim=WIDTH, pooled_projection_dim=WIDTH, guidance_embeds=True,
            axes_dims_rope=(4, 4, 8),
        ), dtype,
    )  # fmt: skip
    none = dict.fromkeys(("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"))
    own = diffusers.FlowMatchEulerDiscreteScheduler(
        shift=3.0, use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15, base_image_seq_len=256,
        max_image_seq_len=4096,
    )  # fmt: skip
    vae = flow_autoencoder(dtype, scaling_factor=0.36, shift_factor=0.12)
    return quiet(getattr(diffusers, kind)(transformer=transformer, scheduler=own, vae=vae, **none))


def call_flux(pipe: Any, steps: int, generator: Any, **more: Any) -> Tensor:
    """Text to image, with the guidance as an input of the network."""
    dtype = pipe.transformer.dtype
    given = {"prompt_embeds": fixed((1, 5, WIDTH), dtype, 1), "pooled_prompt_embeds": fixed((1, WIDTH), dtype, 3)}
    given |= {"height": 2 * SIDE, "width": 2 * SIDE, "guidance_scale": 3.5}
    return pipe(num_inference_steps=steps, generator=generator, output_type="latent", **(given | more)).images


def call_flux_image(pipe: Any, steps: int, generator: Any, **more: Any) -> Tensor:
    """Image to image."""
    return call_flux(pipe, steps, generator, image=picture(pipe.transformer.dtype), strength=STRENGTH, **more)


# -- AuraFlow
def auraflow(dtype: torch.dtype) -> Any:
    """AuraFlow, without its text encoder."""
    import diffusers

    transformer = made(
        lambda: diffusers.AuraFlowTransformer2DModel(
            sample_size=SIDE, patch_size=2, in_channels=4, out_channels=4, num_mmdit_layers=1, num_single_dit_layers=1,
            attention_head_dim=8, num_attention_heads=2, joint_attention_dim=WIDTH, caption_projection_dim=16,
            pos_embed_max_size=64,
        ), dtype,
    )  # fmt: skip
    own = diffusers.FlowMatchEulerDiscreteScheduler(shift=1.73)
    vae = autoencoder(dtype, scaling_factor=0.13)
    return quiet(
        diffusers.AuraFlowPipeline(tokenizer=None, text_encoder=None, vae=vae, transformer=transformer, scheduler=own)
    )


def call_auraflow(pipe: Any, steps: int, generator: Any, **more: Any) -> Tensor:
    """Text to image, guided."""
    given = masked_embeddings(pipe.transformer.dtype)
    given |= {"height": 2 * SIDE, "width": 2 * SIDE, "guidance_scale": 3.0}
    return pipe(num_inference_steps=steps, generator=generator, output_type="latent", **(given | more)).images


# -- Sana
def sana(dtype: torch.dtype) -> Any:
    """Sana, without its language model."""
    import diffusers

    transformer = made(
        lambda: diffusers.SanaTransformer2DModel(
            in_channels=4, out_channels=4, num_layers=1, num_attention_heads=2, attention_head_dim=8,
            num_cross_attention_heads=2, cross_attention_head_dim=8, cross_attention_dim=16, caption_channels=WIDTH,
            sample_size=SIDE,
        ), dtype,
    )  # fmt: skip
    vae = made(
        lambda: diffusers.AutoencoderDC(
            latent_channels=4, encoder_block_types=("ResBlock", "EfficientViTBlock"),
            decoder_block_types=("ResBlock", "EfficientViTBlock"), encoder_block_out_channels=(8, 8),
            decoder_block_out_channels=(8, 8), encoder_qkv_multiscales=((), (5,)), decoder_qkv_multiscales=((), (5,)),
            encoder_layers_per_block=(1, 1), decoder_layers_per_block=(1, 1), attention_head_dim=2,
            downsample_block_type="conv", upsample_block_type="interpolate", scaling_factor=0.41,
        ), dtype,
    )  # fmt: skip
    own = diffusers.DPMSolverMultistepScheduler(
        algorithm_type="dpmsolver++", solver_order=2, prediction_type="flow_prediction", use_flow_sigmas=True,
        flow_shift=3.0, final_sigmas_type="zero", beta_start=0.0001, beta_end=0.02, beta_schedule="linear",
    )  # fmt: skip
    return quiet(
        diffusers.SanaPipeline(tokenizer=None, text_encoder=None, vae=vae, transformer=transformer, scheduler=own)
    )


def call_sana(pipe: Any, steps: int, generator: Any, **more: Any) -> Tensor:
    """Text to image, guided."""
    given: dict[str, Any] = dict(masked_embeddings(pipe.transformer.dtype))
    given |= {"height": 32, "width": 32, "guidance_scale": 3.0, "use_resolution_binning": False}
    given |= {"negative_prompt": None}
    return pipe(num_inference_steps=steps, generator=generator, output_type="latent", **(given | more)).images


# -- the table
def after_strength(timesteps: Sequence[float], order: int, asked: int) -> int:
    """Image to image: the steps before the strength are left out."""
    skipped = int(asked - min(asked * STRENGTH, asked))
    return max(len(timesteps) - skipped * order, 0)


def after_strength_of_timesteps(timesteps: Sequence[float], order: int, asked: int) -> int:
    """The same for a pipeline that sets noise levels: it takes the number of timesteps that it gets for the steps."""
    return after_strength(timesteps, order, len(timesteps))


# Multistep schedulers on a rectified flow: what is set over the config of FlowMatchEulerDiscreteScheduler.
ON_FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 3.0}
EXACT = {"rounding": "grid", "count": "steps", "textbook": True}  # what diffusers does, no better
EULER = Peer("euler-flow", "FlowMatchEulerDiscreteScheduler", options=EXACT, tolerance=1e-5)
HEUN = Peer("heun-flow", "FlowMatchHeunDiscreteScheduler", options=EXACT, tolerance=1e-5)
DPM = Peer("dpmpp-2m", "DPMSolverMultistepScheduler", ON_FLOW, EXACT, tolerance=1e-5)
UNIPC = Peer("unipc-2", "UniPCMultistepScheduler", ON_FLOW, EXACT, tolerance=1e-5)

CASES = (
    Case("Stable Diffusion 3", "transformer", sd3, call_sd3, "transformer", peers=(EULER, HEUN, DPM, UNIPC)),
    Case(
        "Stable Diffusion 3, dynamic shift", "transformer", partial(sd3, use_dynamic_shifting=True), call_sd3,
        "transformer", peers=(EULER,), note="the pipeline computes mu from the number of tokens",
    ),
    Case(
        "Stable Diffusion 3 img2img", "transformer", partial(sd3, kind="StableDiffusion3Img2ImgPipeline"),
        call_sd3_image, "transformer", runs=after_strength, peers=(EULER, HEUN),
    ),
    Case(
        "Stable Diffusion 3 inpaint", "transformer", partial(sd3, kind="StableDiffusion3InpaintPipeline"),
        call_sd3_inpaint, "transformer", runs=after_strength, peers=(EULER,),
        note="the part that is kept is put back after every call",
    ),
    Case(
        "Flux", "transformer", flux, call_flux, "transformer", peers=(EULER,),
        note="the pipeline sets one noise level a step, and mu",
    ),
    Case(
        "Flux img2img", "transformer", partial(flux, kind="FluxImg2ImgPipeline"), call_flux_image, "transformer",
        runs=after_strength_of_timesteps, peers=(EULER,),
    ),
    Case(
        "AuraFlow", "transformer", auraflow, call_auraflow, "transformer", peers=(EULER, HEUN),
        note="the network is told the noise level itself",
    ),
    Case(
        "Sana", "transformer", sana, call_sana, "transformer", peers=(DPM, UNIPC),
        note="the pipeline keeps float32 latents, whatever the weights",
    ),
)  # fmt: skip
