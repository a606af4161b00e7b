"""Pipelines that denoise pixels: DDPM, DDIM, unCLIP (DALL-E 2's design), DeepFloyd IF (Imagen's design)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from . import peers
from .cases import LOOKS_AHEAD, Call, Case
from .parts import named, picture, prior, simple_unet, text_encoder, tiny, tokenizer, words


def _unet(dtype: torch.dtype, channels: int = 3, out: int = 3, **more: Any) -> Any:
    return tiny(
        "UNet2DModel",
        dtype,
        sample_size=8,
        in_channels=channels,
        out_channels=out,
        layers_per_block=1,
        block_out_channels=(8, 16),
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=8,
        **more,
    )


def _ddpm(dtype: torch.dtype) -> Any:
    return named("DDPMPipeline")(_unet(dtype), named("DDPMScheduler")())


def _ddim(dtype: torch.dtype) -> Any:
    return named("DDIMPipeline")(_unet(dtype), named("DDIMScheduler")())


def _unconditional(pipe: Any, steps: int, generator: Any, **more: Any) -> Tensor:
    return pipe(num_inference_steps=steps, generator=generator, output_type="pt", **more).images


def _learned(dtype: torch.dtype, channels: int, **more: Any) -> Any:
    """A U-Net with a condition, whose output's second half is the variance."""
    return tiny(
        "UNet2DConditionModel",
        dtype,
        in_channels=channels,
        out_channels=6,
        **simple_unet(),
        **more,
    )


def _if_unet(dtype: torch.dtype, channels: int, **more: Any) -> Any:
    text = {"encoder_hid_dim": 8, "encoder_hid_dim_type": "text_proj", "addition_embed_type": "text"}
    return _learned(dtype, channels, act_fn="gelu", addition_embed_type_num_heads=2, **text, **more)


def _if_scheduler(ratio: float, largest: float) -> Any:
    return named("DDPMScheduler")(
        beta_schedule="squaredcos_cap_v2",
        thresholding=True,
        dynamic_thresholding_ratio=ratio,
        sample_max_value=largest,
        variance_type="learned_range",
    )


def _without_text(**modules: Any) -> dict[str, Any]:
    """What the pipelines of IF are made with when prompts come as embeddings."""
    nothing = ("tokenizer", "text_encoder", "safety_checker", "feature_extractor", "watermarker")
    return dict.fromkeys(nothing) | {"requires_safety_checker": False} | modules


def _if_first(dtype: torch.dtype) -> Any:
    return named("IFPipeline")(**_without_text(unet=_if_unet(dtype, 3), scheduler=_if_scheduler(0.95, 1.5)))


def _if_second(dtype: torch.dtype) -> Any:
    unet = _if_unet(dtype, 6, class_embed_type="timestep")
    noising = named("DDPMScheduler")(beta_schedule="squaredcos_cap_v2")
    modules = {"unet": unet, "scheduler": _if_scheduler(0.95, 1.0), "image_noising_scheduler": noising}
    return named("IFSuperResolutionPipeline")(**_without_text(**modules))


def _if_call(pipe: Any, steps: int, generator: Any, **more: Any) -> Tensor:
    said = words(pipe.unet.dtype)
    return pipe(num_inference_steps=steps, generator=generator, output_type="pt", **said, **more).images


def _if_second_call(pipe: Any, steps: int, generator: Any, **more: Any) -> Tensor:
    low = 2 * picture(4, pipe.unet.dtype) - 1
    return _if_call(pipe, steps, generator, image=low, noise_level=100, **more)


def _unclip(dtype: torch.dtype) -> Any:
    from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel

    sizes = {"clip_embeddings_dim": 8, "time_embed_dim": 32, "cross_attention_dim": 8}
    decoder = _learned(dtype, 3, class_embed_type="identity")
    return named("UnCLIPPipeline")(
        prior=prior(dtype),
        decoder=decoder,
        text_encoder=text_encoder(dtype),
        tokenizer=tokenizer(),
        text_proj=tiny(UnCLIPTextProjModel, dtype, **sizes, clip_extra_context_tokens=2),
        super_res_first=_unet(dtype, 6),
        super_res_last=_unet(dtype, 6, seed=1),
        prior_scheduler=named("UnCLIPScheduler")(prediction_type="sample", clip_sample_range=5.0),
        decoder_scheduler=named("UnCLIPScheduler")(variance_type="learned_range"),
        super_res_scheduler=named("UnCLIPScheduler")(),
    )


def _unclip_stage(stage: str) -> Call:
    """The call that gives this stage the steps, and the others 2."""

    def call(pipe: Any, steps: int, generator: Any, **more: Any) -> Tensor:
        of_stages = dict.fromkeys(("prior", "decoder", "super_res"), 2) | {stage: steps}
        counts = {f"{name}_num_inference_steps": count for name, count in of_stages.items()}
        return torch.from_numpy(pipe("a cat", generator=generator, output_type="np", **counts, **more).images)

    return call


def _all_but_last(timesteps: Sequence[float], order: int, asked: int) -> int:
    """The last evaluation of super-resolution is another network's."""
    return len(timesteps) - 1


CASES = (
    Case("DDPM", "image", _ddpm, _unconditional, peers=(*peers.LIMITED, peers.NOT_EULER)),
    Case("DDIM", "image", _ddim, _unconditional, peers=(*peers.LIMITED[1:], peers.FOLLOWED)),
    Case(
        "unCLIP prior",
        "image",
        _unclip,
        _unclip_stage("prior"),
        "prior",
        scheduler="prior_scheduler",
        not_adaptive=LOOKS_AHEAD,
        peers=(peers.UNCLIP,),
    ),
    Case(
        "unCLIP decoder",
        "image",
        _unclip,
        _unclip_stage("decoder"),
        "decoder",
        scheduler="decoder_scheduler",
        not_adaptive=LOOKS_AHEAD,
        peers=(peers.UNCLIP_VARIANCE,),
    ),
    Case(
        "unCLIP super-resolution",
        "image",
        _unclip,
        _unclip_stage("super_res"),
        "super_res_first",
        scheduler="super_res_scheduler",
        runs=_all_but_last,
        not_adaptive=LOOKS_AHEAD,
        peers=(peers.UNCLIP,),
    ),
    Case("DeepFloyd IF, stage I", "image", _if_first, _if_call, peers=(*peers.VARIANCE, peers.EVERYWHERE[1])),
    Case("DeepFloyd IF, stage II", "image", _if_second, _if_second_call, peers=(*peers.VARIANCE, peers.EVERYWHERE[1])),
)
