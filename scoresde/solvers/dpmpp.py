"""Multistep DPM-Solver and DPM-Solver++: one evaluation a step, derivatives from past predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from scoresde.errors import choose
from scoresde.rows import Mix, Row, Solver, Step
from scoresde.solvers.exponential import check_orders, exact_step, order_of_step

NAMES = {"x0": "dpmpp-{}m", "epsilon": "dpm-solver-{}m"}
TYPES = {"midpoint": "midpoint", "taylor": "taylor"}


@dataclass(frozen=True)
class MultistepDPM(Solver):
    """DPM-Solver++ 1, 2M, 3M (Lu et al. 2022, arXiv:2211.01095, Algorithm 2), and the same in noise prediction.

    The first steps, which lack a past, use a lower order. The third-order update that every public library ships gives
    the second difference half the weight that the expansion asks for, and so converges with order 2 only.
    ``official=False`` gives it its full weight and converges with order 3; ``official=True`` reproduces the shipped
    method, which can be a little better at ten steps and fewer.

    Args:
        order: 1 to 3; the number of predictions that a step mixes.
        kind: "x0" is DPM-Solver++, "epsilon" the multistep form of DPM-Solver.
        solver_type: "midpoint" (the paper's; diffusers: "midpoint", dpm-solver: "dpmsolver") or "taylor" (diffusers:
            "heun") for how an order-2 step uses the first difference.
        official: the third-order update as shipped.
        order_of_last_steps: orders of the last steps, for example (2, 1); () keeps the order. A step into sigma = 0 is
            of order 1 always. dpm-solver's and diffusers' ``lower_order_final`` is (1,) for order 2 and (2, 1) for
            order 3.
    """

    order: int = 2
    kind: str = "x0"
    solver_type: str = "midpoint"
    official: bool = False
    order_of_last_steps: tuple[int, ...] = ()

    paper: ClassVar[str] = "Lu et al. 2022, arXiv:2211.01095"

    def __post_init__(self) -> None:
        check_orders(self.order, range(1, 4), self.order_of_last_steps)
        choose(self.kind, NAMES, "kind")
        choose(self.solver_type, TYPES, "solver_type")

    @property
    def name(self) -> str:
        """For example "dpmpp-2m"."""
        if self.order == 1:
            return NAMES[self.kind].format(1).removesuffix("m")
        return NAMES[self.kind].format(self.order) + ("-official" if self.official and self.order == 3 else "")

    @property
    def converges(self) -> int:
        """The order of convergence: ``order``, but 2 for the official third-order update."""
        return 2 if self.official and self.order == 3 else self.order

    @property
    def memory(self) -> int:
        """order - 1 past predictions."""
        return self.order - 1

    def rows(self, step: Step) -> Sequence[Row]:
        """One row: the exact step, with derivatives of the prediction from backward differences."""
        order = min(order_of_step(self.order, self.order_of_last_steps, step.remaining), 1 + len(step.past))
        a, *integrals = exact_step(self.kind, step.s, step.t, order)
        return [Row(step.s, self.kind, Mix(x=a, d=WEIGHTS[order](self, step, *integrals)))]

    def _first(self, step: Step, i0: float) -> tuple[float, ...]:
        return (i0,)

    def _second(self, step: Step, i0: float, i1: float) -> tuple[float, ...]:
        h0 = step.s.lam - step.past[0].lam
        slope = i1 / h0 if self.solver_type == "taylor" else i0 * step.h / (2 * h0)
        return (i0 + slope, -slope)

    def _third(self, step: Step, i0: float, i1: float, i2: float) -> tuple[float, ...]:
        h0, h1 = step.s.lam - step.past[0].lam, step.past[0].lam - step.past[1].lam
        # m' = d0 + h0 (d0 - d1) / (h0 + h1) and m'' = 2 (d0 - d1) / (h0 + h1), with d0, d1 the divided differences.
        curvature = (i1 * h0 + i2 * (1 if self.official else 2)) / (h0 + h1)
        on_d0, on_d1 = (i1 + curvature) / h0, -curvature / h1
        return (i0 + on_d0, on_d1 - on_d0, -on_d1)


WEIGHTS = {1: MultistepDPM._first, 2: MultistepDPM._second, 3: MultistepDPM._third}
