"""DDIM, deterministic and stochastic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from scoresde.rows import Mix, Row, Solver, Step


@dataclass(frozen=True)
class DDIM(Solver):
    r"""DDIM (Song, Meng & Ermon 2021, arXiv:2010.02502, eqs. 12 and 16), for every process.

    :math:`x_t = \alpha_t D + \sigma_t(\kappa\,\hat\epsilon + \eta\sqrt{1-e^{-2h}}\,z)` with
    :math:`\kappa^2 = 1 - \eta^2(1-e^{-2h})`: the noise in the sample is kept in part and renewed in part.

    Args:
        eta: 0 is deterministic (and equal to DPM-Solver-1, DPM-Solver++ 1 and Euler in the EDM variable), 1 is the
            ancestral sampler of DDPM (Ho et al. 2020, arXiv:2006.11239, with the posterior variance).
    """

    eta: float = 0.0

    order: ClassVar[int] = 1
    kind: ClassVar[str] = "x0"  # type: ignore[misc]
    memory: ClassVar[int] = 0  # type: ignore[misc]
    paper: ClassVar[str] = "Song, Meng & Ermon 2021, arXiv:2010.02502"

    def __post_init__(self) -> None:
        if not 0.0 <= self.eta <= 1.0:
            raise ValueError(f"eta must be within [0, 1], got {self.eta}")

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
        renewed = self.eta * math.sqrt(-math.expm1(-2 * step.h))
        kept = math.sqrt((1 - renewed) * (1 + renewed))
        a = kept * t.sigma / s.sigma
        # alpha_t - a alpha_s without the cancellation of a small step.
        d = -t.alpha * math.expm1(-step.h + math.log(kept)) if kept else t.alpha
        return [Row(s, self.kind, Mix(x=a, d=(d,), z=((0, t.sigma * renewed),) if renewed else ()))]
