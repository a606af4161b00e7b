r"""Explicit Runge–Kutta methods in variables in which the probability-flow ODE has no linear part.

:math:`d(x/S) = w\,m\,dc` with a scale S, a clock c and a weight w for each prediction m:

==========  =======================  ===================================  ===============================
form        noise prediction         data prediction                      flow prediction
==========  =======================  ===================================  ===============================
"clock"     :math:`S=\alpha`,        :math:`S=\sigma`,                    :math:`S=\alpha+\sigma`,
            :math:`c=\sigma/\alpha`  :math:`c=\alpha/\sigma`              :math:`c=\sigma/(\alpha+\sigma)`
"lawson"    :math:`S=\alpha`,        :math:`S=\sigma`,
            :math:`c=\lambda`,       :math:`c=\lambda`,
            :math:`w=-e^{-\lambda}`  :math:`w=e^{\lambda}`
==========  =======================  ===================================  ===============================

For unit-v, in form "clock", :math:`S = r = \sqrt{\alpha^2+\sigma^2}` and :math:`c = \arctan(\sigma/\alpha)`.

So a textbook tableau carries over as it is. The clock of noise prediction is the variable of EDM and k-diffusion, and
that of the flow is a rectified flow's own time; there w = 1, and a prediction that does not change is integrated
exactly. Lawson's form (Lawson 1967) has its stages at equal fractions of a step in half log-SNR instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from scoresde.errors import choose
from scoresde.rows import KEEP_ANCHOR, KEEP_STATE, Mix, Row, Solver, Step
from scoresde.sde import Point
from scoresde.solvers.tableaus import TABLEAUX, Tableau, check_tableau


class Clock(NamedTuple):
    """A variable: S, c and w at a noise level, and the half log-SNR at a value of c."""

    scale: Callable[[Point], float]
    value: Callable[[Point], float]
    lam_at: Callable[[float], float]
    weight: Callable[[Point], float] = lambda p: 1.0


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
LAWSON = {
    "x0": Clock(lambda p: p.sigma, lambda p: p.lam, lambda c: c, lambda p: p.alpha / p.sigma),
    "epsilon": Clock(lambda p: p.alpha, lambda p: p.lam, lambda c: c, lambda p: -p.rho),
}


class Form(NamedTuple):
    """A way to apply a tableau: what the names of its solvers begin and end with, and its variables."""

    prefix: str
    suffixes: Mapping[str, str]
    clocks: Mapping[str, Clock]


FORMS = {
    "clock": Form("", SUFFIXES, CLOCKS),
    "lawson": Form("lawson-", {"x0": "", "epsilon": "-epsilon"}, LAWSON),
}


def tableau_rows(kind: str, tableau: Tableau, step: Step, form: str = "clock") -> list[Row]:
    """One row a stage; each mixes the state at the start of the step with the slopes so far."""
    clock = FORMS[form].clocks[kind]
    c0, dc = clock.value(step.s), clock.value(step.t) - clock.value(step.s)

    def at(fraction: float) -> Point:
        if fraction in (0.0, 1.0):
            return step.t if fraction else step.s
        return step.sde.point_at_lam(clock.lam_at(c0 + fraction * dc))

    points = [*map(at, tableau.c), step.t]
    slopes = [dc * clock.weight(p) for p in points]
    mixes = []
    for u, weights in zip(points[1:], (*tableau.a[1:], tableau.b), strict=True):
        scale = clock.scale(u)
        mixes.append(
            (scale / clock.scale(step.s), [scale * slope * w for slope, w in zip(slopes, weights, strict=False)])
        )
    return stage_rows(kind, points[:-1], mixes)


def stage_rows(kind: str, points: Sequence[Point], mixes: Sequence[tuple[float, Sequence[float]]]) -> list[Row]:
    """One row a stage: evaluate there, and mix the state at the start of the step with the predictions since.

    Args:
        kind: of prediction.
        points: the stages.
        mixes: what each stage leads to, as the weights of the state and of the predictions, oldest first.
    """
    rows = []
    for i, (point, (start, weights)) in enumerate(zip(points, mixes, strict=True)):
        last, d = i + 1 == len(points), tuple(reversed(weights))
        mix = Mix(anchor=start, d=d) if i else Mix(x=start, d=d)
        rows.append(Row(point, kind, mix, None if last else KEEP_ANCHOR if i else KEEP_STATE))
    return rows


def memory_of(weights: Sequence[Sequence[float]]) -> int:
    """The most predictions of earlier stages that are kept for a later one, from the weights in each stage's mix."""
    return max(i - next((j for j, w in enumerate(row) if w), i) for i, row in enumerate(weights))


