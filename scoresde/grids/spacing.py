r"""Grids that are equally spaced in some coordinate: time, :math:`\lambda`, a power of
:math:`\rho = \sigma/\alpha`, an angle, the time of another process."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

from scoresde.sde import SDE, VP, CosineVP


def spaced(
    steps: int, start: float, end: float, coordinate: Callable[[float], float], time: Callable[[float], float]
) -> list[float]:
    """Times equally spaced in a coordinate (of which ``time`` is the inverse); the ends are exactly start and end."""
    a, b = coordinate(start), coordinate(end)
    return [start, *(time(a + (b - a) * (i / steps)) for i in range(1, steps)), end]


def positive(**options: float) -> None:
    """Raise ValueError for an option that is not positive and finite."""
    for name, value in options.items():
        if not (value > 0 and math.isfinite(value)):
            raise ValueError(f"{name} must be positive and finite, got {value}")


def time_at_rho(sde: SDE, rho: float) -> float:
    """The time at which sigma/alpha is rho."""
    return sde.t_at_lam(-math.log(rho))


def within(sde: SDE, start: float, end: float, high: float, low: float) -> tuple[float, float]:
    """The ends, moved to where sigma/alpha is ``high`` and ``low`` if they lie beyond these.

    Raises:
        ValueError: the process has none of these levels between start and end.
    """
    if sde.rho(start) <= low or sde.rho(end) >= high:
        raise ValueError(
            f"the grid's levels, sigma/alpha = {high:.4g} to {low:.4g}, do not meet those from t={start} to {end} of "
            f"{sde!r}: {sde.rho(start):.4g} to {sde.rho(end):.4g}"
        )
    start = time_at_rho(sde, high) if sde.rho(start) > high else start
    end = time_at_rho(sde, low) if sde.rho(end) < low else end
    return start, end


def in_time_of(other: SDE, sde: SDE, steps: int, start: float, end: float) -> list[float]:
    """Equally spaced in the time at which another process has the same lambda."""
    return spaced(steps, start, end, lambda t: other.t_at_lam(sde.lam(t)), lambda u: sde.t_at_lam(other.lam(u)))


def uniform(sde: SDE, steps: int, start: float, end: float) -> list[float]:
    """Equally spaced times.

    To t = 0 on a trained table of M steps these are the indices M (1 - i/N) - 1: "simple" of ComfyUI and "trailing" of
    diffusers (Lin et al. 2023, arXiv:2305.08891, Table 2), which round them.
    """
    return spaced(steps, start, end, lambda t: t, lambda t: t)


def quadratic(sde: SDE, steps: int, start: float, end: float, power: float = 2.0) -> list[float]:
    """Equally spaced in t^(1/power): denser near the data.

    The quadratic grid of DDIM (Song et al. 2021, arXiv:2010.02502, appendix D.2) and DEIS (Zhang & Chen 2023,
    arXiv:2204.13902).

    Args:
        power: positive; 1 is uniform.
    """
    positive(power=power)
    return spaced(steps, start, end, lambda t: t ** (1 / power), lambda u: u**power)


def log_snr(sde: SDE, steps: int, start: float, end: float) -> list[float]:
    """Equally spaced in half log-SNR (DPM-Solver, Lu et al. 2022, arXiv:2206.00927).

    In sigma/alpha it is geometric: "exponential" of k-diffusion, "exponential" and "lu" of diffusers, "log" of DEIS.
    """
    return spaced(steps, start, end, sde.lam, sde.t_at_lam)


def polyexponential(sde: SDE, steps: int, start: float, end: float, rho: float = 1.0) -> list[float]:
    r"""A power in log sigma: :math:`\lambda = \lambda_{end} - (\lambda_{end}-\lambda_{start})(1-i/N)^\rho`.

    ``get_sigmas_polyexponential`` of k-diffusion (Crowson).

    Args:
        rho: positive; larger is denser near the data, 1 is "log-snr".
    """
    positive(rho=rho)
    top, bottom = sde.lam(start), sde.lam(end)
    inner = (sde.t_at_lam(bottom + (top - bottom) * (1 - i / steps) ** rho) for i in range(1, steps))
    return [start, *inner, end]


def karras(sde: SDE, steps: int, start: float, end: float, rho: float = 7.0) -> list[float]:
    """Equally spaced in (sigma/alpha)^(1/rho) (Karras et al. 2022, arXiv:2206.00364, eq. 5).

    Args:
        rho: positive; larger is denser near the data, 1 is uniform in sigma/alpha.
    """
    positive(rho=rho)
    return spaced(steps, start, end, lambda t: sde.rho(t) ** (1 / rho), lambda u: sde.t_at_lam(-rho * math.log(u)))


def edm(
    sde: SDE, steps: int, start: float, end: float, rho: float = 7.0, sigma_min: float = 0.002, sigma_max: float = 80.0
) -> list[float]:
    """The grid of EDM whatever the process: Karras between sigma/alpha = 80 and 0.002 (arXiv:2206.00364, Table 1).

    A process that does not reach these levels keeps its own ends.
    """
    positive(sigma_min=sigma_min, sigma_max=sigma_max)
    return karras(sde, steps, *within(sde, start, end, sigma_max, sigma_min), rho)


def vp(
    sde: SDE,
    steps: int,
    start: float,
    end: float,
    beta_min: float = 0.1,
    beta_d: float = 19.9,
    eps_s: float = 1e-3,
) -> list[float]:
    """Equally spaced in the time of :class:`~scoresde.sde.VP`, from its 1 to its ``eps_s``, whatever the process.

    ``get_sigmas_vp`` of k-diffusion, and the VP column of Karras et al. 2022, arXiv:2206.00364, Table 1. A process that
    does not reach these levels keeps its own ends; on VP itself it is "normal".

    Args:
        beta_min, beta_d: beta goes from beta_min to beta_min + beta_d.
        eps_s: the last time before the data.
    """
    other = VP(beta_min, beta_min + beta_d, eps_s)
    return in_time_of(other, sde, steps, *within(sde, start, end, other.rho(1.0), other.rho(eps_s)))


def cosine(sde: SDE, steps: int, start: float, end: float, s: float = 0.008) -> list[float]:
    """Equally spaced in the time of :class:`~scoresde.sde.CosineVP`, whatever the process.

    The levels of Nichol & Dhariwal 2021 (arXiv:2102.09672, eq. 17), which is also the iDDPM column of Karras et al.
    2022, arXiv:2206.00364, Table 1, with neither its rounding to 1000 indices nor its cap at the first of them. As s
    goes to 0 it is "arctan" of scale 1.

    Args:
        s: positive; larger is less dense near the data.
    """
    positive(s=s)
    return in_time_of(CosineVP(s), sde, steps, start, end)


def arctan(sde: SDE, steps: int, start: float, end: float, scale: float = 1.0) -> list[float]:
    """Equally spaced in arctan(sigma / (alpha * scale)).

    Optimal for Euler on data N(0, scale^2) (Sabour, Fidler & Kreis 2024, "Align Your Steps", arXiv:2404.14507, Theorem
    3.1); "kl_optimal" of ComfyUI, which divides by 0 for one step.

    Args:
        scale: standard deviation of the data.
    """
    positive(scale=scale)
    return spaced(
        steps,
        start,
        end,
        lambda t: math.atan(sde.rho(t) / scale),
        lambda u: time_at_rho(sde, scale * math.tan(u)),
    )


def probit(sde: SDE, steps: int, start: float, end: float, scale: float = 3.0) -> list[float]:
    r"""Half log-SNRs that are quantiles of :math:`N(0, scale^2)`: equally spaced in
    :math:`\Phi(-\lambda/scale)`, with :math:`\Phi` the normal distribution function.

    On rectified flow the times are a sigmoid of normal quantiles, as the logit-normal times of training (Esser et al.
    2024, arXiv:2403.03206, section 3.1): "Probit" of skrample, which takes the ends 1e-8 short and rescales.

    Args:
        scale: positive; larger is denser at both ends.
    """
    positive(scale=scale)
    inverse = NormalDist().inv_cdf

    def coordinate(t: float) -> float:
        return 0.5 * math.erfc(sde.lam(t) / (scale * math.sqrt(2)))

    return spaced(steps, start, end, coordinate, lambda u: sde.t_at_lam(-scale * inverse(u)))
