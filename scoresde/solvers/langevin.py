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
from scoresde.rows import Mix, Row, Solver, Span, Step
from scoresde.sde import Point
from scoresde.solvers.ddim import DDIM
from scoresde.solvers.score_sde import ReverseChain

SNR_OF_AZULA = math.sqrt(-math.log1p(-0.01)) / 2  # of its PCSampler's delta = 0.01


@dataclass(frozen=True)
class AnnealedLangevin(Solver):
    r"""Annealed Langevin dynamics, with or without a predictor (Song & Ermon 2019, arXiv:1907.05600, Algorithm 1; the
    corrector "ald" of score_sde, the code of Song et al. 2021, arXiv:2011.13456).

    At the beginning of each step, corrections of the size :math:`\epsilon = 2a\,(r\,\sigma_s)^2` with
    :math:`a = (\alpha_s/\alpha_t)^2`, which is the :math:`1-\beta_i` of the VP chain and 1 for VE; then one step of the
    predictor. (The paper's algorithms predict before they correct, its code after: so it is here, which differs at the
    first and the last level only.) score_sde offers this corrector for completeness; its paper uses
    :class:`scoresde.adaptive.Langevin`.

    Of Gaussian data it leaves a relative bias of up to about :math:`r^2` in the variance, however many steps there are,
    so it converges to no order. Without a predictor the samples follow the falling noise with a lag besides, and take
    thousands of evaluations.

    Args:
        predictor: a solver that keeps nothing across steps; None: corrections only, the last step is DDIM if it goes
            into the data.
        snr: r, the signal-to-noise ratio that sets the step size.
        corrections: Langevin steps at each level (score_sde's ``n_steps``).
        factors: a of each step, or one for all of them, whatever the grid says, as score_sde takes them from a chain of
            N steps beside its grid of N times (its code has none for sub-VP, and fails there).
        exact: solve a correction exactly for a prediction of x0 that does not change: the share
            :math:`\delta = 1-e^{-2\epsilon/\sigma^2}` of the noise is renewed, which leaves no bias in pure noise, and
            one of about :math:`\delta/4` at most in Gaussian data. With DDIM and a = 1 it is azula's ``PCSampler``,
            which names :math:`\delta` (0.01).
    """

    predictor: Solver | None = field(default_factory=ReverseChain)
    snr: float = 0.16
    corrections: int = 1
    factors: tuple[float, ...] | float | None = None
    exact: bool = False

    order: ClassVar[int] = 0
    ends_at_data: ClassVar[bool] = True
    paper: ClassVar[str] = "Song et al. 2021, arXiv:2011.13456"

    def __post_init__(self) -> None:
        check_corrector(self.predictor, self.snr, self.corrections, self.factors)

    @property
    def name(self) -> str:
        """For example pc-ald, pc-ald-exact, or ald without a predictor."""
        return ("ald" if self.predictor is None else "pc-ald") + ("-exact" if self.exact else "")

    @property
    def kind(self) -> str:  # type: ignore[override]
        """What the corrections mix."""
        return "x0" if self.exact else "score"

    @property
    def keeps_constant_data(self) -> bool:  # type: ignore[override]
        """Exact corrections with a predictor that does."""
        return self.exact and self.predictor is not None and self.predictor.keeps_constant_data

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

    def noise_spans(self, step: Step) -> Sequence[Span | None]:
        """None: the noise of a corrector is not the process's."""
        return ()

    def rows(self, step: Step) -> Sequence[Row]:
        """A row for each correction, and the predictor's."""
        s, a = step.s, factor_of(self.factors, step)
        rows = [Row(s, self.kind, self._correction(s, 2 * a * self.snr**2, k)) for k in range(self.corrections)]
        predictor = predictor_of(self.predictor, step)
        return rows if predictor is None else [*rows, *(_later(r, self.corrections) for r in predictor.rows(step))]

    def _correction(self, s: Point, size: float, k: int) -> Mix:
        """One correction with noise k; its size in units of sigma^2."""
        if self.exact:
            renewed = -math.expm1(-size)
            deviation = s.sigma * math.sqrt(-math.expm1(-2 * size))
            return Mix(x=1 - renewed, d=(renewed * s.alpha,), z=((k, deviation),))
        return Mix(x=1.0, d=(size * s.sigma**2,), z=((k, s.sigma * math.sqrt(2 * size)),))


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


def factor_of(factors: tuple[float, ...] | float | None, step: Step) -> float:
    """The factor a of the step size in this step.

    Raises:
        ValueError: there are not as many factors as steps.
    """
    if factors is None:
        return (step.s.alpha / step.t.alpha) ** 2
    if not isinstance(factors, tuple):
        return factors
    if len(factors) != step.steps:
        raise ValueError(f"factors has {len(factors)} entries, for a grid of {step.steps} steps")
    return factors[step.index]


def check_corrector(
    predictor: Solver | None, snr: float, corrections: int, factors: tuple[float, ...] | float | None
) -> None:
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
    for a in factors if isinstance(factors, tuple) else () if factors is None else (factors,):
        if not (a >= 0.0 and math.isfinite(a)):
            raise ValueError(f"factors must be finite and at least 0, got {a}")
