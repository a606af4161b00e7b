"""Exact networks in other people's conventions, objects with the interfaces that they come with, and what must hold."""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

import scoresde as ss
from scoresde.targets import GaussianMixture, Target
from tests.exact import draws, normals

FLAT = GaussianMixture.five()
# Two kinds of images of two channels, 2x3, that overlap.
IMAGES = GaussianMixture(
    torch.tensor([0.6, 0.4]),
    0.7 * normals(2, 2, 2, 3, seed=8),
    torch.stack([torch.diag(0.05 + 0.3 * normals(12, seed=s).square()) for s in (1, 2)]),
)


def assert_close(got: Tensor, wanted: Tensor, *, rtol: float, atol: float) -> None:
    """As torch.testing.assert_close, whose import takes two seconds."""
    assert got.dtype == wanted.dtype
    assert torch.allclose(got, wanted, rtol=rtol, atol=atol), float((got - wanted).abs().max())


def check_exact(denoiser: ss.BaseDenoiser, target: Target, times: Sequence[float], tol: float = 1e-9) -> None:
    """x0 is the target's at each time alone, and at all of them as a batch; conversions of it too."""
    sde = denoiser.sde
    together = []
    for i, t in enumerate(times):
        x = draws(target, sde.alpha(t), sde.sigma(t), seed=i)
        exact = target.x0(x, sde.alpha(t), sde.sigma(t))
        assert_close(denoiser(x, t), exact, atol=tol, rtol=tol)
        found = denoiser.evaluate(x, t)
        from_found = denoiser.converted(x, t, found.prediction.to(x.dtype), found.kind, "x0")
        assert_close(from_found, exact, atol=tol, rtol=tol)
        score = target.score(x, sde.alpha(t), sde.sigma(t)) * sde.sigma(t)
        assert_close(
            denoiser.predict(x, t, "score") * sde.sigma(t),
            score,
            atol=tol * max(1.0, sde.alpha(t) / sde.sigma(t)),
            rtol=0,
        )
        together.append((x[:1], exact[:1]))
    x, exact = (torch.cat(part) for part in zip(*together, strict=True))
    given = torch.tensor(times, dtype=torch.float64)
    assert_close(denoiser(x, given), exact, atol=tol, rtol=tol)


# One of each shape, and how far from the exact solution it may end with 80 calls of the network.
SOLVERS = {"unipc-3": 5e-4, "heun": 2e-2}


def check_samples(denoiser: ss.BaseDenoiser, target: Target, slack: float = 0.0) -> None:
    """Two solvers carry noise to where the exact flow carries it."""
    sde = denoiser.sde
    x = sde.prior_std() * normals(6, *target.shape, seed=4)
    for solver, tol in SOLVERS.items():
        plan = ss.plan_for(solver, sde, nfe=80, end="eps")
        exact = target.flow(x, plan.begin, sde.point(sde.eps))
        got = ss.sample(denoiser, x.shape, solver=solver, nfe=80, end="eps", x_T=x)
        error = float((got - exact).square().mean().sqrt())
        assert error < tol + slack, (solver, error)


# -- EDM ---------------------------------------------------------------------------------------------------------------
class EDMNet(nn.Module):
    """EDM's preconditioned network with its checks of dtypes: computes in float32, knows its range and its labels."""

    def __init__(
        self,
        target: Target,
        sigma_data: float = 0.5,
        label_dim: int = 0,
        sigma_min: float = 0.0,
        sigma_max: float = math.inf,
    ) -> None:
        super().__init__()
        self.target, self.sigma_data, self.label_dim = target, sigma_data, label_dim
        self.sigma_min, self.sigma_max = sigma_min, sigma_max
        self.shift = nn.Parameter(torch.zeros(()))
        self.seen: list[Any] = []

    def forward(self, x, sigma, class_labels=None, force_fp32=False):
        self.seen.append((x.dtype, sigma, class_labels, force_fp32))
        x = x.to(torch.float32)
        sigma = sigma.to(torch.float32).reshape(-1)
        if class_labels is not None:
            class_labels = class_labels.to(torch.float32).reshape(-1, self.label_dim)
        return self.target.x0(x, 1.0, sigma.expand(len(x))) + self.shift

    def round_sigma(self, sigma):
        return torch.as_tensor(sigma)


class TableNet(EDMNet):
    """As iDDPMPrecond: a table of noise levels, the highest first, the last 0."""

    levels = torch.cat([torch.logspace(2, -2, 50), torch.zeros(1)])

    def round_sigma(self, sigma):
        sigma = torch.as_tensor(sigma)
        nearest = (sigma.to(torch.float32).reshape(-1, 1) - self.levels).abs().argmin(1)
        return self.levels[nearest].to(sigma.dtype).reshape(sigma.shape)


