"""One cell: draw its samples with every network call counted and timed.

Samples are drawn in chunks of one size, each with the same samples whoever draws it, so that a cell's numbers do not
depend on how many processes share the work.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scoresde import noise
from scoresde.bench.problems import Problem
from scoresde.bench.problems.base import CHECKED, solve
from scoresde.bench.samplers import Prepared
from scoresde.bench.suite import Cell, config_hash, file_name
from scoresde.denoiser import BaseDenoiser, Evaluation
from scoresde.errors import choose
from scoresde.plan import Plan
from scoresde.sde import SDE

DTYPES = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
KEPT = 5000  # samples of a cell that are kept as they are: for metrics over pairs, and to compare with converged ones
PATHS = 64  # samples in the plane whose trajectories are kept


class CountingDenoiser(BaseDenoiser):
    """A denoiser that counts and times the calls of the one inside, and changes nothing else."""

    def __init__(self, inner: BaseDenoiser) -> None:
        self.inner, self.sde = inner, inner.sde
        self.calls = 0
        self.seconds = 0.0

    def __call__(self, x: Tensor, t: float | Tensor, **cond: Any) -> Tensor:
        """The inner denoiser's answer; see :class:`scoresde.denoiser.BaseDenoiser`."""
        return self._counted(x, lambda: self.inner(x, t, **cond))

    def predict(self, x: Tensor, t: float | Tensor, kind: str = "x0", **cond: Any) -> Tensor:
        """Likewise for any kind of prediction."""
        return self._counted(x, lambda: self.inner.predict(x, t, kind, **cond))

    def evaluate(self, x: Tensor, t: float | Tensor, **cond: Any) -> Evaluation:
        """Likewise in whatever form comes first, with the unconditional prediction of a guided network."""
        return self._counted(x, lambda: self.inner.evaluate(x, t, **cond))

    def _counted(self, x: Tensor, call: Callable[[], Any]) -> Any:
        start = _clock(x)
        out = call()
        self.calls += 1
        self.seconds += _clock(x) - start
        return out


@dataclass(frozen=True)
class Chunk:
    """Samples of index ``first`` on (on the CPU) and what they cost: calls counted, seconds in all and in the
    network.
    """

    first: int
    samples: Tensor
    calls: int
    seconds: float
    network_seconds: float


# Applies a function to the index of each chunk and gives the results in order: `map`, or one that shares the work.
Deal = Callable[[Callable[[int], Any], Iterable[int]], Iterable[Any]]


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


def chunk_starts(samples: int, chunk: int) -> range:
    """The index of the first sample of each chunk."""
    return range(0, samples, chunk)


def draw(cell: Cell, problem: Problem, prepared: Prepared, sde: SDE, deal: Deal = map) -> Iterable[Chunk]:
    """The cell's samples, chunk after chunk in order."""
    return deal(sampling(cell, problem, prepared, sde), chunk_starts(cell.samples, cell.chunk))


def sampling(cell: Cell, problem: Problem, prepared: Prepared, sde: SDE) -> Callable[[int], Chunk]:
    """What draws the chunk that begins at a given index. The last of several is drawn at full size, and cut.

    It raises RuntimeError if the calls counted are not those planned, or more than the budget.
    """
    denoiser, size = problem.denoiser(sde), min(cell.chunk, cell.samples)

    def one(first: int) -> Chunk:
        x_T = initial_state(cell, problem, prepared.begin, sde, first, size)
        drawn = draw_chunk(denoiser, prepared, x_T, cell.seed, first, problem.cond(first, size))
        if not drawn.calls == prepared.nfe <= cell.nfe:
            raise RuntimeError(f"{drawn.calls} network calls were counted; planned {prepared.nfe}, budget {cell.nfe}")
        return replace(drawn, samples=drawn.samples[: cell.samples - first])

    return one


def draw_chunk(
    denoiser: BaseDenoiser, prepared: Prepared, x_T: Tensor, seed: int, first: int, cond: dict[str, Tensor]
) -> Chunk:
    """One chunk from ``x_T`` (B, ...), sample b of index ``first`` + b; every call of the denoiser is counted and
    timed.

    Raises ValueError when a prediction is not finite.
    """
    counting = CountingDenoiser(denoiser)
    with torch.inference_mode():
        start = _clock(x_T)
        samples = prepared.draw(counting, x_T, seed, first, cond)
        seconds = _clock(x_T) - start
    return Chunk(first, samples.cpu().clone(), counting.calls, seconds, counting.seconds)


