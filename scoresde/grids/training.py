"""Grids that others define on a trained table of M steps, in normalised time and without their rounding.

Index k of the table is the time t = (k + 1)/M, as in :class:`~scoresde.sde.DiscreteVP`; so t = 1 is the last index, and
index 0 is 1/M = ``sde.eps``. That is how they carry over to every process: M - 1 stands for ``sde.T`` and 0 for
``sde.eps``. "simple" and "trailing" are :func:`~scoresde.grids.spacing.uniform`. "normal" (ComfyUI; "linspace" of
diffusers' DDIM and Euler) is equally spaced to index 0, and then 0. "sgm-uniform" (ComfyUI; "linspace" of diffusers'
DPM-Solver and UniPC) has index 0 replaced by 0.
"""

from __future__ import annotations

from scoresde.grids.quantile import beta_quantile
from scoresde.grids.spacing import positive, time_at_rho, uniform
from scoresde.sde import SDE


def normal(sde: SDE, steps: int, start: float, end: float) -> list[float]:
    """Equally spaced times to ``sde.eps`` in a step fewer, then 0: "normal" of ComfyUI.

    Also "linspace" of diffusers' DDIM, Euler, Heun and PNDM.
    """
    return uniform(sde, steps, start, end)


def sgm_uniform(sde: SDE, steps: int, start: float, end: float) -> list[float]:
    """Equally spaced times to ``sde.eps``, which 0 replaces: "sgm_uniform" of ComfyUI.

    Also "linspace" of diffusers' DPM-Solver, DEIS, UniPC and SA-Solver.
    """
    return uniform(sde, steps, start, end)


def leading(sde: SDE, steps: int, start: float, end: float, offset: float = 1.0, spare: int = 0) -> list[float]:
    """Equally spaced times of which the noisiest is left out, all a little raised: "leading" of diffusers.

    The indices are j M/N + offset for j = N-1, ..., 0. It starts a stride below ``sde.T``, from a state that is not
    quite noise: the flaw that Lin et al. 2023 (arXiv:2305.08891, Table 2) found in it. It is the default of diffusers'
    DDIM and PNDM, and "ddim_uniform" of ComfyUI. A single step goes from ``sde.T``, where theirs would be all but over.

    Args:
        offset: diffusers' ``steps_offset``, at least 0: 1 for Stable Diffusion. The times are raised by (1 + offset)
            ``sde.eps``, or a stride if that is less.
        spare: 1 for diffusers' DPM-Solver, DEIS, UniPC and SA-Solver, which leave a stride out at the data end too.
    """
    if not offset >= 0:
        raise ValueError(f"offset must be at least 0, got {offset}")
    if spare not in (0, 1):
        raise ValueError(f"spare must be 0 or 1, got {spare}")
    if steps == 1:
        return [start, end]
    stride = (start - end) / (steps + spare)
    rise = min((1 + offset) * sde.eps, stride)
    return [*(end + (steps + spare - 1 - i) * stride + rise for i in range(steps)), end]


def beta(sde: SDE, steps: int, start: float, end: float, alpha: float = 0.6, beta: float = 0.6) -> list[float]:
    """Times that are quantiles of a Beta distribution: denser at both ends.

    Lee et al. 2024, "Beta Sampling is All You Need" (arXiv:2407.12173); "beta" of ComfyUI, which rounds them and drops
    those that coincide. "beta57" has alpha = 0.5, beta = 0.7 (RES4LYF).

    Args:
        alpha: positive; smaller is denser near the data.
        beta: positive; smaller is denser near pure noise.
    """
    positive(alpha=alpha, beta=beta)
    inner = (end + (start - end) * beta_quantile(1 - i / steps, alpha, beta) for i in range(1, steps))
    return [start, *inner, end]


def beta_rho(sde: SDE, steps: int, start: float, end: float, alpha: float = 0.6, beta: float = 0.6) -> list[float]:
    """Values of sigma/alpha (not times) that are quantiles of a Beta distribution: ``use_beta_sigmas`` of diffusers.

    On rectified flow diffusers takes the flow's own sigma, which is time: that is "beta".

    Args:
        alpha, beta: positive; as for "beta".
    """
    positive(alpha=alpha, beta=beta)
    high, low = sde.rho(start), sde.rho(end)
    inner = (low + (high - low) * beta_quantile(1 - i / steps, alpha, beta) for i in range(1, steps))
    return [start, *(time_at_rho(sde, rho) for rho in inner), end]
