"""A black-box Runge–Kutta integrator on the probability-flow ODE."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from scoresde.adaptive.base import LazySolver, check_max_nfe, check_tolerances
from scoresde.adaptive.run import Ask
from scoresde.run import NoiseSource
from scoresde.sde import SDE, Point


@dataclass(frozen=True)
class RK45(LazySolver):
    r"""Adaptive Runge–Kutta 5(4) on the probability-flow ODE, by torchdiffeq (Song et al. 2021, arXiv:2011.13456,
    section 4.3).

    It integrates :math:`d(x/S) = u\,dc` with the flow prediction u, :math:`S = \alpha+\sigma` and
    :math:`c = \sigma/S \in [0, 1]`, a variable that is bounded and finite at both ends for every process. Of the grid
    only the ends matter; a grid that ends at 0 is integrated to ``sde.eps`` and then denoised once.

    Args:
        rtol, atol: tolerances of one step, relative and absolute, on x/S.
        max_nfe: evaluations after which it gives up; None for no limit.
    """

    rtol: float = 1e-5
    atol: float = 1e-5
    max_nfe: int | None = None

    kind: ClassVar[str] = "flow"  # type: ignore[misc]
    paper: ClassVar[str] = "Song et al. 2021, arXiv:2011.13456; Dormand & Prince 1980"
    order: ClassVar[int] = 5  # type: ignore[misc]

    def __post_init__(self) -> None:
        check_tolerances(self.rtol, self.atol)
        check_max_nfe(self.max_nfe)

    @property
    def name(self) -> str:
        """rk45."""
        return "rk45"

    def integrate(self, ask: Ask, sde: SDE, times: Sequence[float], x: Tensor, noise: NoiseSource) -> Tensor:
        """Integrate with torchdiffeq's dopri5."""
        import torch
        from torchdiffeq import odeint

        begin, end = sde.point(times[0]), sde.point(times[-1] or sde.eps)

        def clock(p: Point) -> float:
            return p.sigma / (p.alpha + p.sigma)

        def slope(c: Tensor, y: Tensor) -> Tensor:
            c = c.clamp(clock(end), clock(begin))  # the integrator may step past an end by rounding
            p = begin if c == clock(begin) else sde.point_at_lam(torch.logit(c, eps=None).neg().item())
            return ask(y * (p.alpha + p.sigma), p, self.kind)

        span = torch.tensor([clock(begin), clock(end)], dtype=torch.float64, device=x.device)
        y: Any = odeint(slope, x / (begin.alpha + begin.sigma), span, rtol=self.rtol, atol=self.atol, method="dopri5")
        x = y[-1] * (end.alpha + end.sigma)
        return ask(x, end, "x0") if times[-1] == 0.0 else x
