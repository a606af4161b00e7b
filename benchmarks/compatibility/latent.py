"""Pipelines that denoise latents: Latent Diffusion, DiT, Stable Diffusion 1, 2 and XL, Kandinsky, PixArt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from . import peers
from .cases import EDITS, LOOKS_AHEAD, Call, Case
from .parts import autoencoder, fixed, image_encoder, mask, named, picture, prior, text_encoder, tiny, tokenizer, words

Build = Callable[[torch.dtype], Any]

STRENGTH = 0.6  # of img2img and inpainting
SPLIT = 0.6  # where the base model hands over to the refiner


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


def _unet(dtype: torch.dtype, channels: int = 4, **more: Any) -> Any:
    return tiny("UNet2DConditionModel", dtype, **_unet_config(), in_channels=channels, **more)


def _unet_config() -> dict[str, Any]:
    """What Stable Diffusion's U-Nets and ControlNets have in common."""
    return {
        "layers_per_block": 1,
        "block_out_channels": (8, 16),
        "norm_num_groups": 4,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "cross_attention_dim": 8,
        "attention_head_dim": 2,
    }


UP = {"up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"), "sample_size": 8}


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
    return named("LDMTextToImagePipeline")(autoencoder(dtype), bert, tokenizer(77), _unet(dtype, **UP), scheduler)


def _ldm_call(pipe: Any, steps: int, generator: Any, **more: Any) -> Tensor:
    said = {"prompt": "a cat", "guidance_scale": 3.0, "output_type": "np"}
    return torch.from_numpy(pipe(num_inference_steps=steps, generator=generator, **said, **more).images)


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
        modules = {"unet": _unet(dtype, channels, **UP), "vae": autoencoder(dtype), "scheduler": scheduler}
        if control:
            scales: dict[str, Any] = {"conditioning_embedding_out_channels": (8, 8)}  # 2 times smaller, as the VAE
            modules["controlnet"] = tiny("ControlNetModel", dtype, **_unet_config(), **scales)
        nothing = ("text_encoder", "tokenizer", "safety_checker", "feature_extractor")
        return named(kind)(**modules, **dict.fromkeys(nothing), requires_safety_checker=False)

    return build


def _sd_call(pipe: Any, steps: int, generator: Any, **more: Any) -> Tensor:
    said = words(pipe.unet.dtype)
    return pipe(num_inference_steps=steps, generator=generator, output_type="latent", **said, **more).images


def _with(call: Call, *, masked: bool = False, image: str = "image", **fixed_arguments: Any) -> Call:
    """The call with a picture, with a mask if asked."""

    def with_picture(pipe: Any, steps: int, generator: Any, **more: Any) -> Tensor:
        dtype = pipe.unet.dtype
        arguments = {image: picture(16, dtype)} | ({"mask_image": mask(16, dtype)} if masked else {})
        return call(pipe, steps, generator, **arguments, **fixed_arguments, **more)

    return with_picture


def after_strength(timesteps: Sequence[float], order: int, asked: int) -> int:
    """What img2img runs: all but the steps before its strength."""
    return len(timesteps) - (asked - min(int(asked * STRENGTH), asked)) * order


def after_calls(timesteps: Sequence[float], order: int, asked: int) -> int:
    """What Kandinsky's img2img runs: it forgets `order`."""
    return after_strength(timesteps, 1, asked)


def _sdxl(kind: str, refiner: bool = False) -> Build:
    """Builds a pipeline of Stable Diffusion XL of this class."""

    def build(dtype: torch.dtype) -> Any:
        numbers = 5 if refiner else 6  # sizes and crops; a score in place of the target size
        unet = _unet(
            dtype,
            **UP,
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


def _kandinsky(kind: str) -> Build:
    """Builds a decoder of Kandinsky 2.2 of this class."""

    def build(dtype: torch.dtype) -> Any:
        unet = tiny(
            "UNet2DConditionModel",
            dtype,
            sample_size=8,
            in_channels=4,
            out_channels=8,
            layers_per_block=1,
            block_out_channels=(8, 16),
            norm_num_groups=4,
            down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
            mid_block_type="UNetMidBlock2DSimpleCrossAttn",
            up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
            cross_attention_dim=8,
            attention_head_dim=4,
            resnet_time_scale_shift="scale_shift",
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


INPAINT = _with(_sd_call, masked=True, strength=STRENGTH, height=16, width=16)

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
    Case("Stable Diffusion 1", "latent", _sd("StableDiffusionPipeline"), _sd_call, peers=peers.ALL),
    Case(
        "Stable Diffusion 2",
        "latent",
        _sd("StableDiffusionPipeline", prediction="v_prediction"),
        _sd_call,
        peers=(*peers.EVERYWHERE, *peers.SCALED, peers.DDPM, peers.PLMS_OF_V),
    ),
    Case(
        "Stable Diffusion img2img",
        "latent",
        _sd("StableDiffusionImg2ImgPipeline"),
        _with(_sd_call, strength=STRENGTH),
        runs=after_strength,
        peers=(*peers.EVERYWHERE, *peers.SCALED, peers.DDPM, peers.PLMS_FROM_THE_MIDDLE),
    ),
    Case(
        "Stable Diffusion inpaint",
        "latent",
        _sd("StableDiffusionInpaintPipeline"),
        INPAINT,
        runs=after_strength,
        note="a network of 4 channels: the known half is put back, with noise, after every evaluation",
        not_adaptive=EDITS,
        peers=(*peers.EVERYWHERE, *peers.SCALED, peers.DDPM, peers.PLMS_FROM_THE_MIDDLE),
    ),
    Case(
        "Stable Diffusion inpaint, 9 channels",
        "latent",
        _sd("StableDiffusionInpaintPipeline", 9),
        INPAINT,
        runs=after_strength,
        note="the network sees mask and image",
        peers=(*peers.EVERYWHERE, *peers.SCALED),
    ),
    Case(
        "Stable Diffusion ControlNet",
        "latent",
        _sd("StableDiffusionControlNetPipeline", control=True),
        _with(_sd_call, height=16, width=16),
        not_adaptive=LOOKS_AHEAD,
        peers=(*peers.EVERYWHERE, *peers.SCALED, peers.PLMS),
    ),
    Case(
        "Stable Diffusion XL",
        "latent",
        _sdxl("StableDiffusionXLPipeline"),
        _sdxl_call,
        peers=(*peers.EVERYWHERE, *peers.SCALED, peers.DDPM, peers.PLMS),
    ),
    Case(
        "Stable Diffusion XL img2img",
        "latent",
        _sdxl("StableDiffusionXLImg2ImgPipeline"),
        _with(_sdxl_call, strength=STRENGTH),
        runs=after_strength,
        peers=(*peers.EVERYWHERE, *peers.SCALED, peers.DDPM, peers.PLMS_FROM_THE_MIDDLE),
    ),
    Case(
        "Stable Diffusion XL base, denoising_end",
        "latent",
        _sdxl("StableDiffusionXLPipeline"),
        _sdxl_base,
        runs=before_split,
        not_adaptive=LOOKS_AHEAD,
        peers=(*peers.EVERYWHERE, peers.SPLIT),
    ),
    Case(
        "Stable Diffusion XL refiner, denoising_start",
        "latent",
        _sdxl("StableDiffusionXLImg2ImgPipeline", refiner=True),
        _sdxl_refine,
        runs=after_split,
        not_adaptive=LOOKS_AHEAD,
        peers=(*peers.EVERYWHERE, peers.SPLIT),
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
        _with(_kandinsky_call, strength=STRENGTH),
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
