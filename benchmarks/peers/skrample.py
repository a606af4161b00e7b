"""Rows of skrample (https://github.com/Beinsezii/skrample), which needs Python 3.12: its samplers on the cell's grid.

A schedule of skrample is a function of a position between 0 and 1. Here the positions i / n are the nodes of the cell's
grid, and between them the time is interpolated, so that all levels are those of the process. The network's prediction
is x0; in which form a sampler combines predictions is its own default (x0).
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.peers.base import ONE, Calls, Noises, Package, each, most_steps, options_of, times_of
from scoresde.bench.samplers import Factory, Prepared
from scoresde.bench.suite import Cell
from scoresde.denoiser import BaseDenoiser
from scoresde.sde import SDE

PACKAGE = Package("skrample", "pip install skrample")
OLDEST = (3, 12)


def load(module: str) -> Any:
    """One of skrample's modules.

    Raises:
        ImportError: Python is older than skrample's syntax, or skrample is missing.
    """
    if sys.version_info < OLDEST:
        raise PACKAGE.missing(f"it needs Python {'.'.join(map(str, OLDEST))} or newer")
    return PACKAGE.load(module)


@cache
def _schedule_class() -> Any:
    """A schedule of skrample with the nodes of a grid of ours; made when skrample is there to derive it from."""

    class OnGrid(load("skrample.scheduling").SkrampleSchedule):
        def __init__(self, sde: SDE, times: tuple[float, ...]) -> None:
            self.sde, self.times = sde, np.array(times[::-1])
            self.positions = np.linspace(0.0, 1.0, len(times))

        @property
        def space(self) -> Any:
            raise NotImplementedError("no sampler asks for the space of its schedule")

        def _points(self, t: np.ndarray) -> np.ndarray:
            times = torch.from_numpy(np.interp(t, self.positions, self.times))
            return np.stack([times.numpy(), self.sde.sigma(times).numpy(), self.sde.alpha(times).numpy()], axis=1)

    return OnGrid


@dataclass(frozen=True)
class Sampler:
    """One sampler of skrample as a row.

    Attributes:
        module, name: of its class.
        calls: network calls of so many steps, of a sampler made with the options, whose end is at 0 or not.
    """

    module: str
    name: str
    calls: Callable[[Any, bool], Calls]

    def __call__(self, cell: Cell, sde: SDE) -> Prepared:
        """The row for a cell; see :data:`scoresde.bench.samplers.Factory`."""
        cls = getattr(load(f"skrample.sampling.{self.module}"), self.name)
        known = [item.name for item in dataclasses.fields(cls) if isinstance(item.default, (int, float, bool))]
        sampler = cls(**options_of(cell, known))
        calls = self.calls(sampler, cell.end in ("zero", 0.0))
        steps = most_steps(cell, calls)
        times = times_of(cell, sde, steps)
        schedule = _schedule_class()(sde, times)
        if self.module == "structured":
            runner = load("skrample.sampling.interface").StructuredFunctionalAdapter(sampler)
        else:
            runner = sampler
        predicts = load("skrample.sampling.models").DataModel()
        stochastic = getattr(sampler, "stochasticity", 0.0) != 0.0

        def draw(denoiser: BaseDenoiser, x_T: Tensor, seed: int, first: int, cond: Mapping[str, Tensor]) -> Tensor:
            def model(x: Tensor, t: float, sigma: float, alpha: float) -> Tensor:
                return denoiser.predict(x, t, "x0", **cond)

            noises = Noises(x_T, seed, first) if stochastic else None
            return runner.sample_model(x_T, model, predicts, schedule, steps, rng=noises)

        order = getattr(sampler, "order", 1)
        return Prepared(calls(steps), stochastic, order, times[0], times[-1], draw, package=PACKAGE.label)


def _one(sampler: Any, to_zero: bool) -> Calls:
    return ONE


def _stages(sampler: Any, to_zero: bool) -> Calls:
    """Of a Runge-Kutta method: a call a stage, but none where sigma = 0."""
    stages = sampler.tableau().stages
    asked = [fraction for fraction, _ in stages if abs(1.0 - fraction) >= 1e-8 or not to_zero]
    return each(len(stages), last=len(asked))


# To add a sampler: a line.
ROWS = {
    "Euler": Sampler("structured", "Euler", _one),
    "DPM": Sampler("structured", "DPM", _one),
    "Adams": Sampler("structured", "Adams", _one),
    "UniP": Sampler("structured", "UniP", _one),
    "UniPC": Sampler("structured", "UniPC", _one),
    "SPC": Sampler("structured", "SPC", _one),
    "RKUltra": Sampler("functional", "RKUltra", _stages),
}
SAMPLERS: Mapping[str, Factory] = {f"skrample/{name}": row for name, row in ROWS.items()}
