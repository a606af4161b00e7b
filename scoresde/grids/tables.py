"""Grids that are a published table of noise levels, optimised for one network; other step counts are interpolated.

The levels are those of the table wherever the process has them; where it begins below the first or ends above the last
one it keeps its own ends, and where it begins above the first one the grid begins there, unless that is pure noise.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import cache

import torch

from scoresde.grids.flow import level, time_at_level
from scoresde.grids.spacing import spaced, time_at_rho
from scoresde.sde import SDE, DiscreteVP

# sigma / alpha, for 10 steps.
AYS_SD15 = (14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029)
AYS_SDXL = (14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029)
AYS_SVD = (700.0, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034, 0.002)

# The time of rectified flow, for 10, 20 and 40 steps.
OSS_FLUX = (0.9968, 0.9886, 0.9819, 0.975, 0.966, 0.9471, 0.9158, 0.8287, 0.5512, 0.2808, 0.001)
OSS_WAN = (
    *(1.0, 0.997, 0.995, 0.993, 0.991, 0.989, 0.987, 0.985, 0.98, 0.975, 0.973, 0.968, 0.96, 0.946, 0.927, 0.902),
    *(0.864, 0.776, 0.539, 0.208, 0.001),
)
OSS_CHROMA = (
    *(0.992, 0.99, 0.988, 0.985, 0.982, 0.978, 0.973, 0.968, 0.961, 0.953, 0.943, 0.931, 0.917, 0.9, 0.881, 0.858),
    *(0.832, 0.802, 0.769, 0.731, 0.69, 0.646, 0.599, 0.55, 0.501, 0.451, 0.402, 0.355, 0.311, 0.27, 0.232, 0.199),
    *(0.169, 0.143, 0.12, 0.101, 0.084, 0.07, 0.058, 0.048, 0.001),
)

# For 2 to 20 steps of coefficient 1.2, the inner levels: hundredths of the way from the first index of the trained
# table of Stable Diffusion to its last.
GITS = (
    (29,),
    (49, 18),
    (61, 33, 11),
    (66, 42, 21, 6),
    (83, 57, 34, 15, 3),
    (83, 62, 42, 23, 8, 1),
    (83, 62, 45, 29, 15, 6, 1),
    (83, 66, 50, 34, 21, 11, 4, 1),
    (83, 66, 51, 38, 27, 17, 9, 4, 1),
    (83, 67, 54, 42, 30, 21, 13, 7, 3, 1),
    (83, 68, 56, 45, 34, 25, 17, 11, 6, 3, 1),
    (86, 71, 61, 49, 38, 29, 21, 15, 10, 6, 3, 1),
    (86, 71, 62, 50, 40, 31, 23, 17, 12, 8, 5, 3, 1),
    (88, 78, 68, 58, 48, 38, 30, 23, 17, 12, 8, 5, 3, 1),
    (88, 78, 68, 58, 48, 38, 30, 23, 17, 13, 9, 6, 4, 2, 1),
    (88, 78, 68, 58, 48, 38, 30, 23, 17, 13, 10, 7, 5, 3, 2, 1),
    (88, 78, 68, 59, 50, 41, 33, 26, 20, 15, 11, 8, 6, 4, 3, 2, 1),
    (88, 78, 68, 59, 50, 42, 34, 27, 21, 16, 12, 9, 7, 5, 4, 3, 2, 1),
    (88, 78, 68, 59, 50, 42, 34, 27, 21, 17, 13, 10, 8, 6, 5, 4, 3, 2, 1),
)


def tabled(
    sde: SDE,
    steps: int,
    start: float,
    end: float,
    table: Sequence[float],
    measure: Callable[[SDE, float], float] = lambda sde, t: sde.rho(t),
    time: Callable[[SDE, float], float] = time_at_rho,
) -> list[float]:
    """Equally spaced in the place in a falling table, between whose entries the logarithm is linear.

    Args:
        table: values of ``measure``, of which ``time`` is the inverse.
    """
    logs = [math.log(v) for v in table]
    last = len(table) - 1

    def place(value: float) -> float:
        i = min(max(bisect_right(logs, -math.log(value), key=lambda v: -v) - 1, 0), last - 1)
        return i + (logs[i] - math.log(value)) / (logs[i] - logs[i + 1])

    def value(u: float) -> float:
        i = min(int(u), last - 1)
        return math.exp(logs[i] + (u - i) * (logs[i + 1] - logs[i]))

    high, low = measure(sde, start), measure(sde, end)
    if low >= table[0] or high <= table[-1]:
        raise ValueError(
            f"the table's levels, {table[0]} to {table[-1]}, do not meet those from t={start} to {end} of {sde!r}: "
            f"{high:.4g} to {low:.4g}"
        )
    first = start if high <= table[0] or sde.alpha(start) == 0.0 else time(sde, table[0])
    final = end if low >= table[-1] or end == 0.0 else time(sde, table[-1])
    a = 0.0 if high >= table[0] else place(high)
    b = float(last) if low <= table[-1] else place(low)
    inner = spaced(steps, a, b, lambda u: u, lambda u: u)[1:-1]
    return [first, *(time(sde, value(u)) for u in inner), final]


def ays_sd15(sde: SDE, steps: int, start: float, end: float) -> list[float]:
    """The 10 steps optimised for Stable Diffusion 1.5; other counts by log-linear interpolation.

    Sabour, Fidler & Kreis 2024, "Align Your Steps" (arXiv:2404.14507), with the numbers of their page
    (research.nvidia.com/labs/toronto-ai/AlignYourSteps/howto.html).
    """
    return tabled(sde, steps, start, end, AYS_SD15)


def ays_sdxl(sde: SDE, steps: int, start: float, end: float) -> list[float]:
    """As "ays-sd15", optimised for Stable Diffusion XL."""
    return tabled(sde, steps, start, end, AYS_SDXL)


def ays_svd(sde: SDE, steps: int, start: float, end: float) -> list[float]:
    """As "ays-sd15", optimised for Stable Video Diffusion (sigma from 700 to 0.002)."""
    return tabled(sde, steps, start, end, AYS_SVD)


def oss_flux(sde: SDE, steps: int, start: float, end: float) -> list[float]:
    """The 10 steps found for FLUX; other counts by log-linear interpolation.

    Pei, Hu & Gu 2025, "Optimal Stepsize for Diffusion Sampling" (arXiv:2503.21774), with the numbers of ComfyUI's
    ``OptimalStepsScheduler``: times of rectified flow after the model's shift, here the level sigma/(alpha + sigma).
    """
    return tabled(sde, steps, start, end, OSS_FLUX, level, time_at_level)


def oss_wan(sde: SDE, steps: int, start: float, end: float) -> list[float]:
    """As "oss-flux", 20 steps for Wan."""
    return tabled(sde, steps, start, end, OSS_WAN, level, time_at_level)


def oss_chroma(sde: SDE, steps: int, start: float, end: float) -> list[float]:
    """As "oss-flux", 40 steps for Chroma."""
    return tabled(sde, steps, start, end, OSS_CHROMA, level, time_at_level)


def gits(sde: SDE, steps: int, start: float, end: float) -> list[float]:
    """Steps found by dynamic programming on Stable Diffusion 1.5, a table for each count from 2 to 20.

    Chen et al. 2024, "On the Trajectory Regularity of ODE-based Diffusion Sampling" (arXiv:2405.11326), with the tables
    of coefficient 1.2, the default of ComfyUI's ``GITSScheduler``; above 20 by log-linear interpolation of the last.
    """
    inner = GITS[min(max(steps, 2), len(GITS) + 1) - 2]
    trained = _stable_diffusion()
    table = [trained.rho((1 + 9.99 * k) / trained.n) for k in (100, *inner, 0)]
    return tabled(sde, steps, start, end, table)


@cache
def _stable_diffusion() -> DiscreteVP:
    return DiscreteVP.from_betas(torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2)
