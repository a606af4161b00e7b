"""comfy.k_diffusion.sampling: a few of its samplers and schedules; the stock lists look functions up here by name."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tests.integrations.comfy_stub import model_patcher
from tests.integrations.comfy_stub.model_sampling import CONST


def get_sigmas_karras(n: int, sigma_min: float, sigma_max: float, rho: float = 7.0, device: str = "cpu") -> Tensor:
    ends = torch.linspace(0, 1, n, device=device)
    sigmas = (sigma_max ** (1 / rho) + ends * (sigma_min ** (1 / rho) - sigma_max ** (1 / rho))) ** rho
    return torch.cat([sigmas, sigmas.new_zeros(1)])


def get_sigmas_exponential(n: int, sigma_min: float, sigma_max: float, device: str = "cpu") -> Tensor:
    sigmas = torch.linspace(math.log(sigma_max), math.log(sigma_min), n, device=device).exp()
    return torch.cat([sigmas, sigmas.new_zeros(1)])


def evaluations(
    model: Any, sigmas: Tensor, extra_args: dict | None, callback: Callable | None
) -> Callable[[Tensor, int], Tensor]:
    def evaluate(x: Tensor, i: int) -> Tensor:
        denoised = model(x, sigmas[i] * x.new_ones([x.shape[0]]), **(extra_args or {}))
        if callback is not None:
            callback({"x": x, "i": i, "sigma": sigmas[i], "sigma_hat": sigmas[i], "denoised": denoised})
        return denoised

    return evaluate


def sample_euler(
    model: Any, x: Tensor, sigmas: Tensor, extra_args: Any = None, callback: Any = None, disable: Any = None
) -> Tensor:
    evaluate = evaluations(model, sigmas, extra_args, callback)
    for i in range(len(sigmas) - 1):
        denoised = evaluate(x, i)
        x = x + (x - denoised) / sigmas[i] * (sigmas[i + 1] - sigmas[i])
    return x


def sample_dpmpp_2m(
    model: Any, x: Tensor, sigmas: Tensor, extra_args: Any = None, callback: Any = None, disable: Any = None
) -> Tensor:
    """Only right where x = x0 + sigma noise, as the original."""
    evaluate = evaluations(model, sigmas, extra_args, callback)
    old = None
    for i in range(len(sigmas) - 1):
        denoised = evaluate(x, i)
        ratio, guess = sigmas[i + 1] / sigmas[i], denoised
        if old is not None and sigmas[i + 1] > 0:
            r = (sigmas[i - 1] / sigmas[i]).log() / (sigmas[i] / sigmas[i + 1]).log()
            guess = denoised + (denoised - old) / (2 * r)
        x, old = ratio * x + (1 - ratio) * guess, denoised
    return x


def sample_euler_cfg_pp(
    model: Any, x: Tensor, sigmas: Tensor, extra_args: Any = None, callback: Any = None, disable: Any = None
) -> Tensor:
    caught: list[Tensor] = []

    def catch(args: dict) -> Tensor:
        caught[:] = [args["uncond_denoised"]]
        return args["denoised"]

    extra_args = dict(extra_args or {})
    extra_args["model_options"] = model_patcher.set_model_options_post_cfg_function(
        extra_args.get("model_options", {}).copy(), catch, disable_cfg1_optimization=True
    )
    flow = isinstance(model.inner_model.inner_model.model_sampling, CONST)
    evaluate = evaluations(model, sigmas, extra_args, callback)
    for i in range(len(sigmas) - 1):
        denoised = evaluate(x, i)
        alpha_s, alpha_t = (1 - sigmas[i], 1 - sigmas[i + 1]) if flow else (1.0, 1.0)
        x = alpha_t * denoised + sigmas[i + 1] * (x - alpha_s * caught[0]) / sigmas[i]
    return x
