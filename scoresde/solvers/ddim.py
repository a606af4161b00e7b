"""DDIM, deterministic and stochastic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from scoresde.rows import Mix, Row, Solver, Step
from scoresde.solvers.cooling import ancestral, check_noise, noise


@dataclass(frozen=True)
class DDIM(Solver):
    r"""DDIM (Song, Meng & Ermon 2021, arXiv:2010.02502, eqs. 12 and 16), for every process.

    :math:`x_t = \alpha_t D + \sigma_t(\kappa\,\hat\epsilon + \eta\sqrt{1-e^{-2h}}\,z)` with
    :math:`\kappa^2 = 1 - \eta^2(1-e^{-2h})`: the noise in the sample is kept in part and renewed in part.

    Args:
        eta: 0 is deterministic (and equal to DPM-Solver-1, DPM-Solver++ 1 and Euler in the EDM variable), 1 is the
            ancestral sampler of DDPM (Ho et al. 2020, arXiv:2006.11239, with the posterior variance). In the EDM
            variable this is k-diffusion's Euler ancestral.
        s_noise: factor on the noise that is added (1 is the method; other values are k-diffusion's).
    """

    eta: float = 0.0
    s_noise: float = 1.0

    order: ClassVar[int] = 1
    kind: ClassVar[str] = "x0"  # type: ignore[misc]
    memory: ClassVar[int] = 0  # type: ignore[misc]
    paper: ClassVar[str] = "Song, Meng & Ermon 2021, arXiv:2010.02502"

    def __post_init__(self) -> None:
        check_noise(self.eta, self.s_noise, most=1.0)

    @property
    def name(self) -> str:
        """ddim."""
        return "ddim"

    @property
    def noises(self) -> int:  # type: ignore[override]
        """One if eta > 0."""
        return int(self.eta > 0.0)

    def rows(self, step: Step) -> Sequence[Row]:
        """One row."""
        s, t = step.s, step.t
        kept, renewed = ancestral(step.h, self.eta)
        a = kept * t.sigma / s.sigma
        # alpha_t - a alpha_s without the cancellation of a small step.
        d = -t.alpha * math.expm1(-step.h + math.log(kept)) if kept else t.alpha
        return [Row(s, self.kind, Mix(x=a, d=(d,), z=noise(0, self.s_noise * t.sigma * renewed)))]
