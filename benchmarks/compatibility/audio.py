"""Pipelines that make sound: AudioLDM 2, Stable Audio, Dance Diffusion."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from benchmarks.compatibility.cases import Case, Peer
from benchmarks.compatibility.parts import WIDTH, autoencoder, fixed, made, quiet

LENGTH = 16  # of Stable Audio's latents


# -- AudioLDM 2
def audioldm2(dtype: torch.dtype) -> Any:
    """Latent diffusion of mel spectrograms; of its language models, only the dtype is read."""
    import diffusers
    from transformers import (
        GPT2Config,
        GPT2LMHeadModel,
        SpeechT5HifiGan,
        SpeechT5HifiGanConfig,
        T5Config,
        T5EncoderModel,
    )

    unet = made(
        lambda: diffusers.AudioLDM2UNet2DConditionModel(
            sample_size=8, in_channels=4, out_channels=4, layers_per_block=1, block_out_channels=(8, 16),
            norm_num_groups=4, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), cross_attention_dim=(WIDTH, WIDTH),
            attention_head_dim=2,
        ), dtype,
    )  # fmt: skip
    own = diffusers.DDIMScheduler(
        beta_start=0.0015, beta_end=0.0195, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False,
        steps_offset=1,
    )  # fmt: skip
    t5 = T5Config(vocab_size=8, d_model=WIDTH, d_kv=4, d_ff=8, num_layers=1, num_heads=1)
    gpt = GPT2Config(vocab_size=8, n_positions=8, n_embd=WIDTH, n_layer=1, n_head=1, bos_token_id=0, eos_token_id=0)
    hifigan = SpeechT5HifiGanConfig(
        model_in_dim=8, sampling_rate=16000, upsample_rates=[2, 2], upsample_kernel_sizes=[4, 4],
        upsample_initial_channel=8, resblock_kernel_sizes=[3], resblock_dilation_sizes=[[1]],
    )  # fmt: skip
    return quiet(
        diffusers.AudioLDM2Pipeline(
            vae=autoencoder(dtype, in_channels=1, out_channels=1), text_encoder=None,
            text_encoder_2=made(lambda: T5EncoderModel(t5), dtype), projection_model=None,
            language_model=made(lambda: GPT2LMHeadModel(gpt), dtype), tokenizer=None, tokenizer_2=None,
            feature_extractor=None, unet=unet, scheduler=own, vocoder=made(lambda: SpeechT5HifiGan(hifigan), dtype),
        )
    )  # fmt: skip


def call_audioldm2(pipe: Any, steps: int, generator: Any, **more: Any) -> Tensor:
    """Text to sound, guided."""
    dtype = pipe.unet.dtype
    given = {
        "prompt_embeds": fixed((1, 5, WIDTH), dtype, 1), "negative_prompt_embeds": fixed((1, 5, WIDTH), dtype, 2),
        "generated_prompt_embeds": fixed((1, 3, WIDTH), dtype, 3),
        "negative_generated_prompt_embeds": fixed((1, 3, WIDTH), dtype, 4),
        "attention_mask": torch.ones(1, 5, dtype=torch.long),
        "negative_attention_mask": torch.ones(1, 5, dtype=torch.long), "guidance_scale": 3.0,
    }  # fmt: skip
    return pipe(num_inference_steps=steps, generator=generator, output_type="latent", **(given | more)).audios


# -- Stable Audio
COSINE = {
    "_class_name": "CosineDPMSolverMultistepScheduler", "sigma_min": 0.3, "sigma_max": 500.0, "sigma_data": 1.0,
    "sigma_schedule": "exponential", "num_train_timesteps": 1000, "solver_order": 2,
    "prediction_type": "v_prediction", "rho": 7.0, "solver_type": "midpoint", "lower_order_final": True,
    "euler_at_final": False, "final_sigmas_type": "zero",
}  # fmt: skip


def cosine_scheduler() -> Any:
    """What Stable Audio ships with; that class needs torchsde, and without it this package's takes its place."""
    if find_spec("torchsde"):
        import diffusers

        return diffusers.CosineDPMSolverMultistepScheduler.from_config(COSINE)
    from scoresde.integrations.diffusers import Scheduler

    return Scheduler.from_config(COSINE, solver="sde-dpmpp-2m")


