"""Pipelines of diffusers whose code is for one scheduler class: what they do, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Hardwired:
    """A group of pipelines.

    Attributes:
        pipelines: Their names.
        files: Under diffusers/pipelines.
        evidence: A piece of code that is in every one of these files.
        does: What is particular.
        instead: What to do, with samplers of this package; "keep" where there is no way.
    """

    pipelines: str
    files: tuple[str, ...]
    evidence: str
    does: str
    instead: str


OLD, VARIANTS = "deprecated", "deprecated/stable_diffusion_variants"
NOTHING = "nothing to do: the general branch runs"
KEEP = "keep its own scheduler"

HARDWIRED = (
    Hardwired(
        "DDIMPipeline, PNDMPipeline",
        ("ddim/pipeline_ddim.py", f"{OLD}/pndm/pipeline_pndm.py"),
        ".from_config(scheduler.config)",
        "makes a DDIMScheduler (PNDMScheduler) of whatever scheduler it is constructed with",
        "assign `pipe.scheduler` after the pipeline is made",
    ),
    Hardwired(
        "UnCLIPPipeline, UnCLIPImageVariationPipeline, priors of Kandinsky 2.1 and 2.2",
        (
            f"{OLD}/unclip/pipeline_unclip.py",
            f"{OLD}/unclip/pipeline_unclip_image_variation.py",
            "kandinsky/pipeline_kandinsky_prior.py",
            "kandinsky2_2/pipeline_kandinsky2_2_prior.py",
            "kandinsky2_2/pipeline_kandinsky2_2_prior_emb2emb.py",
        ),
        "prev_timestep=prev_timestep",
        "tells `step` the timestep that comes next, which only UnCLIPScheduler has an argument for",
        "nothing to do: ours has it, and knows its grid",
    ),
    Hardwired(
        "KandinskyV22Img2ImgPipeline",
        ("kandinsky2_2/pipeline_kandinsky2_2_img2img.py",),
        "timesteps = self.scheduler.timesteps[t_start:]",
        "leaves out as many timesteps as steps, whatever the scheduler's `order`",
        "nothing to do; of count='steps' with several calls a step it runs more than its strength",
    ),
    Hardwired(
        "FluxImg2ImgPipeline, FluxInpaintPipeline",
        ("flux/pipeline_flux_img2img.py", "flux/pipeline_flux_inpaint.py"),
        "num_inference_steps = len(timesteps)",
        "takes the number of timesteps for that of steps, and then multiplies by `order`",
        "nothing to do; with count='steps' and several calls a step nothing may be left to run",
    ),
    Hardwired(
        "CogVideoX, CogView3Plus, ConsisID",
        (
            "cogvideo/pipeline_cogvideox.py",
            "cogvideo/pipeline_cogvideox_image2video.py",
            "cogvideo/pipeline_cogvideox_video2video.py",
            "cogview3/pipeline_cogview3plus.py",
            "consisid/pipeline_consisid.py",
        ),
        "if not isinstance(self.scheduler, CogVideoXDPMScheduler)",
        "passes the last denoised sample to a CogVideoXDPMScheduler",
        NOTHING,
    ),
    Hardwired(
        "EasyAnimate",
        ("easyanimate/pipeline_easyanimate.py", "easyanimate/pipeline_easyanimate_control.py"),
        "isinstance(self.scheduler, FlowMatchEulerDiscreteScheduler)",
        "passes mu=1 to a FlowMatchEulerDiscreteScheduler only",
        "where the config has use_dynamic_shifting, set it to False and `shift` to e: "
        "`from_config(config, use_dynamic_shifting=False, shift=2.718281828)`",
    ),
    Hardwired(
        "EasyAnimateInpaintPipeline",
        ("easyanimate/pipeline_easyanimate_inpaint.py",),
        "isinstance(self.scheduler, FlowMatchEulerDiscreteScheduler)",
        "as above; and noises with scale_noise or add_noise by class",
        "as above: both are the same here",
    ),
    Hardwired(
        "HiDreamImagePipeline",
        ("hidream_image/pipeline_hidream_image.py",),
        "isinstance(self.scheduler, UniPCMultistepScheduler)",
        "passes no mu to a UniPCMultistepScheduler",
        NOTHING,
    ),
    Hardwired(
        "BriaPipeline",
        ("bria/pipeline_bria.py",),
        "isinstance(self.scheduler, FlowMatchEulerDiscreteScheduler)",
        "passes mu only to a FlowMatchEulerDiscreteScheduler with use_dynamic_shifting, else its own sigmas",
        "nothing to do without dynamic shifting; else as EasyAnimate, with the shift of the image's size",
    ),
    Hardwired(
        "StableCascadePriorPipeline, StableCascadeDecoderPipeline",
        ("stable_cascade/pipeline_stable_cascade_prior.py", "stable_cascade/pipeline_stable_cascade.py"),
        "isinstance(self.scheduler, DDPMWuerstchenScheduler)",
        "times are ratios of DDPMWuerstchenScheduler; for others they are computed from `betas`",
        KEEP,
    ),
    Hardwired(
        "WuerstchenPriorPipeline, WuerstchenDecoderPipeline",
        (f"{OLD}/wuerstchen/pipeline_wuerstchen_prior.py", f"{OLD}/wuerstchen/pipeline_wuerstchen.py"),
        "scheduler: DDPMWuerstchenScheduler",
        "times are ratios, and the last one is not run",
        KEEP,
    ),
    Hardwired(
        "LEDITS++",
        (
            "ledits_pp/pipeline_leditspp_stable_diffusion.py",
            "ledits_pp/pipeline_leditspp_stable_diffusion_xl.py",
        ),
        "not isinstance(scheduler, DDIMScheduler)",
        "replaces other classes than DDIM and DPMSolverMultistep, and computes with their inner tables",
        KEEP,
    ),
    Hardwired(
        "LTX of several prompts, LTX-2 temporal refinement",
        ("ltx/pipeline_ltx_i2v_long_multi_prompt.py", "ltx2/pipeline_ltx2_dfr_temporal_refine.py"),
        "LTXEulerAncestralRFScheduler",
        "warns of, or treats apart, any class but LTXEulerAncestralRFScheduler",
        'nothing to do; its sampler is solver="euler-ancestral-flow"',
    ),
    Hardwired(
        "LTXConditionPipeline, SanaWMPipeline",
        ("ltx/pipeline_ltx_condition.py", "sana_wm/pipeline_sana_wm.py"),
        "per_token_timesteps=",
        "parts of the latents are at times of their own, which `step` is told",
        KEEP,
    ),
    Hardwired(
        "SkyReels-V2 diffusion forcing",
        ("skyreels_v2/pipeline_skyreels_v2_diffusion_forcing.py",),
        "sample_schedulers.append(sample_scheduler)",
        "every frame has a copy of the scheduler and starts late",
        "not tried; " + KEEP,
    ),
    Hardwired(
        "CosmosVideoToWorldPipeline",
        ("cosmos/pipeline_cosmos_video2world.py",),
        "self.scheduler._get_conditioning_c_in",
        "takes EDMEulerScheduler's scaling apart and counts its steps back",
        KEEP,
    ),
    Hardwired(
        "Cosmos2TextToImagePipeline, Cosmos2VideoToWorldPipeline",
        ("cosmos/pipeline_cosmos2_text2image.py", "cosmos/pipeline_cosmos2_video2world.py"),
        "self.scheduler.sigmas[-1] = self.scheduler.sigmas[-2]",
        "writes into the scheduler's sigmas",
        KEEP,
    ),
    Hardwired(
        "ChronoEditPipeline",
        ("chronoedit/pipeline_chronoedit.py",),
        "self.scheduler.model_outputs[j]",
        "cuts frames out of the history of a multistep scheduler",
        "num_temporal_reasoning_steps=0, or keep its own scheduler",
    ),
    Hardwired(
        "AnyFlowPipeline",
        ("anyflow/pipeline_anyflow.py",),
        "r = self.scheduler.sigmas[i + 1]",
        "its network is told where a step ends too, and is one whole step: a flow map",
        KEEP,
    ),
    Hardwired(
        "HeliosPyramidPipeline",
        ("helios/pipeline_helios_pyramid.py",),
        "self.scheduler.ori_start_sigmas",
        "stages of resolution with tables of its own scheduler",
        KEEP,
    ),
    Hardwired(
        "StableDiffusionLatentUpscalePipeline",
        ("stable_diffusion/pipeline_stable_diffusion_latent_upscale.py",),
        "sigma = self.scheduler.sigmas[i]",
        "applies the preconditioning of k-diffusion itself, to the state x0 + sigma noise of EulerDiscreteScheduler",
        KEEP,
    ),
    Hardwired(
        "CycleDiffusion, pix2pix-zero, ParaDiGMS, DiffEdit, text-to-video zero",
        (
            f"{VARIANTS}/pipeline_cycle_diffusion.py",
            f"{VARIANTS}/pipeline_stable_diffusion_pix2pix_zero.py",
            f"{VARIANTS}/pipeline_stable_diffusion_paradigms.py",
            f"{OLD}/stable_diffusion_diffedit/pipeline_stable_diffusion_diffedit.py",
            f"{OLD}/text_to_video_synthesis/pipeline_text_to_video_zero.py",
        ),
        "self.scheduler",
        "methods that are a way of using DDIM or DDPM (inversion, steps in parallel), with their inner tables",
        KEEP,
    ),
    Hardwired(
        "RePaint, ScoreSdeVe, KarrasVe, AudioDiffusion, VQ Diffusion, aMUSEd",
        (
            f"{OLD}/repaint/pipeline_repaint.py",
            f"{OLD}/score_sde_ve/pipeline_score_sde_ve.py",
            f"{OLD}/stochastic_karras_ve/pipeline_stochastic_karras_ve.py",
            f"{OLD}/audio_diffusion/pipeline_audio_diffusion.py",
            f"{OLD}/vq_diffusion/pipeline_vq_diffusion.py",
            f"{OLD}/amused/pipeline_amused.py",
        ),
        "self.scheduler",
        "the loop calls methods that only its own scheduler has, or samples tokens",
        "`scoresde.sample` with the same network for those of VE and EDM; else keep its own scheduler",
    ),
)
