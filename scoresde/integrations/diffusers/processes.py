"""The noising processes of diffusers' schedulers: tables from betas, and variance-preserving ones without a table."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor

from scoresde.errors import choose
from scoresde.sde.base import check_increasing, check_positive
from scoresde.sde.variance_preserving import LogAlpha

MOST_BETA = 0.999  # of the schedules that are given by alpha^2
LEAST_ALPHA2 = 2.0**-24  # what some classes put in place of alpha^2 = 0 at zero terminal SNR


def _linear(n: int, first: float, last: float) -> Tensor:
    return torch.linspace(first, last, n, dtype=torch.float64)


def _scaled_linear(n: int, first: float, last: float) -> Tensor:
    return torch.linspace(math.sqrt(first), math.sqrt(last), n, dtype=torch.float64) ** 2


def _sigmoid(n: int, first: float, last: float) -> Tensor:
    return torch.sigmoid(torch.linspace(-6, 6, n, dtype=torch.float64)) * (last - first) + first


def _from_alpha2(alpha2: Callable[[float], float], n: int, first: float, last: float) -> Tensor:
    """1 - beta is the ratio of alpha^2 at both ends of a step (Nichol & Dhariwal 2021, arXiv:2102.09672)."""
    values = [alpha2(i / n) for i in range(n + 1)]
    betas = [min(1 - after / before, MOST_BETA) for before, after in pairwise(values)]
    return torch.tensor(betas, dtype=torch.float64)


def _laplace(t: float) -> float:
    snr = math.exp(-0.5 * math.copysign(1, 0.5 - t) * math.log(1 - 2 * abs(0.5 - t) + 1e-6))
    return math.sqrt(snr / (1 + snr))


# beta_schedule -> betas in float64 (diffusers has most of them in float32) from (n, beta_start, beta_end).
BETAS: dict[str, Callable[[int, float, float], Tensor]] = {
    "linear": _linear,
    "scaled_linear": _scaled_linear,
    "squaredcos_cap_v2": partial(_from_alpha2, lambda t: math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2),
    "exp": partial(_from_alpha2, lambda t: math.exp(-12.0 * t)),
    "laplace": partial(_from_alpha2, _laplace),
    "sigmoid": _sigmoid,
}


def alphas_cumprod(o: Mapping[str, Any], *, least: float) -> list[float]:
    """The table of alpha^2 of a config, in float64.

    Args:
        o: the config with its class's defaults.
        least: what stands for alpha^2 = 0 if betas are rescaled to zero terminal SNR.

    Raises:
        ValueError: an unknown beta_schedule, or trained_betas that are not one for each training step.
    """
    n = int(o["num_train_timesteps"])
    if o.get("trained_betas") is not None:
        betas = torch.tensor([float(b) for b in o["trained_betas"]], dtype=torch.float64)
        if len(betas) != n:
            raise ValueError(f"trained_betas has {len(betas)} entries, but num_train_timesteps={n}: they must agree")
    else:
        make = choose(o["beta_schedule"], BETAS, "beta_schedule")
        betas = make(n, float(o.get("beta_start", 0.0001)), float(o.get("beta_end", 0.02)))
    table = torch.cumprod(1 - betas, 0)
    if o.get("snr_shift_scale"):
        table = table / (o["snr_shift_scale"] + (1 - o["snr_shift_scale"]) * table)
    if o.get("rescale_betas_zero_snr"):
        # Lin et al. 2023, arXiv:2305.08891, algorithm 1: alpha is shifted to end at 0 and scaled to begin as before.
        alpha = table.sqrt()
        table = ((alpha - alpha[-1]) * (alpha[0] / (alpha[0] - alpha[-1]))) ** 2
        table[-1] = least
    return table.tolist()


@dataclass(frozen=True)
class Angle(LogAlpha):
    r"""The variance-preserving process whose time is an angle: :math:`\alpha = \cos\frac{\pi t}{2}`,
    :math:`\sigma = \sin\frac{\pi t}{2}`.

    It has every noise level from data to pure noise, so it stands for a trained table where a config asks for levels
    that the table does not have (Stable Video Diffusion's sigma_max = 700), and is that of IPNDMScheduler itself.
    """

    name: ClassVar[str] = "angle"
    eps: float = 1e-3
    T: float = 1.0

    def __post_init__(self) -> None:
        check_positive(self, eps=self.eps, T=self.T)
        check_increasing(self, "eps", self.eps, "T", self.T)
        if self.T > 1.0:
            raise ValueError(f"Angle: T must be at most 1, where alpha is 0; got {self.T}")

    @classmethod
    def between(cls, low: float, high: float) -> Angle:
        """From the noise level sigma/alpha = low (eps) to high (T)."""
        return cls(*(math.atan(rho) * 2 / math.pi for rho in (low, high)))

    def _alpha(self, t: Tensor) -> Tensor:
        return torch.sin(0.5 * math.pi * (1 - t))  # exactly 0 at t = 1

    def _log_alpha(self, t: Tensor) -> Tensor:
        return self._alpha(t).log()

    def _sigma(self, t: Tensor) -> Tensor:
        return torch.sin(0.5 * math.pi * t)

    def _t_at_lam(self, lam: Tensor) -> Tensor:
        return torch.atan(torch.exp(-lam)) * (2 / math.pi)

    def _drift(self, t: Tensor) -> Tensor:
        return -0.5 * math.pi * self._sigma(t) / self._alpha(t)

    def _diffusion_squared(self, t: Tensor) -> Tensor:
        return -2 * self._drift(t)
