"""Schedulers of diffusers with many options, and what they make of them: for the tests of sources."""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

import scoresde as ss

Options = dict[str, Any]
SD: Options = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SVD: Options = {
    **SD,
    **{"prediction_type": "v_prediction", "timestep_type": "continuous", "use_karras_sigmas": True},
    **{"sigma_min": 0.002, "sigma_max": 700.0, "timestep_spacing": "leading", "steps_offset": 1},
}
FLOW: Options = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
TWO_STAGES = (
    "HeunDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "DPMSolverSDEScheduler",
    "FlowMatchHeunDiscreteScheduler",
)
IN_FILES = {  # classes that diffusers hides where torchsde is missing, or that it does not export
    "DPMSolverSDEScheduler": "scheduling_dpmsolver_sde",
    "CosineDPMSolverMultistepScheduler": "scheduling_cosine_dpmsolver_multistep",
    "ScoreSdeVpScheduler": "deprecated.scheduling_sde_vp",
}


@contextmanager
def silence() -> Iterator[None]:
    """Without diffusers' own warnings."""
    from diffusers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    yield
    logging.set_verbosity(level)


def class_of(name: str) -> Any:
    import diffusers

    if name not in IN_FILES:
        return getattr(diffusers, name)
    if importlib.util.find_spec("torchsde") is None:  # its schedulers need it to draw noise, not for their grids
        sys.modules.setdefault("torchsde", types.ModuleType("torchsde"))
        try:
            return getattr(importlib.import_module(f"diffusers.schedulers.{IN_FILES[name]}"), name)
        finally:
            del sys.modules["torchsde"]
    return getattr(importlib.import_module(f"diffusers.schedulers.{IN_FILES[name]}"), name)


def read(name: str, options: Options) -> Any:
    from scoresde.integrations.diffusers.source import read

    return read({"_class_name": name, **options})


# -- cases: of each class, options ------------------------------------------------------------------------------------
def spaced(*more: Options) -> list[Options]:
    """Every spacing, with other options one by one."""
    at = [{"timestep_spacing": s, "steps_offset": k} for s, k in (("linspace", 0), ("leading", 0), ("leading", 1))]
    at.append({"timestep_spacing": "trailing"})
    return [{**SD, **a, **b} for a, b in itertools.product(at, ({}, *more))]


def short(*more: Options) -> list[Options]:
    return [{**options, "num_train_timesteps": 250} for options in spaced(*more)]


ZERO_SNR: Options = {"rescale_betas_zero_snr": True}
COSINE: Options = {"beta_schedule": "squaredcos_cap_v2"}
CONVERTED: list[Options] = [{"use_karras_sigmas": True}, {"use_exponential_sigmas": True}, {"use_beta_sigmas": True}]
SIGMA_MIN: Options = {"final_sigmas_type": "sigma_min"}
CLIPPED: Options = {**COSINE, "lambda_min_clipped": -5.1}
FLOWS: list[Options] = [{**FLOW, "flow_shift": 1.0}, {**FLOW, "flow_shift": 3.0}]
MATCHED: list[Options] = [
    *({}, {"shift": 3.0}, {"shift": 2.0, "shift_terminal": 0.1}),
    *({"invert_sigmas": True, "shift": 2.0}, {"use_dynamic_shifting": True, "shift": 3.0}),
    {"use_dynamic_shifting": True, "time_shift_type": "linear"},
    *({"use_karras_sigmas": True, "shift": 3.0}, {"use_exponential_sigmas": True}, {"use_beta_sigmas": True}),
]
CASES: dict[str, list[Options]] = {
    "DDPMScheduler": [*spaced(ZERO_SNR), *({"beta_schedule": b} for b in ("sigmoid", "laplace", "squaredcos_cap_v2"))],
    "DDPMParallelScheduler": spaced(),
    "DDIMScheduler": [
        *spaced(ZERO_SNR, {"set_alpha_to_one": False}),
        {"trained_betas": [0.01 + 0.0001 * i for i in range(200)], "num_train_timesteps": 200},
    ],
    "DDIMParallelScheduler": spaced(),
    "PNDMScheduler": [{**o, "skip_prk_steps": True} for o in spaced({"set_alpha_to_one": True})],
    "CogVideoXDDIMScheduler": spaced(ZERO_SNR, {"snr_shift_scale": 1.0}),
    "CogVideoXDPMScheduler": spaced(ZERO_SNR),
    "UnCLIPScheduler": [{}, {"num_train_timesteps": 500}],
    "EulerDiscreteScheduler": [
        *spaced(ZERO_SNR, SIGMA_MIN, *CONVERTED, {**COSINE, **CONVERTED[0]}),
        *(SVD, {**CONVERTED[0], "sigma_min": 0.5, "sigma_max": 300.0}),
        {**CONVERTED[1], "sigma_min": 0.002, "sigma_max": 30.0},
    ],
    "EulerAncestralDiscreteScheduler": spaced(ZERO_SNR),
    # Making one of these takes long with a long table.
    "HeunDiscreteScheduler": [*short(*CONVERTED), {"beta_schedule": "exp"}],
    "KDPM2DiscreteScheduler": short(*CONVERTED),
    "KDPM2AncestralDiscreteScheduler": short(CONVERTED[0]),
    "LMSDiscreteScheduler": short(*CONVERTED),
    "DPMSolverSDEScheduler": short(CONVERTED[0]),
    "DPMSolverMultistepScheduler": [
        *spaced(ZERO_SNR, SIGMA_MIN, *CONVERTED, {"use_lu_lambdas": True}, {**COSINE, **CONVERTED[0]}),
        *({**CLIPPED, "timestep_spacing": s} for s in ("linspace", "leading")),
        *FLOWS, {**FLOW, "use_dynamic_shifting": True}, {**FLOW, **SIGMA_MIN, "flow_shift": 3.0},
    ],
    "DPMSolverSinglestepScheduler": [
        *({**SD, **o} for o in ({}, SIGMA_MIN, *CONVERTED, {"lambda_min_clipped": -2.0})), *FLOWS,
    ],
    "UniPCMultistepScheduler": [
        *spaced(ZERO_SNR, SIGMA_MIN, *CONVERTED), *FLOWS, {**FLOW, "use_dynamic_shifting": True},
        {**FLOW, "use_dynamic_shifting": True, "time_shift_type": "linear"}, {**FLOW, "shift_terminal": 0.02},
        {**FLOW, **CONVERTED[0], "sigma_min": 0.01, "sigma_max": 200.0},
    ],
    "DEISMultistepScheduler": [*spaced(*CONVERTED), *FLOWS, {**FLOW, "use_dynamic_shifting": True}],
    "SASolverScheduler": [*spaced(*CONVERTED), *FLOWS],
    "LCMScheduler": [{}, {"original_inference_steps": 100, **ZERO_SNR}],
    "TCDScheduler": [{}, {"original_inference_steps": 100}],
    "FlowMatchEulerDiscreteScheduler": MATCHED,
    "FlowMatchHeunDiscreteScheduler": [{}, {"shift": 3.0}],
    "FlowMatchLCMScheduler": MATCHED,
    "LTXEulerAncestralRFScheduler": [{}],
    "MiniMaxH3Scheduler": [{}, {"shift": 2.0}],
    "EDMEulerScheduler": [{}, {"sigma_schedule": "exponential"}, {**SIGMA_MIN, "rho": 5.0}],
    "EDMDPMSolverMultistepScheduler": [{}, {"sigma_schedule": "exponential"}, {**SIGMA_MIN, "sigma_max": 10.0}],
    "CosineDPMSolverMultistepScheduler": [{}, {"sigma_schedule": "karras"}, SIGMA_MIN],
    "CMStochasticIterativeScheduler": [{"num_train_timesteps": 201}],
    "IPNDMScheduler": [{}],
    "DDPMWuerstchenScheduler": [{}, {"scaler": 1.2}, {"scaler": 0.5}],
    "ScoreSdeVeScheduler": [{}],
    "ScoreSdeVpScheduler": [{}],
}  # fmt: skip


