r"""Exponential Runge–Kutta methods: the linear part of the equation exactly, the prediction by stages.

In half log-SNR the probability-flow ODE is :math:`y' = A y + g` with :math:`y = x/\alpha`, A = -1 and :math:`g = D` for
data prediction, and with :math:`y = x/\sigma`, A = 1 and :math:`g = -\hat\epsilon` for noise prediction. A method has
stages at the fractions :math:`c_i` of the step, with z = hA:

.. math:: y_i = e^{c_i z} y_s + h \sum_{j<i} a_{ij}(z)\,g_j, \qquad y_t = e^z y_s + h \sum_i b_i(z)\,g_i

The weights are those of :mod:`scoresde.solvers.exponential_schemes`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from scoresde.errors import choose
from scoresde.rows import Mix, Row, Solver, Step
from scoresde.solvers.exponential import KINDS, check_orders, exact_step, order_of_step
from scoresde.solvers.exponential_schemes import SCHEMES, Scheme, check_scheme, parabola_weights, res_2s, res_3s
from scoresde.solvers.runge_kutta import stage_rows

FREE = {"res-2s": (res_2s, ("c2",)), "res-3s": (res_3s, ("c2", "c3"))}  # methods with nodes to choose
SUFFIXES = {"x0": "", "epsilon": "-epsilon"}


def check_nodes(method: str | Scheme, c2: float | None, c3: float | None) -> None:
    """Validate the options c2 and c3.

    Raises:
        ValueError: the method does not have them, or they are out of range.
    """
    given = {name: c for name, c in (("c2", c2), ("c3", c3)) if c is not None}
    known = FREE[method][1] if isinstance(method, str) and method in FREE else ()
    if unknown := sorted(set(given) - set(known)):
        has = f"it has {', '.join(known)}" if known else f"of {', '.join(FREE)} only"
        raise ValueError(f"{unknown[0]}={given[unknown[0]]} is no option of {method!r}; {has}")
    if not all(0.0 < c <= 1.0 for c in given.values()):
        raise ValueError(f"c2 and c3 must be within (0, 1], got {given}")
    if method == "res-3s":
        first, second = (1 / 2 if c2 is None else c2), (1.0 if c3 is None else c3)
        if first == second or abs(first - 2 / 3) < 1e-9:
            raise ValueError(f"c2 and c3 must differ and c2 must not be 2/3, got c2={first}, c3={second}")


@dataclass(frozen=True)
class ExponentialRK(Solver):
    r"""An explicit exponential Runge–Kutta method, by the table of its weights.

    =====================  ======  =====  ===========  ================================================
    method                 stages  order  stiff order  of
    =====================  ======  =====  ===========  ================================================
    res-2s                 2       2      2            Hochbruck & Ostermann 2005, any c2
    res-3s                 3       3      3            the same, any c2 and c3
    etdrk2                 2       2      2            Cox & Matthews 2002 (ETD2RK; res-2s with c2 = 1)
    etdrk3                 3       3      2            Cox & Matthews 2002 (ETD3RK)
    etdrk4                 4       4      2            Cox & Matthews 2002 (ETD4RK)
    krogstad-4             4       4      3            Krogstad 2005
    strehmel-weiner-4      4       4      3            Strehmel & Weiner 1992
    friedli-4              4       4      3            Friedli 1978
    hochbruck-ostermann-4  5       4      4            Hochbruck & Ostermann 2005
    exprk4s6               6       4      4            Luan 2021
    exprk5s8               8       5      5            Luan & Ostermann 2014
    exprk5s10              10      5      5            Luan 2021
    exprk6s16              16      6      6            Luan & Alhsmy 2024
    =====================  ======  =====  ===========  ================================================

    The order is the classical one, which is what shows as steps shrink: the linear part is the number -1 or 1 here, not
    an unbounded operator. The stiff order (of the conditions of Hochbruck & Ostermann 2005 and Luan & Ostermann 2014,
    the last of them with b(0) for b(z)) is what a method keeps where the linear part dominates, in long steps. In data
    prediction "res-2s" is DPM-Solver++ 2S in its taylor form, and "res-3s" with c2 = 1/3, c3 = 2/3 is DPM-Solver++ 3S.

    RES4LYF's etdrk4_4s, res_4s_friedli and res_5s_hochbruck-ostermann have weights from a source in which phi_k at a
    node carries the factor c^k; they leave it out and converge with order 2 (its res_8s_alt and res_4s_krogstad_alt
    share the slip, and res_16s converges with order 1). Its res_3s has a slip in the free nodes
    (see :func:`scoresde.solvers.exponential_schemes.parabola_weights`), which shows unless c3 = 1.

    Args:
        method: a name of the table, or a :class:`scoresde.solvers.exponential_schemes.Scheme` of your own.
        kind: "x0" for data prediction; "epsilon" for noise prediction (names end in "-epsilon"), whose weights grow
            like e^h: of the same order, and useless at a few steps of several units of half log-SNR.
        c2, c3: the inner nodes of "res-2s" (c2, 1/2 by default) and of "res-3s" (1/2 and 1), as fractions of the step
            in half log-SNR.
    """

    method: str | Scheme = "res-2s"
    kind: str = "x0"
    c2: float | None = None
    c3: float | None = None

    def __post_init__(self) -> None:
        if isinstance(self.method, Scheme):
            check_scheme(self.method)
        else:
            choose(self.method, SCHEMES, "method")
        choose(self.kind, KINDS, "kind")
        check_nodes(self.method, self.c2, self.c3)

    @property
    def scheme(self) -> Scheme:
        """The method's weights."""
        if isinstance(self.method, Scheme):
            return self.method
        nodes = {name: c for name, c in (("c2", self.c2), ("c3", self.c3)) if c is not None}
        return FREE[self.method][0](**nodes) if nodes else SCHEMES[self.method]

    @property
    def name(self) -> str:
        """The method's ("exponential-rk" for your own), with "-epsilon" in noise prediction."""
        return (self.method if isinstance(self.method, str) else "exponential-rk") + SUFFIXES[self.kind]

    @property
    def order(self) -> int:
        """The classical order."""
        return self.scheme.order

    @property
    def paper(self) -> str:  # type: ignore[override]
        """Where the method is from."""
        return self.scheme.paper

    @property
    def evaluations(self) -> int:  # type: ignore[override]
        """Stages."""
        return len(self.scheme.c)

    @property
    def memory(self) -> int:
        """The predictions of the step's earlier stages."""
        return self.evaluations - 1

    @property
    def shows_order_at(self) -> int:  # type: ignore[override]
        """Early for order 6, whose errors are down to rounding soon after."""
        return 80 if self.order > 5 else 160

    def rows(self, step: Step) -> Sequence[Row]:
        """One row a stage."""
        scheme, linear_part = self.scheme, KINDS[self.kind]
        points = [step.within(c) for c in scheme.c]
        *_, sign = linear_part(step.s, step.t)
        mixes = []
        for u, weights in zip((*points[1:], step.t), scheme.weights(sign * step.h), strict=True):
            start, scale, _ = linear_part(step.s, u)
            mixes.append((start, [scale * step.h * w for w in weights]))
        return stage_rows(self.kind, points, mixes)


