"""A data set as a target: what a network that has learnt its training data by heart would do."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from scoresde.targets.base import TINY, Target, parameter


@dataclass(frozen=True, eq=False)
class Empirical(Target):
    """Equal point masses at the data.

    Its denoiser minimises the denoising loss on the data exactly, and its flow generates nothing but the data (Karras
    et al. 2022, arXiv:2206.00364, appendix B.3). A call needs memory for at least one row of N distances.

    Args:
        data: (N, *shape).

    Raises:
        ValueError: no data, or values that are not finite.
    """

    data: Tensor

    def __post_init__(self) -> None:
        data = parameter(self.data, "data")
        if data.ndim < 2 or data.numel() == 0:
            raise ValueError(f"data must have shape (N, *event shape), got {tuple(data.shape)}")
        object.__setattr__(self, "data", data)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one event."""
        return tuple(self.data.shape[1:])

    @property
    def device(self) -> torch.device:
        """Where the parameters are, and batches must be."""
        return self.data.device

    def to(self, device: torch.device | str) -> Empirical:
        """The same target with its parameters on `device`."""
        return replace(self, data=self.data.to(device))

    def moments(self) -> tuple[Tensor, Tensor]:
        """Exact mean (d,) and covariance (d, d) of x_0 in float64 (divided by N: the data are the population)."""
        mean = self._data.mean(0)
        return mean, (self._data - mean).T @ (self._data - mean) / len(self.data)

    @property
    def _data(self) -> Tensor:
        return self.data.reshape(len(self.data), -1)

    @property
    def singular(self) -> bool:
        """Whether x_0 itself has no density."""
        return True

    @property
    def _row_cost(self) -> int:
        return max(len(self.data), self.dim)

    def _centre(self) -> tuple[Tensor, float]:
        return self._data.mean(0), float(self._data.std(dim=0, correction=0).square().mean().sqrt())

    def _sample(self, n: int, seed: int) -> Tensor:
        uniform = torch.special.ndtr(self._normal(n, 1, seed, 0)[:, 0])
        return self._data[(uniform * len(self.data)).long().clamp_max(len(self.data) - 1)]

    def _logits(self, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """-|x - alpha d_i|^2 / 2 sigma^2, (B, N)."""
        # From differences, not products, which cancel near the data. cdist takes one set of points for all rows, hence
        # x/alpha; at alpha = 0 a tiny stand-in keeps what matters there, the same large distance to every point.
        alpha = alpha.clamp_min(1e-50)
        distance = alpha * torch.cdist(x / alpha, self._data, compute_mode="donot_use_mm_for_euclid_dist")
        return -(distance**2) / (2 * sigma**2).clamp_min(TINY)

    def _posterior(self, x: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        x0 = self._logits(x, alpha, sigma).softmax(-1) @ self._data
        return x0, (alpha * x0 - x) / (sigma**2).clamp_min(TINY)

    def _log_prob(self, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        norm = math.log(len(self.data)) + 0.5 * self.dim * (2 * math.pi * sigma**2).log()
        return self._logits(x, alpha, sigma).logsumexp(-1, keepdim=True) - norm
