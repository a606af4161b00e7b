"""Song's score function with his process, sampled with fifteen calls in place of a thousand; and ours as his."""

import torch

import scoresde as ss
from scoresde.integrations import score_sde


class VPSDE:  # stands for score_sde_pytorch's sde_lib.VPSDE, which has these and more
    beta_0, beta_1, N, T = 0.1, 20.0, 1000, 1

    def marginal_prob(self, x, t):
        log_mean = -0.25 * t**2 * (self.beta_1 - self.beta_0) - 0.5 * t * self.beta_0
        return torch.exp(log_mean[:, None, None, None]) * x, torch.sqrt(1 - torch.exp(2 * log_mean))


sde = VPSDE()


def score_fn(x, t):  # stands for mutils.get_score_fn(sde, model, continuous=True); exact for N(0, 0.5^2)
    mean, std = sde.marginal_prob(torch.ones_like(x), t)
    return -x / ((0.5 * mean) ** 2 + std[:, None, None, None] ** 2)


denoiser = score_sde.from_score_sde(score_fn, sde)
print("read as", denoiser.sde)
for solver in ("dpmpp-3m", "unipc-3"):
    x0 = ss.sample(denoiser, (500, 3, 4, 4), solver=solver, nfe=15)
    print(f"{solver}: 15 calls, standard deviation {x0.std():.3f} of 0.5")

back = score_sde.to_score_fn(denoiser, sde)  # for score_sde's own samplers and likelihoods
x, t = torch.randn(2, 3, 4, 4), torch.tensor([0.3, 0.9])
print(f"as a score function again: off by {(back(x, t) - score_fn(x, t)).abs().max():.0e}")
