"""DEIS in the time of the process: exponential Adams whose polynomial is in t."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

from scoresde.rows import Mix, Row, Step
from scoresde.solvers.exponential import check_orders, interpolation_weights, order_of_step
from scoresde.solvers.quadrature import integrate_log
from scoresde.solvers.starting import STARTS, Multistep


@dataclass(frozen=True)
class DEIS(Multistep):
    r"""tAB of DEIS (Zhang & Chen 2022, arXiv:2204.13902, eqs. 14 and 15, and Algorithm 1).

    :math:`x_t/\alpha_t = x_s/\alpha_s + \int \hat\epsilon\,d(\sigma/\alpha)` with noise predictions interpolated by a
    polynomial in the time of the process. The paper counts past predictions, and we count all: its tAB3 is of order 4
    here. (Its rhoAB is "lms-4", and the DEIS of diffusers, with its polynomial in log rho, is "adams-4-epsilon".)

    The integrals have no closed form; they are taken by Gauss–Legendre quadrature to rounding error, where both public
    implementations sum over 10000 equal intervals and reach a relative accuracy of 1e-4.

    Args:
        order: 1 to 9, the number of predictions that a step mixes; 1 is DDIM.
        order_of_last_steps: orders of the last steps, for example (2, 1); () keeps the order. A step into sigma = 0 is
            of order 1 always.
        start: "lower" or "runge-kutta" (orders up to 5), see :class:`scoresde.solvers.starting.Multistep`; the latter
            costs (order - 1)(order - 2) further evaluations, of steps in sigma/alpha (the paper's rhoRK).
    """

    order: int = 4
    order_of_last_steps: tuple[int, ...] = ()
    start: str = "lower"

    kind: ClassVar[str] = "epsilon"  # type: ignore[misc]
    paper: ClassVar[str] = "Zhang & Chen 2022, arXiv:2204.13902"

    def __post_init__(self) -> None:
        check_orders(self.order, range(1, 10), self.order_of_last_steps)
        self.check_start()

    @property
    def name(self) -> str:
        """The paper's name: "deis-tab3" for order 4."""
        return f"deis-tab{self.order - 1}{STARTS[self.start]}"

    def multistep(self, step: Step) -> Sequence[Row]:
        """One row."""
        order = order_of_step(self.order, self.order_of_last_steps, step.remaining)
        points = (step.s, *step.past)[:order]
        scale = step.t.alpha
        integrals = [scale * m / math.factorial(n) for n, m in enumerate(self.moments(step, len(points)))]
        weights = interpolation_weights([p.t - step.s.t for p in points], integrals)
        return [Row(step.s, self.kind, Mix(x=scale / step.s.alpha, d=weights))]

    def moments(self, step: Step, count: int) -> list[float]:
        r""":math:`\int (\tau - s)^n\,d\rho` over the step, n below ``count``; tau is the time at sigma/alpha = rho."""

        @cache
        def elapsed(rho: float) -> float:
            return step.sde.t_at_lam(-math.log(rho)) - step.s.t

        def moment(n: int) -> float:
            return -integrate_log(lambda rho: elapsed(rho) ** n, step.t.rho, step.s.rho)

        return [step.t.rho - step.s.rho, *(moment(n) for n in range(1, count))]
