"""Quantiles of the Beta distribution, in float64 without SciPy (which importing scoresde must not load)."""

from __future__ import annotations

import math


def beta_quantile(p: float, a: float, b: float) -> float:
    """The x of [0, 1] below which the Beta(a, b) distribution has mass p; accurate relative to x where x is small.

    Newton's method on the logarithm of the smaller tail, in log(x / (1 - x)), in which that is nearly straight.

    Args:
        p: within [0, 1].
        a, b: positive.
    """
    if p <= 0.0 or p >= 1.0:
        return min(max(p, 0.0), 1.0)
    if p > 0.5:
        return 1.0 - beta_quantile_of_lower(1.0 - p, b, a)
    return beta_quantile_of_lower(p, a, b)


def beta_quantile_of_lower(p: float, a: float, b: float) -> float:
    """The quantile for 0 < p <= 1/2."""
    log_beta = math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
    u = min((math.log(p) + math.log(a) + log_beta) / a, 0.0)  # from the leading term x^a / (a B) of the tail
    if u < -600.0:
        return math.exp(u)  # the next term is smaller by e^u
    low, high = -math.inf, math.inf
    for _ in range(200):
        x, y = 1 / (1 + math.exp(-u)), 1 / (1 + math.exp(u))
        mass = beta_mass(x, y, a, b)
        excess = math.log(mass / p)
        low, high = (u, high) if excess < 0 else (low, u)
        density = math.exp(a * math.log(x) + b * math.log(y) - log_beta)  # with respect to u
        new = u - excess * mass / density
        if not low < new < high:
            new = 0.5 * (low + high) if math.isfinite(low + high) else u - math.copysign(1.0, excess)
        if abs(new - u) <= 1e-15 * max(1.0, abs(u)):
            break
        u = new
    return 1 / (1 + math.exp(-u))


def beta_mass(x: float, y: float, a: float, b: float) -> float:
    """The regularised incomplete beta function at x = 1 - y, by its continued fraction (Lentz's method; NIST, DLMF
    8.17.22)."""
    if x > (a + 1) / (a + b + 2):  # where the fraction of the other tail converges faster
        return 1.0 - beta_mass(y, x, b, a)
    log_beta = math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
    tiny = 1e-300
    value, c, d = 1.0, 1.0, 0.0
    for m in range(1000):
        if m == 0:
            term = 1.0
        elif m % 2:
            k = (m - 1) // 2
            term = -(a + k) * (a + b + k) * x / ((a + 2 * k) * (a + 2 * k + 1))
        else:
            k = m // 2
            term = k * (b - k) * x / ((a + 2 * k - 1) * (a + 2 * k))
        d = 1 / (1 + term * d or tiny)
        c = 1 + term / c or tiny
        value *= c * d
        if m > 0 and abs(c * d - 1) < 1e-16:
            break
    return math.exp(a * math.log(x) + b * math.log(y) - log_beta) / a * (value - 1.0)