def edm_raw(target: Target, sigma_data: float):
    """The network inside the preconditioning, F(c_in x, c_noise, class_labels), for which the whole is exact."""

    def net(x_in, c_noise, class_labels):
        sigma = torch.exp(4 * c_noise)
        shape = (-1,) + (1,) * (x_in.ndim - 1)
        s = sigma.reshape(shape)
        norm = (s**2 + sigma_data**2).sqrt()
        x = x_in * norm
        return (target.x0(x, 1.0, sigma) - sigma_data**2 / norm**2 * x) * norm / (s * sigma_data)

    return net


# -- score_sde ---------------------------------------------------------------------------------------------------------
class VPSDE:
    def __init__(self, beta_min=0.1, beta_max=20.0, N=1000):
        self.beta_0, self.beta_1, self.N, self.T = beta_min, beta_max, N, 1
        self.discrete_betas = torch.linspace(beta_min / N, beta_max / N, N)
        self.alphas_cumprod = torch.cumprod(1.0 - self.discrete_betas, dim=0)
        self.sqrt_1m_alphas_cumprod = torch.sqrt(1.0 - self.alphas_cumprod)

    def marginal_prob(self, x, t):
        log_mean = -0.25 * t**2 * (self.beta_1 - self.beta_0) - 0.5 * t * self.beta_0
        return torch.exp(log_mean[:, None, None, None]) * x, torch.sqrt(1.0 - torch.exp(2.0 * log_mean))


class subVPSDE:
    def __init__(self, beta_min=0.1, beta_max=20.0, N=1000):
        self.beta_0, self.beta_1, self.N, self.T = beta_min, beta_max, N, 1

    def marginal_prob(self, x, t):
        log_mean = -0.25 * t**2 * (self.beta_1 - self.beta_0) - 0.5 * t * self.beta_0
        return torch.exp(log_mean)[:, None, None, None] * x, 1 - torch.exp(2.0 * log_mean)


class VESDE:
    def __init__(self, sigma_min=0.01, sigma_max=50.0, N=1000):
        self.sigma_min, self.sigma_max, self.N, self.T = sigma_min, sigma_max, N, 1
        self.discrete_sigmas = torch.exp(torch.linspace(math.log(sigma_min), math.log(sigma_max), N))

    def marginal_prob(self, x, t):
        return x, self.sigma_min * (self.sigma_max / self.sigma_min) ** t


def song_score_fn(sde, model, continuous):
    """What score_sde makes of a model."""
    if isinstance(sde, VESDE):

        def score_fn(x, t):
            if continuous:
                return model(x, sde.marginal_prob(torch.zeros_like(x), t)[1])
            return model(x, torch.round((sde.T - t) * (sde.N - 1)).long())

        return score_fn

    def score_fn(x, t):
        if continuous or isinstance(sde, subVPSDE):
            labels = t * 999
            std = sde.marginal_prob(torch.zeros_like(x), t)[1]
        else:
            labels = t * (sde.N - 1)
            std = sde.sqrt_1m_alphas_cumprod[labels.round().long()]
        return -model(x, labels) / std[:, None, None, None]

    return score_fn


# -- guided-diffusion --------------------------------------------------------------------------------------------------
class ModelMeanType(enum.Enum):
    PREVIOUS_X = enum.auto()
    START_X = enum.auto()
    EPSILON = enum.auto()


class ModelVarType(enum.Enum):
    LEARNED = enum.auto()
    FIXED_SMALL = enum.auto()
    LEARNED_RANGE = enum.auto()


class GaussianDiffusion:
    def __init__(self, betas, mean="EPSILON", var="LEARNED_RANGE", rescale_timesteps=False):
        self.betas = torch.as_tensor(betas, dtype=torch.float64).numpy()
        self.alphas_cumprod = (1.0 - self.betas).cumprod()
        self.model_mean_type, self.model_var_type = ModelMeanType[mean], ModelVarType[var]
        self.rescale_timesteps, self.num_timesteps = rescale_timesteps, len(self.betas)


class SpacedDiffusion(GaussianDiffusion):
    def __init__(self, use_timesteps, betas, **options):
        whole = GaussianDiffusion(betas, **options)
        self.timestep_map, self.original_num_steps = sorted(use_timesteps), whole.num_timesteps
        kept = torch.as_tensor(whole.alphas_cumprod)[self.timestep_map]
        super().__init__(1 - kept / torch.cat([torch.ones(1, dtype=torch.float64), kept[:-1]]), **options)


def betas_of(steps: int = 1000) -> Tensor:
    return torch.linspace(1e-4, 0.02, steps, dtype=torch.float64) * (1000 / steps)
