r"""The mathematics that exponential solvers share: exact integrals of a polynomial prediction over one step.

The probability-flow ODE is linear in x up to the network's prediction m, and solved exactly over a step s → t by

.. math:: x_t = a\,x_s + \sum_n I_n\, m^{(n)}(\lambda_s)

if m is a polynomial in :math:`\lambda`, with :math:`h = \lambda_t - \lambda_s` and

- data prediction: :math:`a = \sigma_t/\sigma_s`,
  :math:`I_n = \sigma_t\int e^{\lambda}\frac{(\lambda-\lambda_s)^n}{n!}d\lambda = \alpha_t h^{n+1}\varphi_{n+1}(-h)`
- noise prediction: :math:`a = \alpha_t/\alpha_s`,
  :math:`I_n = -\alpha_t\int e^{-\lambda}\frac{(\lambda-\lambda_s)^n}{n!}d\lambda = -\sigma_t h^{n+1}\varphi_{n+1}(h)`

(Lu et al. 2022, arXiv:2206.00927, eq. 3.4, and arXiv:2211.01095, eq. 9.) Every DPM-Solver is a choice of finite
differences for the derivatives :math:`m^{(n)}`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from scoresde.errors import choose
from scoresde.sde import Point

# Below this |z| the series is used: the recurrence would divide differences of nearly equal numbers by z.
_SERIES_BELOW = 1.0
_SERIES_TERMS = 20


def phi(n: int, z: float) -> float:
    r"""The function :math:`\varphi_n(z) = \int_0^1 e^{(1-\theta)z}\,\theta^{n-1}/(n-1)!\,d\theta`, with
    :math:`\varphi_0 = e^z`.

    Accurate to a few units in the last place for every real z.
    """
    if n == 0:
        return math.exp(z)
    if n == 1:
        return math.expm1(z) / z if z else 1.0
    if abs(z) < _SERIES_BELOW:
        return math.fsum(z**j / math.factorial(j + n) for j in range(_SERIES_TERMS))
    return (phi(n - 1, z) - 1.0 / math.factorial(n - 1)) / z


# kind -> (a, c, sign) with I_n = c h^(n+1) phi_(n+1)(sign h).
KINDS = {
    "x0": lambda s, t: (t.sigma / s.sigma, t.alpha, -1.0),
    "epsilon": lambda s, t: (t.alpha / s.alpha, -t.sigma, 1.0),
}


def exact_step(kind: str, s: Point, t: Point, order: int = 1) -> tuple[float, ...]:
    """``(a, I_0, ..., I_{order-1})`` of the step from s to t, for a prediction of this kind.

    Raises:
        ValueError: the kind has no closed form here.
    """
    a, c, sign = choose(kind, KINDS, "kind")(s, t)
    h = t.lam - s.lam
    first = c * sign * math.expm1(sign * h)  # = c h phi_1, and finite where h is not
    return (a, first, *(c * h ** (n + 1) * phi(n + 1, sign * h) for n in range(1, order)))


def interpolation_weights(nodes: Sequence[float], integrals: Sequence[float]) -> tuple[float, ...]:
    r"""Weights of predictions made at several points, exact for the polynomial through them.

    Args:
        nodes: :math:`\lambda_j - \lambda_s` of the k points, all different.
        integrals: :math:`I_0 \ldots I_{k-1}` of :func:`exact_step`.

    Returns:
        k weights w with :math:`\sum_j w_j\,p(\lambda_j) = \sum_n I_n\,p^{(n)}(\lambda_s)` for every polynomial of
        degree below k, from the coefficients of Lagrange's basis.
    """
    weights = []
    for j, u in enumerate(nodes):
        basis = [1.0]  # of the basis polynomial of node j: ascending powers
        for i, v in enumerate(nodes):
            if i != j:
                shifted = [0.0, *basis]
                basis = [(up - v * c) / (u - v) for up, c in zip(shifted, [*basis, 0.0], strict=True)]
        weights.append(
            math.fsum(c * math.factorial(n) * i for n, (c, i) in enumerate(zip(basis, integrals, strict=True)))
        )
    return tuple(weights)


def order_of_step(order: int, last_steps: tuple[int, ...], remaining: int) -> int:
    """The order to use in a step with ``remaining`` steps to the end, itself counted."""
    return min(order, last_steps[-remaining]) if remaining <= len(last_steps) else order


def check_orders(order: int, orders: range, last_steps: tuple[int, ...]) -> None:
    """Validate the two options that every exponential solver has.

    Raises:
        ValueError: naming the option, what it got and what would be right.
    """
    if order not in orders:
        raise ValueError(f"order must be one of {list(orders)}, got {order!r}")
    if not (isinstance(last_steps, tuple) and all(o in orders for o in last_steps)):
        raise ValueError(f"order_of_last_steps must be a tuple of orders among {list(orders)}, got {last_steps!r}")
