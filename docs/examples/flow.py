"""Velocity networks of flow matching: which end is data, which argument is first, which path."""

import math

import torch

import scoresde as ss
from scoresde.integrations import flow
from scoresde.sde.schedule import Schedule

C = 0.5  # data are N(0, C^2), for which these velocities are exact


def sd3(x, t):  # noise at t = 1000, noise - data: Stable Diffusion 3, Flux
    s = (t / 1000).reshape(-1, 1)
    return x * (s - (1 - s) * C**2) / ((1 - s) ** 2 * C**2 + s**2)


def torchcfm(t, x):  # data at t = 1, data - noise, t first
    t = t.reshape(-1, 1)
    return x * (t * C**2 - (1 - t)) / (t**2 * C**2 + (1 - t) ** 2)


def sit_gvp(x, t):  # data at t = 1 along sin and cos: SiT's GVP
    u = 0.5 * math.pi * t.reshape(-1, 1)
    return x * 0.5 * math.pi * torch.sin(u) * torch.cos(u) * (C**2 - 1) / (torch.sin(u) ** 2 * C**2 + torch.cos(u) ** 2)


circle = Schedule(lambda t: (torch.cos(0.5 * math.pi * t), torch.sin(0.5 * math.pi * t)), T=0.999)
denoisers = {
    "Stable Diffusion 3": flow.from_velocity(sd3, time_scale=1000.0, sde=ss.RectifiedFlow(shift=3.0)),
    "torchcfm": flow.from_velocity(torchcfm, convention="data-at-one", order="tx"),
    "SiT, GVP": flow.from_velocity(sit_gvp, convention="data-at-one", sde=circle),
}
for name, denoiser in denoisers.items():
    for solver in ("unipc-3", "heun"):
        x0 = ss.sample(denoiser, (5000, 2), solver=solver, grid="uniform", nfe=15)
        print(f"{name}, {solver}: 15 calls, standard deviation {x0.std():.3f} of {C}")
