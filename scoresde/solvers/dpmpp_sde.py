"""DPM++ SDE."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from scoresde.errors import choose
from scoresde.rows import KEEP_STATE, Mix, Row, Solver, Span, Step
from scoresde.solvers.cooling import ancestral, check_noise, cooled, noise
from scoresde.solvers.exponential import exact_step

# From the noise levels rho at the start, the inner point and the end of a step: the correlation of the step's two
# noises, from the start to the inner point and to the end.
COUPLINGS: dict[str, Callable[[float, float, float], float]] = {
    "path": lambda rs, ru, rt: rt / ru * math.sqrt((rs - ru) * (rs + ru) / ((rs - rt) * (rs + rt))),
    "sigma": lambda rs, ru, rt: math.sqrt((rs - ru) / (rs - rt)),
    "independent": lambda rs, ru, rt: 0.0,
}


@dataclass(frozen=True)
class DPMppSDE(Solver):
    """DPM++ SDE of k-diffusion: DPM-Solver++ 2S in which both stages are ancestral steps.

    Both stages add noise and both noises belong to one Brownian path, so they are correlated. There is no paper: it is
    K. Crowson's combination of arXiv:2211.01095 with the ancestral step of arXiv:2010.02502. Its weak order is 2 if the
    noises are coupled.

    Args:
        eta: 0 is DPM-Solver++ 2S, 1 the full ancestral noise.
        s_noise: factor on the noise that is added.
        r: the inner point, as a fraction of the step in half log-SNR, 0 < r < 1.
        coupling: of the two noises: "sigma" (k-diffusion's: a Brownian path whose time is sigma/alpha), "path" (the
            correlation of the reverse SDE itself at eta = 1, which halves the strong error), or "independent" (what
            k-diffusion does when it is given a noise function without a path, which lowers the weak order to 1: the
            sample has too little variance).
    """

    eta: float = 1.0
    s_noise: float = 1.0
    r: float = 0.5
    coupling: str = "sigma"

    order: ClassVar[int] = 2
    kind: ClassVar[str] = "x0"  # type: ignore[misc]
    evaluations: ClassVar[int] = 2  # type: ignore[misc]
    paper: ClassVar[str] = "Crowson, k-diffusion; Lu et al. 2022, arXiv:2211.01095"

    def __post_init__(self) -> None:
        check_noise(self.eta, self.s_noise, most=1.0)
        choose(self.coupling, COUPLINGS, "coupling")
        if not 0.0 < self.r < 1.0:
            raise ValueError(f"r must be within (0, 1), got {self.r}")

    @property
    def name(self) -> str:
        """dpmpp-sde."""
        return "dpmpp-sde"

    @property
    def converges(self) -> int:
        """2; 1 if the noises are independent."""
        return 1 if self.eta and self.coupling == "independent" else 2

    @property
    def noises(self) -> int:  # type: ignore[override]
        """Two if eta > 0."""
        return 2 if self.eta else 0

    @property
    def memory(self) -> int:
        """The midpoint (r = 1/2) forgets the first prediction."""
        return int(self.r != 0.5)

    def noise_spans(self, step: Step) -> Sequence[Span | None]:
        """The two parts of the step; if the noises are independent, the second has the whole step."""
        u = step.within(self.r)
        return (None, (step.s, step.t)) if self.coupling == "independent" else ((step.s, u), (u, step.t))

    def rows(self, step: Step) -> Sequence[Row]:
        """An ancestral step to the inner point, and one from the start with the prediction made there."""
        s, t, u = step.s, step.t, step.within(self.r)
        kept_u, renewed_u = ancestral(u.lam - s.lam, self.eta)
        kept_t, renewed_t = ancestral(step.h, self.eta)
        a1, j0 = exact_step(self.kind, s, cooled(u, kept_u))
        a, i0 = exact_step(self.kind, s, cooled(t, kept_t))
        on_inner = 1 / (2 * self.r)
        correlation = COUPLINGS[self.coupling](s.rho, u.rho, t.rho)
        to_u, to_t = (self.s_noise * p.sigma * c for p, c in ((u, renewed_u), (t, renewed_t)))
        z = (*noise(0, to_t * correlation), *noise(1, to_t * math.sqrt(1 - correlation**2)))
        return [
            Row(s, self.kind, Mix(x=a1, d=(j0,), z=noise(0, to_u)), KEEP_STATE),
            Row(u, self.kind, Mix(anchor=a, d=(i0 * on_inner, i0 * (1 - on_inner)), z=z)),
        ]
