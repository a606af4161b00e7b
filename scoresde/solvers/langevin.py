r"""Langevin correctors: at one noise level, steps that move the samples towards the law that they should have there.

.. math:: x \leftarrow x + \epsilon\,s(x) + \sqrt{2\epsilon}\,z

with the score s and a step size :math:`\epsilon`. On a Gaussian of variance v this has the stationary variance
:math:`v/(1-\epsilon/2v)`, whatever the number of time steps: a corrector makes up for the predictor's errors, and puts
a bias of its own in their place, which falls with the step size only.

The step size of :class:`AnnealedLangevin` is known beforehand; that of :class:`scoresde.adaptive.Langevin` is not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from scoresde.errors import check_positive_int
from scoresde.rows import Mix, Row, Solver, Step
from scoresde.solvers.ddim import DDIM
from scoresde.solvers.score_sde import ReverseChain


@dataclass(frozen=True)
class AnnealedLangevin(Solver):
    r"""Annealed Langevin dynamics, with or without a predictor (Song & Ermon 2019, arXiv:1907.05600, Algorithm 1; the
    corrector "ald" of score_sde, the code of Song et al. 2021, arXiv:2011.13456).

    At the beginning of each step, corrections of the size :math:`\epsilon = 2a\,(r\,\sigma_s)^2` with
    :math:`a = (\alpha_s/\alpha_t)^2`, which is the :math:`1-\beta_i` of the VP chain and 1 for VE; then one step of the
    predictor. Of Gaussian data it leaves a relative bias of up to about :math:`r^2` in the variance, however many steps
    there are, so it converges to no order; without a predictor the samples follow the falling noise with a lag besides,
    and take thousands of evaluations. score_sde offers it for completeness; its paper uses
    :class:`scoresde.adaptive.Langevin`.

    Args:
        predictor: a solver that keeps nothing across steps; None: corrections only, the last step is DDIM if it goes
            into the data.
        snr: r, the signal-to-noise ratio that sets the step size.
        corrections: Langevin steps at each level (score_sde's ``n_steps``).
        factors: a of each step, whatever the grid says, as score_sde takes them from a chain of N steps beside its grid
            of N times (its code has none for sub-VP, and fails there).
    """

    predictor: Solver | None = field(default_factory=ReverseChain)
    snr: float = 0.16
    corrections: int = 1
    factors: tuple[float, ...] | None = None

    order: ClassVar[int] = 0
    kind: ClassVar[str] = "score"  # type: ignore[misc]
    ends_at_data: ClassVar[bool] = True
    keeps_constant_data: ClassVar[bool] = False
    paper: ClassVar[str] = "Song et al. 2021, arXiv:2011.13456"

    def __post_init__(self) -> None:
        check_corrector(self.predictor, self.snr, self.corrections, self.factors)

    @property
    def name(self) -> str:
        """pc-ald, or ald without a predictor."""
        return "ald" if self.predictor is None else "pc-ald"

    @property
    def evaluations(self) -> int:  # type: ignore[override]
        """The corrections and the predictor's."""
        return self.corrections + (0 if self.predictor is None else self.predictor.evaluations)

    @property
    def noises(self) -> int:  # type: ignore[override]
        """One for each correction and the predictor's."""
        return self.corrections + (0 if self.predictor is None else self.predictor.noises)

    @property
    def memory(self) -> int:
        """The predictor's."""
        return 0 if self.predictor is None else self.predictor.memory

    def rows(self, step: Step) -> Sequence[Row]:
        """A row for each correction, and the predictor's."""
        size = 2 * factor_of(self.factors, step) * (self.snr * step.s.sigma) ** 2
        rows = [
            Row(step.s, "score", Mix(x=1.0, d=(size,), z=((k, math.sqrt(2 * size)),))) for k in range(self.corrections)
        ]
        predictor = predictor_of(self.predictor, step)
        return rows if predictor is None else [*rows, *(_later(r, self.corrections) for r in predictor.rows(step))]


def _later(row: Row, draws: int) -> Row:
    """The row with its noises numbered after those already drawn in the step."""

    def later(m: Mix) -> Mix:
        return m._replace(z=tuple((draws + k, c) for k, c in m.z))

    return row._replace(x=later(row.x), anchor=None if row.anchor is None else later(row.anchor))


def predictor_of(predictor: Solver | None, step: Step) -> Solver | None:
    """What takes the step after its corrections: into the data DDIM, unless the predictor goes there itself."""
    if step.t.sigma == 0.0 and not (predictor is not None and predictor.ends_at_data):
        return DDIM()
    return predictor


def factor_of(factors: tuple[float, ...] | None, step: Step) -> float:
    """The factor a of the step size in this step.

    Raises:
        ValueError: there are not as many factors as steps.
    """
    if factors is None:
        return (step.s.alpha / step.t.alpha) ** 2
    if len(factors) != step.steps:
        raise ValueError(f"factors has {len(factors)} entries, for a grid of {step.steps} steps")
    return factors[step.index]


def check_corrector(predictor: Solver | None, snr: float, corrections: int, factors: tuple[float, ...] | None) -> None:
    """Validate the options that Langevin correctors share.

    Raises:
        TypeError, ValueError: naming the option, what it got and what would be right.
    """
    if predictor is not None:
        if not isinstance(predictor, Solver):
            raise TypeError(
                f"predictor must be a fixed-step solver of scoresde.get_solver(...), or None; got {predictor!r}"
            )
        if predictor.memory >= predictor.evaluations:
            raise ValueError(f"predictor must keep nothing across steps, got {predictor!r}")
    if not (snr > 0.0 and math.isfinite(snr)):
        raise ValueError(f"snr must be positive and finite, got {snr}")
    check_positive_int(corrections, "corrections")
    for a in factors or ():
        if not (a >= 0.0 and math.isfinite(a)):
            raise ValueError(f"factors must be finite and at least 0, got {a}")