def counts(i: int) -> list[int]:
    """Some of 2 to 50 steps; all of them, over the cases of a class."""
    return [2 + (7 * i + k) % 49 for k in (0, 14, 33)]


# -- diffusers' own -----------------------------------------------------------------------------------------------
def with_our_table(scheduler: Any, source: Any) -> None:
    """Its float32 table of alpha^2, after a look at it, replaced by ours in float64: so that the rest is compared
    closely."""
    table = getattr(source.schedule, "indices", None) or source.schedule.labels
    table = getattr(table, "table", None) or getattr(table, "sde", None)
    if isinstance(table, ss.DiscreteVP) and hasattr(scheduler, "alphas_cumprod"):
        ours = torch.tensor(table.alphas_cumprod, dtype=torch.float64)
        assert torch.allclose(scheduler.alphas_cumprod.double(), ours, rtol=2e-3, atol=2e-8)
        assert torch.allclose(scheduler.alphas_cumprod.double()[:-1], ours[:-1], rtol=1e-4, atol=2e-8)
        scheduler.alphas_cumprod = ours


def grid_of(scheduler: Any, name: str, steps: int, mu: float | None) -> tuple[list[float], list[float] | None]:
    """(timesteps, sigmas with the end) of a step each."""
    scheduler.set_timesteps(steps + (name == "MiniMaxH3Scheduler"), **({} if mu is None else {"mu": mu}))
    labels, sigmas = scheduler.timesteps.tolist(), getattr(scheduler, "sigmas", None)
    if name == "PNDMScheduler":
        labels = [float(t) for t in scheduler._timesteps[::-1]]  # before some are repeated
    if name == "DDPMWuerstchenScheduler":
        labels = labels[:-1]
    if name == "ScoreSdeVeScheduler":
        scheduler.set_sigmas(steps)
        labels = scheduler.sigmas.tolist()  # what its pipeline tells the network
        sigmas = torch.cat([scheduler.sigmas, torch.zeros(1)])
    if name in TWO_STAGES:
        labels = labels[::2]
    if sigmas is None:
        return labels, None
    values = sigmas.tolist()
    return labels, [key for key, _ in itertools.groupby(values)] if name in TWO_STAGES else values


def close(a: float, b: float, rtol: float = 2e-6, least: float = 1e-3) -> bool:
    return abs(a - b) <= rtol * max(abs(b), least)


def same_label(source: Any, name: str, t: float, theirs: float) -> bool:
    ours = source.timestep(t, rounding="grid")
    real = source.label(t)
    # A label that is cut down from 333.0 or 332.9999999 is 333 or 332.
    cut = source.schedule.told(0.9) == 0.0 and abs(real - round(real)) < 1e-3 and abs(ours - theirs) == 1.0
    return close(ours, theirs, least=0.1) or cut
