r"""Explicit Runge–Kutta methods in a variable in which the probability-flow ODE has no linear part.

:math:`d(x/S) = m\,dc` with, for noise prediction, scale :math:`S = \alpha` and clock :math:`c = \sigma/\alpha` (the
variable of EDM and k-diffusion), and for the flow prediction :math:`S = \alpha+\sigma`,
:math:`c = \sigma/(\alpha+\sigma)` (for a rectified flow: its own time). So a textbook tableau carries over as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from scoresde.errors import choose
from scoresde.rows import KEEP_ANCHOR, KEEP_STATE, Mix, Row, Solver, Step
from scoresde.sde import Point


class Tableau(NamedTuple):
    """A Butcher tableau: stage i is at the sum of a[i], so c needs no entry of its own."""

    order: int
    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]
    paper: str = ""


class Clock(NamedTuple):
    """A variable: S and c at a noise level, and the half log-SNR at a value of c."""

    scale: Callable[[Point], float]
    value: Callable[[Point], float]
    lam_at: Callable[[float], float]


TABLEAUX = {
    "euler": Tableau(1, ((),), (1.0,), "Karras et al. 2022, arXiv:2206.00364"),
    "heun": Tableau(2, ((), (1.0,)), (0.5, 0.5), "Karras et al. 2022, arXiv:2206.00364, Algorithm 1"),
    "kutta3": Tableau(3, ((), (1 / 2,), (-1.0, 2.0)), (1 / 6, 4 / 6, 1 / 6), "Kutta 1901"),
    "rk4": Tableau(4, ((), (1 / 2,), (0.0, 1 / 2), (0.0, 0.0, 1.0)), (1 / 6, 2 / 6, 2 / 6, 1 / 6), "Kutta 1901"),
}

CLOCKS = {
    "x0": Clock(lambda p: p.sigma, lambda p: p.alpha / p.sigma, math.log),
    "epsilon": Clock(lambda p: p.alpha, lambda p: p.rho, lambda c: -math.log(c)),
    "flow": Clock(
        lambda p: p.alpha + p.sigma, lambda p: p.sigma / (p.alpha + p.sigma), lambda c: math.log1p(-c) - math.log(c)
    ),
    "unit-v": Clock(
        lambda p: math.hypot(p.alpha, p.sigma), lambda p: math.atan2(p.sigma, p.alpha), lambda c: -math.log(math.tan(c))
    ),
}
SUFFIXES = {"epsilon": "", "flow": "-flow", "x0": "-x0", "unit-v": "-v"}


def tableau_rows(kind: str, tableau: Tableau, step: Step) -> list[Row]:
    """One row a stage; each mixes the state at the start of the step with the slopes so far."""
    clock, (_, a, b, _) = CLOCKS[kind], tableau
    c0, dc = clock.value(step.s), clock.value(step.t) - clock.value(step.s)

    def at(fraction: float) -> Point:
        if fraction in (0.0, 1.0):
            return step.t if fraction else step.s
        return step.sde.point_at_lam(clock.lam_at(c0 + fraction * dc))

    points = [*(at(sum(stage)) for stage in a), step.t]
    rows = []
    for i, weights in enumerate((*a[1:], b)):
        scale, last = clock.scale(points[i + 1]), i + 1 == len(a)
        start, d = scale / clock.scale(step.s), tuple(scale * dc * w for w in reversed(weights))
        mix = Mix(x=start, d=d) if i == 0 else Mix(anchor=start, d=d)
        rows.append(Row(points[i], kind, mix, None if last else KEEP_ANCHOR if i else KEEP_STATE))
    return rows


@dataclass(frozen=True)
class RungeKutta(Solver):
    """An explicit Runge–Kutta method in the EDM variable, or in the flow variable.

    In the EDM variable Euler is DDIM, and Heun is the sampler of EDM (Karras et al. 2022, arXiv:2206.00364, Algorithm
    1): a step into sigma = 0 is an Euler step, so N steps cost 2N - 1 evaluations. In the flow variable they are the
    Euler and Heun of flow matching, which start from alpha = 0 without a special step.

    Args:
        method: a name from TABLEAUX.
        kind: "epsilon" for the EDM variable (x/alpha, sigma/alpha), "flow" for (x/(alpha+sigma), sigma/(alpha+sigma)),
            "x0" for (x/sigma, alpha/sigma).
    """

    method: str = "heun"
    kind: str = "epsilon"

    def __post_init__(self) -> None:
        choose(self.method, TABLEAUX, "method")
        choose(self.kind, CLOCKS, "kind")

    @property
    def tableau(self) -> Tableau:
        """The method's coefficients."""
        return TABLEAUX[self.method]

    @property
    def name(self) -> str:
        """The tableau's name, with "-flow" or "-x0" in those variables."""
        return self.method + SUFFIXES[self.kind]

    @property
    def order(self) -> int:
        """The tableau's order."""
        return self.tableau.order

    @property
    def paper(self) -> str:  # type: ignore[override]
        """Where the method is from."""
        return self.tableau.paper

    @property
    def evaluations(self) -> int:  # type: ignore[override]
        """Stages of the tableau."""
        return len(self.tableau.b)

    @property
    def memory(self) -> int:
        """The predictions of the step's earlier stages."""
        return self.evaluations - 1

    @property
    def starts_at_zero_snr(self) -> bool:  # type: ignore[override]
        """The flow variable is finite there."""
        return self.kind == "flow"

    def rows(self, step: Step) -> Sequence[Row]:
        """One row a stage."""
        return tableau_rows(self.kind, self.tableau, step)
