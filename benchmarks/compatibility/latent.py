"""Pipelines that denoise latents: Latent Diffusion, DiT, Kandinsky, PixArt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from . import peers
from .cases import EDITS, LOOKS_AHEAD, STRENGTH, Case, after_strength
from .parts import (
    autoencoder,
    fixed,
    image_encoder,
    named,
    prior,
    simple_unet,
    text_encoder,
    text_unet,
    tiny,
    tokenizer,
    with_picture,
    words,
)

Build = Callable[[torch.dtype], Any]


def _dit(dtype: torch.dtype) -> Any:
    transformer = tiny(
        "DiTTransformer2DModel",
        dtype,
        num_attention_heads=2,
        attention_head_dim=4,
        in_channels=4,
        out_channels=8,
        num_layers=1,
        sample_size=8,
        patch_size=2,
        num_embeds_ada_norm=1000,
    )
    return named("DiTPipeline")(transformer, autoencoder(dtype), named("DDIMScheduler")(clip_sample=False))


def _dit_call(pipe: Any, steps: int, generator: Any, **more: Any) -> Tensor:
    return pipe(class_labels=[1], num_inference_steps=steps, generator=generator, output_type="pt", **more).images


def _ldm(dtype: torch.dtype) -> Any:
    from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertConfig, LDMBertModel

    sizes: dict[str, Any] = {
        "vocab_size": 8,
        "encoder_layers": 1,
        "encoder_ffn_dim": 16,
        "encoder_attention_heads": 2,
        "head_dim": 4,
    }
    bert = tiny(LDMBertModel, dtype, config=LDMBertConfig(**sizes, d_model=8))
    scheduler = named("DDIMScheduler")(
        beta_start=0.0015, beta_end=0.0195, beta_schedule="scaled_linear", clip_sample=False
    )
    return named("LDMTextToImagePipeline")(autoencoder(dtype), bert, tokenizer(77), text_unet(dtype), scheduler)


def _ldm_call(pipe: Any, steps: int, generator: Any, **more: Any) -> Tensor:
    said = {"prompt": "a cat", "guidance_scale": 3.0, "output_type": "np"}
    return torch.from_numpy(pipe(num_inference_steps=steps, generator=generator, **said, **more).images)


def _kandinsky_prior(dtype: torch.dtype) -> Any:
    return named("KandinskyV22PriorPipeline")(
        prior=prior(dtype),
        image_encoder=image_encoder(dtype),
        text_encoder=text_encoder(dtype),
        tokenizer=tokenizer(),
        scheduler=named("UnCLIPScheduler")(prediction_type="sample", clip_sample_range=10.0),
        image_processor=None,
    )


def _kandinsky_prior_call(pipe: Any, steps: int, generator: Any, **more: Any) -> Tensor:
    return pipe("a cat", num_inference_steps=steps, generator=generator, **more).image_embeds


def after_calls(timesteps: Sequence[float], order: int, asked: int) -> int:
    """What Kandinsky's img2img runs: it forgets `order`."""
    return after_strength(timesteps, 1, asked)


def _kandinsky(kind: str) -> Build:
    """Builds a decoder of Kandinsky 2.2 of this class."""

    def build(dtype: torch.dtype) -> Any:
        unet = tiny(
            "UNet2DConditionModel",
            dtype,
            in_channels=4,
            out_channels=8,
            **simple_unet(),
            addition_embed_type="image",
            encoder_hid_dim=8,
            encoder_hid_dim_type="image_proj",
        )
        movq = tiny(
            "VQModel",
            dtype,
            block_out_channels=(32, 32),  # its spatial norm has 32 groups
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            latent_channels=4,
            vq_embed_dim=4,
            num_vq_embeddings=8,
            norm_num_groups=4,
            norm_type="spatial",
        )
        betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "linear"}
        clip = {"clip_sample": True, "clip_sample_range": 2.0}
        scheduler = named("DDPMScheduler")(**betas, **clip, variance_type="learned_range")
        return named(kind)(unet=unet, scheduler=scheduler, movq=movq)

    return build


def _kandinsky_call(pipe: Any, steps: int, generator: Any, **more: Any) -> Tensor:
    dtype = pipe.unet.dtype
    seen = {"image_embeds": fixed(1, 8, dtype=dtype), "negative_image_embeds": fixed(1, 8, dtype=dtype, seed=1)}
    size = {"height": 32, "width": 32}  # 16 latents
    return pipe(num_inference_steps=steps, generator=generator, output_type="pt", **seen, **size, **more).images


def _pixart(dtype: torch.dtype) -> Any:
    transformer = tiny(
        "PixArtTransformer2DModel",
        dtype,
        sample_size=8,
        num_layers=1,
        patch_size=2,
        attention_head_dim=4,
        num_attention_heads=2,
        caption_channels=8,
        in_channels=4,
        cross_attention_dim=8,
        out_channels=8,
    )
    modules = {
        "transformer": transformer,
        "vae": autoencoder(dtype),
        "scheduler": named("DPMSolverMultistepScheduler")(),
    }
    return named("PixArtAlphaPipeline")(text_encoder=None, tokenizer=None, **modules)


def _pixart_call(pipe: Any, steps: int, generator: Any, **more: Any) -> Tensor:
    said = words(pipe.transformer.dtype)
    masks = {f"{name.removesuffix('embeds')}attention_mask": torch.ones(1, 4) for name in said}
    rest = {"negative_prompt": None, "use_resolution_binning": False, "output_type": "latent"}
    return pipe(num_inference_steps=steps, generator=generator, **said, **masks, **rest, **more).images


CASES = (
    Case(
        "DiT",
        "latent",
        _dit,
        _dit_call,
        "transformer",
        not_adaptive=EDITS,
        peers=(*peers.EVERYWHERE, peers.DDPM, peers.NOT_EULER),
    ),
    Case(
        "Latent Diffusion",
        "latent",
        _ldm,
        _ldm_call,
        peers=(*peers.EVERYWHERE, peers.PLMS, peers.DDIM_TO_ITSELF, peers.NOT_EULER),
    ),
    Case(
        "Kandinsky 2.2 prior",
        "latent",
        _kandinsky_prior,
        _kandinsky_prior_call,
        "prior",
        not_adaptive=LOOKS_AHEAD,
        peers=(peers.UNCLIP,),
    ),
    Case("Kandinsky 2.2", "latent", _kandinsky("KandinskyV22Pipeline"), _kandinsky_call, peers=peers.VARIANCE),
    Case(
        "Kandinsky 2.2 img2img",
        "latent",
        _kandinsky("KandinskyV22Img2ImgPipeline"),
        with_picture(_kandinsky_call, strength=STRENGTH),
        runs=after_calls,
        peers=peers.VARIANCE,
    ),
    Case(
        "PixArt",
        "latent",
        _pixart,
        _pixart_call,
        "transformer",
        peers=(*peers.EVERYWHERE[1:], *peers.SCALED, peers.DDPM),
    ),
)
