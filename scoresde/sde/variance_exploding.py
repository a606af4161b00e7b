"""Variance-exploding processes: alpha = 1."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from scoresde.sde.base import SDE, check_increasing, check_positive


class _VarianceExploding(SDE):
    """alpha = 1."""

    def _alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def _lam(self, t: Tensor) -> Tensor:
        return -self._sigma(t).log()

    def _drift(self, t: Tensor) -> Tensor:
        return torch.zeros_like(t)


@dataclass(frozen=True)
class VE(_VarianceExploding):
    r"""Variance-exploding SDE (Song et al. 2021, arXiv:2011.13456, eq. 9):
    :math:`\sigma = \sigma_{min}(\sigma_{max}/\sigma_{min})^t`.

    The formula gives sigma_min, not 0, as t -> 0; by the convention of this library t = 0 itself is the data, so a
    step that ends at exactly 0 removes the last sigma_min of noise.
    """

    name: ClassVar[str] = "ve"
    sigma_min: float = 0.01
    sigma_max: float = 50.0
    eps: float = 1e-5
    T: float = 1.0

    def __post_init__(self) -> None:
        check_positive(self, sigma_min=self.sigma_min, sigma_max=self.sigma_max, eps=self.eps, T=self.T)
        check_increasing(self, "sigma_min", self.sigma_min, "sigma_max", self.sigma_max)
        check_increasing(self, "eps", self.eps, "T", self.T)

    @property
    def _rate(self) -> float:
        return math.log(self.sigma_max / self.sigma_min)

    def _sigma(self, t: Tensor) -> Tensor:
        return torch.where(t == 0, 0.0, self.sigma_min * torch.exp(self._rate * t))

    def _t_at_lam(self, lam: Tensor) -> Tensor:
        t = -(lam + math.log(self.sigma_min)) / self._rate
        return torch.where(lam == math.inf, 0.0, t)

    def _diffusion_squared(self, t: Tensor) -> Tensor:
        return 2 * self._rate * self._sigma(t) ** 2


@dataclass(frozen=True)
class EDM(_VarianceExploding):
    r"""The process of EDM (Karras et al. 2022, arXiv:2206.00364, Table 1): :math:`\alpha = 1, \sigma = t`, time is the
    noise."""

    name: ClassVar[str] = "edm"
    sigma_min: float = 0.002
    sigma_max: float = 80.0

    def __post_init__(self) -> None:
        check_positive(self, sigma_min=self.sigma_min, sigma_max=self.sigma_max)
        check_increasing(self, "sigma_min", self.sigma_min, "sigma_max", self.sigma_max)

    @property
    def T(self) -> float:  # type: ignore[override]
        """sigma_max: time is the noise level."""
        return self.sigma_max

    @property
    def eps(self) -> float:  # type: ignore[override]
        """sigma_min: time is the noise level."""
        return self.sigma_min

    def _sigma(self, t: Tensor) -> Tensor:
        return t

    def _t_at_lam(self, lam: Tensor) -> Tensor:
        return torch.exp(-lam)

    def _diffusion_squared(self, t: Tensor) -> Tensor:
        return 2 * t
