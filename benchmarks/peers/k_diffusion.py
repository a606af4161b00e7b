"""Rows of k-diffusion (https://github.com/crowsonkb/k-diffusion): its sampling functions on the cell's noise levels.

Its functions step x_0 + sigma noise between levels sigma. Under a process with alpha > 0 that state is x / alpha and
the level sigma / alpha, as in its wrappers of Stable Diffusion. Of a flow they get x and sigma themselves, for
dx/dsigma = (x - x_0) / sigma there too, and only without noise: how much noise a step adds depends on alpha.
"""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import module_from_spec, spec_from_file_location
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from benchmarks.peers.base import (
    ONE,
    OWN,
    Calls,
    Noises,
    Package,
    each,
    grid_name,
    most_steps,
    options_of,
    seeded,
    short_of_zero,
    times_of,
)
from scoresde.bench.samplers import Factory, Prepared
from scoresde.bench.suite import Cell
from scoresde.denoiser import BaseDenoiser
from scoresde.integrations.k_diffusion.noise import BrownianNoiseSampler
from scoresde.sde import SDE

PACKAGE = Package("k-diffusion", "pip install --no-deps k-diffusion && pip install scipy torchdiffeq tqdm")
_NAME = "_benchmarked_k_diffusion"
_GIVEN = {
    *("model", "x", "sigmas", "extra_args", "callback", "disable", "noise_sampler"),
    *("sigma_min", "sigma_max", "n"),
}


@cache
def sampling() -> ModuleType:
    """k-diffusion's file of samplers, without the rest of the package.

    The package imports its training code with it: torchvision, accelerate, wandb, clean-fid and more, of which the
    samplers use nothing. So the file is loaded alone, under a name of ours, with the one function of the package that
    it calls; and without torchsde, which makes noise for those who bring none. Nothing of it stays importable under
    k-diffusion's own name.

    Raises:
        ImportError: k-diffusion, or one of the packages that the file imports, is missing.
    """
    for needed in ("scipy.integrate", "torchdiffeq", "tqdm.auto"):
        PACKAGE.load(needed)
    try:
        path = distribution(PACKAGE.name).locate_file("k_diffusion/sampling.py")
    except PackageNotFoundError as error:
        raise PACKAGE.missing("it is not installed") from error
    parent, utils = ModuleType(_NAME), ModuleType(f"{_NAME}.utils")
    parent.__path__ = []
    parent.utils = utils  # type: ignore[attr-defined]
    utils.append_dims = lambda x, ndim: x[(...,) + (None,) * (ndim - x.ndim)]  # type: ignore[attr-defined]
    spec = spec_from_file_location(f"{_NAME}.sampling", str(path))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    absent = "torchsde" not in sys.modules
    sys.modules[_NAME] = parent
    if absent:
        sys.modules["torchsde"] = ModuleType("torchsde")
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[_NAME]
        if absent:
            del sys.modules["torchsde"]
    return module


@dataclass(frozen=True)
class Levels:
    """k-diffusion's numbers for the noise levels of a process.

    Args:
        sde: the process.
        known: times by number, of the grid's nodes: so that they come back exactly.
    """

    sde: SDE
    known: dict[float, float]

    @property
    def scaled(self) -> bool:
        """Whether states are x / alpha and numbers sigma / alpha, and not x and sigma."""
        return self.sde.alpha(self.sde.T) > 0.0

    def scale(self, t: float) -> float:
        """What a state is multiplied by to be one of the process."""
        return self.sde.alpha(t) if self.scaled else 1.0

    def number(self, t: float) -> float:
        """The number of a time."""
        return self.sde.point(t).rho if self.scaled else self.sde.sigma(t)

    def time(self, number: float) -> float:
        """The time of a number."""
        known = self.known.get(number)
        if known is not None:
            return known
        data = 1.0 if self.scaled else 1.0 - number
        return min(self.sde.t_at_lam(math.log(data / number)), self.sde.T) if data > 0.0 else self.sde.T


