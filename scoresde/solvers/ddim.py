"""DDIM, deterministic and stochastic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from scoresde.errors import choose
from scoresde.rows import Mix, Row, Solver, Step
from scoresde.sde import Point
from scoresde.solvers.cooling import RENEWALS, check_noise, noise


def renewing_row(s: Point, t: Point, kept: float, renewed: float) -> Row:
    r"""One step that keeps and renews these fractions of the noise:
    :math:`x_t = \alpha_t D + \sigma_t(\kappa\,\hat\epsilon + r z)`."""
    # alpha_t - a alpha_s without the cancellation of a small step.
    d = -t.alpha * math.expm1(s.lam - t.lam + math.log(kept)) if kept else t.alpha
    return Row(s, "x0", Mix(x=kept * t.sigma / s.sigma, d=(d,), z=noise(0, t.sigma * renewed)))


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
        renewal: how eta divides the noise: "posterior" (above) or "flow", which is what ComfyUI does with the same
            eta on a rectified flow: it aims at another point (see :func:`scoresde.solvers.cooling.flow_ancestral`), so
            that noise is kept in a first step from alpha = 0 too. Both are the reverse SDE in the limit.
    """

    eta: float = 0.0
    s_noise: float = 1.0
    renewal: str = "posterior"

    order: ClassVar[int] = 1
    kind: ClassVar[str] = "x0"  # type: ignore[misc]
    memory: ClassVar[int] = 0  # type: ignore[misc]
    paper: ClassVar[str] = "Song, Meng & Ermon 2021, arXiv:2010.02502"

    def __post_init__(self) -> None:
        check_noise(self.eta, self.s_noise, most=1.0)
        choose(self.renewal, RENEWALS, "renewal")

    @property
    def name(self) -> str:
        """ddim, or euler-ancestral-flow."""
        return "ddim" if self.renewal == "posterior" else f"euler-ancestral-{self.renewal}"

    @property
    def starts_at_zero_snr(self) -> bool:  # type: ignore[override]
        """With the renewal of flows."""
        return self.renewal == "flow"

    @property
    def noises(self) -> int:  # type: ignore[override]
        """One if eta > 0."""
        return int(self.eta > 0.0)

    def rows(self, step: Step) -> Sequence[Row]:
        """One row."""
        kept, renewed = RENEWALS[self.renewal](step.s, step.t, self.eta)
        return [renewing_row(step.s, step.t, kept, self.s_noise * renewed)]
