r"""Exponential Adams–Bashforth methods: the exact step for the polynomial through the last predictions.

:math:`d(x/S) = m\,dc`, with (S, c) = :math:`(\sigma, \alpha/\sigma)` for data prediction, :math:`(\alpha,
\sigma/\alpha)` for noise prediction, :math:`(\alpha+\sigma, \sigma/(\alpha+\sigma))` for the flow, and the radius and
the angle of :math:`(\alpha, \sigma)` for v. What sets the members of the family apart is the variable in which the
predictions are interpolated; with it, the weights follow from the moments of that variable over the step, for any
spacing of the steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from scoresde.errors import choose
from scoresde.rows import Mix, Row, Step
from scoresde.solvers.exponential import check_orders, exact_step, interpolation_weights, order_of_step
from scoresde.solvers.runge_kutta import CLOCKS
from scoresde.solvers.starting import STARTS, Multistep

ORDERS = range(1, 10)  # weights alternate in sign and grow with the order; beyond 9 they only lose digits
NAMES = {
    ("x0", "lam"): "adams-{}",
    ("epsilon", "lam"): "adams-{}-epsilon",
    ("epsilon", "clock"): "lms-{}",
    ("flow", "clock"): "adams-{}-flow",
    ("unit-v", "clock"): "adams-{}-v",
}


@dataclass(frozen=True)
class Adams(Multistep):
    r"""Adams–Bashforth of any order with the exact variable-step weights.

    In :math:`\lambda` ("adams-3", "adams-3-epsilon"): DPM-Solver++ without its truncated expansion; of order 2 in data
    space it is the taylor form of DPM-Solver++(2M), of order 3 the corrected 3M, and SA-Solver without noise (Xue et
    al. 2023, arXiv:2309.05019, section 4). In noise space it is the DEIS of diffusers ("logrho").

    In the clock of noise prediction, sigma/alpha ("lms-4"): the linear multistep method of k-diffusion, the rhoAB of
    DEIS (Zhang & Chen 2022, arXiv:2204.13902, section 3; its rhoAB3 has order 4 in our count), and iPNDM_v with its
    fourth order put right. In that of the flow ("adams-3-flow"): for rectified flows, in their own time. In that of v
    ("adams-3-v"): for every process the angle :math:`\arctan(\sigma/\alpha)`, along which v is the velocity of
    :math:`x/\sqrt{\alpha^2+\sigma^2}`; of order 1 this is not DDIM, as v turns where the data stay.

    azula has orders 1 and up of four of these as xEAB ("adams-2"), zEAB ("adams-2-epsilon"), zAB ("lms-2") and vAB
    ("adams-2-flow"), and one more, :class:`scoresde.solvers.REAB`.

    Args:
        order: 1 to 9, the number of predictions that a step mixes; 1 is DDIM.
        kind: the prediction that is interpolated: "x0", "epsilon", "flow" or "unit-v".
        variable: in which it is a polynomial: "lam" (for "x0" and "epsilon") or "clock" (for all but "x0"). In a clock
            the method steps into sigma = 0 itself, as k-diffusion's LMS does.
        start: "lower" or "runge-kutta" (orders up to 5), see :class:`scoresde.solvers.starting.Multistep`; the latter
            costs (order - 1)(order - 2) further evaluations.
        order_of_last_steps: orders of the last steps, for example (2, 1); () keeps the order. With ``variable="lam"`` a
            step into sigma = 0 is of order 1 always.
    """

    order: int = 3
    kind: str = "x0"
    variable: str = "lam"
    start: str = "lower"
    order_of_last_steps: tuple[int, ...] = ()

    paper: ClassVar[str] = "Zhang & Chen 2022, arXiv:2204.13902; Xue et al. 2023, arXiv:2309.05019"

    def __post_init__(self) -> None:
        check_orders(self.order, ORDERS, self.order_of_last_steps)
        choose(self.kind, {kind: kind for kind, _ in NAMES}, "kind")
        choose(self.variable, {v: v for kind, v in NAMES if kind == self.kind}, "variable")
        self.check_start()

    @property
    def name(self) -> str:
        """For example "adams-3", "adams-3-epsilon", "adams-3-flow", "adams-3-v" or "lms-4"."""
        return NAMES[self.kind, self.variable].format(self.order) + STARTS[self.start]

    @property
    def ends_at_data(self) -> bool:  # type: ignore[override]
        """The clocks are finite there."""
        return self.variable == "clock"

    @property
    def starts_at_zero_snr(self) -> bool:  # type: ignore[override]
        """The clocks of the flow and of v are finite there."""
        return self.kind in ("flow", "unit-v")

    @property
    def keeps_constant_data(self) -> bool:  # type: ignore[override]
        """Where the data and the noise stay, so do their mixes but v, whose weights turn."""
        return self.kind != "unit-v"

    def multistep(self, step: Step) -> Sequence[Row]:
        """One row."""
        order = order_of_step(self.order, self.order_of_last_steps, step.remaining)
        points = (step.s, *step.past)[:order]
        clock = CLOCKS[self.kind]
        if self.variable == "lam":
            a, *integrals = exact_step(self.kind, step.s, step.t, len(points))
            nodes = [p.lam - step.s.lam for p in points]
        else:
            c0, scale = clock.value(step.s), clock.scale(step.t)
            dc = clock.value(step.t) - c0
            a = scale / clock.scale(step.s)
            integrals = [scale * dc**n / math.factorial(n) for n in range(1, 1 + len(points))]
            nodes = [clock.value(p) - c0 for p in points]
        return [Row(step.s, self.kind, Mix(x=a, d=interpolation_weights(nodes, integrals)))]
