"""One cell: draw its samples with every network call counted and timed, and measure them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scoresde import metrics, noise
from scoresde.bench.problems import Problem
from scoresde.bench.suite import Cell, Choice, config_hash
from scoresde.catalogue import get_solver
from scoresde.denoiser import BaseDenoiser
from scoresde.errors import choose
from scoresde.grids import NAMES as GRID_NAMES
from scoresde.grids import GridFunction, grid_with
from scoresde.plan import Plan
from scoresde.sample import plan_for
from scoresde.sde import SDE, sde_from_config

DTYPES = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
Plain = dict[str, Any]  # value, low, high, se, n: float; left: list of floats


def _frechet(problem: Problem, samples: Tensor, data: Tensor) -> metrics.Estimate:
    exact = problem.exact_moments()
    return metrics.frechet(samples, data if exact is None else metrics.FrechetStats.exact(*exact))


def _kid(problem: Problem, samples: Tensor, data: Tensor) -> metrics.Estimate:
    return metrics.kid(samples, data)


def _energy(problem: Problem, samples: Tensor, data: Tensor) -> metrics.Estimate:
    return metrics.energy_distance(samples, data)


def _sliced(problem: Problem, samples: Tensor, data: Tensor) -> metrics.Estimate:
    return metrics.sliced_wasserstein(samples, data, projections=16)


# Metrics between features of samples and of data, and between samples and data as they are.
Rule = Callable[[Problem, Tensor, Tensor], metrics.Estimate]
OF_FEATURES: dict[str, Rule] = {"frechet_data": _frechet, "kid_data": _kid}
OF_SAMPLES: dict[str, Rule] = {"energy_data": _energy, "sliced_w2_data": _sliced}


class CountingDenoiser(BaseDenoiser):
    """A denoiser that counts and times the calls of the one inside, and changes nothing else."""

    def __init__(self, inner: BaseDenoiser) -> None:
        self.inner, self.sde = inner, inner.sde
        self.calls = 0
        self.seconds = 0.0

    def __call__(self, x: Tensor, t: float | Tensor, **cond: Any) -> Tensor:
        """The inner denoiser's answer; see :class:`scoresde.denoiser.BaseDenoiser`."""
        return self.predict(x, t, "x0", **cond)

    def predict(self, x: Tensor, t: float | Tensor, kind: str = "x0", **cond: Any) -> Tensor:
        """Likewise for any kind of prediction."""
        start = _clock(x)
        out = self.inner.predict(x, t, kind, **cond)
        self.calls += 1
        self.seconds += _clock(x) - start
        return out


@dataclass(frozen=True)
class Drawn:
    """Samples of one plan (on the CPU) and what they cost: calls counted, seconds in all and inside the network."""

    samples: Tensor
    calls: int
    seconds: float
    network_seconds: float


@dataclass(frozen=True)
class Reference:
    """Converged solutions for the noise of one seed: ``samples`` (N, *shape) on the CPU, and their own ``error``.

    ``picture`` and ``data`` are what the report draws of them and of real data; empty where there is nothing to draw.
    """

    key: str
    samples: Tensor
    error: float
    picture: np.ndarray
    data: np.ndarray


def make_sde(cell: Cell) -> SDE:
    """The cell's process. Raises ValueError for an unknown name or option."""
    try:
        return sde_from_config({"name": cell.sde.name, **cell.sde.keywords})
    except TypeError as error:
        raise ValueError(f"sde {cell.sde.label!r}: {error}") from error


def make_plan(cell: Cell, sde: SDE) -> Plan:
    """The cell's solver on its grid, with as many steps as its budget holds.

    Raises ValueError for unknown names or options, a budget below what one step costs, or a solver without fixed steps.
    """
    solver = get_solver(cell.solver.name, **cell.solver.keywords)
    plan = plan_for(solver, sde, nfe=cell.nfe, grid=_grid(cell.grid), end=cell.end)
    if not isinstance(plan, Plan):
        raise ValueError(f"solver {cell.solver.label!r} is adaptive: it has no budget, so it cannot be a cell")
    return plan


def _grid(grid: Choice) -> str | GridFunction:
    """What :func:`scoresde.sample.plan_for` takes: the name, or the grid with its options filled in."""
    choose(grid.name, GRID_NAMES, "grid")
    options: dict[str, Any] = grid.keywords
    return grid_with(grid.name, **options) if options else grid.name


def solver_order(cell: Cell) -> int | None:
    """The order of convergence that the cell's solver declares (weak order if it draws noise), if it does."""
    solver = get_solver(cell.solver.name, **cell.solver.keywords)
    return getattr(solver, "converges", getattr(solver, "order", None))


