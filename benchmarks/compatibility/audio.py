"""Pipelines that make sound: AudioLDM 2, Stable Audio, Dance Diffusion."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from .cases import Case, Peer
from .parts import autoencoder, fixed, named, tiny, words


def audioldm2(dtype: torch.dtype) -> Any:
    """Latent diffusion of mel spectrograms; of its language models only the dtype is read."""
    import transformers

    unet = tiny(
        "AudioLDM2UNet2DConditionModel", dtype, sample_size=8, in_channels=4, out_channels=4, layers_per_block=1,
        block_out_channels=(8, 16), norm_num_groups=4, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), cross_attention_dim=(8, 8), attention_head_dim=2,
    )  # fmt: skip
    betas = {"beta_start": 0.0015, "beta_end": 0.0195, "beta_schedule": "scaled_linear"}
    own = named("DDIMScheduler")(**betas, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    t5 = transformers.T5Config(vocab_size=8, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=1)
    gpt = transformers.GPT2Config(
        vocab_size=8, n_positions=8, n_embd=8, n_layer=1, n_head=1, bos_token_id=0, eos_token_id=0
    )
    hifigan = transformers.SpeechT5HifiGanConfig(
        model_in_dim=8, sampling_rate=16000, upsample_rates=[2, 2], upsample_kernel_sizes=[4, 4],
        upsample_initial_channel=8, resblock_kernel_sizes=[3], resblock_dilation_sizes=[[1]],
    )  # fmt: skip
    none = ("text_encoder", "projection_model", "tokenizer", "tokenizer_2", "feature_extractor")
    return named("AudioLDM2Pipeline")(
        vae=autoencoder(dtype, in_channels=1, out_channels=1), unet=unet, scheduler=own,
        text_encoder_2=tiny(transformers.T5EncoderModel, dtype, config=t5),
        language_model=tiny(transformers.GPT2LMHeadModel, dtype, config=gpt),
        vocoder=tiny(transformers.SpeechT5HifiGan, dtype, config=hifigan), **dict.fromkeys(none),
    )  # fmt: skip


def call_audioldm2(pipe: Any, steps: int, generator: Any, **more: Any) -> Tensor:
    """Text to sound, guided."""
    dtype = pipe.unet.dtype
    given = {
        **words(dtype), "generated_prompt_embeds": fixed(1, 3, 8, dtype=dtype, seed=2),
        "negative_generated_prompt_embeds": fixed(1, 3, 8, dtype=dtype, seed=3),
        "attention_mask": torch.ones(1, 4).long(), "negative_attention_mask": torch.ones(1, 4).long(),
    }  # fmt: skip
    return pipe(num_inference_steps=steps, generator=generator, output_type="latent", **given, **more).audios


COSINE = {
    "_class_name": "CosineDPMSolverMultistepScheduler", "sigma_min": 0.3, "sigma_max": 500.0, "sigma_data": 1.0,
    "sigma_schedule": "exponential", "num_train_timesteps": 1000, "solver_order": 2,
    "prediction_type": "v_prediction", "rho": 7.0, "solver_type": "midpoint", "lower_order_final": True,
    "euler_at_final": False, "final_sigmas_type": "zero",
}  # fmt: skip


def cosine_scheduler() -> Any:
    """What Stable Audio ships with. That class needs torchsde; without it this package's takes its place."""
    if find_spec("torchsde"):
        return named("CosineDPMSolverMultistepScheduler").from_config(COSINE)
    from scoresde.integrations.diffusers import Scheduler

    return Scheduler.from_config(COSINE, solver="sde-dpmpp-2m")


