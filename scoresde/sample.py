"""Sampling: the loop that asks a denoiser what a run wants to know, with progress, callback and trajectory."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, overload

import torch
from torch import Tensor

from scoresde.adaptive import LazyPlan, LazySolver
from scoresde.catalogue import get_solver, split_name
from scoresde.denoiser import BaseDenoiser
from scoresde.errors import check_positive_int
from scoresde.grids import GridFunction, get_grid
from scoresde.noise import normal
from scoresde.plan import Plan
from scoresde.plan import make_plan as make_fixed_plan
from scoresde.rows import Solver
from scoresde.run import Stepping
from scoresde.sde import SDE
from scoresde.sources import Noise

EVERY_COUNT_TO = 32  # network evaluations: up to this budget every number of steps is tried
AnySolver = str | Solver | LazySolver
AnyGrid = str | GridFunction | Sequence[float]


class Trajectory(NamedTuple):
    """What ``sample(..., trajectory=True)`` gives.

    Attributes:
        sample: the result, (B, ...).
        times: the time of every evaluation, and of the sample at the end.
        states: the state at each of these times, (len(times), B, ...).
    """

    sample: Tensor
    times: tuple[float, ...]
    states: Tensor


@overload
def make_plan(solver: LazySolver, sde: SDE, grid: Sequence[float], *, most_gain: float = math.inf) -> LazyPlan: ...
@overload
def make_plan(solver: str | Solver, sde: SDE, grid: Sequence[float], *, most_gain: float = math.inf) -> Plan: ...
def make_plan(solver: AnySolver, sde: SDE, grid: Sequence[float], *, most_gain: float = math.inf) -> Plan | LazyPlan:
    """Plan a solver (or its name) on a process and a grid of strictly decreasing times.

    Args:
        solver, sde: a solver or a name, and the process.
        grid: strictly decreasing times of the process.
        most_gain: steps that amplify more than this are taken with a lower order (see :class:`scoresde.Solver`); by
            default none is: every step is the textbook's, however long. :func:`plan_for` and :func:`sample` take the
            solver's own limit.

    Raises:
        ValueError: an unknown solver, or a grid that is not strictly decreasing times of the process.
    """
    solver = get_solver(solver) if isinstance(solver, str) else solver
    if isinstance(solver, LazySolver):
        return solver.plan(sde, grid)
    return make_fixed_plan(solver, sde, grid, most_gain=most_gain)


@overload
def plan_for(
    solver: LazySolver,
    sde: SDE,
    *,
    steps: int | None = None,
    nfe: int | None = None,
    grid: AnyGrid | None = None,
    end: str | float = "zero",
    most_gain: float | None = None,
) -> LazyPlan: ...
@overload
def plan_for(
    solver: str | Solver,
    sde: SDE,
    *,
    steps: int | None = None,
    nfe: int | None = None,
    grid: AnyGrid | None = None,
    end: str | float = "zero",
    most_gain: float | None = None,
) -> Plan: ...
def plan_for(
    solver: AnySolver,
    sde: SDE,
    *,
    steps: int | None = None,
    nfe: int | None = None,
    grid: AnyGrid | None = None,
    end: str | float = "zero",
    most_gain: float | None = None,
) -> Plan | LazyPlan:
    """Plan a solver for a number of steps, or for a budget of network evaluations.

    Args:
        solver: a solver, or a name; a name may carry a grid ("DPM++ 2M Karras").
        sde: the process.
        steps: number of steps.
        nfe: in place of steps, a budget: the step count is the largest whose evaluations fit.
        grid: a name, a function or your own times; by default the one in the solver's name, else "log-snr".
        end: "zero", "eps" or a time (see :func:`scoresde.get_grid`).
        most_gain: steps that amplify more than this are taken with a lower order; by default the solver's ``most_gain``
            (see :class:`scoresde.Solver`); math.inf for the textbook's steps, however long.

    Raises:
        ValueError: both or neither of steps and nfe (your own times need neither), or a budget below what one step
            costs.
    """
    if isinstance(solver, str):
        name, named_grid = split_name(solver)
        if named_grid is not None and grid is not None:
            raise ValueError(f"grid={grid!r}: solver={solver!r} names a grid already")
        solver, grid = get_solver(name), grid if named_grid is None else named_grid
    grid = "log-snr" if grid is None else grid
    own_times = not isinstance(grid, str) and not callable(grid)
    if steps is not None and nfe is not None:
        raise ValueError(f"pass steps or nfe, not both; got steps={steps}, nfe={nfe}")
    if own_times and nfe is not None:
        raise ValueError(f"nfe={nfe}: your own grid has its number of steps already; leave nfe out")
    if isinstance(solver, LazySolver):
        if nfe is not None:
            instead = "pass steps" if solver.follows_grid else "it is adaptive and chooses its evaluations itself"
            raise ValueError(f"nfe={nfe}: {solver.name} fills no budget; {instead}")
        if steps is None and not own_times and solver.follows_grid:
            raise ValueError(f"pass steps (grid intervals): {solver.name} takes the steps of its grid")
        return make_plan(solver, sde, get_grid(grid, sde, None if own_times else steps or 1, end=end))
    limit: float = getattr(solver, "most_gain", math.inf) if most_gain is None else most_gain
    if own_times or steps is not None:
        return make_plan(solver, sde, get_grid(grid, sde, steps, end=end), most_gain=limit)
    if nfe is None:
        raise ValueError("pass steps (grid intervals) or nfe (a budget of network evaluations)")
    return fill_budget(
        solver,
        sde,
        check_positive_int(nfe, "nfe"),
        lambda steps: get_grid(grid, sde, steps, end=end),
        to_data=end in ("zero", 0.0),
        most_gain=limit,
    )


def fill_budget(
    solver: Solver,
    sde: SDE,
    nfe: int,
    times: Callable[[int], Sequence[float]],
    *,
    to_data: bool = True,
    most_gain: float = math.inf,
) -> Plan:
    """The plan with the most steps whose evaluations fit the budget.

    Evaluations need not grow with the steps: a step that is too long for a method costs one, and so can two long steps
    less than one that is not. So the search goes down from the most steps there could be (one evaluation each), and
    leaves out counts for large budgets only: half of those that the excess over the budget is worth.

    Args:
        solver, sde: the solver and the process.
        nfe: the budget of network evaluations.
        times: the grid for a number of steps, ``times(steps) -> steps + 1 times``.
        to_data: whether the grid ends at exactly 0.
        most_gain: see :func:`make_plan`.

    Raises:
        ValueError: not even one step fits.
    """
    solver = solver.for_budget(nfe, to_data=to_data)
    steps, least = nfe + max(0, -solver.further_evaluations), nfe + 1
    while steps >= 1:
        plan = make_fixed_plan(solver, sde, times(steps), most_gain=most_gain)
        if plan.nfe <= nfe:
            return plan
        least = plan.nfe
        excess = plan.nfe - nfe - solver.further_evaluations if nfe > EVERY_COUNT_TO else 0
        steps -= max(1, excess // (2 * solver.evaluations))
    raise ValueError(f"nfe={nfe} is too small for {solver.name}, which needs at least {least}")


def sample(
    denoiser: BaseDenoiser,
    shape: Sequence[int],
    *,
    solver: AnySolver = "dpmpp-2m",
    steps: int | None = None,
    nfe: int | None = None,
    grid: AnyGrid | None = None,
    end: str | float = "zero",
    seed: int = 0,
    index: int = 0,
    chunk: int | None = None,
    x_T: Tensor | None = None,
    noise: Noise = "independent",
    dtype: torch.dtype | None = None,
    device: str | torch.device | None = None,
    cond: Mapping[str, Any] | None = None,
    progress: bool = False,
    callback: Callable[[Stepping], None] | None = None,
    trajectory: bool = False,
    check: str = "end",
    most_gain: float | None = None,
) -> Any:
    """Draw samples.

    Sample b is a function of (seed, index + b), whatever the batch; networks round a little differently in batches of
    different size, so pass ``chunk`` for bitwise equality: samples are then drawn in fixed chunks of that many indices.

    Args:
        denoiser: of :class:`scoresde.Denoiser`, or anything that is one.
        shape: (batch, ...) of the samples.
        solver: a solver or a name ("dpmpp-2m", "DPM++ 2M Karras"); see :func:`scoresde.solvers`.
        steps, nfe: the number of steps, or a budget of network evaluations (the largest step count that fits).
        grid: a name of :func:`scoresde.grids`, a function, or your own times; "log-snr" by default.
        end: "zero" ends at the data, "eps" at sde.eps, or a time.
        seed, index: the seed, and the index of the first sample.
        chunk: draw in global chunks of this many indices; needs x_T and the noise to be drawn here.
        x_T: the noisy start (B, ...), at the noise level of the grid's first time; by default drawn from the prior.
        noise: of a stochastic solver: "independent" draws, or "path" for one Brownian path a sample whatever the number
            of steps; or your own, a function of k or a path (see :meth:`scoresde.Plan.start`).
        dtype, device: of the state; by default float32 on the CPU, or x_T's.
        cond: keyword arguments of the network. A tensor whose first dimension is the batch goes with its sample.
        progress: show a progress bar (needs rich).
        callback: called with the run before each evaluation.
        trajectory: return a :class:`Trajectory` instead of the samples.
        check: report non-finite predictions at the "end", at "each" evaluation, or "off".
        most_gain: what a step may amplify, as of :func:`plan_for`; math.inf for the textbook's steps, however long.

    Returns:
        Samples of the shape, or a Trajectory.

    Raises:
        ValueError, TypeError: before any work, naming the argument; or non-finite predictions, naming the step and
            time.
    """
    if not isinstance(denoiser, BaseDenoiser):
        raise TypeError(
            f"denoiser must be a scoresde.Denoiser (wrap your network in one), got {type(denoiser).__name__}"
        )
    shape = _check_shape(shape)
    if dtype is not None and not dtype.is_floating_point:
        raise TypeError(f"dtype must be a floating-point dtype, got {dtype}")
    if x_T is not None and tuple(x_T.shape) != shape:
        raise ValueError(f"x_T must have the shape {shape}, got {tuple(x_T.shape)}")
    if x_T is not None and chunk is not None:
        raise ValueError("chunk needs x_T to be drawn here: pass one of the two")
    if not isinstance(noise, str) and chunk is not None:
        raise ValueError("chunk needs the noise to be drawn here: pass one of the two, or noise='path'")
    plan = plan_for(solver, denoiser.sde, steps=steps, nfe=nfe, grid=grid, end=end, most_gain=most_gain)
    own_noise = {} if noise == "independent" else {"noise": noise}
    if isinstance(plan, LazyPlan) and (noise == "path" or hasattr(noise, "increment")):
        raise ValueError(f"noise={noise!r}: {plan.solver} follows no path; pass a function of k, or leave noise out")
    size = shape[0] if chunk is None else check_positive_int(chunk, "chunk")
    first = index if chunk is None else index - index % size
    cond = dict(cond or {})
    parts = []
    with torch.no_grad():
        for start in range(first, index + shape[0], size):
            wanted = range(max(start, index), min(start + size, index + shape[0]))
            if x_T is None:
                std = denoiser.sde.prior_std(plan.begin.t)
                z = normal((size, *shape[1:]), seed, start, dtype=dtype or torch.float32, device=device)
                start_x = z * std
            else:
                start_x = x_T.to(device=device, dtype=dtype)
            run = plan.start(start_x, seed, start, check=check, **own_noise)
            rows = [min(max(i, index), index + shape[0] - 1) - index for i in range(start, start + size)]
            part = _drive(run, denoiser, _rows_of(cond, rows, shape[0]), plan, progress, callback, trajectory)
            parts.append(
                tuple(
                    p[..., wanted.start - start : wanted.stop - start, *(slice(None),) * (len(shape) - 1)]
                    for p in part[:2]
                )
            )
            times = part[2]
    result = torch.cat([p[0] for p in parts])
    if not trajectory:
        return result
    return Trajectory(result, times, torch.cat([p[1] for p in parts], dim=1))


def _drive(
    run: Stepping,
    denoiser: BaseDenoiser,
    cond: dict[str, Any],
    plan: Plan | LazyPlan,
    progress: bool,
    callback: Callable[[Stepping], None] | None,
    trajectory: bool,
) -> tuple[Tensor, Tensor, tuple[float, ...]]:
    """The loop: ask, evaluate, tell."""
    states, times = [], []
    with _Progress(progress, plan) as advance:
        while not run.done:
            if callback is not None:
                callback(run)
            x, t = run.x, run.t
            if trajectory:
                states.append(x.clone())
                times.append(t)
            run.tell(*denoiser.evaluate(x, t, **cond))
            advance()
    result = run.sample
    if not trajectory:
        return result, result[None], ()
    end = plan.end.t if isinstance(plan, Plan) else plan.grid[-1]
    return result, torch.stack([*states, result]), (*times, end)


class _Progress:
    """A rich progress bar over the evaluations, or nothing."""

    def __init__(self, show: bool, plan: Plan | LazyPlan) -> None:
        self._bar = None
        if show:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns)
            self._task = self._bar.add_task(plan.solver, total=plan.nfe if isinstance(plan, Plan) else None)

    def __enter__(self) -> Callable[[], None]:
        if self._bar is None:
            return lambda: None
        self._bar.start()
        bar, task = self._bar, self._task
        return lambda: bar.advance(task)

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()


def _check_shape(shape: Sequence[int]) -> tuple[int, ...]:
    ints = all(isinstance(n, int) and not isinstance(n, bool) and n >= 1 for n in shape)
    if not ints or len(shape) < 2:
        raise ValueError(
            f"shape must be (batch, ...) of positive ints with at least two dimensions, got {tuple(shape)}"
        )
    return tuple(shape)


def _rows_of(cond: dict[str, Any], rows: Sequence[int], batch: int) -> dict[str, Any]:
    """The conditions of these samples: a tensor with the batch as its first dimension is indexed."""

    def pick(value: Any) -> Any:
        if isinstance(value, Tensor) and value.ndim and value.shape[0] == batch:
            return value[torch.tensor(rows, device=value.device)]
        return value

    return {name: pick(value) for name, value in cond.items()}
