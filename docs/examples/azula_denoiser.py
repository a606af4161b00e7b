"""An azula denoiser with our solvers, and a denoiser of ours with azula's samplers. Needs azula."""

import sys
from importlib.util import find_spec

import torch

import scoresde as ss
from scoresde.integrations.azula import from_azula, to_azula
from scoresde.targets import Gaussian

if find_spec("azula") is None:
    print("azula is not installed; it needs: pip install --no-deps azula && pip install einops tqdm")
    sys.exit()

from azula.denoise import GaussianDenoiser
from azula.linalg.covariance import DiagonalCovariance
from azula.noise import VPSchedule
from azula.sample import DDIMSampler

torch.manual_seed(0)
variance = torch.tensor([0.01, 0.25, 1.0], dtype=torch.float64)
theirs = GaussianDenoiser(torch.zeros(3, dtype=torch.float64), DiagonalCovariance(variance), VPSchedule())
denoiser = from_azula(theirs)
x = torch.randn(2000, 3, dtype=torch.float64)
for solver, nfe in (("ddim", 20), ("dpmpp-3m", 20), ("seeds-3", 36)):
    x0 = ss.sample(denoiser, x.shape, solver=solver, nfe=nfe, x_T=x)
    print(f"{solver}: {nfe} calls, variances {[round(v, 3) for v in x0.var(0).tolist()]} of {variance.tolist()}")

ours = Gaussian(torch.zeros(3), variance).denoiser(ss.VP())
sampler = DDIMSampler(to_azula(ours), steps=12, silent=True, dtype=torch.float64)
times = [float(t) for t in sampler.timesteps]
same = ss.sample(ours, x.shape, solver="ddim", grid=times, x_T=x)
print(f"azula's DDIM and ours on its grid differ by {(sampler(x) - same).abs().max():.0e}")