def initial_state(cell: Cell, problem: Problem, begin: float, sde: SDE, first: int, count: int) -> Tensor:
    """x_T of ``count`` samples from index ``first`` on: a function of (seed, sample index) and the process, so that all
    solvers start at the same noise.
    """
    dtype = choose(cell.dtype, DTYPES, "dtype")
    z = noise.normal((count, *problem.shape), cell.seed, first, dtype=dtype, device=cell.device)
    return z * sde.prior_std(begin)


def reference_recipe(cell: Cell) -> dict[str, Any]:
    """What of the cell decides its converged solution: all that cells with another solver or budget share."""
    apart = ("solver", "nfe", "grid", "metrics")
    shared = {key: value for key, value in cell.config.items() if key not in apart}
    return {**shared, "samples": min(cell.samples, KEPT)}


def reference_key(cell: Cell, problem: Problem, prepared: Prepared) -> str:
    """What a reference depends on, hashed: cells that differ in solver or budget only share one."""
    begin_end = {"begin": prepared.begin, "end": prepared.end}
    facts = {**reference_recipe(cell), **begin_end, "fingerprint": problem.fingerprint}
    return f"{file_name(cell.target.name)}-{cell.sde.name}-seed{cell.seed}-{config_hash(facts)[:16]}"


def make_reference(cell: Cell, problem: Problem, prepared: Prepared, sde: SDE, key: str, deal: Deal = map) -> Reference:
    """Solve to convergence from the cell's noise, for the samples that are kept."""
    count = min(cell.samples, KEPT)
    parts = deal(solving(cell, problem, prepared, sde), chunk_starts(count, cell.chunk))
    samples = torch.cat(list(parts))
    few = initial_state(cell, problem, prepared.begin, sde, 0, min(CHECKED, count))
    if cell.reference is None:
        error = problem.converged_error(sde, few, prepared.begin, prepared.end, samples)
    else:
        finer = _fine(cell, problem, prepared, sde, few, 0, 2).cpu()
        error = float((finer - samples[: len(few)]).double().square().mean().sqrt())
    nothing = np.zeros(0)
    picture, data = problem.picture(samples), problem.picture(problem.shown_data)
    return Reference(key, samples, error, nothing if picture is None else picture, nothing if data is None else data)


def solving(cell: Cell, problem: Problem, prepared: Prepared, sde: SDE) -> Callable[[int], Tensor]:
    """What solves to convergence for the chunk that begins at a given index, as far as samples are kept."""
    count = min(cell.samples, KEPT)
    size = min(cell.chunk, count)

    def one(first: int) -> Tensor:
        x_T = initial_state(cell, problem, prepared.begin, sde, first, size)
        return _fine(cell, problem, prepared, sde, x_T, first).cpu()[: count - first]

    return one


def _fine(
    cell: Cell, problem: Problem, prepared: Prepared, sde: SDE, x_T: Tensor, first: int, factor: int = 1
) -> Tensor:
    """The converged solution from ``x_T``; a reference that the cell names is made with ``factor`` times its calls."""
    ends, own = (prepared.begin, prepared.end), cell.reference
    if own is None:
        return problem.converged(sde, x_T, *ends, first)
    options: dict[str, Any] = {"nfe": 128, **own.keywords}
    options["nfe"] *= factor
    return solve(problem.denoiser(sde), x_T, *ends, problem.cond(first, len(x_T)), solver=own.name, **options)


def trajectory(cell: Cell, problem: Problem, plan: Plan, sde: SDE) -> np.ndarray:
    """Where the first samples were at every evaluation and at the end: (K, n, *shape), float32."""
    count = min(PATHS, cell.samples)
    denoiser, cond = problem.denoiser(sde), problem.cond(0, count)
    run = plan.start(initial_state(cell, problem, plan.begin.t, sde, 0, count), cell.seed)
    states = []
    with torch.inference_mode():
        while not run.done:
            states.append(run.x.clone())
            run.tell(*denoiser.evaluate(run.x, run.t, **cond))
        return torch.stack([*states, run.sample]).float().cpu().numpy()


def describe_reference(cell: Cell, problem: Problem, error: float) -> str:
    """How the converged solution was made, in one sentence."""
    if cell.reference is None:
        return problem.describe_converged(error)
    return f"The converged solution is {cell.reference.label}; twice as many calls move it by {error:.1e} (RMSE)."


def _clock(x: Tensor) -> float:
    """Seconds, after what the device was asked for is done."""
    if x.device.type == "cuda":
        torch.cuda.synchronize(x.device)
    return time.perf_counter()
