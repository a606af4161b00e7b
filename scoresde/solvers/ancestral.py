"""Ancestral forms of deterministic solvers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from scoresde.errors import choose
from scoresde.rows import Row, Solver, Step
from scoresde.solvers.cooling import RENEWALS, check_noise, renewing_rows
from scoresde.solvers.exponential_rk import ExponentialRK
from scoresde.solvers.wrapper import Wrapper


@dataclass(frozen=True)
class Ancestral(Wrapper):
    """Any deterministic solver without a memory across steps, with noise: each step goes to a colder point, and noise
    makes up for it (as DDIM with eta does, Song, Meng & Ermon 2021, arXiv:2010.02502, eq. 16).

    This is how k-diffusion makes "DPM2 a" and "DPM++ 2S a" and RES4LYF all of its stochastic single-step samplers. The
    noise that is added is exact in law, so the weak order is the order of the inner solver.

    Args:
        inner: the deterministic solver; RES 2S by default.
        eta: 0 is the inner solver, 1 renews as much noise as the posterior does.
        s_noise: factor on the noise that is added.
        renewal: how eta divides the noise (see :class:`scoresde.solvers.DDIM`).
    """

    inner: Solver = field(default_factory=lambda: ExponentialRK("res-2s"))
    eta: float = 1.0
    s_noise: float = 1.0
    renewal: str = "posterior"

    paper: ClassVar[str] = "Song, Meng & Ermon 2021, arXiv:2010.02502; Karras et al. 2022, arXiv:2206.00364"
    # The colder point is not at these ends of the process.
    starts_at_zero_snr: ClassVar[bool] = False
    ends_at_data: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_noise(self.eta, self.s_noise, most=1.0)
        choose(self.renewal, RENEWALS, "renewal")

    @property
    def name(self) -> str:
        """For example "res-2s-ancestral"."""
        return f"{self.inner.name}-ancestral{'-flow' if self.renewal == 'flow' else ''}"

    @property
    def noises(self) -> int:  # type: ignore[override]
        """One if eta > 0."""
        return int(self.eta > 0.0)

    def rows(self, step: Step) -> Sequence[Row]:
        """Those of the inner solver, with noise in the last."""
        if not self.eta:
            return self.inner.rows(step)
        return renewing_rows(step, RENEWALS[self.renewal](step.s, step.t, self.eta), self.s_noise, self.inner.rows)
