r"""Exponential Runge–Kutta methods as data: weights that are combinations of phi functions.

With :math:`\varphi_k` of :mod:`scoresde.solvers.exponential` and z the step times the linear part of the equation, a
method has weights :math:`a_{ij}(z)` and :math:`b_i(z)`, each a sum of terms :math:`f\,\varphi_k(c z)`. Those of the
first stage follow from :math:`\sum_j a_{ij}(z) = c_i\varphi_1(c_i z)` and :math:`\sum_i b_i(z) = \varphi_1(z)`, which
make a constant prediction exact, so a :class:`Scheme` has those of the others only.

The stiff order is what remains of the order if the linear part is unbounded (Hochbruck & Ostermann 2005, SIAM J. Numer.
Anal. 43, 1069, up to order 4; Luan & Ostermann 2014 for order 5).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from scoresde.solvers.exponential import interpolation_weights, phi
from scoresde.solvers.tableaus import Tableau, check_tableau

_phi = lru_cache(maxsize=4096)(phi)  # one step asks for the same few values many times


@dataclass(frozen=True)
class Phis:
    """A function of z: the sum of factor * phi_k(c z) over its terms (factor, k, c)."""

    terms: tuple[tuple[float, int, float], ...] = ()

    def __call__(self, z: float) -> float:
        """Its value at z."""
        return math.fsum(factor * _phi(k, c * z) for factor, k, c in self.terms)

    def __add__(self, other: Phis) -> Phis:
        return Phis(self.terms + other.terms)

    def __sub__(self, other: Phis) -> Phis:
        return self + -1 * other

    def __rmul__(self, factor: float) -> Phis:
        return Phis(tuple((factor * f, k, c) for f, k, c in self.terms))


def p(k: int, c: float = 1.0) -> Phis:
    """phi_k(c z)."""
    return Phis(((1.0, k, c),))


NONE = Phis()


class Scheme(NamedTuple):
    """An explicit exponential Runge–Kutta method: its weights as functions of z.

    Attributes:
        order: the classical order.
        stiff_order: the order of the stiff conditions that it meets, the highest of them with b(0) in place of b(z).
        c: where the stages are, as fractions of the step in half log-SNR; the first is 0.
        a: for each stage the weights of the stages before it but the first, so the first two are ().
        b: weights of all stages but the first.
        paper: where it is from.
    """

    order: int
    stiff_order: int
    c: tuple[float, ...]
    a: tuple[tuple[Phis, ...], ...]
    b: tuple[Phis, ...]
    paper: str = ""

    def weights(self, z: float) -> list[list[float]]:
        """a and b at z, with those of the first stage: a row for each stage but the first, and one for the step."""
        rows = []
        for c, others in zip((*self.c[1:], 1.0), (*self.a[1:], self.b), strict=True):
            values = [weight(z) for weight in others]
            rows.append([math.fsum([c * _phi(1, c * z), *(-v for v in values)]), *values])
        return rows

    @property
    def tableau(self) -> Tableau:
        """The Runge–Kutta method that it is where there is no linear part, at z = 0."""
        *a, b = map(tuple, self.weights(0.0))
        return Tableau(self.order, ((), *a), b, self.paper)


def check_scheme(scheme: Scheme) -> None:
    """Validate a user's scheme.

    Raises:
        ValueError: its lengths do not match, a stage is outside the step, or at z = 0 it does not have its order.
    """
    stages = len(scheme.c)
    lengths = [*map(len, scheme.a), len(scheme.b)]
    if not stages or scheme.c[0] != 0.0 or lengths != [0, *range(stages)]:
        raise ValueError(
            f"method: a scheme of {stages} stages has c = 0, ... and weights of all stages but the first, "
            f"{[0, *range(stages)]} of them in the rows of a and in b; got c={scheme.c} and {lengths}"
        )
    check_tableau(scheme.tableau)


def res_2s(c2: float = 1 / 2) -> Scheme:
    """Two stages, order 2 for any c2 (Hochbruck & Ostermann 2005, section 5)."""
    return Scheme(2, 2, (0.0, c2), ((), ()), (1 / c2 * p(2),), "Zhang et al. 2023, arXiv:2308.02157")


def res_3s(c2: float = 1 / 2, c3: float = 1.0) -> Scheme:
    """Three stages, order 3 for any c2 and c3 that differ, c2 not 2/3 (the same)."""
    b2, b3 = parabola_weights(c2, c3)
    a32 = b2 / b3 * c2 * p(2, c2) + c3**2 / c2 * p(2, c3)
    b = (b2 * p(2), b3 * p(2))
    return Scheme(3, 3, (0.0, c2, c3), ((), (), (a32,)), b, "Zhang et al. 2023, arXiv:2308.02157")


def parabola_weights(c2: float, c3: float, official: bool = False) -> tuple[float, float]:
    """Factors of phi_2 in the weights of predictions at c2 and c3: exact for a straight line, and for a parabola up to
    the highest order of the step.

    Public code has c3^3 where c3^2 belongs, which is the same at c3 = 1 only; ``official`` follows it.
    """
    e = c3**2 if official else c3
    return (3 * e - 2) / (3 * c2 * (e - c2)), (2 - 3 * c2) / (3 * c3 * (e - c2))


def in_levels(order: int, levels: Sequence[Sequence[float]], paper: str) -> Scheme:
    """Stages in levels: each integrates the polynomial through the prediction at the start and those of the level
    before, and so does the step (Luan 2021). The stages of a level do not need one another."""
    nodes: tuple[float, ...] = (0.0,)
    a: list[tuple[Phis, ...]] = [()]
    before: Sequence[float] = ()
    for level in levels:
        a += [(NONE,) * (len(nodes) - 1 - len(before)) + _through(before, c) for c in level]
        nodes, before = (*nodes, *level), level
    # A stage has weights for all stages before it: those of its own level are none.
    rows = tuple(row + (NONE,) * (i - 1 - len(row)) for i, row in enumerate(a))
    b = (NONE,) * (len(nodes) - 1 - len(before)) + _through(before, 1.0)
    return Scheme(order, order, nodes, rows, b, paper)


def _through(nodes: Sequence[float], c: float) -> tuple[Phis, ...]:
    """Weights of the predictions at the nodes, for the integral to c of the polynomial through them and the start."""
    basis = []  # for each derivative at the start: what the predictions contribute to it
    for n in range(1 + len(nodes)):
        unit = [float(i == n) for i in range(1 + len(nodes))]
        basis.append(interpolation_weights((0.0, *nodes), unit)[1:])
    return tuple(
        Phis(tuple((w * c ** (n + 1), n + 1, c) for n, w in enumerate(column) if w))
        for column in zip(*basis, strict=True)
    )


def _hochbruck_ostermann() -> Scheme:
    a52 = 1 / 2 * p(2, 1 / 2) - p(3) + 1 / 4 * p(2) - 1 / 2 * p(3, 1 / 2)
    return Scheme(
        4,
        4,
        (0.0, 1 / 2, 1 / 2, 1.0, 1 / 2),
        ((), (), (p(2, 1 / 2),), (p(2), p(2)), (a52, a52, 1 / 4 * p(2, 1 / 2) - a52)),
        (NONE, NONE, 4 * p(3) - p(2), 4 * p(2) - 8 * p(3)),
        "Hochbruck & Ostermann 2005, SIAM J. Numer. Anal. 43, 1069",
    )


def _luan_ostermann() -> Scheme:
    c6, c7 = 1 / 5, 2 / 3
    a64 = 8 / 25 * p(2, c6) - 32 / 125 * p(3, c6)
    a65 = 16 / 125 * p(3, c6) - 2 / 25 * p(2, c6)
    a74 = -125 / 162 * a64
    a75 = 125 / 1944 * a64 - 16 / 27 * p(2, c7) + 320 / 81 * p(3, c7)
    a76 = 3125 / 3888 * a64 + 100 / 27 * p(2, c7) - 800 / 81 * p(3, c7)
    shared = 5 / 32 * a64 - 1 / 28 * p(2, c6) + 36 / 175 * p(2, c7) - 48 / 25 * p(3, c7)
    shared += 6 / 175 * p(4, c6) + 192 / 35 * p(4, c7) + 6 * p(4)
    a85 = 208 / 3 * p(3) - 16 / 3 * p(2) - 40 * shared
    a86 = 250 / 21 * p(2) - 250 / 3 * p(3) + 250 / 7 * shared
    a87 = 27 / 14 * p(2) - 27 * p(3) + 135 / 7 * shared
    a = (
        (),
        (),
        (1 / 2 * p(2, 1 / 2),),
        (NONE, 1 / 8 * p(2, 1 / 4)),
        (NONE, 2 * p(3, 1 / 2) - 1 / 2 * p(2, 1 / 2), 2 * p(2, 1 / 2) - 4 * p(3, 1 / 2)),
        (NONE, NONE, a64, a65),
        (NONE, NONE, a74, a75, a76),
        (NONE, NONE, NONE, a85, a86, a87),
    )
    b6 = 125 / 14 * p(2) - 625 / 14 * p(3) + 1125 / 14 * p(4)
    b7 = 162 / 7 * p(3) - 27 / 14 * p(2) - 405 / 7 * p(4)
    b8 = 1 / 2 * p(2) - 13 / 2 * p(3) + 45 / 2 * p(4)
    c = (0.0, 1 / 2, 1 / 2, 1 / 4, 1 / 2, c6, c7, 1.0)
    return Scheme(5, 5, c, a, (NONE, NONE, NONE, NONE, b6, b7, b8), "Luan & Ostermann 2014, J. Comput. Appl. Math.")


HALVES = (0.0, 1 / 2, 1 / 2, 1.0)
SIMPSON = (2 * p(2) - 4 * p(3), 2 * p(2) - 4 * p(3), 4 * p(3) - p(2))  # the quadrature of the classical method
LATE = (NONE, 4 * p(2) - 8 * p(3), 4 * p(3) - p(2))  # the same without the second stage
SCHEMES = {
    "res-2s": res_2s(),
    "res-3s": res_3s(),
    "etdrk2": res_2s(1.0)._replace(paper="Cox & Matthews 2002, J. Comput. Phys. 176, 430"),
    "etdrk3": Scheme(
        3,
        2,
        (0.0, 1 / 2, 1.0),
        ((), (), (2 * p(1),)),
        (4 * p(2) - 8 * p(3), 4 * p(3) - p(2)),
        "Cox & Matthews 2002, J. Comput. Phys. 176, 430",
    ),
    "etdrk4": Scheme(
        4,
        2,
        HALVES,
        ((), (), (1 / 2 * p(1, 1 / 2),), (NONE, p(1, 1 / 2))),
        SIMPSON,
        "Cox & Matthews 2002, J. Comput. Phys. 176, 430",
    ),
    "krogstad-4": Scheme(
        4,
        3,
        HALVES,
        ((), (), (p(2, 1 / 2),), (NONE, 2 * p(2))),
        SIMPSON,
        "Krogstad 2005, J. Comput. Phys. 203, 72",
    ),
    "strehmel-weiner-4": Scheme(
        4,
        3,
        HALVES,
        ((), (), (1 / 2 * p(2, 1 / 2),), (-2 * p(2), 4 * p(2))),
        LATE,
        "Strehmel & Weiner 1992",
    ),
    "friedli-4": Scheme(
        4,
        3,
        HALVES,
        ((), (), (1 / 2 * p(2, 1 / 2),), (2 / 25 * p(2) - 26 / 25 * p(1), 26 / 25 * p(1) + 48 / 25 * p(2))),
        LATE,
        "Friedli 1978",
    ),
    "hochbruck-ostermann-4": _hochbruck_ostermann(),
    "exprk4s6": in_levels(4, ((1 / 2,), (1 / 2, 1 / 3), (1 / 3, 5 / 6)), "Luan 2021, doi:10.1007/s10543-020-00834-z"),
    "exprk5s8": _luan_ostermann(),
    "exprk5s10": in_levels(
        5,
        ((1 / 2,), (1 / 2, 1 / 3), (1 / 2, 1 / 3, 1 / 4), (3 / 10, 3 / 4, 1.0)),
        "Luan 2021, doi:10.1007/s10543-020-00834-z",
    ),
    "exprk6s16": in_levels(
        6,
        (
            (1 / 2,),
            (1 / 2, 1 / 3),
            (1 / 2, 1 / 5, 1 / 4),
            (1 / 2, 1 / 5, 1 / 4, 1 / 3),
            (1 / 2, 1 / 5, 1 / 4, 1 / 3, 1.0),
        ),
        "Luan & Alhsmy 2024, Appl. Math. Lett.",
    ),
}
