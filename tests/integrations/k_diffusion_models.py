"""Models in the manner of k-diffusion that the tests of its functions share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import scoresde as ss
from scoresde.integrations import k_diffusion as kd
from scoresde.targets import Gaussian

PROCESSES = {
    "vp": ss.VP(),
    "cosine": ss.CosineVP(),
    "sub-vp": ss.SubVP(),
    "ve": ss.VE(),
    "edm": ss.EDM(),
    "flow": ss.RectifiedFlow(),
    "shifted-flow": ss.RectifiedFlow(shift=3.0),
    "discrete": ss.DiscreteVP.from_betas(torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)),
}
SIGMAS = torch.tensor([20.0, 6.0, 1.5, 0.3, 0.0], dtype=torch.float64)
FLOW_SIGMAS = torch.linspace(1.0, 0.0, 9, dtype=torch.float64)


def target() -> Gaussian:
    """In three dimensions, correlated."""
    values, vectors = torch.linalg.eigh(torch.tensor([[1.0, 0.4, 0.0], [0.4, 0.6, 0.1], [0.0, 0.1, 0.3]]).double())
    return Gaussian(torch.tensor([0.5, -1.0, 0.2], dtype=torch.float64), values, vectors)


def start(sigma: float = 20.0, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return (torch.randn(4, 3, generator=generator, dtype=torch.float64) * sigma).to(dtype)


def model(x: Tensor, sigma: Tensor) -> Tensor:
    """A smooth nonlinear denoiser of the EDM process."""
    s = sigma[:, None]
    return x / (1 + s**2) + 0.3 * torch.tanh(x / (1 + s))


def each(noises: list[Tensor]) -> Callable[[Any, Any], Tensor]:
    """A noise sampler that gives them one after the other."""
    given = iter(noises)
    return lambda sigma, sigma_next: next(given)


class Recorder:
    """A model that notes how it is called."""

    def __init__(self, inner: Callable[..., Tensor] = model) -> None:
        self.inner, self.sigmas, self.states, self.extra = inner, [], [], []

    def __call__(self, x: Tensor, sigma: Tensor, **extra: Any) -> Tensor:
        assert sigma.shape == x.shape[:1]
        assert sigma.dtype == x.dtype
        assert not torch.is_grad_enabled()
        self.sigmas.append(sigma[0].item())
        self.states.append(x)
        self.extra.append(extra)
        return self.inner(x, sigma)


def of_flow(function: Callable[..., Tensor] | None = None) -> kd.Model:
    return kd.Model(function or kd.wrap_denoiser(target().denoiser(ss.RectifiedFlow()), "flow"), process="flow")
