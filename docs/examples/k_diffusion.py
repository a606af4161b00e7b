"""k-diffusion's sampling functions with every solver: ``python docs/examples/k_diffusion.py``."""

import torch

import scoresde as ss
from scoresde.integrations import k_diffusion as K  # was: from k_diffusion import sampling as K
from scoresde.targets import GaussianMixture

# A model as k-diffusion has it, model(x, sigma) -> denoised. Here the exact one of two clusters in the plane.
means = torch.tensor([[-2.0, 0.0], [2.0, 1.0]])
clusters = GaussianMixture(torch.tensor([0.3, 0.7]), means, 0.2 * torch.eye(2).repeat(2, 1, 1))
model = K.wrap(clusters.denoiser(ss.EDM()))

torch.manual_seed(0)
sigmas = K.get_sigmas_karras(12, sigma_min=0.02, sigma_max=80.0)
x = 80.0 * torch.randn(2000, 2)
exact = K.sample_heun(model, x, K.get_sigmas_karras(400, sigma_min=0.02, sigma_max=80.0))

print("12 steps from the same noise: distance to 400 steps of Heun")
for name in ("euler", "dpmpp_2m", "unipc_3", "ipndm_4", "res_2s", "deis_tab3"):
    calls = []
    sampled = K.sampler(name)(lambda x, sigma, calls=calls: (calls.append(sigma), model(x, sigma))[1], x, sigmas)
    print(f"  sample_{name:10} {len(calls):3} calls of the model  {(sampled - exact).square().mean().sqrt():.4f}")

# Callbacks and noise samplers are k-diffusion's.
K.sample_dpmpp_2m_sde(
    model,
    x,
    sigmas,
    callback=lambda d: print(f"  step {d['i']}: sigma {d['sigma']:.3f}") if d["i"] % 3 == 0 else None,
    noise_sampler=K.BrownianNoiseSampler(x, seed=7),
)

# A rectified flow says so, and the stochastic functions then treat it as one.
flow = K.wrap(clusters.denoiser(ss.RectifiedFlow()), process="flow")  # K.Model(your_model, process="flow")
down, z = torch.linspace(1.0, 0.0, 31), torch.randn(2000, 2)
share = (K.sample_dpmpp_2s_ancestral(flow, z, down)[:, 0] > 0).float().mean()
print(f"on a flow: {share:.2f} of the samples in the cluster of weight 0.7")

# The other way round: a model of k-diffusion for everything in scoresde.
denoiser = K.wrap(lambda x, sigma: model(x, sigma), sigma_min=0.02, sigma_max=80.0)
print("as a Denoiser:", ss.sample(denoiser, (4, 2), solver="unipc-3", nfe=8, seed=0)[0])
