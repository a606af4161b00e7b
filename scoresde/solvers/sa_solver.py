"""SA-Solver: stochastic Adams methods, predictor and corrector."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from scoresde.errors import choose
from scoresde.rows import Mix, Step
from scoresde.sde import Point
from scoresde.solvers.cooling import check_noise, noise
from scoresde.solvers.exponential import check_orders, order_of_step
from scoresde.solvers.predictor_corrector import ROWS, SCALES, PredictorCorrector, adams_step

ENDS = {"end": lambda step: step.t, "start": lambda step: step.s}


@dataclass(frozen=True)
class TauBetween:
    """A tau for :class:`SASolver` that is ``tau`` where rho_min <= sigma/alpha <= rho_max, and 0 elsewhere.

    The paper's choice: noise helps at intermediate levels, such as 0.05 to 1 for CIFAR-10.
    """

    tau: float = 1.0
    rho_min: float = 0.05
    rho_max: float = 1.0

    def __post_init__(self) -> None:
        if not (self.tau >= 0 and 0 <= self.rho_min <= self.rho_max):
            raise ValueError(f"TauBetween needs tau >= 0 and 0 <= rho_min <= rho_max, got {self}")

    def __call__(self, point: Point) -> float:
        """The tau of the step that ends (or starts, see ``tau_at``) at this noise level."""
        return self.tau if self.rho_min <= point.rho <= self.rho_max else 0.0


@dataclass(frozen=True)
class SASolver(PredictorCorrector):
    r"""SA-Solver (Xue et al. 2023, arXiv:2309.05019, Algorithm 1), data prediction by default.

    :math:`x_t = e^{-\tau^2 h}\frac{\sigma_t}{\sigma_s} x_s + \sum_j w_j D_j + \sigma_t\sqrt{1-e^{-2\tau^2 h}}\,z`,
    the weights from the polynomial through the predictions (eqs. 15 and 18), the noise z shared by predictor and
    corrector. tau = 0 is the exponential Adams method. With noise the weak order of convergence is 2 at most, whatever
    the orders of the polynomials.

    The first steps, which lack a past, use lower orders (see :class:`scoresde.solvers.UniPC`).

    Args:
        predictor_order: 1 to 4; predictions that the predictor mixes.
        corrector_order: 0 (no corrector) to 4; predictions that the corrector mixes, the new one included.
        tau: the noise scale, 0 or more, or a function of the noise level (:class:`TauBetween` or your own,
            ``(Point) -> float``).
        tau_at: a function tau is taken at the "end" of a step (the official code) or at its "start" (diffusers).
        mode: "PEC" evaluates at predicted points, once a step; "PECE" at the corrected ones too.
        line: "exact", or "bh1" for the official ``few_steps`` (and diffusers): where the polynomial is a line, the
            integral of its slope is taken to leading order in h.
        kind: "x0", or "epsilon" for the paper's noise prediction, which it advises against (Appendix A.2.4).
        order_of_last_steps: predictor orders of the last steps, for example (2, 1); () keeps the order. The corrector
            of such a step mixes one prediction more, at most. A step into sigma = 0 is DDIM always. The official code
            has (m - 1, ..., 1) with m = max(predictor_order, corrector_order - 1).
        ode_last: the last step takes tau = 0 (official ``few_steps``).
        correct_last: the last point is corrected too, for one evaluation more (official ``more_steps``); a step into
            sigma = 0 has nothing to correct.
        s_noise: factor on the noise that is added.

    ComfyUI's ``sa_solver`` by default has tau = 1 in the middle of its schedule only: :class:`TauBetween` with the
    noise levels at 20 % and 80 % of its times.
    """

    predictor_order: int = 3
    corrector_order: int = 4
    tau: float | Callable[[Point], float] = 1.0
    tau_at: str = "end"
    mode: str = "PEC"
    line: str = "exact"
    kind: str = "x0"
    order_of_last_steps: tuple[int, ...] = ()
    ode_last: bool = False
    correct_last: bool = False
    s_noise: float = 1.0

    paper: ClassVar[str] = "Xue et al. 2023, arXiv:2309.05019"

    def __post_init__(self) -> None:
        if self.predictor_order not in range(1, 5):
            raise ValueError(f"predictor_order must be one of [1, 2, 3, 4], got {self.predictor_order!r}")
        if self.corrector_order not in range(5):
            raise ValueError(f"corrector_order must be one of [0, 1, 2, 3, 4], got {self.corrector_order!r}")
        if not callable(self.tau) and not self.tau >= 0:
            raise ValueError(f"tau must be at least 0, or a function of the noise level, got {self.tau!r}")
        check_orders(self.predictor_order, range(1, 5), self.order_of_last_steps)
        choose(self.tau_at, ENDS, "tau_at")
        choose(self.mode, ROWS, "mode")
        if self.mode == "PECE" and not self.corrector_order:
            raise ValueError("mode='PECE' evaluates at corrected points: it needs a corrector_order of 1 to 4, got 0")
        choose(self.line, {"exact": None, "bh1": None}, "line")
        choose(self.kind, SCALES, "kind")
        check_noise(0.0, self.s_noise)

    @property
    def name(self) -> str:
        """sa-solver or sa-solver-pece."""
        return "sa-solver" + ("-pece" if self.mode == "PECE" else "")

    @property
    def order(self) -> int:  # type: ignore[override]
        """Of the Adams method, at tau = 0."""
        p, c = self.predictor_order, self.corrector_order
        return min(p + 1, c) if c else p

    @property
    def converges(self) -> int:
        """The order of the Adams method, up to 3 without a corrector; with noise, weak order 2 at most."""
        return min(self.order, 2 if self.noises else 4 if self.corrector_order else 3)

    @property
    def noises(self) -> int:  # type: ignore[override]
        """One, unless tau is 0."""
        return int(callable(self.tau) or self.tau > 0)

    @property
    def evaluations(self) -> int:  # type: ignore[override]
        """Two in mode PECE."""
        return 2 if self.mode == "PECE" else 1

    @property
    def further_evaluations(self) -> int:  # type: ignore[override]
        """Of the last point: one if it is corrected in mode PEC, one fewer if it is not in mode PECE."""
        if self.mode == "PECE":
            return int(self.correct_last) - 1
        return int(self.correct_last and self.corrector_order > 0)

    @property
    def memory(self) -> int:
        """Past predictions: those of the predictor of the step that is corrected, and of its corrector."""
        if not self.corrector_order:
            return self.predictor_order - 1
        longest = max(self.predictor_order + 1, self.corrector_order)
        return longest - 1 if self.mode == "PEC" else 2 * longest - 3

    def _tau(self, step: Step) -> float:
        if self.ode_last and step.remaining == 1:
            return 0.0
        return self.tau(ENDS[self.tau_at](step)) if callable(self.tau) else self.tau

    def _order(self, step: Step, highest: int) -> int:
        return order_of_step(highest, self.order_of_last_steps, step.remaining)

    def predict(self, step: Step) -> Mix:
        """SA-Predictor."""
        points = (step.s, *step.past)[: self._order(step, self.predictor_order)]
        a, weights, added = adams_step(self.kind, step.s, step.t, points, self._tau(step), self.line)
        return Mix(x=a, d=weights, z=noise(0, self.s_noise * added))

    def correct(self, step: Step) -> tuple[float, ...]:
        """SA-Corrector."""
        if not self.corrector_order:
            return ()
        points = (step.t, step.s, *step.past)[: 1 + self._order(step, self.corrector_order - 1)]
        return adams_step(self.kind, step.s, step.t, points, self._tau(step), self.line)[1]
