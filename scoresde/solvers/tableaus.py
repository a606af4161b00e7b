r"""Butcher tableaus of explicit Runge–Kutta methods, and the conditions that give them their order.

A method with coefficients a, b has order p exactly when :math:`\sum_i b_i u_i(\tau) = 1/\gamma(\tau)` for every rooted
tree :math:`\tau` of at most p vertices, where :math:`u_i(\tau)` is the product over the branches :math:`\tau'` at the
root of :math:`\sum_j a_{ij} u_j(\tau')`, and :math:`\gamma(\tau)` the number of vertices times the :math:`\gamma` of
the branches (Butcher 1963; Hairer, Nørsett & Wanner, Solving Ordinary Differential Equations I, theorem II.2.13).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

ROUNDING = 1e-10  # of the coefficients of a tableau that is given in decimals


class Tableau(NamedTuple):
    """A Butcher tableau: stage i mixes the slopes of the stages before it with the weights a[i], the step with b.

    Attributes:
        order: the order of the method.
        a: a row for each stage with as many weights as there are stages before it, so the first is ().
        b: a weight for each stage.
        paper: where it is from.
    """

    order: int
    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]
    paper: str = ""

    @property
    def c(self) -> tuple[float, ...]:
        """Where the stages are, as fractions of the step: the sums of their weights."""
        return tuple(round(c) if abs(c - round(c)) < ROUNDING else c for c in map(math.fsum, self.a))

    def order_error(self, order: int) -> float:
        """The largest residual of the conditions of this order and the orders below; 0 but for rounding if it has
        it."""
        return max(abs(self._weight(tree) - 1 / _gamma(tree)) for n in range(1, order + 1) for tree in rooted_trees(n))

    def _weight(self, tree: Tree) -> float:
        return math.fsum(b * u for b, u in zip(self.b, self._stage_weights(tree), strict=True))

    def _stage_weights(self, tree: Tree) -> list[float]:
        branches = [self._stage_weights(branch) for branch in tree]
        return [math.prod(math.fsum(w * u[j] for j, w in enumerate(row)) for u in branches) for row in self.a]


Tree = tuple["Tree", ...]  # a rooted tree: its branches, sorted


@cache
def rooted_trees(vertices: int) -> frozenset[Tree]:
    """All rooted trees of this many vertices: 1, 1, 2, 4, 9, 20, ..."""
    if vertices == 1:
        return frozenset([()])
    return frozenset(grown for tree in rooted_trees(vertices - 1) for grown in _grown(tree))


def _grown(tree: Tree) -> Iterator[Tree]:
    """The tree with a leaf more, at each of its vertices."""
    yield tuple(sorted((*tree, ())))
    for i, branch in enumerate(tree):
        for grown in _grown(branch):
            yield tuple(sorted((*tree[:i], grown, *tree[i + 1 :])))


def _size(tree: Tree) -> int:
    return 1 + sum(map(_size, tree))


def _gamma(tree: Tree) -> int:
    return _size(tree) * math.prod(map(_gamma, tree))


def check_tableau(tableau: Tableau) -> None:
    """Validate a user's tableau.

    Raises:
        ValueError: it is not explicit, not finite, has a stage outside the step, has weights that do not sum to 1, or
            does not have the order that it declares.
    """
    order, a, b, _ = tableau
    if not b or [len(row) for row in a] != list(range(len(b))):
        lengths = [len(row) for row in a]
        raise ValueError(
            f"method: an explicit tableau of {len(b)} stages has rows a of 0, 1, ... weights, got {lengths}"
        )
    if not all(math.isfinite(w) for row in (*a, b) for w in row):
        raise ValueError(f"method: the weights of a tableau must be finite, got a={a}, b={b}")
    if not all(0.0 <= c <= 1.0 for c in tableau.c):
        raise ValueError(f"method: the stages of a tableau must lie within the step, [0, 1], got c={tableau.c}")
    if abs(math.fsum(b) - 1.0) > ROUNDING:
        raise ValueError(f"method: the weights b of a tableau must sum to 1, got {math.fsum(b)}")
    if not (isinstance(order, int) and order >= 1):
        raise ValueError(f"method: the order of a tableau must be an integer of at least 1, got {order!r}")
    if (error := tableau.order_error(order)) > ROUNDING:
        raise ValueError(
            f"method: the tableau has not the order {order} that it declares; its conditions miss by {error:.1g}"
        )


def two_stages(alpha: float) -> Tableau:
    """The method of order 2 whose second stage is at the fraction alpha of the step: 1/2 is the midpoint method, 2/3
    Ralston's, 1 Heun's (Karras et al. 2022, arXiv:2206.00364, Algorithm 3)."""
    second = 1 / (2 * alpha)
    return Tableau(2, ((), (alpha,)), (1 - second, second), "Karras et al. 2022, arXiv:2206.00364, Algorithm 3")


ROOT = math.sqrt(5.0)
TABLEAUX = {
    "euler": Tableau(1, ((),), (1.0,), "Karras et al. 2022, arXiv:2206.00364"),
    "heun": two_stages(1.0)._replace(paper="Karras et al. 2022, arXiv:2206.00364, Algorithm 1"),
    "midpoint": two_stages(1 / 2)._replace(paper="Runge 1895"),
    "ralston": two_stages(2 / 3)._replace(paper="Ralston 1962"),
    "heun3": Tableau(3, ((), (1 / 3,), (0.0, 2 / 3)), (1 / 4, 0.0, 3 / 4), "Heun 1900"),
    "kutta3": Tableau(3, ((), (1 / 2,), (-1.0, 2.0)), (1 / 6, 4 / 6, 1 / 6), "Kutta 1901"),
    "ralston3": Tableau(3, ((), (1 / 2,), (0.0, 3 / 4)), (2 / 9, 3 / 9, 4 / 9), "Ralston 1962"),
    "houwen-wray3": Tableau(3, ((), (8 / 15,), (1 / 4, 5 / 12)), (1 / 4, 0.0, 3 / 4), "van der Houwen 1972; Wray 1986"),
    "ssprk3": Tableau(3, ((), (1.0,), (1 / 4, 1 / 4)), (1 / 6, 1 / 6, 4 / 6), "Shu & Osher 1988"),
    "rk4": Tableau(4, ((), (1 / 2,), (0.0, 1 / 2), (0.0, 0.0, 1.0)), (1 / 6, 2 / 6, 2 / 6, 1 / 6), "Kutta 1901"),
    "rk38": Tableau(4, ((), (1 / 3,), (-1 / 3, 1.0), (1.0, -1.0, 1.0)), (1 / 8, 3 / 8, 3 / 8, 1 / 8), "Kutta 1901"),
    "ralston4": Tableau(
        4,
        (
            (),
            (2 / 5,),
            ((-2889 + 1428 * ROOT) / 1024, (3785 - 1620 * ROOT) / 1024),
            ((-3365 + 2094 * ROOT) / 6040, (-975 - 3046 * ROOT) / 2552, (467040 + 203968 * ROOT) / 240845),
        ),
        (
            (263 + 24 * ROOT) / 1812,
            (125 - 1000 * ROOT) / 3828,
            (3426304 + 1661952 * ROOT) / 5924787,
            (30 - 4 * ROOT) / 123,
        ),
        "Ralston 1962",
    ),
    "rk5": Tableau(
        5,
        (
            (),
            (1 / 4,),
            (1 / 8, 1 / 8),
            (0.0, -1 / 2, 1.0),
            (3 / 16, 0.0, 0.0, 9 / 16),
            (-3 / 7, 2 / 7, 12 / 7, -12 / 7, 8 / 7),
        ),
        (7 / 90, 0.0, 32 / 90, 12 / 90, 32 / 90, 7 / 90),
        "Butcher 1964",
    ),
    "dopri5-fixed": Tableau(
        5,
        (
            (),
            (1 / 5,),
            (3 / 40, 9 / 40),
            (44 / 45, -56 / 15, 32 / 9),
            (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
            (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
        ),
        (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
        "Dormand & Prince 1980",
    ),
    "bogacki-shampine5": Tableau(
        5,
        (
            (),
            (1 / 6,),
            (2 / 27, 4 / 27),
            (183 / 1372, -162 / 343, 1053 / 1372),
            (68 / 297, -4 / 11, 42 / 143, 1960 / 3861),
            (597 / 22528, 81 / 352, 63099 / 585728, 58653 / 366080, 4617 / 20480),
            (174197 / 959244, -30942 / 79937, 8152137 / 19744439, 666106 / 1039181, -29421 / 29068, 482048 / 414219),
        ),
        (
            587 / 8064,
            0.0,
            4440339 / 15491840,
            24353 / 124800,
            387 / 44800,
            2152 / 5985,
            7267 / 94080,
        ),
        "Bogacki & Shampine 1996",
    ),
    "tsit5": Tableau(
        5,
        (
            (),
            (0.161,),
            (-0.008480655492356989, 0.335480655492357),
            (2.8971530571054935, -6.359448489975075, 4.3622954328695815),
            (5.325864828439257, -11.748883564062828, 7.4955393428898365, -0.09249506636175525),
            (5.86145544294642, -12.92096931784711, 8.159367898576159, -0.071584973281401, -0.02826905039406838),
        ),
        (
            0.09646076681806523,
            0.01,
            0.4798896504144996,
            1.379008574103742,
            -3.290069515436081,
            2.324710524099774,
        ),
        "Tsitouras 2011",
    ),
    "rk6": Tableau(
        6,
        (
            (),
            (1 / 3,),
            (0.0, 2 / 3),
            (1 / 12, 1 / 3, -1 / 12),
            (-1 / 16, 9 / 8, -3 / 16, -3 / 8),
            (0.0, 9 / 8, -3 / 8, -3 / 4, 1 / 2),
            (9 / 44, -9 / 11, 63 / 44, 18 / 11, 0.0, -16 / 11),
        ),
        (11 / 120, 0.0, 27 / 40, 27 / 40, -4 / 15, -4 / 15, 11 / 120),
        "Butcher 1964",
    ),
}
