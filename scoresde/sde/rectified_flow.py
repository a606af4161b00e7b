"""Rectified flow."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from scoresde.sde.base import SDE, check_increasing, check_positive


@dataclass(frozen=True)
class RectifiedFlow(SDE):
    r"""Rectified flow / flow matching: :math:`x = (1-\tau)x_0 + \tau\epsilon` (Liu et al. 2022, arXiv:2209.03003).

    :math:`\tau = st/(1+(s-1)t)` with the resolution-dependent shift s of Stable Diffusion 3 (Esser et al. 2024,
    arXiv:2403.03206, eq. 23); s = 1 is the plain flow. alpha(T) = 0: it starts from pure noise.
    """

    name: ClassVar[str] = "flow"
    shift: float = 1.0
    eps: float = 1e-3
    T: float = 1.0

    def __post_init__(self) -> None:
        check_positive(self, shift=self.shift, eps=self.eps, T=self.T)
        check_increasing(self, "eps", self.eps, "T", self.T)
        if self.T > 1.0:
            raise ValueError(f"RectifiedFlow: T must be at most 1, got {self.T}")

    def _stretch(self, t: Tensor) -> Tensor:
        return 1 + (self.shift - 1) * t

    def _alpha(self, t: Tensor) -> Tensor:
        return (1 - t) / self._stretch(t)

    def _sigma(self, t: Tensor) -> Tensor:
        return self.shift * t / self._stretch(t)

    def _t_at_lam(self, lam: Tensor) -> Tensor:
        return torch.sigmoid(-(lam + math.log(self.shift)))

    def _drift(self, t: Tensor) -> Tensor:
        return -self.shift / ((1 - t) * self._stretch(t))

    def _diffusion_squared(self, t: Tensor) -> Tensor:
        # -2 sigma^2 lam' with lam' = -1 / (t (1 - t)), one factor t cancelled.
        return 2 * self.shift**2 * t / (self._stretch(t) ** 2 * (1 - t))