@dataclass(frozen=True)
class MultistepRES(Solver):
    """RES 3M, the multistep method of order 3 of RES4LYF: the weights of "res-3s" with past predictions as its inner
    stages.

    It meets the third-order condition in the limit of short steps only, where "adams-3", of the same cost and order,
    meets it at any length. (RES 2M, ComfyUI's res_multistep, is "adams-2" exactly.) The first two steps, which lack a
    past, are DDIM and RES 2M; RES4LYF begins with steps of "res-3s".

    Args:
        kind: "x0" or "epsilon".
        official: with the slip of public code, a cube of the oldest node where its square belongs: order 2.
        order_of_last_steps: orders of the last steps, for example (2, 1); () keeps the order. A step into sigma = 0 is
            DDIM always.
    """

    kind: str = "x0"
    official: bool = False
    order_of_last_steps: tuple[int, ...] = ()

    order: ClassVar[int] = 3  # type: ignore[misc]
    memory: ClassVar[int] = 2  # type: ignore[misc]
    paper: ClassVar[str] = "Zhang et al. 2023, arXiv:2308.02157; RES4LYF"

    def __post_init__(self) -> None:
        choose(self.kind, KINDS, "kind")
        check_orders(self.order, range(1, 4), self.order_of_last_steps)

    @property
    def name(self) -> str:
        """res-3m, with "-epsilon" and "-official"."""
        return f"res-3m{SUFFIXES[self.kind]}{'-official' if self.official else ''}"

    @property
    def converges(self) -> int:
        """3; 2 with the slip."""
        return 2 if self.official else 3

    def rows(self, step: Step) -> Sequence[Row]:
        """One row."""
        a, i0, i1 = exact_step(self.kind, step.s, step.t, 2)
        used = order_of_step(self.order, self.order_of_last_steps, step.remaining) - 1
        nodes = [(p.lam - step.s.lam) / step.h for p in step.past[:used]]
        factors: Sequence[float] = ()
        if len(nodes) > 1:
            factors = parabola_weights(nodes[0], nodes[1], self.official)
        elif nodes:
            factors = (1 / nodes[0],)
        past = [factor * i1 / step.h for factor in factors]
        return [Row(step.s, self.kind, Mix(x=a, d=(i0 - sum(past), *past)))]
