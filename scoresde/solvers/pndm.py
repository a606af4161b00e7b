r"""Pseudo numerical methods: Adams–Bashforth weights of equal steps, on the noise prediction of a DDIM step.

All of them are :math:`x_t/\alpha_t = x_s/\alpha_s + (\rho_t-\rho_s)\,\bar\epsilon` with :math:`\rho=\sigma/\alpha` and
some mean :math:`\bar\epsilon` of noise predictions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, NamedTuple

from scoresde.errors import choose
from scoresde.rows import KEEP_ANCHOR, KEEP_STATE, Mix, Row, Solver, Step
from scoresde.sde import Point
from scoresde.solvers.exponential import check_orders, order_of_step
from scoresde.solvers.starting import Multistep

EQUAL_STEPS = {
    1: (1.0,),
    2: (3 / 2, -1 / 2),
    3: (23 / 12, -16 / 12, 5 / 12),
    4: (55 / 24, -59 / 24, 37 / 24, -9 / 24),
}


def _ddim(s: Point, t: Point) -> tuple[float, float]:
    """(on x, on the noise prediction) of a DDIM step."""
    return t.alpha / s.alpha, t.alpha * (t.rho - s.rho)


def _heun(step: Step) -> list[Row]:
    a, b = _ddim(step.s, step.t)
    return [
        Row(step.s, "epsilon", Mix(x=a, d=(b,)), KEEP_STATE),
        Row(step.t, "epsilon", Mix(anchor=a, d=(b / 2, b / 2))),
    ]


def _runge_kutta(step: Step) -> list[Row]:
    middle = step.sde.point(0.5 * (step.s.t + step.t.t))
    (a1, b1), (a, b) = _ddim(step.s, middle), _ddim(step.s, step.t)
    return [
        Row(step.s, "epsilon", Mix(x=a1, d=(b1,)), KEEP_STATE),
        Row(middle, "epsilon", Mix(anchor=a1, d=(b1,)), KEEP_ANCHOR),
        Row(middle, "epsilon", Mix(anchor=a, d=(b,)), KEEP_ANCHOR),
        Row(step.t, "epsilon", Mix(anchor=a, d=(b / 6, b / 3, b / 3, b / 6))),
    ]


class Start(NamedTuple):
    """How the first steps are made: the solver's name; rows, evaluations and number of these steps."""

    name: str
    rows: Callable[[Step], list[Row]] | None
    evaluations: int
    steps: int


STARTS = {
    "lower": Start("ipndm-{}", None, 1, 0),
    "heun": Start("plms", _heun, 2, 1),
    "runge-kutta": Start("pndm", _runge_kutta, 4, 3),
}


@dataclass(frozen=True)
class PNDM(Multistep):
    """PNDM, PLMS and iPNDM (Liu et al. 2022, arXiv:2202.09778, eqs. 9, 12 and 13; Zhang & Chen 2022, arXiv:2204.13902,
    section 3, for the improved form).

    The weights are those of equal steps whatever the grid: formally of order 2 for orders 2, 3 and 4, and still among
    the best at few steps. They differ in their start: iPNDM's first steps have a lower order; PLMS, as Stable Diffusion
    and diffusers (``skip_prk_steps=True``) have it, begins with a step of Heun; PNDM (F-PNDM) with three of a
    Runge–Kutta of order 4, whose inner points lie midway in the time of the process. Such a start costs 1 and 9
    further evaluations, and PNDM keeps those of its start: 12 in all.

    Args:
        order: 1 to 4, the number of predictions that a step mixes.
        start: "lower" (iPNDM), "heun" (PLMS) or "runge-kutta" (PNDM, the published one, which is not that of the other
            families); the last two are of order 4. No start makes the weights of equal steps converge with more than
            order 2; on a grid uniform in sigma/alpha, where they do, "lms-4-rk" is this method with a start of its
            order.
        order_of_last_steps: orders of the last steps, for example (2, 1); () keeps the order. PLMS and PNDM step into
            sigma = 0 themselves, as in diffusers, and iPNDM with DDIM, as in diff-sampler.
    """

    order: int = 4
    start: str = "lower"
    order_of_last_steps: tuple[int, ...] = ()

    kind: ClassVar[str] = "epsilon"  # type: ignore[misc]
    paper: ClassVar[str] = "Liu et al. 2022, arXiv:2202.09778; Zhang & Chen 2022, arXiv:2204.13902"

    def __post_init__(self) -> None:
        check_orders(self.order, range(1, 5), self.order_of_last_steps)
        choose(self.start, STARTS, "start")
        if self.start != "lower" and self.order != 4:
            raise ValueError(f"start={self.start!r} is that of a method of order 4, got order={self.order}")

    @property
    def name(self) -> str:
        """For example "ipndm-4"; "plms" and "pndm" for the other starts."""
        return STARTS[self.start].name.format(self.order)

    @property
    def converges(self) -> int:
        """At most 2: the weights are those of equal steps."""
        return min(self.order, 2)

    @property
    def stages(self) -> int:
        """Evaluations of one of the first steps."""
        return STARTS[self.start].evaluations

    @property
    def starting_steps(self) -> int:
        """One of Heun, or three of Runge–Kutta."""
        return STARTS[self.start].steps

    @property
    def ends_at_data(self) -> bool:  # type: ignore[override]
        """PLMS and PNDM."""
        return self.start != "lower"

    def start_step(self, step: Step) -> list[Row]:
        """The first steps as published."""
        rows = STARTS[self.start].rows
        assert rows is not None, "iPNDM has no such steps"
        return rows(step)

    def multistep(self, step: Step) -> Sequence[Row]:
        """One row."""
        order = min(order_of_step(self.order, self.order_of_last_steps, step.remaining), 1 + len(step.past))
        a, b = _ddim(step.s, step.t)
        return [Row(step.s, self.kind, Mix(x=a, d=tuple(b * w for w in EQUAL_STEPS[order])))]


