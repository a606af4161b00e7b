"""Pipelines that make video: ModelScope, AnimateDiff, Stable Video Diffusion, CogVideoX, LTX, Wan."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmarks.compatibility.cases import Case, Peer
from benchmarks.compatibility.parts import WIDTH, autoencoder, fixed, made, masked_embeddings, quiet

SIDE = 4  # of the latents
FRAMES = 2


def embeddings(dtype: torch.dtype) -> dict[str, Tensor]:
    """Embeddings of a prompt and of a negative one."""
    return {"prompt_embeds": fixed((1, 5, WIDTH), dtype, 1), "negative_prompt_embeds": fixed((1, 5, WIDTH), dtype, 2)}


def embedder(dtype: torch.dtype) -> Any:
    """The smallest CLIP text encoder; a pipeline only reads its dtype, as it is given embeddings."""
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(
        vocab_size=8, hidden_size=WIDTH, intermediate_size=WIDTH, num_hidden_layers=1, num_attention_heads=1,
        max_position_embeddings=8,
    )  # fmt: skip
    return made(lambda: CLIPTextModel(config), dtype)


# -- ModelScope's text to video (VideoLDM's kind)
def modelscope(dtype: torch.dtype) -> Any:
    """Text to video with a UNet that has temporal layers."""
    import diffusers

    unet = made(
        lambda: diffusers.UNet3DConditionModel(
            in_channels=4, out_channels=4, layers_per_block=1, block_out_channels=(8, 16), norm_num_groups=4,
            down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
            up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
            cross_attention_dim=WIDTH, attention_head_dim=4,
        ), dtype,
    )  # fmt: skip
    own = diffusers.DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False,
        steps_offset=1,
    )  # fmt: skip
    return quiet(
        diffusers.TextToVideoSDPipeline(
            vae=autoencoder(dtype), text_encoder=embedder(dtype), tokenizer=None, unet=unet, scheduler=own
        )
    )


def call_video(pipe: Any, steps: int, generator: Any, **more: Any) -> Tensor:
    """Text to video, guided."""
    network = getattr(pipe, "unet", None) or pipe.transformer
    given = {"height": 2 * SIDE, "width": 2 * SIDE, "num_frames": FRAMES, "guidance_scale": 3.0}
    given |= embeddings(network.dtype)
    return pipe(num_inference_steps=steps, generator=generator, output_type="latent", **(given | more)).frames


# -- AnimateDiff
def animatediff(dtype: torch.dtype) -> Any:
    """Stable Diffusion with a motion adapter."""
    import diffusers

    unet = made(
        lambda: diffusers.UNet2DConditionModel(
            sample_size=SIDE, in_channels=4, out_channels=4, layers_per_block=1, block_out_channels=(8, 16),
            norm_num_groups=4, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), cross_attention_dim=WIDTH, attention_head_dim=2,
        ), dtype,
    )  # fmt: skip
    adapter = made(
        lambda: diffusers.MotionAdapter(
            block_out_channels=(8, 16), motion_layers_per_block=1, motion_norm_num_groups=4,
            motion_num_attention_heads=2,
        ), dtype,
    )  # fmt: skip
    own = diffusers.DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="linear", clip_sample=False, steps_offset=1,
        timestep_spacing="linspace",
    )  # fmt: skip
    return quiet(
        diffusers.AnimateDiffPipeline(
            vae=autoencoder(dtype), text_encoder=embedder(dtype), tokenizer=None, unet=unet, motion_adapter=adapter,
            scheduler=own,
        )
    )  # fmt: skip


# -- Stable Video Diffusion
def svd(dtype: torch.dtype) -> Any:
    """Image to video with the continuous noise levels of EDM, through scale_model_input."""
    import diffusers
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

    unet = made(
        lambda: diffusers.UNetSpatioTemporalConditionModel(
            sample_size=SIDE, in_channels=8, out_channels=4, layers_per_block=1, block_out_channels=(32, 32),
            down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
            up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"), cross_attention_dim=WIDTH,
            num_attention_heads=2, addition_time_embed_dim=8, projection_class_embeddings_input_dim=24,
            num_frames=FRAMES,
        ), dtype,
    )  # fmt: skip
    vae = made(
        lambda: diffusers.AutoencoderKLTemporalDecoder(
            block_out_channels=(32, 32), down_block_types=("DownEncoderBlock2D",) * 2, latent_channels=4
        ),
        dtype,
    )
    encoder = made(
        lambda: CLIPVisionModelWithProjection(
            CLIPVisionConfig(
                hidden_size=WIDTH, intermediate_size=WIDTH, projection_dim=WIDTH, num_hidden_layers=1,
                num_attention_heads=1, image_size=32, patch_size=16,
            )
        ), dtype,
    )  # fmt: skip
    own = diffusers.EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", interpolation_type="linear",
        prediction_type="v_prediction", sigma_min=0.002, sigma_max=700.0, steps_offset=1, timestep_spacing="leading",
        timestep_type="continuous", use_karras_sigmas=True,
    )  # fmt: skip
    return quiet(
        diffusers.StableVideoDiffusionPipeline(
            vae=vae, image_encoder=encoder, unet=unet, scheduler=own,
            feature_extractor=CLIPImageProcessor(crop_size=32, size=32),
        )
    )  # fmt: skip


def call_svd(pipe: Any, steps: int, generator: Any, **more: Any) -> Tensor:
    """Image to video, guided more in later frames."""
    image = fixed((1, 3, 32, 32), pipe.unet.dtype, 7).sigmoid()
    given = {"height": 2 * SIDE, "width": 2 * SIDE, "num_frames": FRAMES, "image": image}
    return pipe(num_inference_steps=steps, generator=generator, output_type="latent", **(given | more)).frames


# -- CogVideoX
def cogvideox(dtype: torch.dtype) -> Any:
    """CogVideoX: v-prediction at zero terminal signal-to-noise ratio."""
    import diffusers

    transformer = made(
        lambda: diffusers.CogVideoXTransformer3DModel(
            num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=4, time_embed_dim=8,
            text_embed_dim=WIDTH, num_layers=1, sample_width=SIDE, sample_height=SIDE, sample_frames=5, patch_size=2,
            temporal_compression_ratio=4, max_text_seq_length=5, use_rotary_positional_embeddings=False,
        ), dtype,
    )  # fmt: skip
    vae = made(
        lambda: diffusers.AutoencoderKLCogVideoX(
            block_out_channels=(4, 4, 4, 4), latent_channels=4, layers_per_block=1, norm_num_groups=2,
            temporal_compression_ratio=4, sample_height=8, sample_width=8,
        ), dtype,
    )  # fmt: skip
    own = diffusers.CogVideoXDDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
        prediction_type="v_prediction", rescale_betas_zero_snr=True, set_alpha_to_one=True, snr_shift_scale=3.0,
        timestep_spacing="trailing",
    )  # fmt: skip
    return quiet(
        diffusers.CogVideoXPipeline(tokenizer=None, text_encoder=None, vae=vae, transformer=transformer, scheduler=own)
    )


def call_cogvideox(pipe: Any, steps: int, generator: Any, **more: Any) -> Tensor:
    """Text to video, guided."""
    return call_video(pipe, steps, generator, **({"height": 8 * SIDE, "width": 8 * SIDE, "num_frames": 5} | more))


# -- LTX
def ltx(dtype: torch.dtype) -> Any:
    """LTX: rectified flow with a dynamic shift, stretched to a terminal noise level."""
    import diffusers

    transformer = made(
        lambda: diffusers.LTXVideoTransformer3DModel(
            in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=8, cross_attention_dim=16,
            num_layers=1, caption_channels=WIDTH,
        ), dtype,
    )  # fmt: skip
    vae = made(
        lambda: diffusers.AutoencoderKLLTXVideo(
            latent_channels=4, block_out_channels=(4, 4, 4, 4), decoder_block_out_channels=(4, 4, 4, 4),
            layers_per_block=(1, 1, 1, 1, 1), decoder_layers_per_block=(1, 1, 1, 1, 1), patch_size=1,
        ), dtype,
    )  # fmt: skip
    own = diffusers.FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True, base_shift=0.95, max_shift=2.05, base_image_seq_len=1024, max_image_seq_len=4096,
        shift_terminal=0.1,
    )  # fmt: skip
    return quiet(
        diffusers.LTXPipeline(scheduler=own, vae=vae, text_encoder=None, tokenizer=None, transformer=transformer)
    )


def call_ltx(pipe: Any, steps: int, generator: Any, **more: Any) -> Tensor:
    """Text to video, guided."""
    given: dict[str, Any] = dict(masked_embeddings(pipe.transformer.dtype))
    given |= {"height": 32, "width": 32, "num_frames": 9}
    return call_video(pipe, steps, generator, **(given | more))


# -- Wan
def wan(dtype: torch.dtype) -> Any:
    """Wan 2.1: rectified flow with UniPC."""
    import diffusers

    transformer = made(
        lambda: diffusers.WanTransformer3DModel(
            num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=4, text_dim=WIDTH, freq_dim=8,
            ffn_dim=16, num_layers=1, cross_attn_norm=True, rope_max_seq_len=32,
        ), dtype,
    )  # fmt: skip
    vae = made(
        lambda: diffusers.AutoencoderKLWan(
            base_dim=4, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True],
            latents_mean=[0.0] * 4, latents_std=[1.0] * 4,
        ), dtype,
    )  # fmt: skip
    own = diffusers.UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, num_train_timesteps=1000, flow_shift=3.0,
        solver_order=2, solver_type="bh2", lower_order_final=True, predict_x0=True,
    )  # fmt: skip
    return quiet(
        diffusers.WanPipeline(tokenizer=None, text_encoder=None, vae=vae, scheduler=own, transformer=transformer)
    )


def call_wan(pipe: Any, steps: int, generator: Any, **more: Any) -> Tensor:
    """Text to video, guided with two calls."""
    return call_video(pipe, steps, generator, **({"height": 32, "width": 32, "num_frames": 5} | more))


# -- the table
EXACT = {"rounding": "grid", "count": "steps", "textbook": True}  # what diffusers does, no better
DDIM = Peer("ddim", "DDIMScheduler", options=EXACT)
EULER = Peer("ddim", "EulerDiscreteScheduler", options=EXACT)
DPM = Peer("dpmpp-2m", "DPMSolverMultistepScheduler", options=EXACT)

CASES = (
    Case("ModelScope text to video", "video", modelscope, call_video, peers=(DDIM, EULER, DPM)),
    Case("AnimateDiff", "video", animatediff, call_video, peers=(DDIM, EULER, DPM)),
    Case(
        "Stable Video Diffusion", "video", svd, call_svd,
        peers=(EULER, Peer("heun", "HeunDiscreteScheduler", options=EXACT)),
        note="noise levels from 700 to 0.002; the network is told log(sigma)/4",
    ),
    Case(
        "CogVideoX", "video", cogvideox, call_cogvideox, "transformer",
        peers=(
            Peer("ddim", "CogVideoXDDIMScheduler", options=EXACT),
            Peer("dpmpp-2m", "CogVideoXDPMScheduler", options=EXACT),
        ),
        note="zero terminal signal-to-noise ratio, v-prediction",
    ),
    Case(
        "LTX", "video", ltx, call_ltx, "transformer",
        peers=(Peer("euler-flow", "FlowMatchEulerDiscreteScheduler", options=EXACT, tolerance=1e-5),),
        note="dynamic shift, stretched to a terminal noise level; float32 latents, whatever the weights",
    ),
    Case(
        "Wan", "video", wan, call_wan, "transformer", calls=2,
        peers=(
            Peer("unipc-2", "UniPCMultistepScheduler", options=EXACT, tolerance=1e-5),
            Peer(
                "euler-flow", "FlowMatchEulerDiscreteScheduler", {"shift": 3.0}, options=EXACT, tolerance=1e-5
            ),
        ),
        note="two calls to an evaluation (guidance); float32 latents, whatever the weights",
    ),
)  # fmt: skip
