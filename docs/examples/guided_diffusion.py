"""A network with learned variance, as of guided-diffusion or DiT: the table of its training, classes, clipping."""

import torch

import scoresde as ss
from scoresde.guidance import ClassifierFree, Threshold
from scoresde.integrations.guided_diffusion import from_guided_diffusion

betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
alphas_cumprod = torch.cumprod(1 - betas, 0).float()


def model(x, timesteps, y=None):  # stands for yours: 6 channels for 3, the noise and a variance; exact for N(0, 0.5^2)
    a2 = alphas_cumprod[timesteps.round().long()].reshape(-1, 1, 1, 1)
    noise = x * (1 - a2).sqrt() / (0.25 * a2 + 1 - a2)
    return torch.cat([noise, torch.zeros_like(x)], 1)


# With the object of the library: from_guided_diffusion(model, diffusion). A respaced one needs betas= as well.
denoiser = from_guided_diffusion(model, betas=betas)
y = torch.randint(1000, (500,))
for solver in ("ddim", "dpmpp-2m", "er-sde-3"):
    x0 = ss.sample(denoiser, (500, 3, 4, 4), solver=solver, nfe=15, cond={"y": y})
    print(f"{solver}: 15 calls, standard deviation {x0.std():.3f} of 0.5")

clipped = Threshold(ClassifierFree(denoiser, scale=1.5, null={"y": 1000}))  # what clip_denoised=True does
x0 = ss.sample(clipped, (500, 3, 4, 4), nfe=15, cond={"y": y})
print(f"guided and clipped: largest value {x0.abs().max():.3f}")