def stable_audio(dtype: torch.dtype) -> Any:
    """Latent diffusion of a waveform, with noise levels of EDM and the times of a cosine process."""
    from diffusers.pipelines.stable_audio.modeling_stable_audio import StableAudioProjectionModel

    transformer = tiny(
        "StableAudioDiTModel", dtype, sample_size=16, in_channels=4, out_channels=4, num_layers=1,
        attention_head_dim=4, num_attention_heads=2, num_key_value_attention_heads=1, cross_attention_dim=8,
        time_proj_dim=8, global_states_input_dim=16, cross_attention_input_dim=8,
    )  # fmt: skip
    projection = tiny(
        StableAudioProjectionModel, dtype, text_encoder_dim=8, conditioning_dim=8, min_value=0, max_value=32
    )
    vae = tiny(
        "AutoencoderOobleck", dtype, encoder_hidden_size=4, downsampling_ratios=[1, 2], channel_multiples=[1, 2],
        decoder_channels=4, decoder_input_channels=4, audio_channels=2, sampling_rate=4,
    )  # fmt: skip
    modules = {"vae": vae, "projection_model": projection, "transformer": transformer, "scheduler": cosine_scheduler()}
    return named("StableAudioPipeline")(tokenizer=None, text_encoder=None, **modules)


def call_stable_audio(pipe: Any, steps: int, generator: Any, **more: Any) -> Tensor:
    """Text to sound, guided."""
    given = {**words(pipe.transformer.dtype), "guidance_scale": 3.0, "audio_end_in_s": 4.0, "output_type": "latent"}
    return pipe(num_inference_steps=steps, generator=generator, **given, **more).audios


def dance(dtype: torch.dtype) -> Any:
    """Unconditional diffusion of a waveform."""
    unet = tiny(
        "UNet1DModel", dtype, block_out_channels=(32, 32, 32), extra_in_channels=16, time_embedding_dim=16,
        sample_size=64, sample_rate=64, in_channels=2, out_channels=2, time_embedding_type="fourier",
        down_block_types=("DownBlock1DNoSkip", "DownBlock1D", "AttnDownBlock1D"),
        up_block_types=("AttnUpBlock1D", "UpBlock1D", "UpBlock1DNoSkip"),
    )  # fmt: skip
    return named("DanceDiffusionPipeline")(unet=unet, scheduler=named("IPNDMScheduler")())


def call_dance(pipe: Any, steps: int, generator: Any, **more: Any) -> Tensor:
    """A waveform; the pipeline limits it to [-1, 1]."""
    return torch.from_numpy(pipe(num_inference_steps=steps, generator=generator, **more).audios)


def _last(*orders: int) -> dict[str, Any]:
    """diffusers' lower_order_final, which it has below 15 steps."""
    return {"solver_options": {"order_of_last_steps": orders}}


CASES = (
    Case(
        "AudioLDM 2", "audio", audioldm2, call_audioldm2,
        peers=(
            Peer("ddim", "DDIMScheduler"),
            Peer("dpmpp-2m", "DPMSolverMultistepScheduler"),
            Peer("dpmpp-3m-official", "DPMSolverMultistepScheduler", {"solver_order": 3}, _last(2, 1)),
            Peer("sde-dpmpp-2m", "DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
            Peer("unipc-3", "UniPCMultistepScheduler", {"solver_order": 3}, _last(2, 1)),
            Peer("adams-2-epsilon", "DEISMultistepScheduler", options=_last(1)),
            Peer("lms-4", "LMSDiscreteScheduler"),
            Peer("heun", "HeunDiscreteScheduler"),
            Peer("plms", "PNDMScheduler", {"skip_prk_steps": True}),
            Peer("ddpm", "EulerAncestralDiscreteScheduler"),
        ),
    ),
    Case(
        "Stable Audio", "audio", stable_audio, call_stable_audio, "transformer",
        peers=(Peer("dpmpp-2m", "EDMDPMSolverMultistepScheduler", tolerance=1e-6),),
        note="noise levels from 500 to 0.3; the network is told 2/pi atan(sigma)",
    ),
    Case(
        "Dance Diffusion", "audio", dance, call_dance,
        peers=(
            Peer(
                "ipndm-4", "IPNDMScheduler",
                differs="from pure noise it divides 0 by 1e-8, which loses the first prediction; and it extrapolates "
                "into the data, where iPNDM ends with DDIM",
            ),
        ),
    ),
)  # fmt: skip
