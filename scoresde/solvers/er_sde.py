r"""ER-SDE-Solvers: reverse SDEs with any amount of noise, by a function (Cui et al. 2023, arXiv:2309.06169).

In :math:`\rho = \sigma/\alpha` and :math:`y = x/\alpha`, for any :math:`\phi` such that :math:`\phi(\rho)/\rho` does
not decrease,

.. math:: y_t = r\,y_s + (1-r)\,D_s + \sum_{n\ge1} J_n D^{(n)}_s + \sqrt{\rho_t^2 - r^2\rho_s^2}\,z, \quad
          r = \frac{\phi(\rho_t)}{\phi(\rho_s)}, \quad
          J_n = \frac{\Delta^n}{n!} + \phi(\rho_t)\int_{\rho_t}^{\rho_s}
          \frac{(\rho-\rho_s)^{n-1}}{(n-1)!\,\phi(\rho)}\,d\rho, \quad \Delta = \rho_t - \rho_s,

with the derivatives of the prediction of :math:`x_0` by :math:`\rho`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from scoresde.errors import choose
from scoresde.rows import Mix, Row, Solver, Step
from scoresde.solvers.cooling import check_noise, noise
from scoresde.solvers.exponential import check_orders, interpolation_weights, order_of_step
from scoresde.solvers.quadrature import integrate_log

DEFAULT_PHI = "x*(exp(x^0.3)+10)"

# The paper's functions as log(phi(x)/x), which neither overflows nor loses the digits of x at small noise.
LOG_PHI_OVER_X: dict[str, Callable[[float], float]] = {
    "x": lambda x: 0.0,
    "x^2": math.log,
    "x^1.5": lambda x: 0.5 * math.log(x),
    "x^2.5": lambda x: 1.5 * math.log(x),
    "x*(exp(-1/x)+10)": lambda x: math.log(math.exp(-1 / x) + 10),
    "x^0.9*log10(1+100*x^1.5)": lambda x: math.log(math.log1p(100 * x**1.5) / math.log(10)) - 0.1 * math.log(x),
    DEFAULT_PHI: lambda x: x**0.3 + math.log1p(10 * math.exp(-(x**0.3))),
}
OFFICIAL_NODES = 100
OFFICIAL_CLIP = 1e-6
ROUNDING = 1e-12  # of a phi that is proportional to x in exact arithmetic


def one_sided_sum(f: Callable[[float], float], low: float, high: float) -> float:
    """The integral of f as the authors' code takes it: a sum of 100 values without the upper end."""
    width = (high - low) / OFFICIAL_NODES
    return width * math.fsum(f(low + k * width) for k in range(OFFICIAL_NODES))


@dataclass(frozen=True)
class ERSDE(Solver):
    r"""ER-SDE-Solver-1, 2, 3 (Cui et al. 2023, arXiv:2309.06169, Algorithms 1 to 3), for every process.

    The integrals are exact and the derivatives are those of the polynomial through the predictions. The authors' code
    differs, and ``official=True`` is what it does: its integrals are 100-node one-sided sums, which leave an error of
    order 1 with a small constant; its third order keeps the backward difference as first derivative, and so would have
    order 2 with exact integrals and no noise; and a variance of noise below 1e-6 (in y) is set to 0. With noise the
    weak order is 2 at most.

    Args:
        order: 1 to 3; the number of predictions that a step mixes.
        phi: the noise scale function: a name of LOG_PHI_OVER_X, such as "x" (no noise: order 1 is DDIM), "x^2" (the
            reverse SDE: order 1 is DDIM with eta = 1), or the paper's choice (default); or any function of a positive
            float for which phi(x)/x does not decrease.
        official: as the authors' code.
        order_of_last_steps: orders of the last steps, for example (2, 1); () keeps the order. A step into sigma = 0 is
            of order 1 always.
        s_noise: factor on the noise that is added.
    """

    order: int = 3
    phi: str | Callable[[float], float] = DEFAULT_PHI
    official: bool = False
    order_of_last_steps: tuple[int, ...] = ()
    s_noise: float = 1.0

    kind: ClassVar[str] = "x0"  # type: ignore[misc]
    paper: ClassVar[str] = "Cui et al. 2023, arXiv:2309.06169"

    def __post_init__(self) -> None:
        check_orders(self.order, range(1, 4), self.order_of_last_steps)
        check_noise(0.0, self.s_noise)
        if not callable(self.phi):
            choose(self.phi, LOG_PHI_OVER_X, "phi")

    @property
    def name(self) -> str:
        """For example "er-sde-3"."""
        return f"er-sde-{self.order}" + ("-official" if self.official else "")

    @property
    def converges(self) -> int:
        """The order, 2 at most with noise, and 1 in the official form."""
        return 1 if self.official else self.order if self.phi == "x" else min(2, self.order)

    @property
    def noises(self) -> int:  # type: ignore[override]
        """One, unless phi is "x"."""
        return int(self.phi != "x")

    @property
    def memory(self) -> int:
        """order - 1 past predictions."""
        return self.order - 1

    def rows(self, step: Step) -> Sequence[Row]:
        """One row."""
        s, t, phi = step.s, step.t, self.phi
        log_g = LOG_PHI_OVER_X[phi] if isinstance(phi, str) else lambda x: math.log(phi(x) / x)
        at_t = log_g(t.rho)
        kept = math.exp(at_t - log_g(s.rho))  # of the noise; r = kept rho_t / rho_s
        if not 0.0 < kept <= 1.0 + ROUNDING:
            raise ValueError(f"phi: phi(x)/x must be positive and not decrease; it grows {kept} times to x={t.rho}")
        integrate = one_sided_sum if self.official else integrate_log

        def j(n: int) -> float:
            def relative(rho: float) -> float:  # phi(rho_t) / phi(rho)
                return t.rho / rho * math.exp(at_t - log_g(rho))

            def integrand(rho: float) -> float:
                return (rho - s.rho) ** (n - 1) / math.factorial(n - 1) * relative(rho)

            return (t.rho - s.rho) ** n / math.factorial(n) + integrate(integrand, t.rho, s.rho)

        order = min(order_of_step(self.order, self.order_of_last_steps, step.remaining), 1 + len(step.past))
        r = kept * t.rho / s.rho
        nodes = [p.rho - s.rho for p in (s, *step.past[: order - 1])]
        weights = (_backward if self.official else interpolation_weights)(nodes, [1 - r, *map(j, range(1, order))])
        missing = (1 - kept) * (1 + kept)
        if missing < ROUNDING or (self.official and t.rho * t.rho * missing < OFFICIAL_CLIP):
            missing = 0.0
        d = tuple(t.alpha * w for w in weights)
        z = noise(0, self.s_noise * t.sigma * math.sqrt(missing))
        return [Row(s, self.kind, Mix(x=kept * t.sigma / s.sigma, d=d, z=z))]


def _backward(nodes: Sequence[float], integrals: Sequence[float]) -> tuple[float, ...]:
    """Weights with the first derivative from the last two predictions alone, whatever the order."""
    if len(nodes) < 3:
        return interpolation_weights(nodes, integrals)
    i0, i1, i2 = integrals
    w0, w1 = interpolation_weights(nodes[:2], (i0, i1))
    # The second derivative is that of the parabola through all three.
    c0, c1, c2 = interpolation_weights(nodes, (0.0, 0.0, i2))
    return (w0 + c0, w1 + c1, c2)
