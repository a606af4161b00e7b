"""Rows of azula (https://github.com/probabilists/azula): its samplers, on the cell's process and grid.

azula's time runs equally spaced from 1 to 0. Here it numbers the nodes of the cell's grid: the schedule that its
samplers get is the process at those nodes. They draw from torch's global generator, which is seeded for each chunk.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.peers.base import ONE, Calls, Package, each, most_steps, options_of, seeded, short_of_zero, times_of
from scoresde.bench.samplers import Factory, Prepared
from scoresde.bench.suite import Cell
from scoresde.denoiser import BaseDenoiser
from scoresde.integrations.azula import Posterior
from scoresde.sde import SDE

PACKAGE = Package("azula", "pip install --no-deps azula")  # it asks for torchvision, of which it needs nothing here


class OnGrid:
    """A denoiser in azula's form, whose time i / n is node n - i of a grid."""

    def __init__(self, denoiser: BaseDenoiser, times: tuple[float, ...], device: torch.device) -> None:
        self.denoiser, self.times = denoiser, times
        sde = denoiser.sde
        self._alphas, self._sigmas = (
            torch.tensor([level(t) for t in times], dtype=torch.float64, device=device)
            for level in (sde.alpha, sde.sigma)
        )

    def schedule(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(alpha, sigma) at azula's times."""
        nodes = self._nodes(t)
        return self._alphas[nodes], self._sigmas[nodes]

    def __call__(self, x: Tensor, t: Tensor, **cond: Any) -> Posterior:
        """The posterior of x at one of azula's times, by its mean."""
        return Posterior(self.denoiser.predict(x, self.times[int(self._nodes(t))], "x0", **cond))

    def _nodes(self, t: Tensor) -> Tensor:
        return ((1.0 - t) * (len(self.times) - 1)).round().long()


@dataclass(frozen=True)
class Sampler:
    """One sampler of azula as a row.

    Attributes:
        name: of its class.
        order: of convergence, unless it is an option of the class.
        calls: network calls of so many steps, without those of corrections.
        noisy: what decides whether it draws noise: True, or an option that is not 0.
        to_zero: whether it can end where sigma = 0; azula's own schedules stop short of it.
        from_noise: whether it can begin where alpha = 0.
    """

    name: str
    order: int = 1
    calls: Calls = ONE
    noisy: bool | str = False
    to_zero: bool = True
    from_noise: bool = False

    def __call__(self, cell: Cell, sde: SDE) -> Prepared:
        """The row for a cell; see :data:`scoresde.bench.samplers.Factory`."""
        sampler = getattr(PACKAGE.load("azula.sample"), self.name)
        own = {
            name: parameter.default
            for name, parameter in inspect.signature(sampler).parameters.items()
            if name not in ("denoiser", "kwargs")
        }
        options = {**own, **options_of(cell, own)}
        stochastic = bool(options[self.noisy]) if isinstance(self.noisy, str) else self.noisy
        if sde.alpha(sde.T) == 0.0 and not self.from_noise:
            raise ValueError(f"{cell.solver.name!r} divides by alpha, which is 0 at the start of {cell.sde.label!r}")
        corrections = options.get("corrections", 0)

        def calls(steps: int) -> int:
            return self.calls(steps) + corrections * steps

        steps = most_steps(cell, calls)
        times = times_of(cell, sde, steps, cell.end if self.to_zero else short_of_zero(cell))

        def draw(denoiser: BaseDenoiser, x_T: Tensor, seed: int, first: int, cond: Mapping[str, Tensor]) -> Tensor:
            run = sampler(OnGrid(denoiser, times, x_T.device), steps=steps, silent=True, dtype=torch.float64, **options)
            with seeded(x_T, seed, first):
                return run(x_T, **cond)

        order = options.get("order", self.order)
        return Prepared(calls(steps), stochastic, order, times[0], times[-1], draw, package=PACKAGE.label)


# To add a sampler: a line.
ROWS = {
    "DDPM": Sampler("DDPMSampler", noisy=True, from_noise=True),
    "DDIM": Sampler("DDIMSampler", noisy="eta", from_noise=True),
    "Euler": Sampler("EulerSampler"),
    "Heun": Sampler("HeunSampler", 2, each(2), to_zero=False),  # it looks at the end of the last step too
    "Ito": Sampler("ItoSampler", noisy="eta"),
    "zAB": Sampler("zABSampler"),
    "vAB": Sampler("vABSampler", from_noise=True),
    "zEAB": Sampler("zEABSampler", to_zero=False),  # these three take the logarithm of sigma
    "xEAB": Sampler("xEABSampler", to_zero=False),
    "REAB": Sampler("REABSampler", to_zero=False),
    "PC": Sampler("PCSampler", noisy="delta", from_noise=True),
}
SAMPLERS: Mapping[str, Factory] = {f"azula/{name}": row for name, row in ROWS.items()}
