"""Processes that were trained as a table of steps, made continuous."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from scoresde.sde.base import check_increasing
from scoresde.sde.variance_preserving import LogAlpha, minus_log_alpha


@dataclass(frozen=True)
class DiscreteVP(LogAlpha):
    r"""A trained discrete process (DDPM, Stable Diffusion), from its table of ``alphas_cumprod``, made continuous.

    Entry i of N belongs to t = (i + 1)/N, and :math:`\log\alpha` is linear in t between entries and from 0 at t = 0
    (the interpolation of DPM-Solver, Lu et al. 2022, arXiv:2206.00927, appendix D.5). A table may end in exactly 0
    (zero terminal SNR, Lin et al. 2023, arXiv:2305.08891); in that last cell alpha itself is linear in t.

    Args:
        alphas_cumprod: :math:`\alpha^2` for each of the N steps, strictly decreasing, in (0, 1); the last may be 0.
        eps: the end time; 0 stands for the first entry, 1/N.

    Raises:
        ValueError: fewer than two entries, or not strictly decreasing within [0, 1).
    """

    name: ClassVar[str] = "discrete-vp"
    alphas_cumprod: Sequence[float]
    eps: float = 0.0
    T: float = 1.0

    def __post_init__(self) -> None:
        table = tuple(float(a) for a in self.alphas_cumprod)
        object.__setattr__(self, "alphas_cumprod", table)
        if len(table) < 2:
            raise ValueError(f"DiscreteVP: alphas_cumprod needs at least 2 entries, got {len(table)}")
        for i, (a, b) in enumerate(zip((1.0, *table), table, strict=False)):
            if not (b < a and b >= 0.0 and (b > 0.0 or i == len(table) - 1)):
                raise ValueError(
                    "DiscreteVP: alphas_cumprod must decrease strictly within (0, 1), only the last may be 0; "
                    f"entry {i} is {b} after {a}"
                )
        if self.eps == 0.0:
            object.__setattr__(self, "eps", 1.0 / len(table))
        if self.T != 1.0:
            raise ValueError(f"DiscreteVP: T is 1, the last entry of the table; got {self.T}")
        check_increasing(self, "eps", self.eps, "T", self.T)

    def __repr__(self) -> str:
        return f"DiscreteVP(alphas_cumprod=<{len(self.alphas_cumprod)} entries>, eps={self.eps})"

    @classmethod
    def from_betas(cls, betas: Sequence[float] | Tensor, eps: float = 0.0) -> DiscreteVP:
        """From a table of betas: alphas_cumprod = cumprod(1 - beta), in float64."""
        betas = torch.as_tensor(betas, dtype=torch.float64)
        return cls(torch.cumprod(1 - betas, 0).tolist(), eps)

    @property
    def n(self) -> int:
        """Entries of the table."""
        return len(self.alphas_cumprod)

    @cached_property
    def _nodes(self) -> Tensor:
        """log alpha at t = 0, 1/N, ..., 1."""
        table = torch.tensor((1.0, *self.alphas_cumprod), dtype=torch.float64)
        return 0.5 * table.log()

    def _cell(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(position in the cell, log alpha at its ends, whether alpha reaches 0 in it)."""
        u = t * self.n
        i = u.floor().clamp(0, self.n - 1).long()
        left, right = self._nodes[i], self._nodes[i + 1]
        return u - i, left, right, torch.isinf(right)

    def _log_alpha(self, t: Tensor) -> Tensor:
        u, left, right, to_zero = self._cell(t)
        safe = torch.where(to_zero, left, right)
        return left + torch.where(to_zero, torch.log1p(-u), u * (safe - left))

    def _drift(self, t: Tensor) -> Tensor:
        u, left, right, to_zero = self._cell(t)
        safe = torch.where(to_zero, left, right)
        return self.n * torch.where(to_zero, -1 / (1 - u), safe - left)

    def _diffusion_squared(self, t: Tensor) -> Tensor:
        return -2 * self._drift(t)

    def _t_at_lam(self, lam: Tensor) -> Tensor:
        log_alpha = -minus_log_alpha(lam)
        i = (torch.searchsorted(-self._nodes, -log_alpha) - 1).clamp(0, self.n - 1)
        left, right = self._nodes[i], self._nodes[i + 1]
        to_zero = torch.isinf(right)
        safe = torch.where(to_zero, left - 1, right)
        return (i + torch.where(to_zero, -torch.expm1(log_alpha - left), (log_alpha - left) / (safe - left))) / self.n
