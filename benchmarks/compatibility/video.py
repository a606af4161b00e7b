"""Pipelines that make video: ModelScope, AnimateDiff, Stable Video Diffusion, CogVideoX, LTX, Wan."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .cases import Call, Case, Peer
from .parts import autoencoder, image_encoder, named, picture, text_encoder, tiny, words
from .transformer import masked_words

LATENT = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def modelscope(dtype: torch.dtype) -> Any:
    """Text to video with a UNet that has temporal layers."""
    unet = tiny(
        "UNet3DConditionModel", dtype, in_channels=4, out_channels=4, layers_per_block=1, block_out_channels=(8, 16),
        norm_num_groups=4, down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"), cross_attention_dim=8,
        up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"), attention_head_dim=4,
    )  # fmt: skip
    own = named("DDIMScheduler")(**LATENT, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    modules = {"vae": autoencoder(dtype), "text_encoder": text_encoder(dtype), "unet": unet, "scheduler": own}
    return named("TextToVideoSDPipeline")(tokenizer=None, **modules)


def animatediff(dtype: torch.dtype) -> Any:
    """Stable Diffusion with a motion adapter."""
    unet = tiny(
        "UNet2DConditionModel", dtype, sample_size=4, in_channels=4, out_channels=4, layers_per_block=1,
        block_out_channels=(8, 16), norm_num_groups=4, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), cross_attention_dim=8, attention_head_dim=2,
    )  # fmt: skip
    adapter = tiny(
        "MotionAdapter", dtype, block_out_channels=(8, 16), motion_layers_per_block=1, motion_norm_num_groups=4,
        motion_num_attention_heads=2,
    )  # fmt: skip
    betas = {**LATENT, "beta_schedule": "linear"}
    own = named("DDIMScheduler")(**betas, clip_sample=False, steps_offset=1, timestep_spacing="linspace")
    modules = {"vae": autoencoder(dtype), "text_encoder": text_encoder(dtype), "unet": unet, "scheduler": own}
    return named("AnimateDiffPipeline")(tokenizer=None, motion_adapter=adapter, **modules)


def svd(dtype: torch.dtype) -> Any:
    """Image to video, with the noise levels of EDM."""
    from transformers import CLIPImageProcessor

    unet = tiny(
        "UNetSpatioTemporalConditionModel", dtype, sample_size=4, in_channels=8, out_channels=4, layers_per_block=1,
        block_out_channels=(32, 32), down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"), cross_attention_dim=8,
        num_attention_heads=2, addition_time_embed_dim=8, projection_class_embeddings_input_dim=24, num_frames=2,
    )  # fmt: skip
    vae = tiny(
        "AutoencoderKLTemporalDecoder", dtype, block_out_channels=(32, 32), latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 2,
    )  # fmt: skip
    own = named("EulerDiscreteScheduler")(
        **LATENT, interpolation_type="linear", prediction_type="v_prediction", sigma_min=0.002, sigma_max=700.0,
        steps_offset=1, timestep_spacing="leading", timestep_type="continuous", use_karras_sigmas=True,
    )  # fmt: skip
    modules = {"vae": vae, "image_encoder": image_encoder(dtype), "unet": unet, "scheduler": own}
    return named("StableVideoDiffusionPipeline")(feature_extractor=CLIPImageProcessor(crop_size=16, size=16), **modules)


def cogvideox(dtype: torch.dtype) -> Any:
    """CogVideoX: v-prediction from pure noise."""
    transformer = tiny(
        "CogVideoXTransformer3DModel", dtype, num_attention_heads=2, attention_head_dim=8, in_channels=4,
        out_channels=4, time_embed_dim=8, text_embed_dim=8, num_layers=1, sample_width=4, sample_height=4,
        sample_frames=5, patch_size=2, temporal_compression_ratio=4, max_text_seq_length=4,
    )  # fmt: skip
    vae = tiny(
        "AutoencoderKLCogVideoX", dtype, block_out_channels=(4, 4, 4, 4), latent_channels=4, layers_per_block=1,
        norm_num_groups=2, temporal_compression_ratio=4, sample_height=8, sample_width=8,
    )  # fmt: skip
    own = named("CogVideoXDDIMScheduler")(
        **LATENT, clip_sample=False, prediction_type="v_prediction", rescale_betas_zero_snr=True, snr_shift_scale=3.0,
        set_alpha_to_one=True, timestep_spacing="trailing",
    )  # fmt: skip
    modules = {"vae": vae, "transformer": transformer, "scheduler": own}
    return named("CogVideoXPipeline")(tokenizer=None, text_encoder=None, **modules)


def ltx(dtype: torch.dtype) -> Any:
    """LTX: rectified flow with a dynamic shift, stretched to a terminal noise level."""
    transformer = tiny(
        "LTXVideoTransformer3DModel", dtype, in_channels=4, out_channels=4, num_attention_heads=2,
        attention_head_dim=8, cross_attention_dim=16, num_layers=1, caption_channels=8,
    )  # fmt: skip
    layers = dict.fromkeys(("layers_per_block", "decoder_layers_per_block"), (1,) * 5)
    widths = dict.fromkeys(("block_out_channels", "decoder_block_out_channels"), (4,) * 4)
    vae = tiny("AutoencoderKLLTXVideo", dtype, latent_channels=4, patch_size=1, **layers, **widths)
    own = named("FlowMatchEulerDiscreteScheduler")(
        use_dynamic_shifting=True, base_shift=0.95, max_shift=2.05, base_image_seq_len=1024, max_image_seq_len=4096,
        shift_terminal=0.1,
    )  # fmt: skip
    modules = {"vae": vae, "transformer": transformer, "scheduler": own}
    return named("LTXPipeline")(tokenizer=None, text_encoder=None, **modules)


def wan(dtype: torch.dtype) -> Any:
    """Wan 2.1: rectified flow with UniPC."""
    transformer = tiny(
        "WanTransformer3DModel", dtype, num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=4,
        text_dim=8, freq_dim=8, ffn_dim=16, num_layers=1, cross_attn_norm=True, rope_max_seq_len=32,
    )  # fmt: skip
    vae = tiny(
        "AutoencoderKLWan", dtype, base_dim=4, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1,
        latents_mean=[0.0] * 4, latents_std=[1.0] * 4,
    )  # fmt: skip
    own = named("UniPCMultistepScheduler")(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0, solver_order=2, solver_type="bh2"
    )
    modules = {"vae": vae, "transformer": transformer, "scheduler": own}
    return named("WanPipeline")(tokenizer=None, text_encoder=None, **modules)


def call(side: int, frames: int, *, masked: bool = False, **fixed: Any) -> Call:
    """Text to video of this size, guided."""

    def run(pipe: Any, steps: int, generator: Any, **more: Any) -> Tensor:
        network = getattr(pipe, "unet", None) or pipe.transformer
        given = {**(masked_words if masked else words)(network.dtype), "height": side, "width": side, **fixed}
        given |= {"num_frames": frames, "guidance_scale": 3.0, "output_type": "latent"}
        return pipe(num_inference_steps=steps, generator=generator, **given, **more).frames

    return run


def call_svd(pipe: Any, steps: int, generator: Any, **more: Any) -> Tensor:
    """Image to video, guided more in later frames."""
    given = {"image": picture(16, pipe.unet.dtype), "height": 8, "width": 8, "num_frames": 2, "output_type": "latent"}
    return pipe(num_inference_steps=steps, generator=generator, **given, **more).frames


DDIM = Peer("ddim", "DDIMScheduler")
EULER = Peer("ddim", "EulerDiscreteScheduler")
DPM = Peer("dpmpp-2m", "DPMSolverMultistepScheduler")
UNIPC = Peer("unipc-2", "UniPCMultistepScheduler")
STRIDE = "its steps end at t - 1000 // N, which with 'linspace' is not where the next one begins"
ROUNDED = 1e-6  # where the pipeline rounds latents or predictions to float32

CASES = (
    Case(
        "ModelScope text to video", "video", modelscope, call(8, 2), peers=(DDIM, EULER, DPM, UNIPC),
        not_adaptive="the pipeline hands a copy of the latents to every step",
    ),
    Case(
        "AnimateDiff", "video", animatediff, call(8, 2),
        peers=(Peer("ddim", "DDIMScheduler", differs=STRIDE), EULER, DPM),
    ),
    Case(
        "Stable Video Diffusion", "video", svd, call_svd, peers=(EULER,),
        note="noise levels from 700 to 0.002; the network is told log(sigma)/4",
    ),
    Case(
        "CogVideoX", "video", cogvideox, call(32, 5), "transformer",
        peers=(Peer("ddim", "CogVideoXDDIMScheduler", tolerance=ROUNDED),),
        note="v-prediction from pure noise; predictions are rounded to float32, whatever the weights",
    ),
    Case(
        "LTX", "video", ltx, call(32, 9, masked=True), "transformer",
        peers=(Peer("euler-flow", "FlowMatchEulerDiscreteScheduler", tolerance=ROUNDED),),
        note="dynamic shift, stretched to a terminal noise level; float32 latents, whatever the weights",
    ),
    Case(
        "Wan", "video", wan, call(32, 5), "transformer", calls=2,
        peers=(
            Peer("unipc-2", "UniPCMultistepScheduler", tolerance=ROUNDED),
            Peer("euler-flow", "FlowMatchEulerDiscreteScheduler", {"shift": 3.0}, tolerance=ROUNDED),
        ),
        note="two calls to an evaluation; float32 latents, whatever the weights",
    ),
)  # fmt: skip
