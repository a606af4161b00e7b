"""Denoisers around a denoiser: they change what a sampler is told about the data, and no solver knows of them."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from scoresde.denoiser import BaseDenoiser


class Wrapped(BaseDenoiser):
    """A denoiser around another one, of the same process; a subclass says what it makes of the other's answer.

    Args:
        denoiser: of :class:`scoresde.Denoiser`, or anything that is one.
    """

    def __init__(self, denoiser: BaseDenoiser) -> None:
        if not isinstance(denoiser, BaseDenoiser):
            raise TypeError(
                f"denoiser must be a scoresde.Denoiser (wrap your network in one), got {type(denoiser).__name__}"
            )
        self.inner, self.sde = denoiser, denoiser.sde


class Threshold(Wrapped):
    """Static thresholding: the prediction of x0 is clipped to the range of the data (diffusers' ``clip_sample``).

    Args:
        denoiser: the denoiser inside.
        bound: data lie in [-bound, bound] (diffusers' ``clip_sample_range``).
    """

    def __init__(self, denoiser: BaseDenoiser, bound: float = 1.0) -> None:
        super().__init__(denoiser)
        _check_bound(bound)
        self.bound = bound

    def __call__(self, x: Tensor, t: float | Tensor, **cond: Any) -> Tensor:
        """The clipped prediction; see :class:`scoresde.denoiser.BaseDenoiser`."""
        return self.inner(x, t, **cond).clamp(-self.bound, self.bound)

    def __repr__(self) -> str:
        return f"Threshold({self.inner!r}, bound={self.bound})"


class DynamicThreshold(Wrapped):
    r"""Dynamic thresholding (Saharia et al. 2022, arXiv:2205.11487, section 2.3), which keeps strong guidance from
    saturating.

    With s the ``ratio`` quantile of :math:`|x_0|` over each sample's values, but at least ``bound``, the prediction is
    clipped to [-s, s] and scaled by bound/s into the range of the data. It is for data in pixels, not for latents.

    diffusers (``thresholding=True``) besides cuts s at ``sample_max_value``, our ``maximum``. Its default of 1 leaves
    nothing to scale: that is :class:`Threshold`. In dpm-solver's code ``thresholding_max_val`` is the least s, and the
    result is scaled to [-1, 1] whatever it is; at its default of 1 both are ours.

    Args:
        denoiser: the denoiser inside.
        ratio: the quantile, within (0, 1).
        bound: data lie in [-bound, bound].
        maximum: the largest s, at least bound.
    """

    def __init__(
        self, denoiser: BaseDenoiser, ratio: float = 0.995, bound: float = 1.0, maximum: float = math.inf
    ) -> None:
        super().__init__(denoiser)
        _check_bound(bound)
        if not 0.0 < ratio < 1.0:
            raise ValueError(f"ratio must be within (0, 1), got {ratio}")
        if not maximum >= bound:
            raise ValueError(f"maximum must be at least bound={bound}, got {maximum}")
        self.ratio, self.bound, self.maximum = ratio, bound, maximum

    def __call__(self, x: Tensor, t: float | Tensor, **cond: Any) -> Tensor:
        """The thresholded prediction; see :class:`scoresde.denoiser.BaseDenoiser`."""
        x0 = self.inner(x, t, **cond)
        wide = x0.to(torch.promote_types(x0.dtype, torch.float32))  # half precision has no quantile
        s = wide.abs().flatten(1).quantile(self.ratio, dim=1).clamp(self.bound, self.maximum)
        s = s.reshape(-1, *(1,) * (x0.ndim - 1))
        return (wide.clamp(-s, s) * (self.bound / s)).to(x0.dtype)

    def __repr__(self) -> str:
        return f"DynamicThreshold({self.inner!r}, ratio={self.ratio}, bound={self.bound}, maximum={self.maximum})"


def _check_bound(bound: float) -> None:
    if not (bound > 0.0 and math.isfinite(bound)):
        raise ValueError(f"bound must be positive and finite, got {bound}")
