"""UniP and UniPC: multistep predictor and a corrector that costs no evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from scoresde.errors import choose
from scoresde.rows import Mix, Step
from scoresde.sde import Point
from scoresde.solvers.exponential import check_orders, exact_step, interpolation_weights, order_of_step
from scoresde.solvers.predictor_corrector import SCALES, PredictorCorrector, adams_step
from scoresde.solvers.starting import STARTS

# variant -> what its lines take for I_1 (see LINES of predictor_corrector)
VARIANTS = {"bh1": "bh1", "bh2": "bh2", "vary": "exact"}


@dataclass(frozen=True)
class UniPC(PredictorCorrector):
    r"""UniP-p and UniPC-p (Zhao et al. 2023, arXiv:2302.04867, Algorithms 1 and 2), one evaluation a step.

    The paper's systems of equations for the weights have one solution for every B(h): that of the polynomial through
    the predictions (UniP: the exponential Adams–Bashforth method; UniC: Adams–Moulton). The variants differ where the
    polynomial is a line (predictor of order 2, corrector of order 1), for which the official code solves nothing and
    takes 1/2 times :math:`B(h)`. With the corrector the order of convergence is p + 1. The sample itself is not
    corrected, as that would cost an evaluation.

    The official corrector of the variant "vary" (its ``vary_coeff``) of order 2 and more leaves out products of its
    double sum, and converges with order 1. ``official=True`` reproduces it; without, it is the full sum.

    Lower orders at the start leave an error of order 2 (UniP) or 3 (UniPC). It is small where a plan starts from full
    noise, where UniPC-4 still shows its order 5, but not UniP-4 its order 4 (2.3 to 3.9 measured). From sigma = 2 and
    640 steps they show 3.1 and 2.0, and with ``start="runge-kutta"`` 5.0 and 3.9.

    Args:
        order: 1 to 4; predictions that the predictor mixes. The corrector mixes one more.
        variant: "bh1" (B(h) = h), "bh2" (B(h) = exp(h) - 1) or "vary" (no shortcut for lines).
        kind: "x0" for data prediction (the recommended one), "epsilon" for noise prediction.
        corrector: False is UniP, the predictor alone.
        official: the corrector of "vary" as shipped.
        order_of_last_steps: orders of the last steps, for example (2, 1); () keeps the order. A step into sigma = 0 is
            of order 1 always. ``lower_order_final`` of the official code and of diffusers, on by default there for
            any number of steps, is (1,) for order 2, (2, 1) for order 3. It helps where the last step is long in half
            log-SNR, as on a grid uniform in time that ends at eps; elsewhere it costs the high order.
        uncorrected_steps: numbers of the steps, from 0, whose end is not corrected (diffusers' ``disable_corrector``),
            for large guidance at high noise.
        start: "lower" or "runge-kutta", see :class:`scoresde.solvers.starting.Multistep`. The latter keeps the order
            of the corrector: (p - 1) p further evaluations for UniPC-p, (p - 1)(p - 2) for UniP-p.
    """

    order: int = 2
    variant: str = "bh2"
    kind: str = "x0"
    corrector: bool = True
    official: bool = False
    order_of_last_steps: tuple[int, ...] = ()
    uncorrected_steps: tuple[int, ...] = ()
    start: str = "lower"

    paper: ClassVar[str] = "Zhao et al. 2023, arXiv:2302.04867"

    def __post_init__(self) -> None:
        check_orders(self.order, range(1, 5), self.order_of_last_steps)
        choose(self.variant, VARIANTS, "variant")
        choose(self.kind, SCALES, "kind")
        if self.official and not (self.corrector and self.variant == "vary"):
            raise ValueError(
                f"official=True is about the corrector of variant='vary'; got corrector={self.corrector}, "
                f"variant={self.variant!r}"
            )
        steps = self.uncorrected_steps
        if not (isinstance(steps, tuple) and all(isinstance(i, int) and i >= 0 for i in steps)):
            raise ValueError(f"uncorrected_steps must be a tuple of step numbers from 0, got {steps!r}")
        if self.official and self.start != "lower":
            raise ValueError(f"start={self.start!r} keeps an order that official=True does not have")
        self.check_start()

    @property
    def name(self) -> str:
        """For example "unipc-3", "unip-3", "unipc-3-bh1", "unipc-3-vary-official"."""
        parts = ["unipc" if self.corrector else "unip", str(self.order)]
        parts += [self.variant] * (self.variant != "bh2") + ["official"] * self.official
        return "-".join([*parts, *["epsilon"] * (self.kind == "epsilon")]) + STARTS[self.start]

    @property
    def converges(self) -> int:
        """order + 1 with the corrector, else order (3 for UniP-4 from lower orders); 1 with the official "vary"."""
        if self.official and self.order > 1:
            return 1
        return self.full_order if self.corrector or self.start != "lower" else min(self.order, 3)

    @property
    def past_steps(self) -> int:
        """order for the corrector (of the step before), order - 1 without."""
        return self.order - 1 + int(self.corrector)

    @property
    def full_order(self) -> int:
        """order + 1 with the corrector."""
        return self.order + int(self.corrector)

    def _nodes(self, step: Step) -> int:
        order = order_of_step(self.order, self.order_of_last_steps, step.remaining)
        return min(order, 1 + len(step.past))

    def predict(self, step: Step) -> Mix:
        """UniP."""
        points = (step.s, *step.past)[: self._nodes(step)]
        a, weights, _ = adams_step(self.kind, step.s, step.t, points, line=VARIANTS[self.variant])
        return Mix(x=a, d=weights)

    def correct(self, step: Step) -> tuple[float, ...]:
        """UniC."""
        if not self.corrector or step.index in self.uncorrected_steps:
            return ()
        points = (step.t, step.s, *step.past)[: 1 + self._nodes(step)]
        if self.official and len(points) > 2:
            return self._official_vary(step, points)
        return adams_step(self.kind, step.s, step.t, points, line=VARIANTS[self.variant])[1]

    def _official_vary(self, step: Step, points: Sequence[Point]) -> tuple[float, ...]:
        """Past predictions miss their part of the highest derivative; m at t has that part only, with the weight that
        the derivative before it asks for."""
        nodes = [p.lam - step.s.lam for p in points]
        _, i0, *lower, highest = exact_step(self.kind, step.s, step.t, len(points))
        _, _, *past = interpolation_weights(nodes, (0.0, *lower, 0.0))
        at_t, *_ = interpolation_weights(nodes, (0.0, *[0.0] * (len(lower) - 1), highest / step.h, 0.0))
        return (at_t, i0 - at_t - sum(past), *past)
