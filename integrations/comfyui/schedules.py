"""scoresde's grids as ComfyUI's schedules: sigmas on the model's own range, ending in 0."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from scoresde import LazySolver, Plan, Solver, get_grid
from scoresde.errors import check_positive_int
from scoresde.grids import Entry, grid_with
from scoresde.sample import fill_budget as fit_budget

from .levels import Levels


def times_for(levels: Levels, grid: Entry, steps: int, denoise: float = 1.0) -> tuple[float, ...]:
    """The last ``steps`` steps of a grid of ``int(steps / denoise)``, as ComfyUI takes them for image to image."""
    total = steps if denoise > 0.9999 else int(steps / denoise)
    (start,) = levels.times([levels.most])
    return get_grid(grid, levels.sde, total, start=start)[-(steps + 1) :]


def sigmas_at(levels: Levels, times: tuple[float, ...]) -> Tensor:
    """The sigmas at these times, of which those that are one in float32 count once, as in ComfyUI's own schedules."""
    return levels.sigmas(times).unique_consecutive()


def schedule(
    model_sampling: Any, steps: int, grid: str, *, denoise: float = 1.0, shift: float = 1.0, **options: float
) -> Tensor:
    """The sigmas of a grid.

    Args:
        model_sampling: of the model.
        steps: number of steps.
        grid: a name of :func:`scoresde.grids`.
        denoise: in [0, 1]; below 1, the last steps of a grid that is as many times longer.
        shift: a further flow shift, of eps models too (:mod:`scoresde.grids.shift`); 1 for that of the model.
        options: options of that grid, such as rho of "karras".

    Returns:
        steps + 1 sigmas, float32 on the CPU, falling from the model's largest (if denoise is 1) to 0; fewer where some
        are one in float32. None at all if denoise is 0, which tells ComfyUI to leave the image as it is.

    Raises:
        ValueError: an unknown grid or option, or steps below 1.
    """
    check_positive_int(steps, "steps")
    if not 0.0 <= denoise <= 1.0:
        raise ValueError(f"denoise must be between 0 and 1, got {denoise}")
    if denoise == 0.0:
        return torch.zeros(0)
    levels = Levels.of(model_sampling)
    return sigmas_at(levels, times_for(levels, grid_with(grid, shift=shift, **options), steps, denoise))


def fill_budget(
    model_sampling: Any,
    nfe: int,
    solver: Solver | LazySolver,
    grid: str,
    *,
    denoise: float = 1.0,
    shift: float = 1.0,
    most_gain: float | None = None,
    **options: float,
) -> tuple[Solver, Tensor, Plan]:
    """The schedule with the most steps whose calls of the network fit a budget.

    Args:
        model_sampling, grid, denoise, shift, options: as of :func:`schedule`, but denoise above 0.
        nfe: the most calls (each a batch of the prompt and the negative prompt).
        solver: a fixed-step solver.
        most_gain: as of :func:`scoresde.plan_for`.

    Returns:
        The solver (or its variant that fills the budget best), the sigmas, and the plan.

    Raises:
        ValueError: a budget below what one step costs, or an adaptive solver, which fills none.
    """
    if not 0.0 < denoise <= 1.0:
        raise ValueError(f"denoise must be above 0 and at most 1, got {denoise}")
    if not isinstance(solver, Solver):
        raise ValueError(
            f"{solver.name} fills no budget of calls: it chooses them itself, or takes the steps it is given"
        )
    levels = Levels.of(model_sampling)
    entry = grid_with(grid, shift=shift, **options)
    made: tuple[float, ...] = ()

    def times(steps: int) -> tuple[float, ...]:
        nonlocal made  # that of the plan, when the search ends
        made = times_for(levels, entry, steps, denoise)
        return made

    solver = solver.for_budget(check_positive_int(nfe, "nfe"), to_data=True)
    limit = solver.most_gain if most_gain is None else most_gain
    plan = fit_budget(solver, levels.sde, nfe, times, most_gain=limit)
    return solver, sigmas_at(levels, made), plan
