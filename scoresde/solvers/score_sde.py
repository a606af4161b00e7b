r"""Methods in the time t of the process itself, as Song et al. (2021, arXiv:2011.13456) state them.

:math:`dx = (f x + c\,\hat\epsilon)\,dt`, with :math:`c = g^2/2\sigma` for the probability flow and
:math:`c = g^2/\sigma` for the reverse SDE, which adds :math:`g\,dw`. These pay for the stiffness of the linear part;
solvers in the EDM variable or of exponential kind do not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from scoresde.errors import choose
from scoresde.rows import KEEP_STATE, Mix, Row, Solver, Step
from scoresde.sde import SDE, Point

METHODS = {"euler": 1, "heun": 2}


def _slope(sde: SDE, p: Point, share: float) -> tuple[float, float]:
    """(f, c) at p: the reverse drift is f x + c epsilon; share is 1/2 for the ODE and 1 for the SDE."""
    return sde.drift(p.t), share * sde.diffusion_squared(p.t) / p.sigma


@dataclass(frozen=True)
class ProbabilityFlow(Solver):
    """Euler or Heun on the probability-flow ODE in time t (Song et al. 2021, arXiv:2011.13456, eq. 13).

    Args:
        method: "euler" (order 1) or "heun" (order 2).
    """

    method: str = "euler"

    kind: ClassVar[str] = "epsilon"  # type: ignore[misc]
    keeps_constant_data: ClassVar[bool] = False
    paper: ClassVar[str] = "Song et al. 2021, arXiv:2011.13456"

    def __post_init__(self) -> None:
        choose(self.method, METHODS, "method")

    @property
    def name(self) -> str:
        """pf-euler or pf-heun."""
        return f"pf-{self.method}"

    @property
    def order(self) -> int:
        """1 or 2."""
        return METHODS[self.method]

    @property
    def evaluations(self) -> int:  # type: ignore[override]
        """One or two."""
        return self.order

    @property
    def memory(self) -> int:
        """Heun keeps the first slope."""
        return self.order - 1

    def rows(self, step: Step) -> Sequence[Row]:
        """Euler; for Heun, then the mean of the slopes at both ends."""
        dt = step.t.t - step.s.t
        f, c = _slope(step.sde, step.s, 0.5)
        euler = Row(step.s, self.kind, Mix(x=1 + dt * f, d=(dt * c,)))
        if self.method == "euler":
            return [euler]
        f1, c1 = _slope(step.sde, step.t, 0.5)
        half = 0.5 * dt
        mean = Mix(x=half * f1, anchor=1 + half * f, d=(half * c1, half * c))
        return [euler._replace(anchor=KEEP_STATE), Row(step.t, self.kind, mean)]


@dataclass(frozen=True)
class EulerMaruyama(Solver):
    """Euler–Maruyama on the reverse SDE in time t (Song et al. 2021, arXiv:2011.13456, eq. 6; weak order 1).

    Args:
        denoise_last: the last step adds no noise (score_sde's ``denoise=True``).
        step_size: move by this much time in every step whatever the grid says, as score_sde does with 1/N on a grid of
            N times from T to eps, whose spacing is a little less; None (the default) follows the grid.
    """

    denoise_last: bool = False
    step_size: float | None = None

    order: ClassVar[int] = 1
    kind: ClassVar[str] = "epsilon"  # type: ignore[misc]
    memory: ClassVar[int] = 0  # type: ignore[misc]
    noises: ClassVar[int] = 1  # type: ignore[misc]
    keeps_constant_data: ClassVar[bool] = False
    paper: ClassVar[str] = "Song et al. 2021, arXiv:2011.13456"

    def __post_init__(self) -> None:
        if self.step_size is not None and not self.step_size > 0:
            raise ValueError(f"step_size must be positive or None, got {self.step_size}")

    @property
    def name(self) -> str:
        """euler-maruyama."""
        return "euler-maruyama"

    def rows(self, step: Step) -> Sequence[Row]:
        """One row."""
        dt = step.s.t - step.t.t if self.step_size is None else self.step_size
        f, c = _slope(step.sde, step.s, 1.0)
        noise = step.sde.diffusion(step.s.t) * math.sqrt(dt)
        z = () if self.denoise_last and step.remaining == 1 else ((0, noise),)
        return [Row(step.s, self.kind, Mix(x=1 - dt * f, d=(-dt * c,), z=z))]


CHAINS = {"reverse-diffusion": "reverse diffusion", "ancestral": "ancestral with the variance beta"}


@dataclass(frozen=True)
class ReverseChain(Solver):
    r"""Samplers that reverse the forward chain of the grid, :math:`x_s = a\,x_t + b\,z`, as Song et al. state them.

    Reverse diffusion (Song et al. 2021, arXiv:2011.13456, eq. 46) is :math:`x_t = (2-a)\,x_s + b^2\,s(x_s) + b\,z`, and
    ancestral sampling is :math:`x_t = (x_s + b^2\,s(x_s))/a + b\,z`, the sampler of DDPM with the variance
    :math:`\beta` (Ho et al. 2020, arXiv:2006.11239, section 3.2; with the posterior's variance it is DDIM with eta =
    1). score_sde's ancestral sampler of VE is the latter. All have weak order 1.

    Args:
        method: "reverse-diffusion" or "ancestral".
        probability_flow: half of the score and no noise (reverse diffusion only).
        denoise_last: the last step adds no noise (score_sde's ``denoise=True``).
        transitions: (a, b^2) of each step, of a chain of your own, whatever the grid says, as score_sde has a chain of
            N steps beside a grid of N times. None (the default) takes those of the process: :math:`a =
            \alpha_s/\alpha_t`, :math:`b^2 = \sigma_s^2 - a^2\sigma_t^2`.
    """

    method: str = "reverse-diffusion"
    probability_flow: bool = False
    denoise_last: bool = False
    transitions: tuple[tuple[float, float], ...] | None = None

    order: ClassVar[int] = 1
    kind: ClassVar[str] = "score"  # type: ignore[misc]
    shows_order_at: ClassVar[int] = 640  # a chain expands its transitions, which are large where alpha is small
    memory: ClassVar[int] = 0  # type: ignore[misc]
    paper: ClassVar[str] = "Song et al. 2021, arXiv:2011.13456"

    def __post_init__(self) -> None:
        choose(self.method, CHAINS, "method")
        if self.probability_flow and self.method == "ancestral":
            raise ValueError("probability_flow: ancestral sampling has no deterministic form; use DDIM with eta = 0")
        for a, b2 in self.transitions or ():
            # score_sde's chain of 20 steps begins with a = 0; its reverse diffusion does not divide by it.
            if not (a >= 0.0 and b2 >= 0.0) or (a == 0.0 and self.method == "ancestral"):
                raise ValueError(f"transitions must be pairs (a > 0, b^2 >= 0), got {(a, b2)}")

    @property
    def name(self) -> str:
        """reverse-diffusion, reverse-diffusion-ode or ddpm-large."""
        return "ddpm-large" if self.method == "ancestral" else self.method + "-ode" * self.probability_flow

    @property
    def noises(self) -> int:  # type: ignore[override]
        """One, unless it is the probability flow."""
        return int(not self.probability_flow)

    @property
    def keeps_constant_data(self) -> bool:  # type: ignore[override]
        """The mean of ancestral sampling is that of the posterior; reverse diffusion expands it."""
        return self.method == "ancestral"

    def rows(self, step: Step) -> Sequence[Row]:
        """One row."""
        s, t = step.s, step.t
        if self.transitions is None:
            a = s.alpha / t.alpha
            b2 = -(s.sigma**2) * math.expm1(-2 * step.h)  # without the difference of nearly equal variances
        elif len(self.transitions) == step.steps:
            a, b2 = self.transitions[step.index]
        else:
            raise ValueError(f"transitions has {len(self.transitions)} entries, for a grid of {step.steps} steps")
        silent = self.probability_flow or (self.denoise_last and step.remaining == 1)
        z = () if silent else ((0, math.sqrt(b2)),)
        if self.method == "ancestral":
            return [Row(s, self.kind, Mix(x=1 / a, d=(b2 / a,), z=z))]
        return [Row(s, self.kind, Mix(x=2 - a, d=(b2 * (0.5 if self.probability_flow else 1.0),), z=z))]
