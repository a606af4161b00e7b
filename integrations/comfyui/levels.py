"""A ComfyUI model's noise levels as a process of scoresde, and its sigmas as times."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from scoresde.sde import SDE, RectifiedFlow

ROUNDING = 1e-6  # of the shifts that are applied in float32


@dataclass(frozen=True)
class Table(SDE):
    r"""The process of every model whose state is :math:`x = x_0 + \sigma\epsilon`, with the time of its own table.

    ComfyUI gives eps, v and EDM models the same state and a table of sigmas (``model_sampling.sigmas``). Entry i of N
    is at t = (i + 1)/N, and log sigma is linear between entries, as ComfyUI itself interpolates; below the first entry
    sigma is linear to 0 at t = 0, and above the last one log sigma goes on as it did.

    So grids that are defined on a trained table's indices ("uniform", "normal", "beta") are right, and solvers that are
    polynomials in time (DEIS) see the time that the model was trained on.

    Args:
        sigmas: strictly increasing, positive.
        T: the first time, above 1 for noise beyond the table.
    """

    name: ClassVar[str] = "comfyui-table"
    noise_scale: ClassVar[float] = 1.0
    most_sigma: ClassVar[float] = math.inf
    sigmas: tuple[float, ...]
    T: float = 1.0

    @property
    def eps(self) -> float:  # type: ignore[override]
        """The first entry."""
        return 1.0 / len(self.sigmas)

    @cached_property
    def _nodes(self) -> Tensor:
        return torch.tensor(self.sigmas, dtype=torch.float64).log()

    def lam_at_sigma(self, sigma: Tensor) -> Tensor:
        """Half the log-SNR at ComfyUI's sigma."""
        return -sigma.log()

    def _cell(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(position in units of entries, log sigma at the lower end of its cell, increase over the cell)."""
        u = t * len(self.sigmas) - 1
        i = u.floor().clamp(0, len(self.sigmas) - 2).long()
        return u - i, self._nodes[i], self._nodes[i + 1] - self._nodes[i]

    def _alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def _sigma(self, t: Tensor) -> Tensor:
        u, low, slope = self._cell(t)
        return torch.where(u < 0, self.sigmas[0] * (1 + u), (low + u * slope).exp())

    def _lam(self, t: Tensor) -> Tensor:
        return -self._sigma(t).log()

    def _t_at_lam(self, lam: Tensor) -> Tensor:
        i = (torch.searchsorted(self._nodes, -lam) - 1).clamp(0, len(self.sigmas) - 2)
        u = i + (-lam - self._nodes[i]) / (self._nodes[i + 1] - self._nodes[i])
        return torch.where(u < 0, torch.exp(-lam) / self.sigmas[0], u + 1) / len(self.sigmas)

    def _drift(self, t: Tensor) -> Tensor:
        return torch.zeros_like(t)

    def _diffusion_squared(self, t: Tensor) -> Tensor:
        u, _, slope = self._cell(t)
        relative = torch.where(u < 0, 1 / (1 + u), slope)  # d log sigma in an entry
        return 2 * self._sigma(t) ** 2 * relative * len(self.sigmas)


@dataclass(frozen=True)
class Flow(RectifiedFlow):
    r"""Rectified flow with the model's shift, whose noise may have another scale: :math:`x = (1-\sigma) x_0 +
    s\,\sigma\epsilon` with ``noise_scale`` s.
    """

    most_sigma: ClassVar[float] = 1.0
    noise_scale: float = 1.0

    def lam_at_sigma(self, sigma: Tensor) -> Tensor:
        """Half the log-SNR at ComfyUI's sigma."""
        return torch.log1p(-sigma) - (self.noise_scale * sigma).log()

    def _sigma(self, t: Tensor) -> Tensor:
        return self.noise_scale * super()._sigma(t)

    def _t_at_lam(self, lam: Tensor) -> Tensor:
        return super()._t_at_lam(lam + math.log(self.noise_scale))

    def _diffusion_squared(self, t: Tensor) -> Tensor:
        return self.noise_scale**2 * super()._diffusion_squared(t)


@dataclass(frozen=True)
class Levels:
    """The noise levels of a model.

    Attributes:
        sde: the process. Its sigma is the deviation of the noise, ``noise_scale`` times ComfyUI's sigma.
        most: the model's largest sigma.
    """

    sde: Flow | Table
    most: float

    @classmethod
    def of(cls, model_sampling: Any, sigmas: Tensor | None = None) -> Levels:
        """The levels of a model.

        Args:
            model_sampling: of the model.
            sigmas: levels that are wanted, which may lie above the table.
        """
        from comfy.model_sampling import CONST  # pyright: ignore[reportMissingImports]

        # Some tables are clamped at their ends (Stable Cascade): repeats are one level.
        table: list[float] = []
        for sigma in model_sampling.sigmas.tolist():
            if sigma > (table[-1] if table else 0.0):
                table.append(sigma)
        if len(table) < 2:
            raise ValueError(f"model_sampling.sigmas must increase from above 0, got {len(table)} such levels")
        if isinstance(model_sampling, CONST):
            # sigma = s t / (1 + (s - 1) t) at the middle of the table gives the shift s, whatever the class calls it.
            t = (len(table) // 2) / len(table)
            middle = table[len(table) // 2 - 1]
            shift = middle / (1 - middle) * (1 - t) / t
            noise_scale = float(getattr(model_sampling, "noise_scale", 1.0))
            return cls(Flow(shift, eps=1.0 / len(table), noise_scale=noise_scale), table[-1])
        levels = cls(Table(tuple(table)), table[-1])
        highest = table[-1] if sigmas is None else float(sigmas.max())
        if highest > table[-1]:
            (T,) = levels.times([highest])
            return cls(Table(tuple(table), T=max(1.0, T)), table[-1])
        return levels

    def times(self, sigmas: Iterable[float]) -> tuple[float, ...]:
        """The times at which a model has these sigmas; 0 at 0.

        Raises:
            ValueError: negative or not finite; of a flow, above 1 by more than float32's rounding.
        """
        given = torch.tensor(list(sigmas), dtype=torch.float64)
        most = self.sde.most_sigma
        for i, sigma in enumerate(given.tolist()):
            if not (0.0 <= sigma < math.inf and sigma <= most + ROUNDING):
                raise ValueError(f"sigmas must be finite, at least 0 and at most {most}, got sigmas[{i}]={sigma}")
        times: Sequence[float] = self.sde.t_at_lam(self.sde.lam_at_sigma(given.clamp(max=most))).tolist()
        # The noisiest level is T, to rounding.
        return tuple(self.sde.T if math.isclose(t, self.sde.T, rel_tol=1e-12) else t for t in times)

    def sigmas(self, times: Iterable[float]) -> Tensor:
        """The sigmas at these times, float32 as ComfyUI's."""
        return (self.sde.sigma(torch.tensor(list(times), dtype=torch.float64)) / self.sde.noise_scale).float()
