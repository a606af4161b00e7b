"""k-diffusion's schedules of noise levels, from the grids of this package: n levels and a 0."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from scoresde.errors import check_positive_int
from scoresde.grids import get_grid
from scoresde.sde import EDM, SDE, VP


def get_sigmas_karras(
    n: int, sigma_min: float, sigma_max: float, rho: float = 7.0, device: str | torch.device = "cpu"
) -> Tensor:
    """Equally spaced in sigma^(1/rho) (Karras et al. 2022, arXiv:2206.00364, eq. 5).

    Args:
        n: positive noise levels.
        sigma_min, sigma_max: the last and the first of them.
        rho: larger is denser near the data.
        device: of the result.

    Returns:
        n + 1 decreasing levels, the last one 0, in torch's default dtype.

    Raises:
        ValueError: n below 1, or not 0 < sigma_min < sigma_max.
    """
    return _levels("karras", EDM(float(sigma_min), float(sigma_max)), n, device, rho=rho)


def get_sigmas_exponential(n: int, sigma_min: float, sigma_max: float, device: str | torch.device = "cpu") -> Tensor:
    """Geometric; arguments, result and errors as of :func:`get_sigmas_karras`."""
    return _levels("log-snr", EDM(float(sigma_min), float(sigma_max)), n, device)


def get_sigmas_polyexponential(
    n: int, sigma_min: float, sigma_max: float, rho: float = 1.0, device: str | torch.device = "cpu"
) -> Tensor:
    """A power in log sigma; arguments, result and errors as of :func:`get_sigmas_karras`."""
    return _levels("polyexponential", EDM(float(sigma_min), float(sigma_max)), n, device, rho=rho)


def get_sigmas_vp(
    n: int, beta_d: float = 19.9, beta_min: float = 0.1, eps_s: float = 1e-3, device: str | torch.device = "cpu"
) -> Tensor:
    """Equally spaced in the time of a variance-preserving process, from 1 to ``eps_s``.

    Args:
        n: positive noise levels.
        beta_d, beta_min: beta goes from beta_min to beta_min + beta_d.
        eps_s: the last time.
        device: of the result.

    Returns, raises: as of :func:`get_sigmas_karras`.
    """
    return _levels("uniform", VP(beta_min, beta_min + beta_d, eps_s), n, device)


def _levels(grid: str, sde: SDE, n: int, device: str | torch.device, **options: float) -> Tensor:
    steps = check_positive_int(n, "n") - 1
    times: Sequence[float] = get_grid(grid, sde, steps, end="eps", **options) if steps else (sde.T,)
    levels = [*map(sde.rho, times), 0.0]
    if not all(map(math.isfinite, levels)):
        raise ValueError(f"the noise levels are not finite: {levels[0]}, ...")
    return torch.tensor(levels, device=device)
