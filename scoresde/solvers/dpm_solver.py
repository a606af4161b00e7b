"""Singlestep DPM-Solver and DPM-Solver++: several evaluations a step, no past."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from scoresde.errors import choose
from scoresde.rows import KEEP_ANCHOR, KEEP_STATE, Mix, Row, Solver, Step
from scoresde.solvers.cooling import RENEWALS, check_noise, renewing_rows
from scoresde.solvers.dpmpp import TYPES
from scoresde.solvers.exponential import check_orders, exact_step, order_of_step

NAMES = {"epsilon": "dpm-solver-{}", "x0": "dpmpp-{}s"}


@dataclass(frozen=True)
class SinglestepDPM(Solver):
    """DPM-Solver-1, 2, 3 (Lu et al. 2022, arXiv:2206.00927, Algorithms 1 and 2) and DPM-Solver++ 2S, 3S
    (arXiv:2211.01095).

    Inner points lie at fractions r1, r2 of the step in half log-SNR. DPM-Solver-1 is DDIM; DPM-Solver-2 with r1 = 1 is
    Heun in the EDM variable.

    Args:
        order: 1 to 3; the number of evaluations of a full step.
        kind: "epsilon" is DPM-Solver, "x0" is DPM-Solver++.
        r1, r2: inner points, 0 < r1 (< r2) <= 1; by default 1/2 for order 2 and 1/3, 2/3 for order 3.
        solver_type: "midpoint" (dpm-solver: "dpmsolver") or "taylor", for how the differences are used.
        inner_type: the same for the way to the second inner point of order 3; the papers' is "taylor", and diffusers'
            singlestep scheduler takes that of ``solver_type``.
        order_of_last_steps: orders of the last steps; () keeps the order.
        fast: fill a budget of evaluations with steps of order 3 and lower orders at the end (arXiv:2206.00927, section
            3.4, "DPM-Solver-fast"); without a budget the last two steps have orders 2 and 1.
        eta: 0 is deterministic; eta > 0 makes the step to a colder point and adds noise, as DDIM with eta does
            (k-diffusion's "DPM2 a" and "DPM++ 2S a").
        s_noise: factor on the noise that is added.
        renewal: how eta divides the noise (see :class:`scoresde.solvers.DDIM`); "flow" is ComfyUI's on a rectified
            flow. A step from alpha = 0 is DDIM here, where ComfyUI takes 0.9999 of the noise for an inner point.
    """

    order: int = 3
    kind: str = "epsilon"
    r1: float | None = None
    r2: float | None = None
    solver_type: str = "midpoint"
    inner_type: str = "taylor"
    order_of_last_steps: tuple[int, ...] = ()
    fast: bool = False
    eta: float = 0.0
    s_noise: float = 1.0
    renewal: str = "posterior"

    paper: ClassVar[str] = "Lu et al. 2022, arXiv:2206.00927"

    def __post_init__(self) -> None:
        check_orders(self.order, range(1, 4), self.order_of_last_steps)
        choose(self.kind, NAMES, "kind")
        choose(self.solver_type, TYPES, "solver_type")
        choose(self.inner_type, TYPES, "inner_type")
        r1, r2 = self._inner_points(self.order)
        if not (0.0 < r1 <= 1.0 and (self.order < 3 or r1 < r2 <= 1.0)):
            raise ValueError(f"r1, r2 must satisfy 0 < r1 <= 1 and, for order 3, r1 < r2 <= 1; got r1={r1}, r2={r2}")
        check_noise(self.eta, self.s_noise, most=1.0)
        choose(self.renewal, RENEWALS, "renewal")
        if self.fast and self.order != 3:
            raise ValueError(f"fast: DPM-Solver-fast is made of steps of order 3, got order={self.order}")

    @property
    def name(self) -> str:
        """For example "dpm-solver-2", "dpmpp-2s" or "dpmpp-2s-ancestral"."""
        ancestral = "-ancestral-flow" if self.renewal == "flow" else "-ancestral"
        return NAMES[self.kind].format("fast" if self.fast else self.order) + (ancestral if self.eta else "")

    @property
    def converges(self) -> int:
        """The order of convergence; the lower-order last steps of the fast form limit it to 2.

        Noise does not: the step to the colder point has this order, and the noise that is added is exact in law.
        """
        return 2 if self.fast else self.order

    @property
    def noises(self) -> int:  # type: ignore[override]
        """One if eta > 0."""
        return int(self.eta > 0.0)

    @property
    def evaluations(self) -> int:  # type: ignore[override]
        """One for each order."""
        return self.order

    @property
    def memory(self) -> int:
        """The predictions of the step's earlier stages; the midpoint method forgets the first."""
        midpoint = self.order == 2 and self.solver_type == "midpoint" and self._inner_points(2)[0] == 0.5
        return 0 if midpoint else self.order - 1

    def for_budget(self, nfe: int, to_data: bool) -> Solver:
        """The fast form's split of a budget K: floor(K/3) + 1 steps; of orders ..., 3, 2, 1 | ..., 3, 1 | ..., 3, 2."""
        if not self.fast:
            return self
        # A step into sigma = 0 costs one evaluation whatever its order; the rest is split as the paper does.
        split = ((2, 1), (1,), (2,))[(nfe - to_data) % 3]
        return replace(self, order_of_last_steps=(*split, 1) if to_data else split)

    def rows(self, step: Step) -> Sequence[Row]:
        """Rows for each inner point, then the step itself from the anchor."""
        last = self.order_of_last_steps or ((2, 1) if self.fast else ())
        make = STEPS[order_of_step(self.order, last, step.remaining)]
        if not self.eta:
            return make(self, step)
        fractions = RENEWALS[self.renewal](step.s, step.t, self.eta)
        return renewing_rows(step, fractions, self.s_noise, lambda colder: make(self, colder))

    def _inner_points(self, order: int) -> tuple[float, float]:
        first, second = (0.5, 1.0) if order < 3 else (1 / 3, 2 / 3)
        own = order == self.order  # r1 and r2 belong to the full order; shorter last steps have the usual points
        return (self.r1 if own and self.r1 is not None else first, self.r2 if own and self.r2 is not None else second)

    def _first(self, step: Step) -> list[Row]:
        a, i0 = exact_step(self.kind, step.s, step.t)
        return [Row(step.s, self.kind, Mix(x=a, d=(i0,)))]

    def _second(self, step: Step) -> list[Row]:
        r1, _ = self._inner_points(2)
        u = step.within(r1)
        a1, j0 = exact_step(self.kind, step.s, u)
        a, i0, i1 = exact_step(self.kind, step.s, step.t, 2)
        slope = i1 / (r1 * step.h) if self.solver_type == "taylor" else i0 / (2 * r1)
        return [
            Row(step.s, self.kind, Mix(x=a1, d=(j0,)), KEEP_STATE),
            Row(u, self.kind, Mix(anchor=a, d=(slope, i0 - slope))),
        ]

    def _third(self, step: Step) -> list[Row]:
        (r1, r2), h = self._inner_points(3), step.h
        u1, u2 = step.within(r1), step.within(r2)
        a1, j0 = exact_step(self.kind, step.s, u1)
        a2, k0, k1 = exact_step(self.kind, step.s, u2, 2)
        a, i0, i1, i2 = exact_step(self.kind, step.s, step.t, 3)
        inner = k1 / (r1 * h) if self.inner_type == "taylor" else k0 * r2 / (2 * r1)
        if self.solver_type == "taylor":
            # m' = (r2 d1 - r1 d2) / (r2 - r1), m'' = 2 (d2 - d1) / ((r2 - r1) h), d_i = (m_i - m_s) / (r_i h).
            on_d1 = (r2 * i1 - 2 * i2 / h) / (r2 - r1)
            on_d2 = (2 * i2 / h - r1 * i1) / (r2 - r1)
        else:
            on_d1, on_d2 = 0.0, i1
        c1, c2 = on_d1 / (r1 * h), on_d2 / (r2 * h)
        return [
            Row(step.s, self.kind, Mix(x=a1, d=(j0,)), KEEP_STATE),
            Row(u1, self.kind, Mix(anchor=a2, d=(inner, k0 - inner)), KEEP_ANCHOR),
            Row(u2, self.kind, Mix(anchor=a, d=(c2, c1, i0 - c1 - c2))),
        ]


STEPS = {1: SinglestepDPM._first, 2: SinglestepDPM._second, 3: SinglestepDPM._third}
