"""EDM's stochastic sampler."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from scoresde.rows import Row, Solver, Step
from scoresde.solvers.cooling import check_noise
from scoresde.solvers.runge_kutta import RungeKutta
from scoresde.solvers.wrapper import Wrapper

MOST_CHURN = math.sqrt(2.0) - 1.0


@dataclass(frozen=True)
class Churn(Wrapper):
    r"""EDM's stochastic sampler: raise the noise, then take a deterministic step from there (Karras et al. 2022,
    arXiv:2206.00364, Algorithm 2).

    In each step with :math:`S_{min} \le \rho_s \le S_{max}`, :math:`\rho = \sigma/\alpha` rises by the factor
    :math:`1+\gamma`, :math:`\gamma = \min(S_{churn}/N, \sqrt2-1)`. Noise is added exactly, so the weak order is the
    order of the deterministic solver (for s_noise = 1; other values are the paper's remedy for a network that removes
    too much noise, and change the limit). If s_max allows churn in the first step, the network is evaluated above the
    noise level at which the grid begins.

    On a Brownian path the churn of a step is driven by the path's increment over the step. Since s_churn is shared out
    among the steps, a sample then approaches the solution of a stochastic equation (strong order 1), once the steps are
    so many that :math:`\gamma` is below its limit.

    Args:
        inner: the deterministic solver, one without a memory across steps; EDM's is Heun.
        s_churn: the total amount of churn, 0 for none.
        s_min, s_max: the noise levels between which there is churn.
        s_noise: factor on the noise that is added.
    """

    inner: Solver = field(default_factory=lambda: RungeKutta("heun"))
    s_churn: float = 40.0
    s_min: float = 0.0
    s_max: float = math.inf
    s_noise: float = 1.0

    paper: ClassVar[str] = "Karras et al. 2022, arXiv:2206.00364, Algorithm 2"
    ends_at_data: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_noise(0.0, self.s_noise)
        if not (self.s_churn >= 0.0 and math.isfinite(self.s_churn)):
            raise ValueError(f"s_churn must be finite and at least 0, got {self.s_churn}")
        if not 0.0 <= self.s_min <= self.s_max:
            raise ValueError(f"s_min, s_max must satisfy 0 <= s_min <= s_max, got {self.s_min}, {self.s_max}")

    @property
    def name(self) -> str:
        """For example "heun-churn"."""
        return f"{self.inner.name}-churn"

    @property
    def noises(self) -> int:  # type: ignore[override]
        """One if s_churn > 0."""
        return int(self.s_churn > 0.0)

    def rows(self, step: Step) -> Sequence[Row]:
        """A row without an evaluation that adds noise, then those of the inner solver."""
        s, churned = step.s, self.s_min <= step.s.rho <= self.s_max and step.s.alpha > 0.0
        gamma = min(self.s_churn / step.steps, MOST_CHURN) if churned else 0.0
        if not gamma:
            return self.inner_rows(step)
        hat = step.sde.point_at_lam(s.lam - math.log1p(gamma))
        return [self.raised(s, hat, 0, self.s_noise), *self.inner_rows(replace(step, s=hat, past=()))]