@dataclass(frozen=True)
class Sampler:
    """One function of k-diffusion as a row.

    Attributes:
        function: its name.
        calls: network calls of so many steps that end at 0.
        order: of convergence, without noise.
        to_end: the same where the last level is not 0.
        one_path: it asks for noise more than once a step, which must be the increments of one Brownian path.
    """

    function: str
    calls: Calls
    order: int
    to_end: Calls
    one_path: bool = False

    def __call__(self, cell: Cell, sde: SDE) -> Prepared:
        """The row for a cell; see :data:`scoresde.bench.samplers.Factory`."""
        function = getattr(sampling(), self.function)
        parameters = inspect.signature(function).parameters
        options = options_of(cell, [name for name in parameters if name not in _GIVEN])
        chosen = {name: options.get(name, parameter.default) for name, parameter in parameters.items()}
        stochastic = any(chosen.get(name) for name in ("eta", "s_churn"))
        levels = Levels(sde, {})
        levelled = "sigmas" in parameters
        if not levels.scaled and (sde.name != "flow" or stochastic or not levelled):
            raise ValueError(
                f"{cell.solver.label!r} cannot run on {cell.sde.label!r}, where alpha = 0 at the start: it needs sigma "
                "/ alpha, infinite there; of a flow, k-diffusion's samplers without noise and with given levels can"
            )
        if levelled:
            times, nfe = self._times(cell, sde)
        else:
            times, nfe = self._ends(cell, sde), cell.nfe
        begin, end = times[0], times[-1]

        def draw(denoiser: BaseDenoiser, x_T: Tensor, seed: int, first: int, cond: Mapping[str, Tensor]) -> Tensor:
            dtype = torch.promote_types(x_T.dtype, torch.float32)
            sigmas = torch.tensor([levels.number(t) for t in times], dtype=dtype, device=x_T.device)
            at = Levels(sde, dict(zip(sigmas.tolist(), times, strict=True)))

            def model(x: Tensor, sigma: Tensor, **cond: Any) -> Tensor:
                t = at.time(float(sigma[0]))
                x = x if at.scale(t) == 1.0 else x * at.scale(t)
                return denoiser.predict(x.to(x_T.dtype), t, "x0", **cond)  # a state in half precision becomes float32

            x = x_T / levels.scale(begin)
            keywords = {**options, "extra_args": dict(cond), "disable": True}
            if "noise_sampler" in parameters:
                keywords["noise_sampler"] = self._noise(x, seed, first) if stochastic else _none
            where = (sigmas,) if levelled else (float(sigmas[-1]), float(sigmas[0]), nfe)
            with seeded(x, seed, first):
                return (function(model, x, *where, **keywords) * levels.scale(end)).to(x_T.dtype)

        return Prepared(nfe, stochastic, self.order, begin, end, draw, package=PACKAGE.label)

    def _noise(self, x: Tensor, seed: int, first: int) -> Callable[..., Tensor]:
        return BrownianNoiseSampler(x, seed, first) if self.one_path else Noises(x, seed, first)

    def _times(self, cell: Cell, sde: SDE) -> tuple[tuple[float, ...], int]:
        to_zero = cell.end in ("zero", 0.0)
        calls = self.calls if to_zero else self.to_end
        steps = most_steps(cell, calls)
        if grid_name(cell) != OWN:
            return times_of(cell, sde, steps), calls(steps)
        levels = Levels(sde, {})
        if not (to_zero and levels.scaled):
            raise ValueError(f"k-diffusion's own spacing ends at 0, on a process with alpha > 0; got {cell.label!r}")
        sigmas = sampling().get_sigmas_karras(steps, levels.number(sde.eps), levels.number(sde.T)).tolist()
        return (sde.T, *map(levels.time, sigmas[1:-1]), 0.0), calls(steps)

    def _ends(self, cell: Cell, sde: SDE) -> tuple[float, float]:
        """Of a function that spaces its levels itself, equally in their logarithm, and cannot reach 0."""
        if grid_name(cell) not in (OWN, "log-snr") or cell.grid.options:
            raise ValueError(f"{cell.solver.name!r} runs on the grid 'log-snr' only, got {cell.grid.label!r}")
        first, *_, last = times_of(cell, sde, 2, short_of_zero(cell)) if grid_name(cell) != OWN else (sde.T, sde.eps)
        return first, last


def _none(*_: Any) -> float:
    """The noise of a sampler that multiplies it by 0."""
    return 0.0


# To add a function: a line.
ROWS = {
    "euler": Sampler("sample_euler", ONE, 1, ONE),
    "euler_ancestral": Sampler("sample_euler_ancestral", ONE, 1, ONE),
    "heun": Sampler("sample_heun", each(2, last=1), 2, each(2)),
    "dpm_2": Sampler("sample_dpm_2", each(2, last=1), 2, each(2)),
    "dpm_2_ancestral": Sampler("sample_dpm_2_ancestral", each(2, last=1), 2, each(2)),
    "lms": Sampler("sample_lms", ONE, 4, ONE),
    "dpm_fast": Sampler("sample_dpm_fast", ONE, 3, ONE),
    "dpmpp_2s_ancestral": Sampler("sample_dpmpp_2s_ancestral", each(2, last=1), 2, each(2)),
    "dpmpp_sde": Sampler("sample_dpmpp_sde", each(2, last=1), 2, each(2), one_path=True),
    "dpmpp_2m": Sampler("sample_dpmpp_2m", ONE, 2, ONE),
    "dpmpp_2m_sde": Sampler("sample_dpmpp_2m_sde", ONE, 2, ONE),
    "dpmpp_3m_sde": Sampler("sample_dpmpp_3m_sde", ONE, 3, ONE),
}
SAMPLERS: Mapping[str, Factory] = {f"k-diffusion/{name}": row for name, row in ROWS.items()}
