"""Gradient estimation: DDIM along a mean of the last two noise predictions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from scoresde.rows import Mix, Row, Solver, Step
from scoresde.solvers.cooling import noise, reverse_sde


@dataclass(frozen=True)
class GradientEstimation(Solver):
    r"""The gradient-estimation sampler (Permenter & Yuan 2023, arXiv:2306.04848, Algorithm 2).

    DDIM with :math:`\bar\epsilon = \gamma\hat\epsilon_s + (1-\gamma)\hat\epsilon_{s'}` for the noise, s' where the step
    before began. Such weights are those of the linear multistep method of order 2 where
    :math:`\gamma = 1 + h/2h'`, the ratio being that of the steps in :math:`\sigma/\alpha`: 1.5 for equal steps, and
    in the limit on any smooth grid. For other values, also the authors' 2, the order of convergence is 1: they lean
    forward on purpose. With the exact ratio it is "lms-2".

    Args:
        gamma: the weight of the newest prediction, at least 1; 1 is DDIM. (``gam`` of the authors' smalldiffusion,
            ``ge_gamma`` of ComfyUI.)
        mu: in [0, 1): noise, as in smalldiffusion. A step goes to :math:`\kappa\sigma_t` and adds the rest,
            :math:`\kappa = e^{-h\mu/(1-\mu)}` for a step of h in half log-SNR; 1/2 is the noise of DDPM.
    """

    gamma: float = 2.0
    mu: float = 0.0

    order: ClassVar[int] = 1
    kind: ClassVar[str] = "epsilon"  # type: ignore[misc]
    memory: ClassVar[int] = 1  # type: ignore[misc]
    shows_order_at: ClassVar[int] = 320
    paper: ClassVar[str] = "Permenter & Yuan 2023, arXiv:2306.04848"

    def __post_init__(self) -> None:
        if not 1.0 <= self.gamma < math.inf:
            raise ValueError(f"gamma must be finite and at least 1, got {self.gamma}")
        if not 0.0 <= self.mu < 1.0:
            raise ValueError(f"mu must be within [0, 1), got {self.mu}")

    @property
    def name(self) -> str:
        """gradient-estimation."""
        return "gradient-estimation"

    @property
    def converges(self) -> int:
        """1, but 2 for gamma = 1.5 without noise."""
        return 2 if self.gamma == 1.5 and not self.mu else 1

    @property
    def noises(self) -> int:  # type: ignore[override]
        """One if mu > 0."""
        return int(self.mu > 0.0)

    def rows(self, step: Step) -> Sequence[Row]:
        """One row."""
        s, t = step.s, step.t
        kept, renewed = reverse_sde(step.h, self.mu / (1 - self.mu))
        change = t.alpha * (kept * t.rho - s.rho)
        weights = (self.gamma, 1 - self.gamma) if step.past else (1.0,)
        d = tuple(change * w for w in weights)
        return [Row(s, self.kind, Mix(x=t.alpha / s.alpha, d=d, z=noise(0, t.sigma * renewed)))]
