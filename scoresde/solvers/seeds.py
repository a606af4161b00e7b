"""SEEDS: singlestep methods for the reverse SDE whose stages lie on one path of the noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from scoresde.errors import choose
from scoresde.rows import KEEP_ANCHOR, KEEP_STATE, Mix, Row, Solver, Span, Step
from scoresde.solvers.cooling import check_noise, path_noises, sde_step
from scoresde.solvers.dpmpp import TYPES
from scoresde.solvers.predictor_corrector import SCALES

DEFAULT_FRACTIONS = {2: (0.5,), 3: (1 / 3, 2 / 3)}


@dataclass(frozen=True)
class SEEDS(Solver):
    r"""SEEDS-2, SEEDS-3 (Gonzalez et al. 2023, arXiv:2305.14267), stochastic exponential derivative-free solvers.

    The reverse SDE with eta times its noise (see :mod:`scoresde.solvers.cooling`) is solved from the start of the step
    to each inner point and to its end, exactly in its linear part and its noise: from the prediction at the start, then
    from a line through that and the newest prediction, as in DPM-Solver++ 2S and 3S, which these are at eta = 0. The
    noises of the stages belong to one path: to the first inner point, and on from there. Independent noises would cost
    an order. The weak order is 2 for both: the covariance of noise and predictions is right to that order only.

    ComfyUI's ``seeds_2`` and ``seeds_3`` are these; its first step of a rectified flow starts a little below pure
    noise, where ours is DDIM. Its first version gave the last noise the wrong share of the path for inner points other
    than r = 1/2. Its ``exp_heun_2_x0_sde`` is order 2 with r1 = 1 and the taylor form.

    Args:
        order: 2 or 3; the number of evaluations of a full step.
        kind: "x0", or "epsilon" for noise prediction.
        eta: 0 is deterministic, 1 the reverse SDE.
        s_noise: factor on the noise that is added.
        r1, r2: inner points, as fractions of the step in half log-SNR, 0 < r1 (< r2) <= 1; by default 1/2 for order 2
            and 1/3, 2/3 for order 3 (ComfyUI: r, and r_1, r_2).
        solver_type: how order 2 uses the line, "midpoint" (ComfyUI: "phi_1") or "taylor" (ComfyUI: "phi_2").
    """

    order: int = 2
    kind: str = "x0"
    eta: float = 1.0
    s_noise: float = 1.0
    r1: float | None = None
    r2: float | None = None
    solver_type: str = "midpoint"

    paper: ClassVar[str] = "Gonzalez et al. 2023, arXiv:2305.14267"

    def __post_init__(self) -> None:
        if self.order not in DEFAULT_FRACTIONS:
            raise ValueError(f"order must be one of {list(DEFAULT_FRACTIONS)}, got {self.order!r}")
        choose(self.kind, SCALES, "kind")
        choose(self.solver_type, TYPES, "solver_type")
        check_noise(self.eta, self.s_noise)
        if self.order == 2 and self.r2 is not None:
            raise ValueError(f"r2: SEEDS-2 has one inner point, r1; got r2={self.r2}")
        if not (all(a < b for a, b in pairwise((0.0, *self.fractions))) and self.fractions[-1] <= 1.0):
            raise ValueError(f"r1, r2 must satisfy 0 < r1 (< r2) <= 1, got {self.fractions}")

    @property
    def fractions(self) -> tuple[float, ...]:
        """The inner points."""
        given = (self.r1, self.r2)[: self.order - 1]
        return tuple(d if r is None else r for r, d in zip(given, DEFAULT_FRACTIONS[self.order], strict=True))

    @property
    def name(self) -> str:
        """seeds-2, seeds-3, or seeds-2-heun."""
        heun = self.solver_type == "taylor" and self.fractions == (1.0,)
        return f"seeds-{self.order}" + ("-heun" if heun else "")

    @property
    def converges(self) -> int:
        """Weak order 2; the order without noise."""
        return 2 if self.eta else self.order

    @property
    def evaluations(self) -> int:  # type: ignore[override]
        """One for each order."""
        return self.order

    @property
    def noises(self) -> int:  # type: ignore[override]
        """One for each piece of the path."""
        return len({*self.fractions, 1.0}) if self.eta else 0

    @property
    def memory(self) -> int:
        """The predictions of the step's earlier stages; the midpoint method forgets the first."""
        forgets = self.order == 2 and self.solver_type == "midpoint" and self.fractions == (0.5,)
        return 0 if forgets else self.order - 1

    def noise_spans(self, step: Step) -> Sequence[Span | None]:
        """The parts of the step between the stages."""
        points = [step.within(r) for r in dict.fromkeys((0.0, *self.fractions, 1.0))]
        return tuple(pairwise(points))

    def rows(self, step: Step) -> Sequence[Row]:
        """One row for each inner point and for the end, all from the start of the step."""
        points = [step.s, *(step.within(r) for r in self.fractions), step.t]
        noises = path_noises(self.kind, points, self.eta, self.s_noise)
        rows = []
        for i, (z, t) in enumerate(zip(noises, points[1:], strict=True)):
            (a, i0, i1), _ = sde_step(self.kind, step.s, t, 2, self.eta)
            if not i:
                rows.append(Row(step.s, self.kind, Mix(x=a, d=(i0,), z=z), KEEP_STATE))
                continue
            midpoint = self.order == 2 and self.solver_type == "midpoint"
            on_newest = i0 / (2 * self.fractions[0]) if midpoint else i1 / (points[i].lam - step.s.lam)
            d = (on_newest, *[0.0] * (i - 1), i0 - on_newest)
            last = i + 1 == self.order
            rows.append(Row(points[i], self.kind, Mix(anchor=a, d=d, z=z), None if last else KEEP_ANCHOR))
        return rows
