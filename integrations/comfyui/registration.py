"""Every solver and grid in ComfyUI's own lists, so that the stock nodes (KSampler, BasicScheduler, ...) offer them."""

from __future__ import annotations

from functools import partial

from scoresde.catalogue import TABLE
from scoresde.grids import GRIDS

from .sampling import sample_scoresde
from .schedules import schedule

PREFIX = "scoresde_"


def listed_name(name: str) -> str:
    """The name in ComfyUI's lists: scoresde_dpmpp_2m for dpmpp-2m."""
    return PREFIX + name.replace("-", "_")


def register() -> None:
    """Add all names; those that are there already are replaced, so a second call changes nothing.

    A stock node finds a sampler "x" as the function ``sample_x`` of comfy.k_diffusion.sampling, and a scheduler in
    ``SCHEDULER_HANDLERS``; what the nodes offer are the lists of names.
    """
    from comfy import samplers  # pyright: ignore[reportMissingImports]
    from comfy.k_diffusion import sampling  # pyright: ignore[reportMissingImports]

    if not hasattr(samplers, "SCHEDULER_HANDLERS"):
        raise ImportError(
            "scoresde needs a ComfyUI with comfy.samplers.SCHEDULER_HANDLERS (0.3.18 or newer): update it"
        )
    for solver in TABLE:
        setattr(sampling, f"sample_{listed_name(solver)}", partial(sample_scoresde, solver=solver))
    for grid in GRIDS:
        samplers.SCHEDULER_HANDLERS[listed_name(grid)] = samplers.SchedulerHandler(partial(schedule, grid=grid))
    # The stock nodes hold the lists themselves, some under other names: they are extended in place.
    for lists, names in (
        ((samplers.SAMPLER_NAMES, samplers.KSampler.SAMPLERS), TABLE),
        ((samplers.SCHEDULER_NAMES, samplers.KSampler.SCHEDULERS), GRIDS),
    ):
        for listed in lists:
            listed += [name for name in map(listed_name, names) if name not in listed]
