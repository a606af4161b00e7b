r"""Exponential Adams–Bashforth methods: the exact step for the polynomial through the last predictions.

:math:`d(x/S) = m\,dc`, with (S, c) = :math:`(\sigma, \alpha/\sigma)` for data prediction, :math:`(\alpha,
\sigma/\alpha)` for noise prediction and :math:`(\alpha+\sigma, \sigma/(\alpha+\sigma))` for the flow. What sets the
members of the family apart is the variable in which the predictions are interpolated; with it, the weights follow from
the moments of that variable over the step, for any spacing of the steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from scoresde.errors import choose
from scoresde.rows import Mix, Row, Solver, Step
from scoresde.solvers.exponential import check_orders, exact_step, interpolation_weights, order_of_step
from scoresde.solvers.runge_kutta import CLOCKS
from scoresde.solvers.starting import METHODS, start_step, steps_begin

ORDERS = range(1, 10)  # weights alternate in sign and grow with the order; beyond 9 they only lose digits
NAMES = {
    ("x0", "lam"): "adams-{}",
    ("epsilon", "lam"): "adams-{}-epsilon",
    ("epsilon", "clock"): "lms-{}",
    ("flow", "clock"): "adams-{}-flow",
}
STARTS = {"lower": "", "runge-kutta": "-rk"}


@dataclass(frozen=True)
class Adams(Solver):
    r"""Adams–Bashforth of any order with the exact variable-step weights.

    In :math:`\lambda` ("adams-3", "adams-3-epsilon"): DPM-Solver++ without its truncated expansion; of order 2 in data
    space it is the taylor form of DPM-Solver++(2M), of order 3 the corrected 3M, and SA-Solver without noise (Xue et
    al. 2023, arXiv:2309.05019, section 4). In noise space it is the DEIS of diffusers ("logrho").

    In the clock of noise prediction, sigma/alpha ("lms-4"): the linear multistep method of k-diffusion, the rhoAB of
    DEIS (Zhang & Chen 2022, arXiv:2204.13902, section 3; its rhoAB3 has order 4 in our count), and iPNDM_v with its
    fourth order put right. In that of the flow ("adams-3-flow"): for rectified flows, in their own time.

    Args:
        order: 1 to 9, the number of predictions that a step mixes; 1 is DDIM.
        kind: the prediction that is interpolated: "x0", "epsilon" or "flow".
        variable: in which it is a polynomial: "lam" (for "x0" and "epsilon") or "clock" (for "epsilon" and "flow"). In
            a clock the method steps into sigma = 0 itself, as k-diffusion's LMS does.
        start: what the first steps, which lack a past, are: "lower" orders, as everywhere, which leaves an error of
            order 2, small as it is; or "runge-kutta" (orders up to 5; names end in "-rk"), which keeps the order and
            costs (order - 1)(order - 2) further evaluations, whose results are kept until the start is over.
        order_of_last_steps: orders of the last steps, for example (2, 1); () keeps the order.
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
        choose(self.start, STARTS, "start")
        if self.start == "runge-kutta" and self.order not in METHODS:
            raise ValueError(f"start='runge-kutta' is for orders {list(METHODS)}, got order={self.order}")

    @property
    def name(self) -> str:
        """For example "adams-3", "adams-3-epsilon", "adams-3-flow" or "lms-4"."""
        return NAMES[self.kind, self.variable].format(self.order) + STARTS[self.start]

    @property
    def _stages(self) -> int:
        return len(METHODS[self.order].b) if self.start == "runge-kutta" else 1

    @property
    def further_evaluations(self) -> int:  # type: ignore[override]
        """The stages of the start."""
        return (self.order - 1) * (self._stages - 1)

    @property
    def memory(self) -> int:
        """order - 1 past predictions, and the stages between them while the start is among them."""
        return (self.order - 1) * self._stages

    @property
    def ends_at_data(self) -> bool:  # type: ignore[override]
        """The clocks are finite there."""
        return self.variable == "clock"

    @property
    def starts_at_zero_snr(self) -> bool:  # type: ignore[override]
        """The flow's clock is finite there."""
        return self.kind == "flow"

    def rows(self, step: Step) -> Sequence[Row]:
        """One row after the start."""
        used = steps_begin(step, self._stages)
        if self._stages > 1 and len(used) < self.order and step.t.sigma > 0.0:
            return start_step(self.kind, self.order, step)
        used = used[: order_of_step(self.order, self.order_of_last_steps, step.remaining)]
        points = [(step.s, *step.past)[i] for i in used]
        clock = CLOCKS[self.kind]
        if self.variable == "lam":
            a, *integrals = exact_step(self.kind, step.s, step.t, len(used))
            nodes = [p.lam - step.s.lam for p in points]
        else:
            c0, scale = clock.value(step.s), clock.scale(step.t)
            dc = clock.value(step.t) - c0
            a, integrals = scale / clock.scale(step.s), [scale * dc**n / math.factorial(n) for n in ORDERS[: len(used)]]
            nodes = [clock.value(p) - c0 for p in points]
        return [Row(step.s, self.kind, Mix(x=a, d=at_places(used, interpolation_weights(nodes, integrals))))]


def at_places(places: Sequence[int], weights: Sequence[float]) -> tuple[float, ...]:
    """The weights at their places among the predictions, zeros between them."""
    d = [0.0] * (1 + places[-1])
    for i, w in zip(places, weights, strict=True):
        d[i] = w
    return tuple(d)
