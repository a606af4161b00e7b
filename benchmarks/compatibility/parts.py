"""What tiny pipelines are built from: networks with fixed weights, inputs with fixed numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

WIDTH = 16  # of embeddings
SIDE = 8  # of the latents


def fixed(shape: tuple[int, ...], dtype: torch.dtype, seed: int = 1) -> Tensor:
    """Standard normal numbers that are the same in every dtype."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def made(make: Callable[[], nn.Module], dtype: torch.dtype, seed: int = 0) -> Any:
    """A network with its initial weights from this seed, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = make().eval().requires_grad_(False)
    return nn.Module.to(network, dtype)  # diffusers' own `to` warns of modules that stay in float32; there are none


def quiet(pipe: Any) -> Any:
    """The pipeline without its progress bar."""
    pipe.set_progress_bar_config(disable=True)
    return pipe


def autoencoder(dtype: torch.dtype, **config: Any) -> Any:
    """A small AutoencoderKL that makes latents of half the side, with 4 channels."""
    from diffusers import AutoencoderKL

    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    sizes = {"latent_channels": 4, "block_out_channels": (8, 8), "norm_num_groups": 4}
    return made(lambda: AutoencoderKL(**(blocks | sizes | config)), dtype)


def picture(dtype: torch.dtype) -> Tensor:
    """A picture to start from, in [0, 1]."""
    return fixed((1, 3, 2 * SIDE, 2 * SIDE), dtype, 7).sigmoid()


def mask(dtype: torch.dtype) -> Tensor:
    """The right half is to be painted."""
    area = torch.zeros(1, 1, 2 * SIDE, 2 * SIDE, dtype=dtype)
    area[..., SIDE:] = 1.0
    return area


def masked_embeddings(dtype: torch.dtype) -> dict[str, Tensor]:
    """Embeddings of a prompt and of a negative one, with their attention masks."""
    return {
        "prompt_embeds": fixed((1, 5, WIDTH), dtype, 1),
        "negative_prompt_embeds": fixed((1, 5, WIDTH), dtype, 2),
        "prompt_attention_mask": torch.ones(1, 5, dtype=torch.long),
        "negative_prompt_attention_mask": torch.ones(1, 5, dtype=torch.long),
    }
