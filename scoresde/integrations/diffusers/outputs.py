"""What some schedulers of diffusers do to a network's output before they step: precondition it, limit it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from scoresde.denoiser import EDMPrecond
from scoresde.guidance import dynamic_threshold


@dataclass(frozen=True)
class FlippedEDMPrecond(EDMPrecond):
    """EDM's with the sign of the network changed, as Stable Audio's predict it (``v_prediction`` of EDM classes)."""

    def coefficients(self, alpha: Any, sigma: Any) -> tuple[Any, Any, Any]:
        """(c_in, c_skip, c_out)."""
        c_in, c_skip, c_out = super().coefficients(alpha, sigma)
        return c_in, c_skip, -c_out


@dataclass(frozen=True)
class BoundaryPrecond(EDMPrecond):
    """EDM's, changed so that a network says x itself at the least noise (Song et al. 2023, arXiv:2303.01469, app. C).

    Args:
        sigma_min: the least noise, sigma/alpha.
    """

    sigma_min: float = 0.002

    def coefficients(self, alpha: Any, sigma: Any) -> tuple[Any, Any, Any]:
        """(c_in, c_skip, c_out)."""
        c_in, _, c_out = super().coefficients(alpha, sigma)
        above = sigma - alpha * self.sigma_min
        return c_in, self.sigma_data**2 * alpha / (above**2 + (alpha * self.sigma_data) ** 2), c_out * (above / sigma)


@dataclass(frozen=True)
class ReversedFlow:
    """A rectified flow whose network predicts the velocity towards the data, x0 - noise (Mochi)."""

    def coefficients(self, alpha: Any, sigma: Any) -> tuple[Any, Any, Any]:
        """(c_in, c_skip, c_out)."""
        return 1.0, 1.0 / (alpha + sigma), sigma / (alpha + sigma)


@dataclass(frozen=True)
class LimitX0:
    """What a scheduler does to each prediction of x0: clip it, or threshold it dynamically; x0 (B, ...) -> x0.

    Args:
        bound: data lie in [-bound, bound] (``clip_sample_range``).
        ratio: None to clip; else the quantile of dynamic thresholding (``dynamic_thresholding_ratio``).
        maximum: the largest threshold (``sample_max_value``), at least bound.

    Raises:
        ValueError: an option outside its range, by its name in configs.
    """

    bound: float = 1.0
    ratio: float | None = None
    maximum: float = math.inf

    def __post_init__(self) -> None:
        if not (self.bound > 0 and math.isfinite(self.bound)):
            raise ValueError(f"clip_sample_range must be positive and finite, got {self.bound}")
        if self.ratio is not None and not 0 < self.ratio < 1:
            raise ValueError(f"dynamic_thresholding_ratio must be within (0, 1), got {self.ratio}")
        if not self.maximum >= self.bound:
            raise ValueError(f"sample_max_value must be at least {self.bound}, got {self.maximum}")

    def __call__(self, x0: Tensor) -> Tensor:
        """The limited prediction, of the shape and dtype of x0."""
        if self.ratio is None:
            return x0.clamp(-self.bound, self.bound)
        return dynamic_threshold(x0, self.ratio, self.bound, self.maximum)