def stable_audio(dtype: torch.dtype) -> Any:
    """Latent diffusion of a waveform, with noise levels of EDM and the times of a cosine process."""
    import diffusers
    from diffusers.pipelines.stable_audio import StableAudioProjectionModel

    transformer = made(
        lambda: diffusers.StableAudioDiTModel(
            sample_size=LENGTH, in_channels=4, out_channels=4, num_layers=1, attention_head_dim=4,
            num_attention_heads=2, num_key_value_attention_heads=1, cross_attention_dim=8, time_proj_dim=8,
            global_states_input_dim=16, cross_attention_input_dim=8,
        ), dtype,
    )  # fmt: skip
    projection = made(
        lambda: StableAudioProjectionModel(text_encoder_dim=WIDTH, conditioning_dim=8, min_value=0, max_value=32),
        dtype,
    )
    vae = made(
        lambda: diffusers.AutoencoderOobleck(
            encoder_hidden_size=4, downsampling_ratios=[1, 2], channel_multiples=[1, 2], decoder_channels=4,
            decoder_input_channels=4, audio_channels=2, sampling_rate=4,
        ), dtype,
    )  # fmt: skip
    return quiet(
        diffusers.StableAudioPipeline(
            vae=vae, text_encoder=None, projection_model=projection, tokenizer=None, transformer=transformer,
            scheduler=cosine_scheduler(),
        )
    )  # fmt: skip


def call_stable_audio(pipe: Any, steps: int, generator: Any, **more: Any) -> Tensor:
    """Text to sound, guided."""
    dtype = pipe.transformer.dtype
    given = {"prompt_embeds": fixed((1, 5, WIDTH), dtype, 1), "negative_prompt_embeds": fixed((1, 5, WIDTH), dtype, 2)}
    given |= {"guidance_scale": 3.0, "audio_end_in_s": 4.0}
    return pipe(num_inference_steps=steps, generator=generator, output_type="latent", **(given | more)).audios


# -- Dance Diffusion
def dance(dtype: torch.dtype) -> Any:
    """Unconditional diffusion of a waveform."""
    import diffusers

    unet = made(
        lambda: diffusers.UNet1DModel(
            block_out_channels=(32, 32, 32), extra_in_channels=16, time_embedding_dim=16, sample_size=64,
            sample_rate=64, in_channels=2, out_channels=2, flip_sin_to_cos=True, use_timestep_embedding=False,
            time_embedding_type="fourier",
            mid_block_type="UNetMidBlock1D", down_block_types=("DownBlock1DNoSkip", "DownBlock1D", "AttnDownBlock1D"),
            up_block_types=("AttnUpBlock1D", "UpBlock1D", "UpBlock1DNoSkip"),
        ), dtype,
    )  # fmt: skip
    return quiet(diffusers.DanceDiffusionPipeline(unet=unet, scheduler=diffusers.IPNDMScheduler()))


def call_dance(pipe: Any, steps: int, generator: Any, **more: Any) -> Tensor:
    """A waveform; the pipeline limits it to [-1, 1]."""
    return torch.from_numpy(pipe(num_inference_steps=steps, generator=generator, **more).audios)


# -- the table
EXACT = {"rounding": "grid", "count": "steps", "textbook": True}  # what diffusers does, no better

CASES = (
    Case(
        "AudioLDM 2", "audio", audioldm2, call_audioldm2,
        peers=(
            Peer("ddim", "DDIMScheduler", options=EXACT),
            Peer("dpmpp-2m", "DPMSolverMultistepScheduler", options=EXACT),
        ),
    ),
    Case(
        "Stable Audio", "audio", stable_audio, call_stable_audio, "transformer",
        peers=(Peer("dpmpp-2m", "EDMDPMSolverMultistepScheduler", options=EXACT),),
        note="noise levels from 500 to 0.3; the network is told 2/pi atan(sigma)",
    ),
    Case(
        "Dance Diffusion", "audio", dance, call_dance, peers=(Peer("ipndm-4", "IPNDMScheduler", options=EXACT),),
    ),
)  # fmt: skip
