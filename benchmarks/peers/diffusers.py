"""Rows of diffusers (https://github.com/huggingface/diffusers): its schedulers, run as its pipelines run them.

The loop is a pipeline's: for each of the scheduler's timesteps the network is told that timestep, also where the
scheduler rounds it, and its output goes to ``step``. The process's time of a timestep is that of the table's entry
(DiscreteVP), of the noise level (EDM) or of sigma = timestep / 1000 (flows). Tables are float32, as always there.

The cell's grid is given as far as a scheduler's public options go: as ``sigmas``, as ``timesteps`` (whole entries of
the table, the nearest, where the class rounds them), or by the name that both libraries have for it. The grid "own" is
the class's default spacing, or whatever its options say (``timestep_spacing``, ``use_karras_sigmas``, ...).
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.peers.base import (
    ONE,
    OWN,
    Calls,
    Noises,
    Package,
    each,
    generator,
    grid_name,
    most_steps,
    options_of,
    times_of,
)
from scoresde.bench.samplers import Factory, Prepared
from scoresde.bench.suite import Cell
from scoresde.denoiser import BaseDenoiser
from scoresde.sde import SDE

PACKAGE = Package("diffusers", "pip install diffusers")
Options = dict[str, Any]

# Grids of ours that a scheduler has under another name, by the class's option; others go as sigmas or timesteps.
NAMED: dict[str, tuple[str, Any]] = {
    "karras": ("use_karras_sigmas", True),
    "log-snr": ("use_exponential_sigmas", True),
    "beta-diffusers": ("use_beta_sigmas", True),
    "uniform": ("timestep_spacing", "trailing"),
}
# The option that says whether a class ends at the data (first value) or at the table's first entry (second).
ENDS: dict[str, tuple[Any, Any]] = {"final_sigmas_type": ("zero", "sigma_min"), "set_alpha_to_one": (True, False)}
# Options that decide the spacing: they go with the grid "own".
SPACING = {
    *("timestep_spacing", "steps_offset", "interpolation_type", "sigma_schedule", "rho"),
    *("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas"),
}
# Options that follow from the process and the cell, and arguments of the loop.
SET_HERE = {
    *("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "prediction_type"),
    *("sigma_min", "sigma_max", "sigma_data", "shift", "flow_shift", "use_flow_sigmas", "rescale_betas_zero_snr"),
    *("skip_prk_steps", "timestep_type", "use_dynamic_shifting", "invert_sigmas", "shift_terminal"),
    *("self", "model_output", "timestep", "sample", "generator", "variance_noise", "return_dict"),
    *("pred_original_sample", "per_token_timesteps", *ENDS),
}
SAME = 1e-5  # share by which the float32 ends of a table may miss the process's


@dataclass(frozen=True)
class Family:
    """What a kind of process changes.

    Attributes:
        named: how suites name such processes.
        options: of the class, from the process.
        given: (the class, the cell, the process, steps) gives what the class and its ``set_timesteps`` need for the
            cell's grid.
        at: the process's time of a number in ``sigmas``.
        time: the process's time of (the scheduler, the index of a timestep): what the network is told.
        answer: what the network says to (denoiser, scheduler, index, scaled input, state, time, conditions).
    """

    named: str
    options: Callable[[Any], Options]
    given: Callable[[Any, Cell, Any, int], tuple[Options, Options]]
    at: Callable[[Any, float], float]
    time: Callable[[Any, Any, int], float]
    answer: Callable[[BaseDenoiser, Any, int, Tensor, Tensor, float, Mapping[str, Tensor]], Tensor]


# -- tables: Stable Diffusion and its like ----------------------------------------------------------------------------
def _table_options(sde: Any) -> Options:
    table = (1.0, *sde.alphas_cumprod)
    betas = [1.0 - after / before for before, after in pairwise(table)]
    return {"num_train_timesteps": sde.n, "trained_betas": betas, "prediction_type": "epsilon"}


def _table_grid(cls: Any, cell: Cell, sde: Any, steps: int) -> tuple[Options, Options]:
    name, known = grid_name(cell), _parameters(cls.__init__)
    option, value = NAMED.get(name, ("", None))
    if name == OWN or (option in known and not cell.grid.options):
        return {} if name == OWN else {option: value}, {"num_inference_steps": steps}
    takes, times = _parameters(cls.set_timesteps), times_of(cell, sde, steps)
    if cls.__name__ == "EulerDiscreteScheduler":  # UniPC takes sigmas too, but of flows only
        return {}, {"sigmas": [sde.point(t).rho for t in times]}
    if "timesteps" not in takes:
        named = ", ".join(repr(grid) for grid, (option, _) in NAMED.items() if option in known)
        raise ValueError(
            f"{cell.solver.name!r} cannot be given the grid {cell.grid.label!r}: {cls.__name__} takes neither sigmas "
            f"nor timesteps; it has {named} and {OWN!r}"
        )
    entries = [round(t * sde.n) - 1 for t in times[:-1]]
    if len(set(entries)) < steps or entries[-1] < 0:
        raise ValueError(
            f"the grid {cell.grid.label!r} with {steps} steps is finer than the {sde.n} entries of the table, to which "
            f"{cls.__name__} rounds it"
        )
    return {}, {"timesteps": entries}


def _table_at(sde: Any, rho: float) -> float:
    return sde.t_at_lam(-math.log(rho))


def _table_time(sde: Any, scheduler: Any, i: int) -> float:
    return min((float(scheduler.timesteps[i]) + 1.0) / sde.n, sde.T)


def _noise_of(
    denoiser: BaseDenoiser, scheduler: Any, i: int, scaled: Tensor, x: Tensor, t: float, cond: Mapping[str, Tensor]
) -> Tensor:
    return denoiser.predict(scaled, t, "epsilon", **cond)


# -- EDM --------------------------------------------------------------------------------------------------------------
def _edm_options(sde: Any) -> Options:
    return {"sigma_min": sde.sigma_min, "sigma_max": sde.sigma_max}


def _edm_grid(cls: Any, cell: Cell, sde: Any, steps: int) -> tuple[Options, Options]:
    schedules = {OWN: {}, "karras": {"sigma_schedule": "karras"}, "log-snr": {"sigma_schedule": "exponential"}}
    name = grid_name(cell)
    if name not in schedules or set(cell.grid.keywords) - {"rho"}:
        raise ValueError(
            f"{cell.solver.name!r} runs on the grids 'karras', 'log-snr' and {OWN!r} only, got {cell.grid.label!r}"
        )
    return {**schedules[name], **cell.grid.keywords}, {"num_inference_steps": steps}


def _edm_at(sde: Any, sigma: float) -> float:
    return sigma


def _edm_time(sde: Any, scheduler: Any, i: int) -> float:
    return min(float(scheduler.sigmas[i]), sde.T)


def _undo_edm(
    denoiser: BaseDenoiser, scheduler: Any, i: int, scaled: Tensor, x: Tensor, t: float, cond: Mapping[str, Tensor]
) -> Tensor:
    """The raw output of a preconditioned network, of which the scheduler makes this denoiser's answer."""
    zero, sigma = torch.zeros_like(x), scheduler.sigmas[i]
    c_out = scheduler.precondition_outputs(zero, torch.ones_like(x), sigma)
    x0 = denoiser.predict(x, t, "x0", **cond)
    return (x0 - scheduler.precondition_outputs(x, zero, sigma)) / c_out