def draw(denoiser: BaseDenoiser, plan: Plan, x_T: Tensor, seed: int, cond: Mapping[str, Tensor]) -> Drawn:
    """Run the plan from ``x_T`` (B, ...), sample b of index b; every call of the denoiser is counted and timed.

    Raises ValueError when a prediction is not finite.
    """
    counting = CountingDenoiser(denoiser)
    with torch.inference_mode():
        start = _clock(x_T)
        run = plan.start(x_T, seed=seed)
        while not run.done:
            kind = run.kind
            run.tell(counting.predict(run.x, run.t, kind, **cond), kind)
        samples = run.sample
        seconds = _clock(x_T) - start
    return Drawn(samples.cpu().clone(), counting.calls, seconds, counting.seconds)


def initial_state(cell: Cell, problem: Problem, plan: Plan, sde: SDE) -> Tensor:
    """x_T of the cell: a function of (seed, sample index) and the process, so that all solvers start at the same
    noise.
    """
    shape = (cell.samples, *problem.shape)
    dtype = choose(cell.dtype, DTYPES, "dtype")
    return noise.normal(shape, cell.seed, 0, dtype=dtype, device=cell.device) * sde.prior_std(plan.begin.t)


def reference_key(cell: Cell, problem: Problem, plan: Plan) -> str:
    """What a reference depends on, hashed: cells that differ in solver or budget only share one."""
    shared = {key: value for key, value in cell.config.items() if key not in ("solver", "nfe", "grid")}
    facts = {**shared, "begin": plan.begin.t, "end": plan.end.t, "fingerprint": problem.fingerprint}
    return f"{cell.target.name}-{cell.sde.name}-seed{cell.seed}-{config_hash(facts)[:16]}"


def make_reference(cell: Cell, problem: Problem, plan: Plan, sde: SDE, key: str) -> Reference:
    """Solve to convergence from the cell's noise."""
    x_T, ends = initial_state(cell, problem, plan, sde), (plan.begin.t, plan.end.t)
    samples = problem.converged(sde, x_T, *ends)
    error = problem.converged_error(sde, x_T, *ends, samples)
    samples = samples.cpu()
    nothing = np.zeros(0)
    picture, data = problem.picture(samples), problem.picture(problem.shown_data)
    return Reference(key, samples, error, nothing if picture is None else picture, nothing if data is None else data)


def floors(problem: Problem, count: int, seeds: int) -> dict[str, Plain]:
    """The bands in which the metrics to data fall for real data itself, in sets as large as the samples' (or half of
    all data).
    """
    real = torch.cat([problem.data, problem.other_data])
    features = problem.features(real)
    found = {}
    for name in (*problem.metrics, *problem.pooled):
        size = min(count * (seeds if name in problem.pooled else 1), len(real) // 2)
        if name in OF_FEATURES:
            found[name] = _plain(name, metrics.floor_band(features, partial(OF_FEATURES[name], problem), size=size))
        elif name in OF_SAMPLES:
            found[name] = _plain(name, metrics.floor_band(real, partial(OF_SAMPLES[name], problem), size=size))
    return found


def measure(problem: Problem, drawn: Drawn, reference: Reference, plan: Plan, prior_std: float) -> dict[str, Plain]:
    """Every metric of the cell, as plain estimates.

    Raises ValueError if one is not finite.
    """
    samples, converged = drawn.samples.double(), reference.samples.double()
    features = problem.features(samples)
    found: dict[str, Plain] = {}
    for name in problem.metrics:
        if name in OF_FEATURES:
            found[name] = _plain(name, OF_FEATURES[name](problem, features, problem.data_features))
        elif name in OF_SAMPLES:
            found[name] = _plain(name, OF_SAMPLES[name](problem, samples, problem.data))
        elif name == "frechet_reference":
            found[name] = _plain(name, metrics.frechet(features, problem.features(converged)))
        elif name == "rmse_reference" and plan.noises == 0:
            found[name] = _plain(name, metrics.rmse(samples, converged))
    for name, value in problem.closed_form(plan, prior_std).items():
        found[name] = {"value": value, "low": value, "high": value, "se": 0.0, "n": len(samples), "left": []}
    return found


def measure_pooled(problem: Problem, features: Tensor) -> dict[str, Plain]:
    """The metrics that need the samples of all seeds, from their features (N, d)."""
    return {name: _plain(name, OF_FEATURES[name](problem, features, problem.data_features)) for name in problem.pooled}


def _plain(name: str, estimate: metrics.Estimate) -> Plain:
    plain: Plain = asdict(estimate) | {"left": list(estimate.left)}
    if not all(map(math.isfinite, (estimate.value, estimate.low, estimate.high, estimate.se, *estimate.left))):
        raise ValueError(f"{name} is not finite: {plain}")
    return plain


def _clock(x: Tensor) -> float:
    """Seconds, after what the device was asked for is done."""
    if x.device.type == "cuda":
        torch.cuda.synchronize(x.device)
    return time.perf_counter()