@dataclass(frozen=True)
class OfficialIPNDMv(Solver):
    """iPNDM_v as diff-sampler ships it (Zhou et al. 2024, arXiv:2312.00094, code of diff-solvers).

    It is meant to be the Adams–Bashforth method of variable steps in sigma/alpha, and is up to order 2. Order 3 has a
    bracket misplaced, which leaves it its order; order 4 has two slips more. On a grid uniform in log-SNR it converges
    with order 3; on others its weights do not sum to one, and it converges with a lower order. The method put right is
    "lms-4".

    Args:
        order: 1 to 4.
        order_of_last_steps: orders of the last steps, for example (2, 1); () keeps the order. A step into sigma = 0 is
            of order 1 always.
    """

    order: int = 4
    order_of_last_steps: tuple[int, ...] = ()

    kind: ClassVar[str] = "epsilon"  # type: ignore[misc]
    keeps_constant_data: ClassVar[bool] = False
    paper: ClassVar[str] = "Zhou et al. 2024, arXiv:2312.00094"
    most_gain: ClassVar[float] = 2.5  # with the slips a long step is off by more than its gain says

    def __post_init__(self) -> None:
        check_orders(self.order, range(1, 5), self.order_of_last_steps)

    @property
    def name(self) -> str:
        """For example "ipndm-v-4-official"."""
        return f"ipndm-v-{self.order}-official"

    @property
    def converges(self) -> int:
        """At most 3, and that on grids uniform in log-SNR."""
        return min(self.order, 3)

    @property
    def memory(self) -> int:
        """order - 1 past predictions."""
        return self.order - 1

    def rows(self, step: Step) -> Sequence[Row]:
        """One row."""
        order = order_of_step(self.order, self.order_of_last_steps, step.remaining)
        rhos = [p.rho for p in (step.s, *step.past)[:order]]
        a, b = _ddim(step.s, step.t)
        weights = _official_weights(step.t.rho - rhos[0], [u - v for u, v in pairwise(rhos)])
        return [Row(step.s, self.kind, Mix(x=a, d=tuple(b * w for w in weights)))]


def _official_weights(h: float, past: Sequence[float]) -> list[float]:
    """Weights of the predictions, newest first, for a step h after past steps (newest first); they should sum to 1."""
    if not past:
        return [1.0]
    h1, *older = past
    difference = h / (2 * h1)
    weights = [1 + difference, -difference]
    if older:
        h2, *oldest = older
        ratio = h1 / h2
        # Right would be: (1 - h / (3 (h + h1))) / 2, and all of it times what follows.
        second = (1 - h / (3 * (h + h1)) * (h * (h + h1)) / (h1 * (h1 + h2))) / 2
        weights = [weights[0] + second, weights[1] - (1 + ratio) * second, ratio * second]
        if oldest:
            h3 = oldest[0]
            mixed = h1 * (h1 + h2) / (h2 * (h2 + h3))
            # Right would be a minus between the two terms in brackets, and h2 / h3 for ratio in the last weight.
            third = (1 - h / (3 * (h + h1))) / 2 + (1 - h / (2 * (h + h1))) * h / (6 * (h + h1 + h2))
            third *= h * (h + h1) * (h + h1 + h2) / (h1 * (h1 + h2) * (h1 + h2 + h3))
            on = (1.0, -(1 + ratio + mixed), ratio + mixed * (1 + h2 / h3), -mixed * ratio)
            weights = [w + c * third for w, c in zip([*weights, 0.0], on, strict=True)]
    return weights
