"""comfy.samplers: guidance, masks, KSAMPLER, and the lists of samplers and schedulers that the stock nodes offer."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tests.integrations.comfy_stub import sampling as k_diffusion_sampling


# -- the network, guided ----------------------------------------------------------------------------------------------
def calc_cond_batch(model: Any, conds: list, x: Tensor, timestep: Tensor, model_options: dict) -> list[Tensor]:
    # A condition that is None leaves zeros, as its sum over no areas.
    return [torch.zeros_like(x) if c is None else model.apply_model(x, timestep, c) for c in conds]


def cfg_function(
    model: Any,
    cond_pred: Tensor,
    uncond_pred: Tensor,
    cond_scale: float,
    x: Tensor,
    timestep: Tensor,
    model_options: dict,
    cond: Any = None,
    uncond: Any = None,
) -> Tensor:
    result = uncond_pred + (cond_pred - uncond_pred) * cond_scale
    for fn in model_options.get("sampler_post_cfg_function", []):
        result = fn(
            {
                "denoised": result,
                "cond": cond,
                "uncond": uncond,
                "cond_scale": cond_scale,
                "model": model,
                "uncond_denoised": uncond_pred,
                "cond_denoised": cond_pred,
                "sigma": timestep,
                "model_options": model_options,
                "input": x,
            }
        )
    return result


def sampling_function(
    model: Any, x: Tensor, timestep: Tensor, uncond: Any, cond: Any, cond_scale: float, model_options: dict
) -> Tensor:
    if math.isclose(cond_scale, 1.0) and not model_options.get("disable_cfg1_optimization", False):
        uncond = None
    out = calc_cond_batch(model, [cond, uncond], x, timestep, model_options)
    return cfg_function(model, out[0], out[1], cond_scale, x, timestep, model_options, cond=cond, uncond=uncond)


class CFGGuider:
    def __init__(self, model_patcher: Any) -> None:
        self.model_patcher, self.model_options = model_patcher, model_patcher.model_options
        self.conds: dict[str, Any] = {}
        self.cfg = 1.0

    def set_conds(self, positive: Any, negative: Any) -> None:
        self.conds = {"positive": positive, "negative": negative}

    def set_cfg(self, cfg: float) -> None:
        self.cfg = cfg

    def __call__(
        self, x: Tensor, timestep: Tensor, model_options: dict | None = None, seed: int | None = None
    ) -> Tensor:
        return self.predict_noise(x, timestep, model_options or {}, seed)

    def predict_noise(self, x: Tensor, timestep: Tensor, model_options: dict, seed: int | None = None) -> Tensor:
        negative, positive = self.conds.get("negative"), self.conds.get("positive")
        return sampling_function(self.inner_model, x, timestep, negative, positive, self.cfg, model_options)

    def sample(
        self,
        noise: Tensor,
        latent_image: Tensor,
        sampler: Any,
        sigmas: Tensor,
        denoise_mask: Tensor | None = None,
        callback: Callable | None = None,
        disable_pbar: bool = False,
        seed: int | None = None,
    ) -> Tensor:
        if sigmas.shape[-1] == 0:
            return latent_image
        self.inner_model = self.model_patcher.patched_model()
        options = {k: copy.copy(v) for k, v in self.model_options.items()}
        options.setdefault("transformer_options", {})["sample_sigmas"] = sigmas
        with torch.inference_mode():  # as ComfyUI runs its graphs
            latent_image = self.inner_model.process_latent_in(latent_image.clone())
            extra_args = {"model_options": options, "seed": seed}
            samples = sampler.sample(
                self, sigmas, extra_args, callback, noise.clone(), latent_image, denoise_mask, disable_pbar
            )
            samples = self.inner_model.process_latent_out(samples)
        del self.inner_model
        return samples.clone()


def sample(
    model: Any,
    noise: Tensor,
    positive: Any,
    negative: Any,
    cfg: float,
    device: Any,
    sampler: Any,
    sigmas: Tensor,
    model_options: dict,
    latent_image: Tensor,
    denoise_mask: Tensor | None = None,
    callback: Callable | None = None,
    disable_pbar: bool = False,
    seed: int | None = None,
) -> Tensor:
    guider = CFGGuider(model)
    guider.set_conds(positive, negative)
    guider.set_cfg(cfg)
    return guider.sample(noise, latent_image, sampler, sigmas, denoise_mask, callback, disable_pbar, seed)


# -- samplers ---------------------------------------------------------------------------------------------------------
class KSamplerX0Inpaint:
    """What a sampler function gets as its model."""

    latent_image: Tensor
    noise: Tensor

    def __init__(self, model: Any, sigmas: Tensor) -> None:
        self.inner_model, self.sigmas = model, sigmas

    def __call__(
        self,
        x: Tensor,
        sigma: Tensor,
        denoise_mask: Tensor | None,
        model_options: dict | None = None,
        seed: int | None = None,
    ) -> Tensor:
        options = model_options or {}
        if denoise_mask is None:
            return self.inner_model(x, sigma, model_options=options, seed=seed)
        if "denoise_mask_function" in options:
            extra = {"model": self.inner_model, "sigmas": self.sigmas}
            mask: Tensor = options["denoise_mask_function"](sigma, denoise_mask, extra_options=extra)
        else:
            mask = denoise_mask
        kept = 1.0 - mask
        known = self.inner_model.inner_model.scale_latent_inpaint(
            x=x, sigma=sigma, noise=self.noise, latent_image=self.latent_image
        )
        out = self.inner_model(x * mask + known * kept, sigma, model_options=options, seed=seed)
        return out * mask + self.latent_image * kept


class Sampler:
    def max_denoise(self, model_wrap: Any, sigmas: Tensor) -> bool:
        largest, first = float(model_wrap.inner_model.model_sampling.sigma_max), float(sigmas[0])
        return math.isclose(largest, first, rel_tol=1e-05) or first > largest


class KSAMPLER(Sampler):
    def __init__(self, sampler_function: Callable, extra_options: dict | None = None, inpaint_options: Any = None):
        self.sampler_function = sampler_function
        self.extra_options, self.inpaint_options = extra_options or {}, inpaint_options or {}

    def sample(
        self,
        model_wrap: Any,
        sigmas: Tensor,
        extra_args: dict,
        callback: Callable | None,
        noise: Tensor,
        latent_image: Tensor,
        denoise_mask: Tensor | None = None,
        disable_pbar: bool = False,
    ) -> Tensor:
        extra_args["denoise_mask"] = denoise_mask
        model_k = KSamplerX0Inpaint(model_wrap, sigmas)
        model_k.latent_image, model_k.noise = latent_image, noise
        scaling = model_wrap.inner_model.model_sampling
        x = scaling.noise_scaling(sigmas[0], noise, latent_image, self.max_denoise(model_wrap, sigmas))
        total = len(sigmas) - 1
        k_callback = None if callback is None else lambda now: callback(now["i"], now["denoised"], now["x"], total)
        samples = self.sampler_function(
            model_k, x, sigmas, extra_args=extra_args, callback=k_callback, disable=disable_pbar, **self.extra_options
        )
        return scaling.inverse_noise_scaling(sigmas[-1], samples)


def ksampler(sampler_name: str, extra_options: dict | None = None, inpaint_options: dict | None = None) -> KSAMPLER:
    function = getattr(k_diffusion_sampling, f"sample_{sampler_name}")
    return KSAMPLER(function, extra_options, inpaint_options)


def sampler_object(name: str) -> KSAMPLER:
    return ksampler("euler", inpaint_options={"random": True}) if name == "ddim" else ksampler(name)


KSAMPLER_NAMES = ["euler", "euler_cfg_pp", "dpmpp_2m"]
SAMPLER_NAMES = [*KSAMPLER_NAMES, "ddim"]


# -- schedulers -------------------------------------------------------------------------------------------------------
def simple_scheduler(model_sampling: Any, steps: int) -> Tensor:
    stride = len(model_sampling.sigmas) / steps
    return torch.FloatTensor([*(float(model_sampling.sigmas[-(1 + int(x * stride))]) for x in range(steps)), 0.0])


def normal_scheduler(model_sampling: Any, steps: int, sgm: bool = False) -> Tensor:
    s = model_sampling
    start, end = float(s.timestep(s.sigma_max)), float(s.timestep(s.sigma_min))
    timesteps = torch.linspace(start, end, steps + 1)[:-1] if sgm else torch.linspace(start, end, steps)
    return torch.FloatTensor([*(float(s.sigma(t)) for t in timesteps), 0.0])


class SchedulerHandler(NamedTuple):
    handler: Callable[..., Tensor]
    use_ms: bool = True


SCHEDULER_HANDLERS = {
    "simple": SchedulerHandler(simple_scheduler),
    "sgm_uniform": SchedulerHandler(partial(normal_scheduler, sgm=True)),
    "karras": SchedulerHandler(k_diffusion_sampling.get_sigmas_karras, use_ms=False),
    "exponential": SchedulerHandler(k_diffusion_sampling.get_sigmas_exponential, use_ms=False),
    "normal": SchedulerHandler(normal_scheduler),
}
SCHEDULER_NAMES = list(SCHEDULER_HANDLERS)


def calculate_sigmas(model_sampling: Any, scheduler_name: str, steps: int) -> Tensor:
    handler = SCHEDULER_HANDLERS.get(scheduler_name)
    if handler is None:
        raise ValueError(f"error invalid scheduler {scheduler_name}")
    if handler.use_ms:
        return handler.handler(model_sampling, steps)
    low, high = float(model_sampling.sigma_min), float(model_sampling.sigma_max)
    return handler.handler(n=steps, sigma_min=low, sigma_max=high)


class KSampler:
    SCHEDULERS = SCHEDULER_NAMES
    SAMPLERS = SAMPLER_NAMES
    DISCARD_PENULTIMATE_SIGMA_SAMPLERS = frozenset(("dpm_2", "dpm_2_ancestral", "uni_pc", "uni_pc_bh2"))

    def __init__(
        self,
        model: Any,
        steps: int,
        device: Any,
        sampler: str | None = None,
        scheduler: str | None = None,
        denoise: float | None = None,
        model_options: dict | None = None,
    ) -> None:
        # Unknown names become the first of the list, silently.
        self.scheduler = scheduler if scheduler in self.SCHEDULERS else self.SCHEDULERS[0]
        self.sampler = sampler if sampler in self.SAMPLERS else self.SAMPLERS[0]
        self.model, self.device, self.model_options = model, device, model_options or {}
        if denoise is None or denoise > 0.9999:
            self.sigmas = self.calculate_sigmas(steps)
        elif denoise <= 0.0:
            self.sigmas = torch.FloatTensor([])
        else:
            self.sigmas = self.calculate_sigmas(int(steps / denoise))[-(steps + 1) :]

    def calculate_sigmas(self, steps: int) -> Tensor:
        return calculate_sigmas(self.model.get_model_object("model_sampling"), self.scheduler, steps).to(self.device)

    def sample(
        self,
        noise: Tensor,
        positive: Any,
        negative: Any,
        cfg: float,
        latent_image: Tensor,
        start_step: int | None = None,
        last_step: int | None = None,
        force_full_denoise: bool = False,
        denoise_mask: Tensor | None = None,
        sigmas: Tensor | None = None,
        callback: Any = None,
        disable_pbar: bool = False,
        seed: int | None = None,
    ) -> Tensor:
        sigmas = self.sigmas if sigmas is None else sigmas
        if last_step is not None and last_step < len(sigmas) - 1:
            sigmas = sigmas[: last_step + 1].clone()
            if force_full_denoise:
                sigmas[-1] = 0
        if start_step is not None:
            if start_step >= len(sigmas) - 1:
                return latent_image
            sigmas = sigmas[start_step:]
        chosen, options = sampler_object(self.sampler), self.model_options
        return sample(
            *(self.model, noise, positive, negative, cfg, self.device, chosen, sigmas, options, latent_image),
            *(denoise_mask, callback, disable_pbar, seed),
        )