# -- flows ------------------------------------------------------------------------------------------------------------
def _flow_options(sde: Any) -> Options:
    return {}


def _flow_grid(cls: Any, cell: Cell, sde: Any, steps: int) -> tuple[Options, Options]:
    made_for_flows = "flow_shift" not in _parameters(cls.__init__)
    shift = "shift" if made_for_flows else "flow_shift"
    options = {} if made_for_flows else {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
    if grid_name(cell) == OWN:
        return {shift: sde.shift, **options}, {"num_inference_steps": steps}
    if "sigmas" not in _parameters(cls.set_timesteps):
        raise ValueError(f"{cell.solver.name!r} runs on the grid {OWN!r} only, got {cell.grid.label!r}")
    return {shift: 1.0, **options}, {"sigmas": np.array([sde.sigma(t) for t in times_of(cell, sde, steps)[:-1]])}


def _flow_at(sde: Any, sigma: float) -> float:
    return sde.t_at_lam(math.log((1.0 - sigma) / sigma)) if sigma < 1.0 else sde.T


def _flow_time(sde: Any, scheduler: Any, i: int) -> float:
    return _flow_at(sde, float(scheduler.timesteps[i]) / scheduler.config.num_train_timesteps)


def _velocity_of(
    denoiser: BaseDenoiser, scheduler: Any, i: int, scaled: Tensor, x: Tensor, t: float, cond: Mapping[str, Tensor]
) -> Tensor:
    return denoiser.predict(x, t, "flow", **cond)


FAMILIES = {
    "discrete-vp": Family(
        "tables such as 'stable-diffusion'", _table_options, _table_grid, _table_at, _table_time, _noise_of
    ),
    "edm": Family("'edm'", _edm_options, _edm_grid, _edm_at, _edm_time, _undo_edm),
    "flow": Family("'flow'", _flow_options, _flow_grid, _flow_at, _flow_time, _velocity_of),
}


def _parameters(function: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(function).parameters)


def _asked(cell: Cell, of_class: list[str], of_step: list[str]) -> Options:
    """The options of the cell's solver, checked."""
    asked = options_of(cell, [name for name in (*of_class, *of_step) if name not in SET_HERE])
    spacing = sorted(SPACING & set(asked))
    if spacing and grid_name(cell) != OWN:
        raise ValueError(f"{spacing[0]!r} decides the spacing: it goes with the grid {OWN!r}, not {cell.grid.label!r}")
    return asked


def _ends(scheduler: Any, sde: Any, family: Family) -> tuple[float, float]:
    """The times at which a scheduler begins and ends, its float32 numbers taken for the process's ends if near."""
    sigmas = getattr(scheduler, "sigmas", None)
    if sigmas is None:
        to_data = scheduler.config.get("set_alpha_to_one", True)
        return family.time(sde, scheduler, 0), 0.0 if to_data else sde.eps
    begin, last = family.at(sde, float(sigmas[0])), float(sigmas[-1])
    end = family.at(sde, last) if last > 0.0 else 0.0
    near = [(begin, sde.T), (end, sde.eps)]
    begin, end = (exact if abs(t - exact) <= SAME * exact else t for t, exact in near)
    return begin, end


# -- the rows ---------------------------------------------------------------------------------------------------------
def _never(options: Options) -> bool:
    return False


def _always(options: Options) -> bool:
    return True


def _sde(options: Options) -> bool:
    return options["algorithm_type"].startswith("sde")


def _if(option: str) -> Callable[[Options], bool]:
    return lambda options: bool(options.get(option))


@dataclass(frozen=True)
class Sampler:
    """One scheduler as a row.

    Attributes:
        name: of its class, without "Scheduler".
        order: of convergence, unless ``solver_order`` says it.
        calls: timesteps of so many steps; each is a call.
        families: the processes that it has a schedule for.
        unscaled: whether its state on a table is x / alpha.
        noisy: whether it draws noise, given its options and those of ``step``.
        options: of the class, where its defaults are not the sampler itself.
        least: steps that it needs.
    """

    name: str
    order: int = 1
    calls: Calls = ONE
    families: tuple[str, ...] = ("discrete-vp",)
    unscaled: bool = False
    noisy: Callable[[Options], bool] = _never
    options: Mapping[str, Any] = field(default_factory=dict)
    least: int = 1

    def __call__(self, cell: Cell, sde: SDE) -> Prepared:
        """The row for a cell; see :data:`scoresde.bench.samplers.Factory`."""
        cls = getattr(PACKAGE.load("diffusers"), f"{self.name}Scheduler")
        self._check(cell, sde)
        family, of_class, of_step = FAMILIES[sde.name], _parameters(cls.__init__), _parameters(cls.step)
        asked = _asked(cell, of_class, of_step)
        spacing, given = family.given(cls, cell, sde, most_steps(cell, self.calls, self.least))
        scheduler = cls(
            **family.options(sde),
            **{name: ENDS[name][cell.end == "eps"] for name in ENDS if name in of_class},
            **self.options,
            **spacing,
            **{name: value for name, value in asked.items() if name in of_class},
        )
        in_step = {name: value for name, value in asked.items() if name not in of_class}
        scheduler.set_timesteps(**given)
        stochastic = self.noisy({**scheduler.config, **in_step})
        times = [family.time(sde, scheduler, i) for i in range(len(scheduler.timesteps))]
        begin, end = _ends(scheduler, sde, family)
        unscaled = self.unscaled and sde.name == "discrete-vp"

        def draw(denoiser: BaseDenoiser, x_T: Tensor, seed: int, first: int, cond: Mapping[str, Tensor]) -> Tensor:
            scheduler.set_timesteps(**given, device=x_T.device)
            if hasattr(scheduler, "set_begin_index"):
                scheduler.set_begin_index(0)
            noises, chance = Noises(x_T, seed, first), generator(x_T, seed, first)
            x = x_T / sde.alpha(begin) if unscaled else x_T
            for i, (timestep, t) in enumerate(zip(scheduler.timesteps, times, strict=True)):
                scaled = scheduler.scale_model_input(x, timestep) if hasattr(scheduler, "scale_model_input") else x
                output = family.answer(denoiser, scheduler, i, scaled, x, t, cond)
                noise: Options = {}
                if stochastic:
                    noise = {"variance_noise": noises()} if "variance_noise" in of_step else {"generator": chance}
                x = scheduler.step(output, timestep, x, return_dict=False, **in_step, **noise)[0]
            return x * sde.alpha(end) if unscaled else x

        order = scheduler.config.get("solver_order", self.order)
        return Prepared(len(times), stochastic, order, begin, end, draw, package=PACKAGE.label)

    def _check(self, cell: Cell, sde: SDE) -> None:
        if sde.name not in self.families:
            named = " and ".join(FAMILIES[family].named for family in self.families)
            raise ValueError(f"{cell.solver.name!r} has no schedule for {cell.sde.label!r}; it has one for {named}")
        if sde.name == "discrete-vp" and sde.alpha(sde.T) == 0.0:
            raise ValueError(f"{cell.solver.name!r} asks for the noise, which says nothing where alpha = 0")
        if cell.end not in ("zero", "eps"):
            raise ValueError(f"{cell.solver.name!r} ends at 'zero' or 'eps', got end={cell.end!r}")


_TABLE_OR_FLOW = ("discrete-vp", "flow")
_UNCLIPPED = {"clip_sample": False}

# To add a scheduler: a line.
ROWS = {
    "DDIM": Sampler("DDIM", noisy=_if("eta"), options=_UNCLIPPED),
    "DDPM": Sampler("DDPM", noisy=_always, options=_UNCLIPPED),
    "PNDM": Sampler("PNDM", 2, lambda steps: steps + 1, options={"skip_prk_steps": True}, least=2),
    "Euler": Sampler("EulerDiscrete", unscaled=True, noisy=_if("s_churn")),
    "EulerAncestral": Sampler("EulerAncestralDiscrete", unscaled=True, noisy=_always),
    "Heun": Sampler("HeunDiscrete", 2, each(2, last=1), unscaled=True),
    "KDPM2": Sampler("KDPM2Discrete", 2, each(2, last=1), unscaled=True),
    "KDPM2Ancestral": Sampler("KDPM2AncestralDiscrete", 2, each(2, last=1), unscaled=True, noisy=_always),
    "LMS": Sampler("LMSDiscrete", 4, unscaled=True),
    "DPMSolverMultistep": Sampler("DPMSolverMultistep", 2, families=_TABLE_OR_FLOW, noisy=_sde),
    "DPMSolverSinglestep": Sampler(
        "DPMSolverSinglestep", 2, families=_TABLE_OR_FLOW, noisy=_sde, options={"lower_order_final": True}
    ),
    "UniPC": Sampler("UniPCMultistep", 2, families=_TABLE_OR_FLOW),
    # Of a flow these two repeat the last positive sigma in place of 0: they never arrive.
    "DEIS": Sampler("DEISMultistep", 2),
    "SASolver": Sampler("SASolver", 2, noisy=_always),
    "EDMEuler": Sampler("EDMEuler", families=("edm",), noisy=_if("s_churn")),
    "EDMDPMSolverMultistep": Sampler("EDMDPMSolverMultistep", 2, families=("edm",), noisy=_sde),
    "FlowMatchEuler": Sampler("FlowMatchEulerDiscrete", families=("flow",), noisy=_if("stochastic_sampling")),
    "FlowMatchHeun": Sampler("FlowMatchHeunDiscrete", 2, each(2, last=1), families=("flow",)),
}
SAMPLERS: Mapping[str, Factory] = {f"diffusers/{name}": row for name, row in ROWS.items()}
