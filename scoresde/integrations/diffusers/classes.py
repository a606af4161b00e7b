"""The schedulers of diffusers, one row each; and why some cannot be carried over.

A new class that is like another is one row of :data:`CLASSES`; a new kind is one function in
:mod:`~scoresde.integrations.diffusers.families`.
"""

from __future__ import annotations

from typing import Any

from scoresde.integrations.diffusers import families
from scoresde.integrations.diffusers.families import Facts
from scoresde.integrations.diffusers.processes import LEAST_ALPHA2

ENDS = ("sigma_min", "sigma_max")
BOTH = ("thresholding", "clip_sample")


def _ddim(**more: Any) -> Facts:
    return Facts(families.table, **more)


def _euler(**more: Any) -> Facts:
    facts = {"rounds": "no", "also": ENDS, **more}
    return Facts(families.table, rounds_linspace=False, between=True, begins="sigma unless leading", **facts)


def _dpm(**more: Any) -> Facts:
    facts = {"rounds": "cut", "flow": "from 1 - low", "ends": "first", **more}
    return Facts(families.table, also=ENDS, spare=1, between=True, limits=("thresholding",), **facts)


def _edm(**more: Any) -> Facts:
    return Facts(families.edm, begins="norm", ends="final_sigmas_type", **more)


def _flow(**more: Any) -> Facts:
    return Facts(families.flow, also=ENDS, flow="both ends", **more)


_KDPM2, _EDM_DPM = "KDPM2DiscreteScheduler", "EDMDPMSolverMultistepScheduler"
COSINE = {
    **{"sigma_min": 0.3, "sigma_max": 500.0, "sigma_data": 1.0, "sigma_schedule": "exponential"},
    "prediction_type": "v_prediction",
}

CLASSES: dict[str, Facts] = {
    "DDPMScheduler": _ddim(limits=BOTH),
    "DDPMParallelScheduler": _ddim(limits=BOTH),
    "DDIMScheduler": _ddim(limits=BOTH, ends="set_alpha_to_one"),
    "DDIMParallelScheduler": _ddim(limits=BOTH, ends="set_alpha_to_one"),
    "PNDMScheduler": _ddim(ends="set_alpha_to_one"),
    "CogVideoXDDIMScheduler": _ddim(ends="set_alpha_to_one"),  # it has clip_sample, and does not use it
    "CogVideoXDPMScheduler": _ddim(ends="set_alpha_to_one"),
    "UnCLIPScheduler": _ddim(limits=("clip_sample",)),
    "EulerDiscreteScheduler": _euler(least=LEAST_ALPHA2, ends="final_sigmas_type"),
    "EulerAncestralDiscreteScheduler": _euler(least=LEAST_ALPHA2, also=()),
    "HeunDiscreteScheduler": _euler(limits=("clip_sample",)),
    "KDPM2DiscreteScheduler": _euler(rounds="karras"),
    "KDPM2AncestralDiscreteScheduler": _euler(rounds="karras"),
    "LMSDiscreteScheduler": _euler(karras_ends=False, alike=_KDPM2, defaults={"beta_start": 0.0001, "beta_end": 0.02}),
    "DPMSolverSDEScheduler": _euler(karras_ends=False, alike=_KDPM2),
    "DPMSolverMultistepScheduler": _dpm(least=LEAST_ALPHA2, ends="final_sigmas_type", rounds="cut cosine"),
    "DPMSolverSinglestepScheduler": _dpm(ends="final_sigmas_type"),
    "UniPCMultistepScheduler": _dpm(least=LEAST_ALPHA2, ends="final_sigmas_type", flow="from 1", repeats=True),
    "DEISMultistepScheduler": _dpm(repeats=True),
    "SASolverScheduler": _dpm(repeats=True),
    "LCMScheduler": Facts(families.distilled, limits=BOTH),
    "TCDScheduler": Facts(families.distilled, ends="first"),  # it has clip_sample, and does not use it
    "FlowMatchEulerDiscreteScheduler": _flow(),
    "FlowMatchHeunDiscreteScheduler": _flow(),
    "FlowMatchLCMScheduler": _flow(),
    "LTXEulerAncestralRFScheduler": _flow(alike="FlowMatchEulerDiscreteScheduler", shifts_given=False),
    "MiniMaxH3Scheduler": Facts(families.minimax, flow="from 1 to 0", shifts_given=False),
    "EDMEulerScheduler": _edm(),
    "EDMDPMSolverMultistepScheduler": Facts(
        families.edm, begins="norm", ends="final_sigmas_type", limits=("thresholding",)
    ),
    "CosineDPMSolverMultistepScheduler": _edm(labels="arctan", alike=_EDM_DPM, defaults=COSINE),
    "CMStochasticIterativeScheduler": Facts(families.consistency, begins="sigma", limits=("clip_denoised",)),
    "IPNDMScheduler": Facts(families.pndm_angles),
    "DDPMWuerstchenScheduler": Facts(families.wuerstchen),
    "ScoreSdeVeScheduler": Facts(families.score_ve, begins="sigma"),
    "ScoreSdeVpScheduler": Facts(families.score_vp),
}

_TOKENS = "it samples discrete tokens, not Gaussian noise; keep diffusers' own scheduler"
_INVERSE = (
    "it goes from data to noise; pass the config of the scheduler that samples, {{**config, '_class_name': {!r}}}"
)
_MAP = "its network predicts {}, which no other solver can use; keep diffusers' own scheduler"

# Why a class cannot be carried over, and what to pass instead.
UNSUPPORTED: dict[str, str] = {
    "AmusedScheduler": _TOKENS,
    "BlockRefinementScheduler": _TOKENS,
    "DiscreteDDIMScheduler": _TOKENS,
    "EntropyBoundScheduler": _TOKENS,
    "VQDiffusionScheduler": _TOKENS,
    "DDIMInverseScheduler": _INVERSE.format("DDIMScheduler"),
    "DPMSolverMultistepInverseScheduler": _INVERSE.format("DPMSolverMultistepScheduler"),
    "RePaintScheduler": (
        "its pipeline gives step the picture and the mask, and goes back in time; for plain sampling pass "
        "{**config, '_class_name': 'DDPMScheduler'}"
    ),
    "ConsistencyDecoderScheduler": ("its levels are those of one decoder in two steps; keep diffusers' own scheduler"),
    "SCMScheduler": (
        "its pipeline sets max_timesteps and intermediate_timesteps, for a consistency model of one or two steps; keep "
        "diffusers' own scheduler"
    ),
    "KarrasVeScheduler": (
        "its pipeline scales the network's input and the noise itself; pass the config of an EDM scheduler such as "
        "{'_class_name': 'EDMEulerScheduler', 'sigma_min': ..., 'sigma_max': ...}, and another pipeline"
    ),
    "HeliosScheduler": (
        "it samples stages of growing resolution; for one stage pass {'_class_name': "
        "'FlowMatchEulerDiscreteScheduler', 'shift': config['shift']}"
    ),
    "HeliosDMDScheduler": _MAP.format("the data, for a few steps of growing resolution"),
    "FlowMapEulerDiscreteScheduler": _MAP.format("a whole step, told both its ends"),
    "PiflowScheduler": _MAP.format("a policy for a whole step"),
    "RFD4ProteinaScheduler": "its step needs a mask of the atoms; keep diffusers' own scheduler",
}
