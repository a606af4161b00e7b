r"""REAB: exponential Adams methods for the prediction of v, with a polynomial in half log-SNR."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from scoresde.rows import Mix, Row, Step
from scoresde.solvers.exponential import check_orders, interpolation_weights, order_of_step
from scoresde.solvers.quadrature import integrate_log
from scoresde.solvers.starting import STARTS, Multistep

OFFICIAL_INTERVALS = 256


def trapezoids(f: Callable[[float], float], low: float, high: float) -> float:
    """The integral of f from low to high as azula takes it: 256 equal intervals in log x."""
    a, width = math.log(low), math.log(high / low) / OFFICIAL_INTERVALS
    nodes = [math.exp(a + k * width) for k in range(OFFICIAL_INTERVALS + 1)]
    values = [x * f(x) for x in nodes]
    return width * (math.fsum(values) - (values[0] + values[-1]) / 2)


@dataclass(frozen=True)
class REAB(Multistep):
    r"""REAB, the Rosenbrock-type exponential Adams–Bashforth method of azula (Rozet 2024; no paper of its own).

    In the angle :math:`\varphi = \arctan(\sigma/\alpha)` and the radius :math:`r = \sqrt{\alpha^2+\sigma^2}`, every
    process has :math:`d(x/r) = v\,d\varphi`, where v is "unit-v" of :mod:`scoresde.predictions`. So

    .. math:: x_t = \frac{r_t}{r_s} x_s + r_t\sum_n v^{(n)}(\lambda_s)\int
              \frac{(\lambda-\lambda_s)^n}{n!}\,d\varphi

    with the derivatives of the polynomial in :math:`\lambda` through the last predictions. azula derives it from
    Rosenbrock-type methods (Hochbruck, Ostermann & Schweitzer 2009), as DPM-Solver-v3 (Zheng et al. 2023,
    arXiv:2310.13268) does with statistics of a network; here they are those of data with unit variance. With the
    polynomial in the angle itself the integrals have a closed form, which is "adams-3-v".

    azula's code has :math:`\sqrt{\alpha_t^2+\sigma_s^2}` for :math:`r_t` before the sum, and so order 1 whatever its
    polynomial; it takes the integrals by the trapezoidal rule on 256 intervals. ``official=True`` does that.

    Args:
        order: 1 to 9, the number of predictions that a step mixes.
        official: as azula has it.
        order_of_last_steps: orders of the last steps, for example (2, 1); () keeps the order. A step into sigma = 0 is
            DDIM always.
        start: "lower" or "runge-kutta" (orders up to 5), see :class:`scoresde.solvers.starting.Multistep`.
    """

    order: int = 2
    official: bool = False
    order_of_last_steps: tuple[int, ...] = ()
    start: str = "lower"

    kind: ClassVar[str] = "unit-v"  # type: ignore[misc]
    keeps_constant_data: ClassVar[bool] = False  # x0 stays, and v turns
    paper: ClassVar[str] = "Rozet 2024, github.com/probabilists/azula; Zheng et al. 2023, arXiv:2310.13268"

    def __post_init__(self) -> None:
        check_orders(self.order, range(1, 10), self.order_of_last_steps)
        if self.official and self.start != "lower":
            raise ValueError(f"start={self.start!r} keeps an order that official=True does not have")
        self.check_start()

    @property
    def name(self) -> str:
        """For example "reab-2" or "reab-2-official"."""
        return f"reab-{self.order}{'-official' if self.official else ''}{STARTS[self.start]}"

    @property
    def converges(self) -> int:
        """The order; 1 as azula has it."""
        return 1 if self.official else self.order

    def multistep(self, step: Step) -> Sequence[Row]:
        """One row."""
        s, t = step.s, step.t
        order = order_of_step(self.order, self.order_of_last_steps, step.remaining)
        points = (s, *step.past)[:order]
        radius_s, radius_t = math.hypot(s.alpha, s.sigma), math.hypot(t.alpha, t.sigma)
        scale, integrate = (math.hypot(t.alpha, s.sigma), trapezoids) if self.official else (radius_t, integrate_log)

        def moment(n: int) -> float:
            return -integrate(lambda rho: (-math.log(rho) - s.lam) ** n / (1 + rho * rho), t.rho, s.rho)

        integrals = [scale * moment(n) / math.factorial(n) for n in range(len(points))]
        d = interpolation_weights([p.lam - s.lam for p in points], integrals)
        return [Row(s, self.kind, Mix(x=radius_t / radius_s, d=d))]
