r"""What UniPC and SA-Solver share: exponential Adams methods whose points are corrected by the next evaluation.

Over a step s → t of length :math:`h` in half log-SNR, with the prediction m replaced by the polynomial through some of
its values, the reverse SDE

.. math:: dx = \left[f x - \tfrac{1+\tau^2}{2} g^2 \nabla\log p_t\right] dt + \tau g\,dw

of constant :math:`\tau` (0: the probability flow, 1: the reverse of the process) is solved exactly (Xue et al. 2023,
arXiv:2309.05019, section 4). The predictor takes the polynomial through m at s and before. The evaluation at the
predicted point of t adds one more value, and the corrector repeats the step from s with it. State and noise of the step
are the same in both, so the corrected point is the predicted one plus a mix of predictions: a whole step is one row.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from itertools import zip_longest

from scoresde.rows import Mix, Row, Step
from scoresde.sde import Point
from scoresde.solvers.cooling import sde_step
from scoresde.solvers.exponential import interpolation_weights
from scoresde.solvers.starting import Multistep

# kind -> what all the integrals are proportional to: I_n = c h^(n+1) / (n+1)! to leading order in h.
SCALES = {"x0": lambda t: t.alpha, "epsilon": lambda t: -t.sigma}
# What stands for I_1 when the polynomial is a line; each agrees with it to leading order, which keeps the order.
LINES = {
    "exact": lambda c, h, i0, i1: i1,
    "bh1": lambda c, h, i0, i1: c * h * h / 2,
    "bh2": lambda c, h, i0, i1: i0 * h / 2,
}


def adams_step(
    kind: str, s: Point, t: Point, points: Sequence[Point], tau: float = 0.0, line: str = "exact"
) -> tuple[float, tuple[float, ...], float]:
    """The step from s to t for the polynomial through the predictions made at ``points``.

    Args:
        kind: of the predictions, "x0" or "epsilon".
        s, t: the ends of the step.
        points: where the predictions were made, all different.
        tau: the noise scale of the reverse SDE.
        line: a name from LINES.

    Returns:
        The coefficient of the state, the weights of the predictions, and the standard deviation of the noise.
    """
    (a, *integrals), noise = sde_step(kind, s, t, len(points), tau * tau)
    if len(points) == 2:
        integrals[1] = LINES[line]((1 + tau * tau) * SCALES[kind](t), t.lam - s.lam, *integrals)
    return a, interpolation_weights([p.lam - s.lam for p in points], integrals), noise


class PredictorCorrector(Multistep):
    """Rows of a predictor and a corrector, which subclasses state as weights of one step.

    In mode PEC (predict, evaluate, correct) the correction of a step goes into the row of the next one, and a step
    costs one evaluation; the last point is not corrected. In mode PECE the network is evaluated again at the corrected
    point, and the predictions at predicted points serve the correction only.
    """

    mode: str = "PEC"
    correct_last: bool = False

    @property
    def shows_order_at(self) -> int:  # type: ignore[override]
        """Order 4 shows late: the slope is 3.8 at 160 steps and 3.9 at 640."""
        return 640 if self.converges == 4 else 160

    @abstractmethod
    def predict(self, step: Step) -> Mix:
        """The predictor: coefficients of the state at s, of the predictions at ``(s, *step.past)`` and of the noise."""

    @abstractmethod
    def correct(self, step: Step) -> tuple[float, ...]:
        """The corrector: weights of the predictions at ``(t, s, *step.past)`` in its place; () if there is none."""

    def correction(self, step: Step) -> tuple[float, ...]:
        """What the corrector adds to the predicted point of t: weights of the predictions at ``(t, s, *step.past)``."""
        after, before = self.correct(step), (0.0, *self.predict(step).d)
        return tuple(c - p for c, p in zip_longest(after, before, fillvalue=0.0)) if after else ()

    def multistep(self, step: Step) -> Sequence[Row]:
        """The rows of one step."""
        return ROWS[self.mode](self, step)

    def _pec(self, step: Step) -> Sequence[Row]:
        """One row, evaluated at the predicted point of s: correct it, and predict t."""
        x, _, d, z = self.predict(step)
        correction: tuple[float, ...] = ()
        if step.past:
            before, *past = step.past
            last = Step(step.sde, before, step.s, tuple(past), step.index - 1, step.steps)
            correction = () if self.starts(last) else self.correction(last)
        d = tuple(w + x * c for w, c in zip_longest(d, correction, fillvalue=0.0))
        rows = [Row(step.s, self.kind, Mix(x=x, d=d, z=z))]
        if self.correct_last and step.remaining == 1 and (end := self.correction(step)):
            rows.append(Row(step.t, self.kind, Mix(x=1.0, d=end)))
        return rows

    def _pece(self, step: Step) -> Sequence[Row]:
        """Two rows: predict t from the evaluation at the corrected s; evaluate there and correct it."""
        step = Step(step.sde, step.s, step.t, step.past[1::2], step.index, step.steps)  # at corrected points only
        predicted = self.predict(step)
        rows = [Row(step.s, self.kind, predicted._replace(d=_spread(predicted.d)))]
        if step.remaining > 1 or self.correct_last:
            at_t, *others = self.correction(step)
            rows.append(Row(step.t, self.kind, Mix(x=1.0, d=(at_t, *_spread(others)))))
        return rows


ROWS = {"PEC": PredictorCorrector._pec, "PECE": PredictorCorrector._pece}


def _spread(d: Sequence[float]) -> tuple[float, ...]:
    """The weights, with zeros for the predictions at predicted points between them."""
    return tuple(w for pair in zip(d, [0.0] * len(d), strict=True) for w in pair)[:-1]
