"""Variance-preserving processes, and the sub-variance-preserving one that shares their alpha."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from scoresde.sde.base import SDE, check_increasing, check_positive


class LogAlpha(SDE):
    """A process stated through log alpha."""

    @abstractmethod
    def _log_alpha(self, t: Tensor) -> Tensor: ...

    def _alpha(self, t: Tensor) -> Tensor:
        return self._log_alpha(t).exp()

    def _sigma(self, t: Tensor) -> Tensor:
        return torch.expm1(2 * self._log_alpha(t)).abs().sqrt()  # variance preserving, without cancellation at small t

    def _lam(self, t: Tensor) -> Tensor:
        return self._log_alpha(t) - self._sigma(t).log()

    def prior_std(self, t: float | None = None) -> float:
        """1: a variance-preserving process ends in N(0, I)."""
        return 1.0


def minus_log_alpha(lam: Tensor) -> Tensor:
    """-log alpha at half log-SNR lam, when alpha^2 + sigma^2 = 1: softplus(-2 lam) / 2."""
    return 0.5 * torch.logaddexp(-2 * lam, torch.zeros_like(lam))


@dataclass(frozen=True)
class _LinearBeta(LogAlpha):
    beta_min: float = 0.1
    beta_max: float = 20.0
    eps: float = 1e-3
    T: float = 1.0

    def __post_init__(self) -> None:
        check_positive(self, beta_min=self.beta_min, beta_max=self.beta_max, eps=self.eps, T=self.T)
        check_increasing(self, "beta_min", self.beta_min, "beta_max", self.beta_max)
        check_increasing(self, "eps", self.eps, "T", self.T)

    def _beta(self, t: Tensor) -> Tensor:
        return self.beta_min + t * (self.beta_max - self.beta_min)

    def _log_alpha(self, t: Tensor) -> Tensor:
        return -0.25 * t * t * (self.beta_max - self.beta_min) - 0.5 * t * self.beta_min

    def _drift(self, t: Tensor) -> Tensor:
        return -0.5 * self._beta(t)

    def _t_at_log_alpha(self, minus_log_alpha: Tensor) -> Tensor:
        # The root of slope t^2 / 4 + beta_min t / 2 = c, in the form that is stable as c -> 0.
        root = (self.beta_min**2 + 4 * (self.beta_max - self.beta_min) * minus_log_alpha).sqrt()
        return 4 * minus_log_alpha / (self.beta_min + root)


@dataclass(frozen=True)
class VP(_LinearBeta):
    r"""Variance-preserving SDE with linear :math:`\beta` (Song et al. 2021, arXiv:2011.13456, eq. 11).

    :math:`\log\alpha = -t^2(\beta_{max}-\beta_{min})/4 - t\beta_{min}/2`, :math:`\sigma^2 = 1-\alpha^2`. This is the
    continuous form of DDPM (Ho et al. 2020, arXiv:2006.11239).
    """

    name: ClassVar[str] = "vp"

    def _t_at_lam(self, lam: Tensor) -> Tensor:
        return self._t_at_log_alpha(minus_log_alpha(lam))

    def _diffusion_squared(self, t: Tensor) -> Tensor:
        return self._beta(t)


@dataclass(frozen=True)
class SubVP(_LinearBeta):
    r"""Sub-variance-preserving SDE (Song et al. 2021, arXiv:2011.13456, eq. 12): VP's alpha,
    :math:`\sigma = 1-\alpha^2`."""

    name: ClassVar[str] = "subvp"

    def _sigma(self, t: Tensor) -> Tensor:
        return torch.expm1(2 * self._log_alpha(t)).abs()

    def _t_at_lam(self, lam: Tensor) -> Tensor:
        # alpha^2 + alpha / exp(lam) = 1 has the root alpha = exp(-asinh(exp(-lam) / 2)).
        return self._t_at_log_alpha(torch.asinh(0.5 * torch.exp(-lam)))

    def _diffusion_squared(self, t: Tensor) -> Tensor:
        return self._beta(t) * -torch.expm1(4 * self._log_alpha(t))


@dataclass(frozen=True)
class CosineVP(LogAlpha):
    r"""Variance-preserving SDE with the cosine schedule (Nichol & Dhariwal 2021, arXiv:2102.09672, eq. 17).

    :math:`\alpha = \cos(a + u)/\cos a` with :math:`u = \frac{\pi}{2}\frac{t}{1+s}`,
    :math:`a = \frac{\pi}{2}\frac{s}{1+s}`. alpha reaches 0 at t = 1, where f and g are infinite; T = 0.9946 stops short
    of it, as DPM-Solver does (Lu et al. 2022, arXiv:2206.00927).
    """

    name: ClassVar[str] = "cosine"
    s: float = 0.008
    eps: float = 1e-3
    T: float = 0.9946

    def __post_init__(self) -> None:
        check_positive(self, s=self.s, eps=self.eps, T=self.T)
        check_increasing(self, "eps", self.eps, "T", self.T)
        if self.T >= 1.0:
            raise ValueError(f"CosineVP: T must be below 1 (alpha is 0 and the drift infinite there), got {self.T}")

    @property
    def _a(self) -> float:
        return 0.5 * math.pi * self.s / (1 + self.s)

    def _u(self, t: Tensor) -> Tensor:
        return 0.5 * math.pi / (1 + self.s) * t

    def _alpha(self, t: Tensor) -> Tensor:
        return torch.cos(self._a + self._u(t)) / math.cos(self._a)

    def _log_alpha(self, t: Tensor) -> Tensor:
        return self._alpha(t).log()

    def _sigma(self, t: Tensor) -> Tensor:
        # cos^2 a - cos^2(a + u) = sin(2a + u) sin(u): no cancellation as t -> 0.
        u = self._u(t)
        return (torch.sin(2 * self._a + u) * torch.sin(u)).sqrt() / math.cos(self._a)

    def _t_at_lam(self, lam: Tensor) -> Tensor:
        # sin u and cos u from the addition theorems, written without differences of nearly equal numbers.
        sin_a, cos_a = math.sin(self._a), math.cos(self._a)
        alpha2, sigma2 = torch.sigmoid(2 * lam), torch.sigmoid(-2 * lam)
        alpha = alpha2.sqrt()
        sin_sum = (sin_a**2 + sigma2 * cos_a**2).sqrt()  # sin(a + u)
        sin_u = cos_a * sigma2 / (sin_sum + alpha * sin_a)
        cos_u = alpha * cos_a**2 + sin_sum * sin_a
        return torch.atan2(sin_u, cos_u) * (1 + self.s) / (0.5 * math.pi)

    def _drift(self, t: Tensor) -> Tensor:
        return -0.5 * math.pi / (1 + self.s) * torch.tan(self._a + self._u(t))

    def _diffusion_squared(self, t: Tensor) -> Tensor:
        return -2 * self._drift(t)
