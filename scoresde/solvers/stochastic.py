"""Methods made of deterministic steps and noise: EDM's churn, and DPM++ SDE."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from scoresde.errors import choose
from scoresde.rows import KEEP_STATE, Mix, Row, Solver, Span, Step
from scoresde.solvers.cooling import ancestral, check_noise, cooled, noise
from scoresde.solvers.ddim import DDIM
from scoresde.solvers.exponential import exact_step
from scoresde.solvers.runge_kutta import RungeKutta

MOST_CHURN = math.sqrt(2.0) - 1.0


@dataclass(frozen=True)
class Churn(Solver):
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

    ends_at_data: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_noise(0.0, self.s_noise)
        if not (self.s_churn >= 0.0 and math.isfinite(self.s_churn)):
            raise ValueError(f"s_churn must be finite and at least 0, got {self.s_churn}")
        if not 0.0 <= self.s_min <= self.s_max:
            raise ValueError(f"s_min, s_max must satisfy 0 <= s_min <= s_max, got {self.s_min}, {self.s_max}")
        if self.inner.noises or self.inner.memory >= self.inner.evaluations:
            raise ValueError(f"inner must be deterministic and keep nothing across steps, got {self.inner!r}")

    @property
    def name(self) -> str:
        """For example "heun-churn"."""
        return f"{self.inner.name}-churn"

    @property
    def kind(self) -> str:  # type: ignore[override]
        """That of the inner solver."""
        return self.inner.kind

    @property
    def order(self) -> int:  # type: ignore[override]
        """That of the inner solver."""
        return self.inner.order

    @property
    def evaluations(self) -> int:  # type: ignore[override]
        """Those of the inner solver."""
        return self.inner.evaluations

    @property
    def memory(self) -> int:
        """That of the inner solver."""
        return self.inner.memory

    @property
    def keeps_constant_data(self) -> bool:  # type: ignore[override]
        """If the inner solver does."""
        return self.inner.keeps_constant_data

    @property
    def paper(self) -> str:  # type: ignore[override]
        """Algorithm 2 of EDM."""
        return "Karras et al. 2022, arXiv:2206.00364, Algorithm 2"

    @property
    def noises(self) -> int:  # type: ignore[override]
        """One if s_churn > 0."""
        return int(self.s_churn > 0.0)

    def rows(self, step: Step) -> Sequence[Row]:
        """A row without an evaluation that adds noise, then those of the inner solver."""
        s, inner = step.s, self.inner
        if step.t.sigma == 0.0 and not inner.ends_at_data:
            inner = DDIM()
        gamma = min(self.s_churn / step.steps, MOST_CHURN) if self.s_min <= s.rho <= self.s_max else 0.0
        if not gamma:
            return inner.rows(step)
        hat = step.sde.point_at_lam(s.lam - math.log1p(gamma))
        added = self.s_noise * hat.alpha * s.rho * math.sqrt(gamma * (2 + gamma))
        more = Row(None, self.kind, Mix(x=hat.alpha / s.alpha, z=noise(0, added)))
        return [more, *inner.rows(replace(step, s=hat, past=()))]


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
