r"""The first steps of a multistep method at its own order, by a Runge–Kutta method.

The first steps of a multistep method lack a past. With lower orders there, as everywhere, the global order is 2 in the
end (3 with a corrector), however small the constant. k - 1 steps of a one-step method with local errors of order k
leave a method of order k its order. These steps are explicit Runge–Kutta methods in a variable in which
:math:`d(x/S) = m\,dc` (see :mod:`scoresde.solvers.runge_kutta`), and all their stages but the first are forgotten.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace

from scoresde.errors import choose
from scoresde.rows import Row, Solver, Step
from scoresde.solvers.runge_kutta import TABLEAUX, tableau_rows

# Order of the multistep method -> a Runge–Kutta method of one order less.
METHODS = {2: TABLEAUX["euler"], 3: TABLEAUX["heun"], 4: TABLEAUX["kutta3"], 5: TABLEAUX["rk4"]}
# The option ``start`` -> what it adds to a solver's name.
STARTS = {"lower": "", "runge-kutta": "-rk"}


class Multistep(Solver):
    """A multistep method with a choice of its first steps: the option ``start``, the same for every family.

    A subclass is a dataclass with a field ``start: str = "lower"``, checks it with :meth:`check_start`, and states
    its own rows in :meth:`multistep`, where no stage of the start is in sight.

    - start="lower": lower orders, as everywhere, which leaves an error of order 2 in the end, small as it is;
    - start="runge-kutta" (names end in "-rk"): steps of a Runge–Kutta method that keep the order, at the cost of
      :attr:`further_evaluations`, whose results are kept until the start is over.

    Which to take depends on where a plan starts. Measured at equal numbers of network calls on the five-Gaussian
    mixture (Karras grid into the data), DPM-Solver++(3M) errs 1.3, 2.1, 3.3 and 4.9 times less with the full start at
    20, 30, 50 and 100 calls from sigma = 2, as in image-to-image; at 10 calls it errs 2.8 times more. From sigma = 80,
    where the first steps have it easy, the further calls are not worth it: it errs 1.6 times more at 20 calls and 1.1
    times more at 100. There the start is for reference solutions and proofs.
    """

    start: str = "lower"

    @abstractmethod
    def multistep(self, step: Step) -> Sequence[Row]:
        """The rows of one step, after the start; ``step.past`` are the points where earlier steps began."""

    @property
    def past_steps(self) -> int:
        """Earlier steps whose predictions a step mixes."""
        return self.order - 1

    @property
    def full_order(self) -> int:
        """The order that the start has to keep; with a corrector it is one more than ``order``."""
        return self.order

    def check_start(self) -> None:
        """Validate the option.

        Raises:
            ValueError: an unknown start, or an order without a Runge–Kutta method that keeps it.
        """
        choose(self.start, STARTS, "start")
        if self.start != "lower" and self.full_order not in METHODS:
            raise ValueError(
                f"start='runge-kutta' is for methods of order {list(METHODS)}, got {self.full_order} "
                f"(order={self.order})"
            )

    @property
    def stages(self) -> int:
        """Evaluations of one of the first steps."""
        return 1 if self.start == "lower" else len(METHODS[self.full_order].b)

    @property
    def starting_steps(self) -> int:
        """How many steps the start has: as many as the method needs past ones."""
        return self.order - 1

    @property
    def further_evaluations(self) -> int:  # type: ignore[override]
        """The stages of the start."""
        return self.starting_steps * (self.stages - 1)

    @property
    def memory(self) -> int:
        """Predictions of past steps, and the stages between them while the start is among them."""
        return self.past_steps + self.further_evaluations

    def starts(self, step: Step) -> bool:
        """Whether this step (whose past holds no stages) is one of the start; a step into sigma = 0 never is."""
        return self.stages > 1 and len(step.past) < self.starting_steps and step.t.sigma > 0.0

    def start_step(self, step: Step) -> list[Row]:
        """The rows of a step of the start."""
        return tableau_rows(self.kind, METHODS[self.full_order], step)

    def rows(self, step: Step) -> Sequence[Row]:
        """The rows of a one-step method in the start, and those of the multistep method after it."""
        if self.stages == 1:
            return self.multistep(step)
        used = steps_begin(step)
        step = replace(step, past=tuple(step.past[i - 1] for i in used[1:]))
        if self.starts(step):
            return self.start_step(step)
        first, *others = self.multistep(step)
        return [first._replace(x=first.x._replace(d=at_places(used, first.x.d))), *others]


def steps_begin(step: Step) -> list[int]:
    """Which predictions (0: the one to come; 1 + i: that of ``step.past[i]``) were made where a step began."""
    used, i = [0], 0
    for begin, _ in reversed(step.route[max(0, step.index - len(step.past)) : step.index]):
        while i < len(step.past) and step.past[i].t != begin.t:
            i += 1
        if i == len(step.past):
            break
        i += 1
        used.append(i)
    return used


def at_places(places: Sequence[int], weights: Sequence[float]) -> tuple[float, ...]:
    """The weights (as many as the places, or fewer) at their places among the predictions, zeros between them."""
    d = [0.0] * (1 + places[len(weights) - 1])
    for i, w in zip(places, weights, strict=False):
        d[i] = w
    return tuple(d)