@dataclass(frozen=True)
class RungeKutta(Solver):
    r"""An explicit Runge–Kutta method in the EDM variable, or in another in which the ODE has no linear part.

    In the EDM variable Euler is DDIM, and Heun is the sampler of EDM (Karras et al. 2022, arXiv:2206.00364, Algorithm
    1): a step into sigma = 0 is an Euler step, so N steps cost 2N - 1 evaluations. These are the rhoRK methods of DEIS
    (Zhang & Chen 2022, arXiv:2204.13902, section 3) and the "linear" samplers of RES4LYF, whose rk5_7s has two signs
    flipped and the wrong row of weights (order 1); "dopri5-fixed" is what it was meant to be. In the flow variable they
    are the methods of flow matching, which start from alpha = 0 without a special step.

    "dopri5-fixed" and "tsit5" have tableaus and no names in the catalogue (``get_solver("rk5", method="tsit5")`` makes
    them): their order is 5, but its constant is so small that the next order shows until rounding does.

    In Lawson's form ("lawson-rk4"; Lawson 1967, SIAM J. Numer. Anal. 4) the stages are at fractions of the step in half
    log-SNR and the factor of the prediction in the slope, :math:`e^\lambda`, is integrated by the tableau too. So a
    constant prediction is not integrated exactly, only to the method's order: at large steps an exponential Runge–Kutta
    method (:mod:`scoresde.solvers.exponential_rk`) does better.

    Args:
        method: a name from TABLEAUX, or a :class:`scoresde.solvers.tableaus.Tableau` of your own.
        kind: "epsilon" for the EDM variable (x/alpha, sigma/alpha), "flow" for (x/(alpha+sigma), sigma/(alpha+sigma)),
            "x0" for (x/sigma, alpha/sigma), "unit-v" for (x/r, arctan(sigma/alpha)), r^2 = alpha^2 + sigma^2.
        form: "clock" for these variables, or "lawson" (kinds "x0" and, of little use at few steps, "epsilon").
    """

    method: str | Tableau = "heun"
    kind: str = "epsilon"
    form: str = "clock"

    def __post_init__(self) -> None:
        if isinstance(self.method, Tableau):
            check_tableau(self.method)
        else:
            choose(self.method, TABLEAUX, "method")
        choose(self.kind, choose(self.form, FORMS, "form").clocks, "kind")

    @property
    def tableau(self) -> Tableau:
        """The method's coefficients."""
        return self.method if isinstance(self.method, Tableau) else TABLEAUX[self.method]

    @property
    def name(self) -> str:
        """The tableau's name ("runge-kutta" for your own), with the form and the variable: "rk4-flow", "lawson-rk4"."""
        prefix, suffixes, _ = FORMS[self.form]
        return prefix + (self.method if isinstance(self.method, str) else "runge-kutta") + suffixes[self.kind]

    @property
    def order(self) -> int:
        """The tableau's order."""
        return self.tableau.order

    @property
    def paper(self) -> str:  # type: ignore[override]
        """Where the method is from."""
        return self.tableau.paper + ("; Lawson 1967" if self.form == "lawson" else "")

    @property
    def evaluations(self) -> int:  # type: ignore[override]
        """Stages of the tableau."""
        return len(self.tableau.b)

    @property
    def memory(self) -> int:
        """The predictions of the step's earlier stages, as far back as they have a weight."""
        return memory_of((*self.tableau.a[1:], self.tableau.b))

    @property
    def shows_order_at(self) -> int:  # type: ignore[override]
        """Early with seven stages, whose errors are down to rounding soon after."""
        return 80 if self.evaluations > 6 else 160

    @property
    def starts_at_zero_snr(self) -> bool:  # type: ignore[override]
        """The flow variable is finite there."""
        return self.kind == "flow"

    @property
    def keeps_constant_data(self) -> bool:  # type: ignore[override]
        """Where the slope of a constant prediction is constant: not in Lawson's form."""
        return self.form == "clock"

    def rows(self, step: Step) -> Sequence[Row]:
        """One row a stage."""
        return tableau_rows(self.kind, self.tableau, step, self.form)
