r"""What stochastic solvers share: aim at a colder point than asked for, then add the noise that is missing.

A step from s to t that renews part of the noise is the deterministic step to a point with the same :math:`\alpha_t` and
only :math:`\kappa\sigma_t` of noise, followed by :math:`\sigma_t\sqrt{1-\kappa^2}\,z`. The methods differ in the kept
fraction :math:`\kappa`, with :math:`h = \lambda_t - \lambda_s`:

- :func:`ancestral`: :math:`\kappa^2 = 1 - \eta^2(1 - e^{-2h})`, a share of the posterior's variance (DDIM, Song, Meng &
  Ermon 2021, arXiv:2010.02502, eq. 16; k-diffusion's ancestral samplers);
- :func:`flow_ancestral`: what ComfyUI's ancestral samplers do on a rectified flow;
- :func:`reverse_sde`: :math:`\kappa = e^{-\eta h}`, the exact solution of
  :math:`dx = (f x - \frac{1+\eta}{2} g^2 s)\,dt + \sqrt\eta\,g\,dw` for a constant prediction of :math:`x_0`
  (SDE-DPM-Solver++, Lu et al. 2022, arXiv:2211.01095; the family is that of Zhang & Chen 2023, arXiv:2204.13902);
- ER-SDE: :math:`\kappa = g(\rho_t)/g(\rho_s)` with :math:`g(\rho) = \phi(\rho)/\rho`;
- LCM keeps nothing, and TCD what the process has at a fraction of the time (:mod:`scoresde.solvers.consistency`).

Of the three with an :math:`\eta`, the first and the third agree at :math:`\eta = 1`, and at :math:`\eta = 0` all are
the probability flow. Over a small step the first keeps :math:`1-\eta^2 h` and the others :math:`1 - \eta h`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

from scoresde.rows import Mix, Row, Step
from scoresde.sde import Point
from scoresde.solvers.exponential import exact_step


def ancestral(h: float, eta: float) -> tuple[float, float]:
    """(kept, renewed) fractions of the noise after a step of h, for a share eta of the posterior's deviation."""
    renewed = eta * math.sqrt(-math.expm1(-2 * h))
    return math.sqrt((1 - renewed) * (1 + renewed)), renewed


def reverse_sde(h: float, eta: float) -> tuple[float, float]:
    """(kept, renewed) fractions of the noise after a step of h of the reverse SDE with eta times its noise."""
    return math.exp(-eta * h), math.sqrt(-math.expm1(-2 * eta * h))


def flow_ancestral(s: Point, t: Point, eta: float) -> tuple[float, float]:
    r"""(kept, renewed) fractions of the noise after a step of ComfyUI's ancestral samplers on a rectified flow.

    In its time :math:`c = \sigma/(\alpha+\sigma)` they aim at :math:`c_t(1 - \eta(1 - c_t/c_s))`. Unlike the others
    this keeps some noise, the fraction :math:`c_t/(1+c_t)`, in a full step (eta = 1) from alpha = 0.
    """
    c_s, c_t = (p.sigma / (p.alpha + p.sigma) for p in (s, t))
    back = eta * (1 - c_t / c_s)
    lost = back / (1 - c_t + c_t * back)
    return 1 - lost, math.sqrt(lost * (2 - lost))


# How a solver with eta divides the noise of the step from s to t into (kept, renewed) fractions.
RENEWALS: dict[str, Callable[[Point, Point, float], tuple[float, float]]] = {
    "posterior": lambda s, t, eta: ancestral(t.lam - s.lam, eta),
    "flow": flow_ancestral,
}


def path_noises(kind: str, points: Sequence[Point], eta: float, s_noise: float) -> list[tuple[tuple[int, float], ...]]:
    """The noise of the reverse SDE at each point of a path but the first, where it is 0; number k is of the k-th piece.

    Between two points the noise so far decays as the state does, and independent noise is added.
    """
    noises: list[tuple[tuple[int, float], ...]] = [()]
    for k, (s, t) in enumerate(pairwise(points)):
        (a, *_), added = sde_step(kind, s, t, 1, eta)
        noises.append((*((i, a * c) for i, c in noises[-1]), *noise(k, s_noise * added)))
    return noises[1:]


def renewing_rows(
    step: Step, fractions: tuple[float, float], s_noise: float, rows: Callable[[Step], Sequence[Row]]
) -> list[Row]:
    """The rows of a deterministic step, made to a colder point of the process with noise number 0 in their last mix.

    Args:
        step: the step.
        fractions: of the noise that are kept and renewed.
        s_noise: factor on the noise that is added.
        rows: of the deterministic solver, whose inner points need levels of the process.
    """
    kept, renewed = fractions
    t, cold = step.t, step.sde.point_at_lam(step.t.lam - math.log(kept))
    *inner, row = rows(replace(step, t=cold))
    c, m = t.alpha / cold.alpha, row.x
    mix = Mix(c * m.x, c * m.anchor, tuple(c * d for d in m.d), noise(0, s_noise * t.sigma * renewed))
    return [*inner, row._replace(x=mix)]


def cooled(t: Point, kept: float) -> Point:
    """The point to aim at: t with this fraction of its noise."""
    return t._replace(sigma=kept * t.sigma)


def noise(k: int, deviation: float) -> tuple[tuple[int, float], ...]:
    """The noises of a mix: number k with this standard deviation, or none where it is 0."""
    return ((k, deviation),) if deviation else ()


def sde_step(kind: str, s: Point, t: Point, order: int, eta: float) -> tuple[tuple[float, ...], float]:
    r"""The exact solution of the reverse SDE with eta times its noise, for a polynomial prediction.

    Returns:
        ``(a, I_0, ..., I_{order-1})`` as of :func:`scoresde.solvers.exponential.exact_step`, which this is at eta = 0,
        and the standard deviation of the noise: :math:`\sigma_t\sqrt{1-e^{-2\eta h}}` for data prediction and
        :math:`\sigma_t\sqrt{\eta(e^{2h}-1)}` for noise prediction.
    """
    h = t.lam - s.lam
    if kind == "epsilon":
        a, *integrals = exact_step(kind, s, t, order)
        return (a, *((1 + eta) * i for i in integrals)), t.sigma * math.sqrt(eta * math.expm1(2 * h)) if eta else 0.0
    kept, renewed = reverse_sde(h, eta)
    # The clock of the cooled step runs 1 + eta times as fast, so derivatives by it are as many times smaller.
    a, *integrals = exact_step(kind, s, cooled(t, kept), order)
    return (a, *(i / (1 + eta) ** n for n, i in enumerate(integrals))), t.sigma * renewed


def check_noise(eta: float, s_noise: float, most: float = math.inf) -> None:
    """Validate the two options that stochastic solvers share.

    Raises:
        ValueError: naming the option, what it got and what would be right.
    """
    if not (0.0 <= eta <= most and math.isfinite(eta)):
        right = f"within [0, {most:g}]" if math.isfinite(most) else "finite and at least 0"
        raise ValueError(f"eta must be {right}, got {eta}")
    if not (s_noise >= 0.0 and math.isfinite(s_noise)):
        raise ValueError(f"s_noise must be finite and at least 0, got {s_noise}")
