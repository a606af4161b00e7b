"""Samplers with the calling convention of k-diffusion: ``sample_*(model, x, sigmas, ...)``.

k-diffusion's own functions have its signatures, callbacks and arithmetic, so that a pipeline swaps by its import
alone; every other solver of the catalogue has a function too (``sample_unipc_3``, ``sample_res_2s``, ...; see
:func:`names`, and :func:`sampler` for names as people write them). :func:`wrap` turns a
:class:`scoresde.Denoiser` into a model of k-diffusion and a model into a Denoiser, and :class:`Model` says that a model
is a rectified flow.
"""

from __future__ import annotations

from typing import Any

from scoresde.integrations.k_diffusion.adaptive import sample_dpm_adaptive
from scoresde.integrations.k_diffusion.catalogue import PREFIX, names, sampler
from scoresde.integrations.k_diffusion.model import Model, wrap, wrap_denoiser, wrap_model
from scoresde.integrations.k_diffusion.noise import BrownianNoiseSampler
from scoresde.integrations.k_diffusion.samplers import (
    sample_dpm_2,
    sample_dpm_2_ancestral,
    sample_dpm_fast,
    sample_dpmpp_2m,
    sample_dpmpp_2m_sde,
    sample_dpmpp_2s_ancestral,
    sample_dpmpp_3m_sde,
    sample_dpmpp_sde,
    sample_euler,
    sample_euler_ancestral,
    sample_heun,
    sample_lms,
)
from scoresde.integrations.k_diffusion.schedules import (
    get_sigmas_exponential,
    get_sigmas_karras,
    get_sigmas_polyexponential,
    get_sigmas_vp,
)


def __getattr__(name: str) -> Any:
    if name.startswith(PREFIX):
        try:
            return sampler(name)
        except ValueError as error:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}: {error}") from None
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *names()})


__all__ = [
    "wrap",
    "wrap_denoiser",
    "wrap_model",
    "Model",
    "sampler",
    "names",
    "sample_euler",
    "sample_euler_ancestral",
    "sample_heun",
    "sample_dpm_2",
    "sample_dpm_2_ancestral",
    "sample_lms",
    "sample_dpm_fast",
    "sample_dpm_adaptive",
    "sample_dpmpp_2s_ancestral",
    "sample_dpmpp_sde",
    "sample_dpmpp_2m",
    "sample_dpmpp_2m_sde",
    "sample_dpmpp_3m_sde",
    "BrownianNoiseSampler",
    "get_sigmas_karras",
    "get_sigmas_exponential",
    "get_sigmas_polyexponential",
    "get_sigmas_vp",
]
