"""What the tiny pipelines are made of: modules with fixed random weights, and fixed inputs."""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import Tensor


def named(name: str) -> Any:
    """A class of diffusers, which makes them when they are asked for, out of the sight of type checkers."""
    return getattr(importlib.import_module("diffusers"), name)


def tiny(kind: Any, dtype: torch.dtype, seed: int = 0, **config: Any) -> Any:
    """A module with random weights: a function of the seed, the same to rounding in every dtype.

    `kind` is a class, or the name of one of diffusers.

    Parameters that are zero at first (the last layers of ControlNets and transformers) are random too: otherwise half
    of the module would do nothing.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = (named(kind) if isinstance(kind, str) else kind)(**config)
        with torch.no_grad():
            for parameter in module.parameters():
                if parameter.ndim > 1 and not parameter.any():
                    parameter.normal_(std=0.1)
    return module.eval().requires_grad_(False).to(dtype)


def fixed(*shape: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    """Normal numbers, the same in every dtype to rounding."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def picture(size: int, dtype: torch.dtype, channels: int = 3) -> Tensor:
    """An image with values in [0, 1], (1, channels, size, size)."""
    return fixed(1, channels, size, size, dtype=dtype, seed=7).sigmoid()


def words(dtype: torch.dtype) -> dict[str, Tensor]:
    """Embeddings of a prompt and of a negative one, 4 tokens of 8 numbers each."""
    return {"prompt_embeds": fixed(1, 4, 8, dtype=dtype), "negative_prompt_embeds": fixed(1, 4, 8, dtype=dtype, seed=1)}


def mask(size: int, dtype: torch.dtype) -> Tensor:
    """1 where an image is to be painted anew: its right half; (1, 1, size, size)."""
    return (torch.arange(size) >= size // 2).to(dtype).expand(1, 1, size, size).contiguous()


def tokenizer(length: int = 16) -> Any:
    """CLIP's, with a vocabulary of its special tokens only: every word is unknown."""
    from transformers import CLIPTokenizer

    return CLIPTokenizer(model_max_length=length)


LAYER: dict[str, Any] = {
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_attention_heads": 2,
    "num_hidden_layers": 1,
    "projection_dim": 8,
}  # of CLIP


def text_encoder(dtype: torch.dtype, length: int = 16) -> Any:
    """CLIP's with a projection to 8 numbers."""
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    special: dict[str, Any] = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    config = CLIPTextConfig(**LAYER, **special, vocab_size=8, max_position_embeddings=length)
    return tiny(CLIPTextModelWithProjection, dtype, config=config)


def image_encoder(dtype: torch.dtype) -> Any:
    """CLIP's of images of 16 by 16, with a projection to 8 numbers."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    return tiny(CLIPVisionModelWithProjection, dtype, config=CLIPVisionConfig(**LAYER, image_size=16, patch_size=8))


def prior(dtype: torch.dtype, length: int = 16) -> Any:
    """The transformer of unCLIP and Kandinsky that denoises an image's embedding, 8 numbers."""
    sizes = {"num_attention_heads": 2, "attention_head_dim": 4, "embedding_dim": 8}
    return tiny("PriorTransformer", dtype, **sizes, num_layers=1, num_embeddings=length, additional_embeddings=4)


def autoencoder(dtype: torch.dtype, channels: int = 4, **config: Any) -> Any:
    """A VAE that halves height and width, for the pipelines that want one; float32 is not forced on it."""
    return tiny(
        "AutoencoderKL",
        dtype,
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=channels,
        norm_num_groups=4,
        sample_size=16,
        force_upcast=False,
        **config,
    )


def unet_sizes() -> dict[str, Any]:
    """What Stable Diffusion's U-Nets and ControlNets have in common."""
    return {
        "layers_per_block": 1,
        "block_out_channels": (8, 16),
        "norm_num_groups": 4,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "cross_attention_dim": 8,
        "attention_head_dim": 2,
    }


def simple_unet() -> dict[str, Any]:
    """Sizes of a U-Net of the kind of unCLIP, Kandinsky 2 and DeepFloyd IF."""
    return {
        "sample_size": 8,
        "layers_per_block": 1,
        "block_out_channels": (8, 16),
        "norm_num_groups": 4,
        "down_block_types": ("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
        "up_block_types": ("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        "cross_attention_dim": 8,
        "attention_head_dim": 4,
        "resnet_time_scale_shift": "scale_shift",
    }


def text_unet(dtype: torch.dtype, channels: int = 4, **more: Any) -> Any:
    """A U-Net of latents of 8 by 8 with a condition of 8 numbers a token."""
    up = ("CrossAttnUpBlock2D", "UpBlock2D")
    sizes = {**unet_sizes(), "up_block_types": up, "sample_size": 8, "in_channels": channels}
    return tiny("UNet2DConditionModel", dtype, **sizes, **more)


def with_picture(call: Any, *, masked: bool = False, **fixed_arguments: Any) -> Any:
    """A call with a picture, with a mask if asked."""

    def run(pipe: Any, steps: int, generator: Any, **more: Any) -> Tensor:
        arguments = {"image": picture(16, pipe.unet.dtype)}
        arguments |= {"mask_image": mask(16, pipe.unet.dtype)} if masked else {}
        return call(pipe, steps, generator, **arguments, **fixed_arguments, **more)

    return run
