"""Predictor–corrector sampling with Langevin steps that are scaled by the samples' own scores."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import ClassVar

from torch import Tensor

from scoresde.adaptive.base import LazySolver, together
from scoresde.adaptive.run import Ask
from scoresde.errors import choose
from scoresde.plan import plan_step
from scoresde.rows import Solver, Step
from scoresde.run import NoiseSource
from scoresde.sde import SDE
from scoresde.solvers.langevin import check_corrector, factor_of, predictor_of
from scoresde.solvers.score_sde import ReverseChain


def _each(v: Tensor) -> Tensor:
    """The norm of each sample, (B, 1, ...)."""
    return v.flatten(1).norm(dim=1).reshape(-1, *(1,) * (v.ndim - 1))


FEW = 16  # numbers in a sample, below which its own norms are too noisy to be of use

NORMS: dict[str, Callable[[Tensor], Tensor]] = {"sample": _each, "batch": lambda v: _each(v).mean()}


@dataclass(frozen=True)
class Langevin(LazySolver):
    r"""Predictor–corrector sampling (Song et al. 2021, arXiv:2011.13456, Algorithms 2 to 5; score_sde's "langevin").

    At the beginning of each step, Langevin corrections :math:`x + \epsilon s + \sqrt{2\epsilon}\,z` of the size
    :math:`\epsilon = 2a\,(r\,\|z\|/\|s\|)^2`, with the score s and :math:`a = (\alpha_s/\alpha_t)^2`, which is the
    :math:`1-\beta_i` of the VP chain and 1 for VE; then one step of the predictor. (The paper's algorithms predict
    before they correct, its code after: so it is here, which differs at the first and the last level only.) On Gaussian
    data a correction leaves a relative bias of about :math:`r^2` in the variance, however many steps there are.

    In the paper each sample has norms of its own, and so is a function of its seed and index alone; score_sde takes the
    means over the batch (``norms="batch"``), and its samples depend on each other. A sample's own norms have a
    price: the steps are longest where the score is small, and the law is not stationary under such steps. On Gaussian
    data in d dimensions the variance comes out larger by a further 4/d, for every r and however many steps: 0.1 % for a
    picture of 3 x 32 x 32, and nonsense in the plane. Below 16 numbers a sample a warning says so.

    Args:
        predictor: a fixed-step solver that keeps nothing across steps, such as reverse diffusion, "ddpm-large",
            "euler-maruyama" or "heun"; None: corrections only, the last step is DDIM if it goes into the data.
        snr: r, the signal-to-noise ratio that sets the step size.
        corrections: Langevin steps at each level (score_sde's ``n_steps``).
        norms: of each "sample", or the mean over the "batch".
        factors: a of each step, or one for all, as of :class:`scoresde.solvers.AnnealedLangevin`.
    """

    predictor: Solver | None = field(default_factory=ReverseChain)
    snr: float = 0.16
    corrections: int = 1
    norms: str = "sample"
    factors: tuple[float, ...] | float | None = None

    kind: ClassVar[str] = "score"  # type: ignore[misc]
    order: ClassVar[int] = 0  # type: ignore[misc]
    follows_grid: ClassVar[bool] = True  # type: ignore[misc]
    paper: ClassVar[str] = "Song et al. 2021, arXiv:2011.13456"

    def __post_init__(self) -> None:
        check_corrector(self.predictor, self.snr, self.corrections, self.factors)
        choose(self.norms, NORMS, "norms")

    @property
    def name(self) -> str:
        """pc-langevin, or langevin without a predictor."""
        return "langevin" if self.predictor is None else "pc-langevin"

    @property
    def evaluations(self) -> int:
        """Of the network in a step: the corrections and the predictor's."""
        return self.corrections + (0 if self.predictor is None else self.predictor.evaluations)

    @property
    def noises(self) -> int:  # type: ignore[override]
        """One for each correction and the predictor's."""
        return self.corrections + (0 if self.predictor is None else self.predictor.noises)

    def integrate(self, ask: Ask, sde: SDE, times: Sequence[float], x: Tensor, noise: NoiseSource) -> Tensor:
        """In each step the corrections, then the predictor."""
        norm, drawn = NORMS[self.norms], 0
        if self.norms == "sample" and (d := x[0].numel()) < FEW:
            warnings.warn(
                f"{self.name}: the norms of samples of {d} numbers vary so much that the variance comes out too large, "
                f'by about {4 / d:.0%}; pass norms="batch"',
                stacklevel=2,
            )
        levels = [sde.point(t) for t in times]
        for i, (s, t) in enumerate(pairwise(levels)):
            step = Step(sde, s, t, index=i, steps=len(levels) - 1)
            factor = factor_of(self.factors, step)
            for _ in range(self.corrections if s.alpha > 0.0 else 0):  # none of pure noise, whose law is exact
                score, z = ask(x, s, self.kind), noise(drawn)
                size = 2.0 * factor * (self.snr * norm(z) / norm(score)) ** 2
                x = x + size * score + (2.0 * size).sqrt() * z
                drawn += 1
            predictor = predictor_of(self.predictor, step)
            if predictor is not None:
                plan = plan_step(predictor, step)
                (x,) = together(ask, x, [plan], noise=partial(_from, noise, drawn))
                drawn += plan.noises
        return x


def _from(noise: NoiseSource, first: int, k: int) -> Tensor:
    """Noise number k of a part of the run."""
    return noise(first + k)
