"""Schedulers of diffusers beside our solvers: where they are equal, and why they are not where they are not.

The reasons are checked: where a row differs because of one thing, there is mostly a row without that thing, which is
equal.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from .cases import Peer

TRAILING = {"timestep_spacing": "trailing"}
TO_SIGMA_MIN = {"final_sigmas_type": "sigma_min"}
OWN_TIMES, OWN_LEVELS = [900, 700, 400, 200, 50], [10.0, 5.0, 2.0, 1.0, 0.3]
SHIPPED_SA = {"predictor_order": 2, "corrector_order": 2, "tau_at": "start", "line": "bh1"}

LAST_STEP = "with fewer than 15 steps theirs takes the last one or two with a lower order (lower_order_final)"
BETWEEN = "between table entries it finds t by log sigma, where its grid has sigma: ours tells a t up to 0.002 off"
PREVIOUS = "its step goes to t - T // N, which is not the next timestep of its grid: the times do not join"
EPSILON_KEPT = "it limits x0 but keeps the noise prediction of before; ours follows x0, as its use_clipped_model_output"
LEARNED = "it draws noise of the variance that the network predicts; ours has the posterior's"
NOT_SCALED = "the pipeline does not scale the first noise and the network's input as its class needs: its run is wrong"
HANDED_OVER = "the same up to a factor: its latents at the split are x/alpha, ours x, which every other class has too"


def last_steps(*orders: int) -> dict[str, Any]:
    """Options of ours with which the last steps are of these orders."""
    return {"solver_options": {"order_of_last_steps": orders}}


def limited(*peers: tuple[str, str]) -> tuple[Peer, ...]:
    """Pairs without further options."""
    return tuple(Peer(solver, f"{scheduler}Scheduler") for solver, scheduler in peers)


LCM = Peer(
    "lcm",
    "LCMScheduler",
    steps=4,
    differs="it mixes in (0.5 / 10t)^2 of the noisy state, which consistency at t = 0 asks for and no step needs",
)

# Pairs that are equal in any pipeline.
EVERYWHERE = limited(("ddim", "DDIM"), ("dpmpp-2m", "DPMSolverMultistep"), ("unipc-2", "UniPCMultistep"))
SCALED = limited(("euler", "EulerDiscrete"), ("heun", "HeunDiscrete"))  # whose class scales the network's input

# In Stable Diffusion 1: every pair.
ALL = (
    *EVERYWHERE,
    *SCALED,
    Peer("ddim", "DDIMScheduler", TRAILING),
    Peer("ddim", "DDIMScheduler", TRAILING, steps=6, differs=PREVIOUS),
    Peer("ddim", "DDIMScheduler", {"timestep_spacing": "linspace"}, differs=PREVIOUS),
    Peer("ddim", "DDIMScheduler", arguments={"eta": 0.5}),
    Peer("ddim", "DDIMScheduler", {"clip_sample": True}, differs=EPSILON_KEPT),
    Peer("ddim", "DDIMScheduler", {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction", **TRAILING}),
    Peer("ddpm", "DDPMScheduler"),
    Peer("ddpm-large", "DDPMScheduler", {"variance_type": "fixed_large", "steps_offset": 0}),
    Peer(
        "ddpm-large",
        "DDPMScheduler",
        {"variance_type": "fixed_large"},
        differs="with steps_offset=1 its last timestep is 1, after which it still adds noise, to the finished sample",
    ),
    Peer("euler", "EulerDiscreteScheduler", {"use_karras_sigmas": True}),
    Peer("euler", "EulerDiscreteScheduler", arguments={"timesteps": OWN_TIMES}),
    Peer("euler", "EulerDiscreteScheduler", arguments={"sigmas": [*OWN_LEVELS, 0.0]}, differs=BETWEEN),
    Peer(
        "euler",
        "EulerDiscreteScheduler",
        arguments={"sigmas": OWN_LEVELS},
        differs="it ends at the last of the sigmas that it is given, with its noise; ours goes on to the data",
    ),
    Peer(
        "euler",
        "EulerDiscreteScheduler",
        {"interpolation_type": "log_linear"},
        differs="its noise levels are spread over the whole table, its timesteps stay: the network is told wrong ones",
    ),
    Peer("euler-ancestral", "EulerAncestralDiscreteScheduler"),
    Peer("heun", "HeunDiscreteScheduler", {"use_karras_sigmas": True}),
    Peer(
        "dpm-solver-2",
        "KDPM2DiscreteScheduler",
        differs=BETWEEN,
    ),
    Peer("dpm-solver-2-ancestral", "KDPM2AncestralDiscreteScheduler"),
    Peer("lms-4", "LMSDiscreteScheduler"),
    Peer("plms", "PNDMScheduler", {"skip_prk_steps": True}),
    Peer("pndm", "PNDMScheduler", {"skip_prk_steps": False}),
    Peer(
        "pndm",
        "PNDMScheduler",
        {"skip_prk_steps": False},
        steps=8,
        differs="half a step is a whole number of t in its Runge-Kutta start: T // N // 2, here 62 for 62.5",
    ),
    Peer("dpmpp-2m", "DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    Peer("dpmpp-2m", "DPMSolverMultistepScheduler", arguments={"timesteps": OWN_TIMES}),
    Peer("dpmpp-2m", "DPMSolverMultistepScheduler", {"use_exponential_sigmas": True}),
    Peer("dpmpp-2m", "DPMSolverMultistepScheduler", {"use_lu_lambdas": True}),
    Peer(
        "dpmpp-2m",
        "DPMSolverMultistepScheduler",
        {"solver_type": "heun"},
        {"solver_options": {"solver_type": "taylor"}},
    ),
    Peer("dpmpp-2m", "DPMSolverMultistepScheduler", TO_SIGMA_MIN, steps=16),
    Peer("dpmpp-2m", "DPMSolverMultistepScheduler", TO_SIGMA_MIN, differs=LAST_STEP),
    Peer("dpmpp-2m", "DPMSolverMultistepScheduler", TO_SIGMA_MIN, last_steps(1)),
    Peer(
        "dpmpp-3m",
        "DPMSolverMultistepScheduler",
        {"solver_order": 3, **TO_SIGMA_MIN},
        steps=16,
        differs="its third-order update has half of a term's weight, and is of order 2 (solver 'dpmpp-3m-official')",
    ),
    Peer("dpmpp-3m-official", "DPMSolverMultistepScheduler", {"solver_order": 3, **TO_SIGMA_MIN}, steps=16),
    Peer("dpmpp-3m-official", "DPMSolverMultistepScheduler", {"solver_order": 3}, last_steps(2, 1)),
    Peer(
        "dpm-solver-2m", "DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver", **TO_SIGMA_MIN}, last_steps(1)
    ),
    Peer("dpmpp-2m-sde", "DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    Peer(
        "dpmpp-2s",
        "DPMSolverSinglestepScheduler",
        {"solver_order": 2},
        {"count": "nfe"},
        steps=6,
        differs="two steps of its grid are one step of the method, wherever the middle is; ours is in the middle of "
        "log(alpha/sigma), as the paper's",
    ),
    Peer("unipc-3", "UniPCMultistepScheduler", {"solver_order": 3}, differs=LAST_STEP),
    Peer("unipc-3", "UniPCMultistepScheduler", {"solver_order": 3}, last_steps(2, 1)),
    Peer("unipc-3", "UniPCMultistepScheduler", {"solver_order": 3, "lower_order_final": False, **TO_SIGMA_MIN}),
    Peer("adams-2-epsilon", "DEISMultistepScheduler", differs=LAST_STEP),
    Peer("adams-2-epsilon", "DEISMultistepScheduler", options=last_steps(1)),
    Peer("adams-3-epsilon", "DEISMultistepScheduler", {"solver_order": 3, **TO_SIGMA_MIN}, steps=16),
    Peer(
        "sa-solver",
        "SASolverScheduler",
        {"tau_func": lambda t: 1.0},
        {"solver_options": {**SHIPPED_SA, "order_of_last_steps": (1,)}},
    ),
    LCM,
    Peer("tcd", "TCDScheduler", {}, {"solver_options": {"gamma": 0.0}}, steps=4),
)

PLMS = Peer("plms", "PNDMScheduler", {"skip_prk_steps": True})
PLMS_FROM_THE_MIDDLE = replace(
    PLMS,
    differs="it counts steps to know which timestep is there twice; begun in the middle it goes back at the wrong one",
)
LMS_FROM_THE_MIDDLE = Peer(
    "lms-4",
    "LMSDiscreteScheduler",
    differs="it counts the steps left out as made, and weighs the first for a history that it does not have",
)
PLMS_OF_V = replace(PLMS, differs="it mixes v predictions of different times, and takes the mix for one of now")
DDIM_TO_ITSELF = Peer(
    "ddim",
    "DDIMScheduler",
    {"set_alpha_to_one": False, "steps_offset": 0},
    differs="its last step goes from the first entry of the table to itself; ours to the data",
)
DDPM = Peer("ddpm", "DDPMScheduler")
LIMITED = (DDPM, Peer("ddim", "DDIMScheduler", differs=EPSILON_KEPT))  # x0 is limited
VARIANCE = (  # the network says one
    Peer("ddpm", "DDPMScheduler", differs=LEARNED),
    Peer("ddpm", "DDPMScheduler", {"variance_type": "fixed_small"}),
)
UNCLIP = Peer("ddpm", "UnCLIPScheduler")
UNCLIP_VARIANCE = replace(UNCLIP, differs=LEARNED)
FOLLOWED = Peer("ddim", "DDIMScheduler", arguments={"use_clipped_model_output": True})
NOT_EULER = Peer("euler", "EulerDiscreteScheduler", differs=NOT_SCALED)
SPLIT = Peer("euler", "EulerDiscreteScheduler", differs=HANDED_OVER)
