"""DPM-Solver with steps of its own choice: pairs of singlestep methods that share their evaluations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from scoresde.adaptive.base import LazySolver, check_max_nfe, check_tolerances, together
from scoresde.adaptive.control import NORMS, Controller, Elementary, scaled_error
from scoresde.adaptive.run import Ask
from scoresde.errors import choose
from scoresde.mix import linear
from scoresde.plan import plan_step
from scoresde.rows import Step
from scoresde.run import NoiseSource
from scoresde.sde import SDE, Point
from scoresde.solvers import SinglestepDPM
from scoresde.solvers.cooling import ancestral, check_noise

NAMES = {"epsilon": "dpm-solver-{}{}", "x0": "dpmpp-{}{}"}
NEAR_END = 1e-5  # in half log-SNR: a remainder this short belongs to the step before it


@dataclass(frozen=True)
class AdaptiveDPM(LazySolver):
    r"""DPM-Solver-12 and -23 (Lu et al. 2022, arXiv:2206.00927, appendix C), and the same with DPM-Solver++.

    Each step is made by a method of order p and, with the same evaluations, by one of order p - 1, at the inner points
    1/3 (and 2/3) for p = 3 and 1/2 for p = 2. Their difference, in units of
    :math:`\max(\mathrm{atol}, \mathrm{rtol}\max(|x_{low}|, |x_{before}|))`, is the error estimate: a controller decides
    by it whether to take the step (the result of order p) and how long, in half log-SNR, the next one is.

    Of the grid only the ends matter. A grid that ends at 0 is integrated to ``sde.eps`` and then denoised once; out of
    :math:`\alpha = 0` the first step is DDIM, as long as its error, of second order, is about ``atol``.

    The error is one number for the whole batch, as in both public versions, so a sample depends on the batch that it
    was drawn in; draw in fixed chunks (``chunk`` of :func:`scoresde.sample`) where it must not.

    On five Gaussians in the plane the error at the end is 0.1 to 2 times the tolerance, from 1e-3 (rtol = atol) down.
    With loose tolerances and data prediction the two methods can agree and be wrong together where the noise is high
    and the state large: at 1e-2 DPM-Solver++-12 on EDM was off by 34 times the tolerance.

    dpm-solver's code is "dpm-solver-12" and "dpm-solver-23", with its defaults, except that it stops within 1e-5 of the
    end in time, where we take the end itself. k-diffusion's ``sample_dpm_adaptive`` is "dpm-solver-23-pid", except that
    it goes on from the step that it proposed, where we go on from the one that was tried, which differs only if a step
    to the very end is rejected. Both evaluate a rejected step's beginning again although nothing has changed there,
    which ``reuse=False`` reproduces.

    Args:
        order: 2 (DPM-Solver-12) or 3 (DPM-Solver-23).
        kind: "epsilon" is DPM-Solver, "x0" is DPM-Solver++.
        solver_type: as of :class:`scoresde.solvers.SinglestepDPM`.
        rtol, atol: relative and absolute tolerance of a step.
        h_init: the first step, in half log-SNR.
        controller: :class:`scoresde.adaptive.Elementary` (the paper's), or :class:`scoresde.adaptive.PID`
            (k-diffusion's).
        norm: "largest" (the root mean square of the worst sample; dpm-solver's) or "batch" (the root mean square of the
            whole batch; k-diffusion's).
        eta: 0 is deterministic; eta > 0 makes the step to a colder point and adds noise, as DDIM with eta does.
        s_noise: factor on the noise that is added.
        reuse: a rejected step leaves its first prediction to the next attempt.
        max_nfe: evaluations after which it gives up with an error; None for no limit.
    """

    order: int = 3
    kind: str = "epsilon"
    solver_type: str = "midpoint"
    rtol: float = 0.05
    atol: float = 0.0078
    h_init: float = 0.05
    controller: Controller = field(default_factory=Elementary)
    norm: str = "largest"
    eta: float = 0.0
    s_noise: float = 1.0
    reuse: bool = True
    max_nfe: int | None = 1000

    paper: ClassVar[str] = "Lu et al. 2022, arXiv:2206.00927"

    def __post_init__(self) -> None:
        if self.order not in (2, 3):
            raise ValueError(f"order must be 2 or 3, got {self.order!r}")
        choose(self.kind, NAMES, "kind")
        choose(self.norm, NORMS, "norm")
        check_tolerances(self.rtol, self.atol)
        if not (self.h_init > 0 and math.isfinite(self.h_init)):
            raise ValueError(f"h_init must be positive and finite, got {self.h_init}")
        if not isinstance(self.controller, Controller):
            raise TypeError(f"controller must be Elementary(...) or PID(...), got {self.controller!r}")
        check_noise(self.eta, self.s_noise, most=1.0)
        check_max_nfe(self.max_nfe)
        self._pair()  # checks solver_type

    @property
    def name(self) -> str:
        """For example "dpm-solver-23" or "dpmpp-12"."""
        return NAMES[self.kind].format(self.order - 1, self.order) + self.controller.suffix

    @property
    def noises(self) -> int:  # type: ignore[override]
        """One for each step that is taken, if eta > 0."""
        return int(self.eta > 0.0)

    def _pair(self) -> tuple[SinglestepDPM, SinglestepDPM]:
        """The two methods; the lower one's points are the first of the higher one's."""
        low = SinglestepDPM(
            self.order - 1, self.kind, r1=1 / 3 if self.order == 3 else None, solver_type=self.solver_type
        )
        return low, SinglestepDPM(self.order, self.kind, solver_type=self.solver_type)

    def integrate(self, ask: Ask, sde: SDE, times: Sequence[float], x: Tensor, noise: NoiseSource) -> Tensor:
        """Attempt steps until the end is reached."""
        s, end = sde.point(times[0]), sde.point(times[-1] or sde.eps)
        pair = self._pair()
        if s.alpha == 0.0:
            t = sde.point_at_lam(min(0.5 * math.log(self.atol), end.lam))
            (x,) = together(ask, x, [plan_step(pair[1], Step(sde, s, t))])
            s = t
        order = 1.5 if self.eta else self.order
        h, past, taken = self.h_init, (), 0
        before, first = x, None
        while s.lam < end.lam - NEAR_END:
            h = min(h, end.lam - s.lam)
            t = end if s.lam + h >= end.lam - NEAR_END else sde.point_at_lam(s.lam + h)
            aim = self._aim(sde, s, t, end)
            if first is None:
                first = ask(x, s, self.kind)
            low, high = together(ask, x, [plan_step(p, Step(sde, s, aim)) for p in pair], first=first)
            error = scaled_error(high, low, before, self.rtol, self.atol, self.norm)
            if not math.isfinite(error):
                raise ValueError(f"{self.name}: the error of the step from t={s.t:.4g} to {t.t:.4g} is not finite")
            accept, factor = self.controller.judge(error, past, order)
            past = past or (error, error)
            h *= factor
            if accept:
                past = (error, past[0])
                x = self._renoised(high, aim, t, noise, taken)
                s, before, taken = t, low, taken + 1
            if accept or not self.reuse:
                first = None
        return ask(x, s, "x0") if times[-1] == 0.0 else x

    def _aim(self, sde: SDE, s: Point, t: Point, end: Point) -> Point:
        """The colder point that a noisy step to t aims at; never below the end, where the network may know nothing."""
        if not self.eta or t == end:
            return t
        kept, _ = ancestral(t.lam - s.lam, self.eta)
        return sde.point_at_lam(min(t.lam - math.log(kept), end.lam))

    def _renoised(self, x: Tensor, aim: Point, t: Point, noise: NoiseSource, k: int) -> Tensor:
        """From the colder point to t."""
        renewed = -math.expm1(2 * min(t.lam - aim.lam, 0.0))  # min: rounding, for a tiny eta
        added = self.s_noise * t.sigma * math.sqrt(renewed)
        return linear([(t.alpha / aim.alpha, x), *([(added, noise(k))] if added else [])])
