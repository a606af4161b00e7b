"""Where the noises of a sampling function come from: a call for each of them, as k-diffusion makes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from scoresde.brownian import BrownianPath
from scoresde.sde import Point

NoiseSampler = Callable[[Tensor, Tensor], Tensor]
# (number of the step, from one noise level to a lower one) -> standard normal noise like x
Draw = Callable[[int, Point, Point], Tensor]


class BrownianNoiseSampler:
    """A ``noise_sampler`` that follows one Brownian path a sample, whatever the number of steps: what k-diffusion's
    BrownianTreeNoiseSampler is for.

    The path is :class:`scoresde.BrownianPath`: a function of (seed, sample index) and the noise level alone, on every
    device, so it needs no range of noise levels. It is for models of process "edm"; each function makes its own for the
    others.

    Args:
        x: the noisy start, for its shape, dtype and device.
        seed: of the path; by default drawn from torch's global generator, as k-diffusion does.
        index: of the first sample, or one for each.
        clock: as of :class:`scoresde.BrownianPath`; "sigma" is k-diffusion's.
    """

    def __init__(
        self, x: Tensor, seed: int | None = None, index: int | Sequence[int] = 0, clock: str = "sigma"
    ) -> None:
        seed = int(torch.randint(0, 2**63 - 1, [])) if seed is None else seed
        self.path = BrownianPath(x.shape, seed, index, clock=clock, dtype=x.dtype, device=x.device)

    def __call__(self, sigma: Tensor | float, sigma_next: Tensor | float) -> Tensor:
        """The path at sigma_next less that at the higher sigma, scaled to unit variance."""
        s, t = (Point(float(level), 1.0, float(level)) for level in (sigma, sigma_next))
        return self.path.increment(s, t)


def independent(x: Tensor) -> Draw:
    """``torch.randn_like(x)`` for each noise."""
    return lambda i, s, t: torch.randn_like(x)


def one_each_step(x: Tensor) -> Draw:
    """``torch.randn_like(x)`` once for each step, in steps that leave it unused too, as k-diffusion's churn does."""
    last = -1

    def draw(i: int, s: Point, t: Point) -> Tensor:
        nonlocal last
        for _ in range(last + 1, i):
            torch.randn_like(x)
        last = i
        return torch.randn_like(x)

    return draw


def path(x: Tensor) -> Draw:
    """A Brownian path with a seed from torch's global generator."""
    increment = BrownianNoiseSampler(x).path.increment
    return lambda i, s, t: increment(s, t)


def called(sampler: Any, x: Tensor, tensor: Callable[[float], Tensor]) -> Draw:
    """The user's noise sampler, called with the two sigmas as tensors.

    Raises:
        TypeError: it is not callable.
        ValueError: what it gives is no tensor like x.
    """
    if not callable(sampler):
        raise TypeError(
            f"noise_sampler must be callable as noise_sampler(sigma, sigma_next), got {type(sampler).__name__}"
        )

    def draw(i: int, s: Point, t: Point) -> Tensor:
        z = sampler(tensor(s.t), tensor(t.t))
        if not isinstance(z, Tensor) or z.shape != x.shape:
            got = f"shape {tuple(z.shape)}" if isinstance(z, Tensor) else type(z).__name__
            raise ValueError(f"noise_sampler must return a tensor of the shape of x, {tuple(x.shape)}; got {got}")
        return z

    return draw
