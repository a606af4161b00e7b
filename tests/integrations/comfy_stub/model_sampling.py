"""comfy.model_sampling: what a network's output means, and which noise levels it knows."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def per_sample(sigma: Tensor, ndim: int) -> Tensor:
    return sigma.view(()) if sigma.nelement() == 1 else sigma.view(sigma.shape[:1] + (1,) * (ndim - 1))


class EPS:
    sigma_data: float

    def calculate_input(self, sigma: Tensor, noise: Tensor) -> Tensor:
        sigma = per_sample(sigma, noise.ndim)
        return noise / (sigma**2 + self.sigma_data**2).sqrt()

    def calculate_denoised(self, sigma: Tensor, model_output: Tensor, model_input: Tensor) -> Tensor:
        return model_input - model_output * per_sample(sigma, model_output.ndim)

    def noise_scaling(self, sigma: Tensor, noise: Tensor, latent_image: Tensor, max_denoise: bool = False) -> Tensor:
        sigma = per_sample(sigma, noise.ndim)
        return noise * (torch.sqrt(1.0 + sigma**2.0) if max_denoise else sigma) + latent_image

    def inverse_noise_scaling(self, sigma: Tensor, latent: Tensor) -> Tensor:
        return latent


class V_PREDICTION(EPS):
    sign = -1.0

    def calculate_denoised(self, sigma: Tensor, model_output: Tensor, model_input: Tensor) -> Tensor:
        sigma = per_sample(sigma, model_output.ndim)
        total = sigma**2 + self.sigma_data**2
        c_skip, c_out = self.sigma_data**2 / total, sigma * self.sigma_data / total**0.5
        return model_input * c_skip + self.sign * model_output * c_out


class EDM(V_PREDICTION):
    sign = 1.0


class X0(EPS):
    def calculate_denoised(self, sigma: Tensor, model_output: Tensor, model_input: Tensor) -> Tensor:
        return model_output


class CONST:
    """Rectified flow: the network is given the state as it is and predicts noise minus data."""

    def calculate_input(self, sigma: Tensor, noise: Tensor) -> Tensor:
        return noise

    def calculate_denoised(self, sigma: Tensor, model_output: Tensor, model_input: Tensor) -> Tensor:
        return model_input - model_output * per_sample(sigma, model_output.ndim)

    def noise_scaling(self, sigma: Tensor, noise: Tensor, latent_image: Tensor, max_denoise: bool = False) -> Tensor:
        sigma = per_sample(sigma, noise.ndim)
        return sigma * (getattr(self, "noise_scale", 1.0) * noise) + (1.0 - sigma) * latent_image

    def inverse_noise_scaling(self, sigma: Tensor, latent: Tensor) -> Tensor:
        return latent / (1.0 - per_sample(sigma, latent.ndim))


class Sampling(torch.nn.Module):
    """What all of these have: a table of sigmas, whose ends are sigma_min and sigma_max."""

    sigmas: Tensor

    @property
    def sigma_min(self) -> Tensor:
        return self.sigmas[0]

    @property
    def sigma_max(self) -> Tensor:
        return self.sigmas[-1]


class ModelSamplingDiscrete(Sampling):
    """Stable Diffusion's table of 1000; the network is told the nearest index."""

    log_sigmas: Tensor

    def __init__(self, model_config: object = None, zsnr: bool = False) -> None:
        super().__init__()
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
        cumprod = torch.cumprod(1 - betas, 0)
        if zsnr:
            root = cumprod.sqrt()
            cumprod = ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2
            cumprod[-1] = 4.8973451890853435e-08
        self.sigma_data = 1.0
        self.set_sigmas(((1 - cumprod) / cumprod).sqrt())

    def set_sigmas(self, sigmas: Tensor) -> None:
        self.register_buffer("sigmas", sigmas.float())
        self.register_buffer("log_sigmas", sigmas.log().float())

    def timestep(self, sigma: Tensor) -> Tensor:
        return (sigma.log().to(self.log_sigmas) - self.log_sigmas[:, None]).abs().argmin(0).view(sigma.shape)

    def sigma(self, timestep: Tensor) -> Tensor:
        t = timestep.float().clamp(0, len(self.sigmas) - 1)
        return torch.lerp(self.log_sigmas[t.floor().long()], self.log_sigmas[t.ceil().long()], t.frac()).exp()


class StableCascadeSampling(ModelSamplingDiscrete):
    """A cosine table of 10000, clamped at both ends, so that entries repeat."""

    def __init__(self, model_config: object = None, shift: float = 1.0) -> None:
        super().__init__()
        t = torch.arange(1, 10001, dtype=torch.float32) / 10000
        cumprod = (torch.cos((t + 0.008) / 1.008 * torch.pi / 2) / math.cos(0.008 / 1.008 * math.pi / 2)) ** 2
        cumprod = torch.sigmoid(torch.logit(cumprod) - 2 * math.log(shift)).clamp(0.0001, 0.9999)
        self.set_sigmas(((1 - cumprod) / cumprod).sqrt())


class ModelSamplingContinuousEDM(Sampling):
    """A range of sigmas; the network is told log(sigma) / 4. The table is there for schedulers."""

    def __init__(self, model_config: object = None, sigma_min: float = 0.002, sigma_max: float = 120.0) -> None:
        super().__init__()
        self.set_parameters(sigma_min, sigma_max, 1.0)

    def set_parameters(self, sigma_min: float, sigma_max: float, sigma_data: float) -> None:
        self.sigma_data = sigma_data
        self.register_buffer("sigmas", torch.linspace(math.log(sigma_min), math.log(sigma_max), 1000).exp())

    def timestep(self, sigma: Tensor) -> Tensor:
        return 0.25 * sigma.log()

    def sigma(self, timestep: Tensor) -> Tensor:
        return (timestep / 0.25).exp()


class ModelSamplingDiscreteFlow(Sampling):
    """Rectified flow with a shift (Stable Diffusion 3); the network is told 1000 sigma."""

    def __init__(
        self, model_config: object = None, shift: float = 1.0, multiplier: float = 1000, noise_scale: float = 1.0
    ) -> None:
        super().__init__()
        self.noise_scale = noise_scale
        self.set_parameters(shift, multiplier=multiplier)

    def set_parameters(self, shift: float = 1.0, timesteps: int = 1000, multiplier: float = 1000) -> None:
        self.shift, self.multiplier = shift, multiplier
        self.register_buffer("sigmas", self.sigma(torch.arange(1, timesteps + 1) / timesteps * multiplier))

    def timestep(self, sigma: Tensor) -> Tensor:
        return sigma * self.multiplier

    def sigma(self, timestep: Tensor) -> Tensor:
        t = timestep / self.multiplier
        return self.shift * t / (1 + (self.shift - 1) * t)


class ModelSamplingFlux(Sampling):
    """Rectified flow with the shift exp(mu), where ``shift`` holds mu; the network is told sigma."""

    def __init__(self, model_config: object = None, shift: float = 1.15) -> None:
        super().__init__()
        self.set_parameters(shift)

    def set_parameters(self, shift: float = 1.15, timesteps: int = 10000) -> None:
        self.shift = shift
        self.register_buffer("sigmas", self.sigma(torch.arange(1, timesteps + 1) / timesteps))

    def timestep(self, sigma: Tensor) -> Tensor:
        return sigma

    def sigma(self, timestep: Tensor) -> Tensor:
        return math.exp(self.shift) / (math.exp(self.shift) + (1 / timestep - 1))
