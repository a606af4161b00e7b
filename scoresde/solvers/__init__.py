"""The catalogue of fixed-step solvers. To add one: a small frozen dataclass in a file here, and a row in the table
below."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from scoresde.rows import Solver
from scoresde.solvers.adams import Adams
from scoresde.solvers.ddim import DDIM
from scoresde.solvers.deis import DEIS
from scoresde.solvers.dpm_solver import SinglestepDPM
from scoresde.solvers.dpmpp import MultistepDPM
from scoresde.solvers.er_sde import ERSDE
from scoresde.solvers.langevin import SNR_OF_AZULA, AnnealedLangevin
from scoresde.solvers.pndm import PNDM, OfficialIPNDMv
from scoresde.solvers.runge_kutta import RungeKutta
from scoresde.solvers.sa_solver import SASolver, TauBetween
from scoresde.solvers.score_sde import EulerMaruyama, ProbabilityFlow, ReverseChain
from scoresde.solvers.stochastic import Churn, DPMppSDE
from scoresde.solvers.unipc import UniPC


@dataclass(frozen=True)
class Entry:
    """A row of the catalogue: how a name becomes a solver, and the other names that people know it by."""

    make: type
    preset: Mapping[str, Any] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    summary: str = ""


TABLE: dict[str, Entry] = {
    "euler": Entry(
        RungeKutta,
        {"method": "euler"},
        ("EulerDiscreteScheduler", "sample_euler"),
        "Euler in the EDM variable (= DDIM)",
    ),
    "heun": Entry(RungeKutta, {"method": "heun"}, ("HeunDiscreteScheduler", "sample_heun", "edm"), "EDM's Heun"),
    "euler-flow": Entry(
        RungeKutta,
        {"method": "euler", "kind": "flow"},
        ("FlowMatchEulerDiscreteScheduler",),
        "Euler of flow matching (= DDIM)",
    ),
    "heun-flow": Entry(
        RungeKutta, {"method": "heun", "kind": "flow"}, ("FlowMatchHeunDiscreteScheduler",), "Heun of flow matching"
    ),
    "pf-euler": Entry(ProbabilityFlow, {"method": "euler"}, (), "Euler on the probability flow in time"),
    "pf-heun": Entry(ProbabilityFlow, {"method": "heun"}, (), "Heun on the probability flow in time"),
    "euler-maruyama": Entry(EulerMaruyama, {}, ("em",), "Euler–Maruyama on the reverse SDE"),
    "ddim": Entry(DDIM, {}, ("DDIMScheduler",), "deterministic; eta > 0 renews noise"),
    "ddpm": Entry(
        DDIM,
        {"eta": 1.0},
        (
            *("DDPMScheduler", "ancestral", "euler_ancestral", "sample_euler_ancestral", "euler-a"),
            "EulerAncestralDiscreteScheduler",
        ),
        "DDIM with eta = 1, ancestral sampling",
    ),
    "dpm-solver-1": Entry(SinglestepDPM, {"order": 1}, (), "DPM-Solver-1 (= DDIM)"),
    "dpm-solver-2": Entry(
        SinglestepDPM, {"order": 2}, ("dpm_2", "sample_dpm_2", "KDPM2DiscreteScheduler"), "singlestep"
    ),
    "dpm-solver-3": Entry(SinglestepDPM, {"order": 3}, (), "singlestep"),
    "dpm-solver-fast": Entry(
        SinglestepDPM,
        {"order": 3, "fast": True},
        ("dpm_fast", "sample_dpm_fast"),
        "order 3, the last steps fill the budget",
    ),
    "dpm-solver-2m": Entry(MultistepDPM, {"order": 2, "kind": "epsilon"}, (), "multistep, noise prediction"),
    "dpm-solver-3m": Entry(MultistepDPM, {"order": 3, "kind": "epsilon"}, (), "multistep, noise prediction, corrected"),
    "dpmpp-1": Entry(MultistepDPM, {"order": 1}, (), "DPM-Solver++ 1 (= DDIM)"),
    "dpmpp-2s": Entry(SinglestepDPM, {"order": 2, "kind": "x0"}, (), "singlestep, data prediction"),
    "dpmpp-3s": Entry(
        SinglestepDPM, {"order": 3, "kind": "x0"}, ("DPMSolverSinglestepScheduler",), "singlestep, data prediction"
    ),
    "dpmpp-2m": Entry(
        MultistepDPM, {"order": 2}, ("sample_dpmpp_2m", "DPMSolverMultistepScheduler"), "multistep; the usual choice"
    ),
    "dpmpp-3m": Entry(MultistepDPM, {"order": 3}, (), "multistep, corrected to order 3"),
    "dpmpp-3m-official": Entry(
        MultistepDPM, {"order": 3, "official": True}, (), "multistep, as everyone ships it (order 2)"
    ),
    "sde-dpmpp-1": Entry(MultistepDPM, {"order": 1, "eta": 1.0}, (), "SDE-DPM-Solver++ 1 (= ddpm)"),
    "sde-dpmpp-2m": Entry(
        MultistepDPM, {"order": 2, "eta": 1.0}, ("dpmpp_2m_sde", "sample_dpmpp_2m_sde"), "multistep, reverse SDE"
    ),
    "sde-dpmpp-3m": Entry(MultistepDPM, {"order": 3, "eta": 1.0}, (), "multistep, reverse SDE, corrected"),
    "sde-dpmpp-3m-official": Entry(
        MultistepDPM,
        {"order": 3, "official": True, "solver_type": "taylor", "eta": 1.0},
        ("dpmpp_3m_sde", "sample_dpmpp_3m_sde"),
        "multistep, reverse SDE, as k-diffusion ships it",
    ),
    "sde-dpmpp-3m-diffusers": Entry(
        MultistepDPM,
        {"order": 3, "official": True, "eta": 1.0, "sign_slip": True},
        (),
        "multistep, reverse SDE, as diffusers ships it (order 1)",
    ),
    "sde-dpm-solver-1": Entry(
        MultistepDPM, {"order": 1, "kind": "epsilon", "eta": 1.0}, (), "reverse SDE, noise prediction"
    ),
    "sde-dpm-solver-2m": Entry(
        MultistepDPM, {"order": 2, "kind": "epsilon", "eta": 1.0}, (), "multistep, reverse SDE, noise prediction"
    ),
    "dpm-solver-2-ancestral": Entry(
        SinglestepDPM,
        {"order": 2, "eta": 1.0},
        ("dpm_2_ancestral", "sample_dpm_2_ancestral", "dpm2a", "KDPM2AncestralDiscreteScheduler"),
        "singlestep, ancestral",
    ),
    "dpmpp-2s-ancestral": Entry(
        SinglestepDPM,
        {"order": 2, "kind": "x0", "eta": 1.0},
        ("dpmpp_2s_ancestral", "sample_dpmpp_2s_ancestral", "dpmpp2sa"),
        "singlestep, data prediction, ancestral",
    ),
    "dpmpp-sde": Entry(DPMppSDE, {}, ("sample_dpmpp_sde",), "2S whose stages are both ancestral"),
    "euler-churn": Entry(Churn, {"inner": RungeKutta("euler")}, (), "EDM's churn before each Euler step"),
    "heun-churn": Entry(Churn, {"inner": RungeKutta("heun")}, ("edm-stochastic",), "EDM's stochastic sampler"),
    "dpm-solver-2-churn": Entry(Churn, {"inner": SinglestepDPM(2)}, (), "EDM's churn before each step"),
    "er-sde-1": Entry(ERSDE, {"order": 1}, (), "reverse SDE with any noise scale function"),
    "er-sde-2": Entry(ERSDE, {"order": 2}, (), "multistep, reverse SDE with any noise scale function"),
    "er-sde-3": Entry(ERSDE, {"order": 3}, ("er_sde", "sample_er_sde"), "multistep, with exact integrals"),
    "er-sde-3-official": Entry(ERSDE, {"order": 3, "official": True}, (), "with the authors' 100-node sums"),
    "reverse-diffusion": Entry(ReverseChain, {}, (), "score_sde's predictor"),
    "reverse-diffusion-ode": Entry(
        ReverseChain, {"probability_flow": True}, (), "reverse diffusion of the probability flow"
    ),
    "ddpm-large": Entry(ReverseChain, {"method": "ancestral"}, (), "DDPM with the variance beta"),
    "pc-ald": Entry(AnnealedLangevin, {}, (), "reverse diffusion, Langevin steps of fixed size"),
    "pc-ald-exact": Entry(
        AnnealedLangevin,
        {"predictor": DDIM(), "exact": True, "factors": 1.0, "snr": SNR_OF_AZULA},
        ("PCSampler",),
        "DDIM, at each level a share of the noise is renewed",
    ),
    "unip-2": Entry(UniPC, {"order": 2, "corrector": False}, (), "UniPC's predictor (= DPM-Solver++ 2M)"),
    "unip-3": Entry(UniPC, {"order": 3, "corrector": False}, (), "UniPC's predictor (= DPM-Solver++ 3M, corrected)"),
    "unipc-1": Entry(UniPC, {"order": 1}, (), "predictor and free corrector"),
    "unipc-2": Entry(UniPC, {"order": 2}, ("UniPCMultistepScheduler",), "predictor and free corrector"),
    "unipc-3": Entry(UniPC, {"order": 3}, ("uni_pc_bh2",), "predictor and free corrector"),
    "unipc-4": Entry(UniPC, {"order": 4}, (), "predictor and free corrector"),
    "unipc-3-bh1": Entry(UniPC, {"order": 3, "variant": "bh1"}, ("uni_pc",), "with B(h) = h"),
    "unipc-3-vary": Entry(UniPC, {"order": 3, "variant": "vary"}, (), "vary_coeff, corrected to order 4"),
    "unipc-3-vary-official": Entry(
        UniPC, {"order": 3, "variant": "vary", "official": True}, (), "vary_coeff as shipped (order 1)"
    ),
    "sa-solver": Entry(SASolver, {}, ("SASolverScheduler",), "stochastic Adams, predictor and corrector"),
    "adams-2": Entry(Adams, {"order": 2}, (), "multistep, exact weights (= DPM-Solver++ 2M, taylor)"),
    "adams-3": Entry(Adams, {"order": 3}, (), "multistep, exact weights (= DPM-Solver++ 3M, corrected)"),
    "adams-4-rk": Entry(
        Adams, {"order": 4, "start": "runge-kutta"}, (), "multistep, exact weights, first steps of its order"
    ),
    "adams-5-rk": Entry(
        Adams, {"order": 5, "start": "runge-kutta"}, (), "multistep, exact weights, first steps of its order"
    ),
    "adams-2-epsilon": Entry(
        Adams, {"order": 2, "kind": "epsilon"}, ("DEISMultistepScheduler",), "multistep, noise prediction"
    ),
    "adams-3-epsilon": Entry(Adams, {"order": 3, "kind": "epsilon"}, (), "multistep, noise prediction"),
    "adams-4-epsilon-rk": Entry(
        Adams,
        {"order": 4, "kind": "epsilon", "start": "runge-kutta"},
        (),
        "multistep, noise prediction, first steps of its order",
    ),
    "adams-2-flow": Entry(Adams, {"order": 2, "kind": "flow", "variable": "clock"}, (), "multistep, flow prediction"),
    "adams-3-flow": Entry(Adams, {"order": 3, "kind": "flow", "variable": "clock"}, (), "multistep, flow prediction"),
    "adams-4-flow-rk": Entry(
        Adams,
        {"order": 4, "kind": "flow", "variable": "clock", "start": "runge-kutta"},
        (),
        "multistep, flow prediction, first steps of its order",
    ),
    "lms-2": Entry(
        Adams, {"order": 2, "kind": "epsilon", "variable": "clock"}, ("deis-rhoab1", "ipndm-v-2"), "Adams in sigma"
    ),
    "lms-3": Entry(
        Adams, {"order": 3, "kind": "epsilon", "variable": "clock"}, ("deis-rhoab2", "ipndm-v-3"), "Adams in sigma"
    ),
    "lms-4": Entry(
        Adams,
        {"order": 4, "kind": "epsilon", "variable": "clock"},
        ("lms", "sample_lms", "LMSDiscreteScheduler", "deis-rhoab3", "ipndm-v-4", "ipndm-v"),
        "Adams in sigma",
    ),
    "lms-4-rk": Entry(
        Adams,
        {"order": 4, "kind": "epsilon", "variable": "clock", "start": "runge-kutta"},
        (),
        "Adams in sigma, first steps of its order",
    ),
    "deis-tab1": Entry(DEIS, {"order": 2}, (), "multistep, polynomial in the process's time"),
    "deis-tab2": Entry(DEIS, {"order": 3}, (), "multistep, polynomial in the process's time"),
    "deis-tab3": Entry(DEIS, {"order": 4}, ("deis",), "multistep, polynomial in the process's time"),
    "ipndm-2": Entry(PNDM, {"order": 2}, (), "multistep, weights of equal steps"),
    "ipndm-3": Entry(PNDM, {"order": 3}, (), "multistep, weights of equal steps"),
    "ipndm-4": Entry(PNDM, {"order": 4}, ("ipndm", "sample_ipndm"), "multistep, weights of equal steps"),
    "ipndm-v-3-official": Entry(OfficialIPNDMv, {"order": 3}, (), "LMS of order 3 with a slip, as shipped"),
    "ipndm-v-4-official": Entry(
        OfficialIPNDMv, {"order": 4}, ("sample_ipndm_v",), "LMS of order 4 with three slips, as shipped (order 3)"
    ),
    "plms": Entry(PNDM, {"start": "heun"}, ("sample_plms",), "multistep, weights of equal steps, Heun start"),
    "pndm": Entry(
        PNDM,
        {"start": "runge-kutta"},
        ("PNDMScheduler", "f-pndm"),
        "multistep, weights of equal steps, pseudo Runge–Kutta start",
    ),
}

__all__ = [
    "DDIM",
    "OfficialIPNDMv",
    "Adams",
    "AnnealedLangevin",
    "PNDM",
    "DEIS",
    "ERSDE",
    "TABLE",
    "Churn",
    "DPMppSDE",
    "EulerMaruyama",
    "MultistepDPM",
    "ProbabilityFlow",
    "ReverseChain",
    "RungeKutta",
    "SASolver",
    "SinglestepDPM",
    "Solver",
    "TauBetween",
    "UniPC",
]
