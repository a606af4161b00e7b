"""The nodes: a sampler, a schedule, and a schedule for a budget of calls."""

from __future__ import annotations

import json
import math
from typing import Any

from torch import Tensor

import scoresde
from scoresde.catalogue import TABLE, get_solver

from .sampling import sample_scoresde, settings_of
from .schedules import fill_budget, schedule

OWN_ETA = -1.0  # no solver has it: stands for the solver's own
OPTIONS = (
    "STRING",
    {"default": "", "multiline": False, "tooltip": 'Further options as JSON, for example {"rho": 5}. Empty for none.'},
)
GRID_INPUTS = {
    "grid": (scoresde.grids(), {"default": "karras", "tooltip": "The spacing of the noise levels."}),
    "denoise": (
        "FLOAT",
        {"default": 1.0, "min": 0.0, "max": 1.0, "step": 0.01, "tooltip": "Below 1: image to image."},
    ),
}
GRID_OPTIONS = {
    "shift": (
        "FLOAT",
        {
            **{"default": 1.0, "min": 0.01, "max": 100.0, "step": 0.01},
            "tooltip": "A further flow shift, above 1 towards noise. 1 leaves the model's own.",
        },
    ),
    "options": OPTIONS,
}


def read_options(text: str) -> dict[str, Any]:
    """Options from a text field.

    Raises:
        ValueError: not a JSON object.
    """
    if not text.strip():
        return {}
    try:
        options = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f'options must be JSON such as {{"eta": 0.5}}, got {text!r}: {error}') from error
    if not isinstance(options, dict):
        raise ValueError(f'options must be a JSON object such as {{"eta": 0.5}}, got {text!r}')
    return options


class ScoresdeSampler:
    """A solver of the catalogue as a SAMPLER."""

    DESCRIPTION = "Any solver of scoresde, right for eps, v, EDM and flow models."
    CATEGORY = "sampling/custom_sampling/samplers"
    RETURN_TYPES = ("SAMPLER",)
    FUNCTION = "get_sampler"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, Any]]:
        """The widgets."""
        return {
            "required": {
                "solver": (list(TABLE), {"default": "dpmpp-2m", "tooltip": "scoresde solvers lists what each is."}),
                "noise": (
                    ["independent", "path"],
                    {"tooltip": "path: one Brownian path a sample, the same for any number of steps and for stages."},
                ),
                "limit_steps": (
                    "BOOLEAN",
                    {"default": True, "tooltip": "Lower the order of steps that are too long. Off: the textbook's."},
                ),
            },
            "optional": {
                "eta": (
                    "FLOAT",
                    {
                        **{"default": OWN_ETA, "min": OWN_ETA, "max": 100.0, "step": 0.01},
                        "tooltip": "Share of fresh noise, of solvers that have it. -1: the solver's own.",
                    },
                ),
                "options": OPTIONS,
            },
        }

    def get_sampler(
        self, solver: str, noise: str, limit_steps: bool, eta: float = OWN_ETA, options: str = ""
    ) -> tuple[Any]:
        """The SAMPLER; ValueError for an option that the solver does not have."""
        from comfy.samplers import KSAMPLER  # pyright: ignore[reportMissingImports]

        chosen = read_options(options) | ({} if eta == OWN_ETA else {"eta": eta})
        most_gain = None if limit_steps else math.inf
        settings = {"solver": get_solver(solver, **chosen), "noise": noise, "most_gain": most_gain}
        return (KSAMPLER(sample_scoresde, settings),)


class ScoresdeScheduler:
    """A grid of the catalogue as SIGMAS."""

    DESCRIPTION = "Any grid of scoresde on the model's own noise levels."
    CATEGORY = "sampling/custom_sampling/schedulers"
    RETURN_TYPES = ("SIGMAS",)
    FUNCTION = "get_sigmas"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, Any]]:
        """The widgets."""
        steps = ("INT", {"default": 20, "min": 1, "max": 10000})
        return {"required": {"model": ("MODEL",), "steps": steps, **GRID_INPUTS}, "optional": GRID_OPTIONS}

    def get_sigmas(
        self, model: Any, steps: int, grid: str, denoise: float, shift: float = 1.0, options: str = ""
    ) -> tuple[Tensor]:
        """The SIGMAS; ValueError for an option that the grid does not have."""
        model_sampling = model.get_model_object("model_sampling")
        return (schedule(model_sampling, steps, grid, denoise=denoise, shift=shift, **read_options(options)),)


class ScoresdeBudget:
    """SIGMAS with the most steps whose calls of the network fit a budget."""

    DESCRIPTION = (
        "As many steps as fit a number of calls of the network, for samplers that take several a step. "
        "Connect the sampler that comes out, which may be a variant that fills the budget better."
    )
    CATEGORY = "sampling/custom_sampling/schedulers"
    RETURN_TYPES = ("SAMPLER", "SIGMAS", "INT", "INT")
    RETURN_NAMES = ("sampler", "sigmas", "steps", "calls")
    FUNCTION = "get_sigmas"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, Any]]:
        """The widgets."""
        calls = ("INT", {"default": 20, "min": 1, "max": 10000, "tooltip": "The most calls of the network."})
        required = {"model": ("MODEL",), "sampler": ("SAMPLER",), "calls": calls, **GRID_INPUTS}
        return {"required": required, "optional": GRID_OPTIONS}

    def get_sigmas(
        self, model: Any, sampler: Any, calls: int, grid: str, denoise: float, shift: float = 1.0, options: str = ""
    ) -> tuple[Any, Tensor, int, int]:
        """(sampler, sigmas, steps, calls); ValueError for a sampler that is not of scoresde, or too small a budget."""
        from comfy.samplers import KSAMPLER  # pyright: ignore[reportMissingImports]

        settings = settings_of(sampler)
        solver, sigmas, plan = fill_budget(
            *(model.get_model_object("model_sampling"), calls, settings["solver"], grid),
            denoise=denoise,
            shift=shift,
            most_gain=settings.get("most_gain"),
            **read_options(options),
        )
        return KSAMPLER(sample_scoresde, {**settings, "solver": solver}), sigmas, len(sigmas) - 1, plan.nfe


NODE_CLASS_MAPPINGS = {
    "ScoresdeSampler": ScoresdeSampler,
    "ScoresdeScheduler": ScoresdeScheduler,
    "ScoresdeBudget": ScoresdeBudget,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "ScoresdeSampler": "scoresde Sampler",
    "ScoresdeScheduler": "scoresde Scheduler",
    "ScoresdeBudget": "scoresde Scheduler (budget)",
}
