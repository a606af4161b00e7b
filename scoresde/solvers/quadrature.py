"""Integrals without a closed form, to rounding, on the host: Gauss–Legendre on panels."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

NODES = 24
PANEL = 1.0


@cache
def gauss_legendre(n: int = NODES) -> tuple[tuple[float, float], ...]:
    """Nodes and weights of the n-point rule on [-1, 1], by Newton's method on the Legendre polynomial."""
    rule = []
    for i in range(n):
        x = math.cos(math.pi * (i + 0.75) / (n + 0.5))
        slope = 1.0
        for _ in range(8):  # quadratic convergence from this start: three rounds reach rounding
            p0, p1 = 1.0, x
            for k in range(2, n + 1):
                p0, p1 = p1, ((2 * k - 1) * x * p1 - (k - 1) * p0) / k
            slope = n * (x * p1 - p0) / (x * x - 1)
            x -= p1 / slope
        rule.append((x, 2 / ((1 - x * x) * slope * slope)))
    return tuple(rule)


def integrate_log(f: Callable[[float], float], low: float, high: float) -> float:
    """The integral of f from low to high, both positive, in the variable log x on panels of at most unit length.

    Accurate to rounding for functions that are smooth in log x, such as powers.
    """
    a, b = math.log(low), math.log(high)
    panels = max(1, math.ceil((b - a) / PANEL))
    half = 0.5 * (b - a) / panels
    total = []
    for j in range(panels):
        middle = a + (2 * j + 1) * half
        for node, weight in gauss_legendre():
            x = math.exp(middle + half * node)
            total.append(weight * x * f(x))
    return half * math.fsum(total)
