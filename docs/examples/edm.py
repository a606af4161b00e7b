"""An EDM network with its weights in a safetensors file: any solver, class labels, classifier-free guidance."""

import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file

import scoresde as ss
from scoresde.guidance import ClassifierFree
from scoresde.integrations import edm


class Net(torch.nn.Module):  # stands for EDMPrecond, VPPrecond, ... of EDM, or Precond of EDM2
    sigma_min, sigma_max, label_dim = 0.002, 80.0, 10

    def __init__(self) -> None:
        super().__init__()
        self.means = torch.nn.Parameter(torch.zeros(10, 3, 1, 1))

    def forward(self, x, sigma, class_labels=None):
        mean = 0.0 if class_labels is None else torch.einsum("bk,kchw->bchw", class_labels.float(), self.means)
        s2 = sigma.reshape(-1, 1, 1, 1).float() ** 2
        return (0.25 * x.float() + s2 * mean) / (0.25 + s2)  # exact for N(mean, 0.5^2)


torch.manual_seed(0)
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "weights.safetensors"
    save_file({"ema.means": torch.randn(10, 3, 1, 1)}, path)
    net = edm.load_state(Net(), path)  # a .pkl is refused, with a recipe that makes a .safetensors of it

denoiser = edm.from_edm(net)
labels = torch.arange(10).repeat(20)  # or one-hot rows; -1 is no class
for solver, grid, nfe in (("heun", "edm", 35), ("dpmpp-3m", "log-snr", 12)):
    x0 = ss.sample(denoiser, (200, 3, 4, 4), solver=solver, grid=grid, nfe=nfe, cond={"class_labels": labels})
    off = (x0.unflatten(0, (20, 10)).mean((0, 3, 4)) - net.means[:, :, 0, 0]).abs().max()
    print(f"{solver}: {nfe} calls; means of the classes are right to {off:.2f}")

guided = ClassifierFree(denoiser, scale=2.0, null={"class_labels": -1})
x0 = ss.sample(guided, (200, 3, 4, 4), solver="unipc-3", nfe=12, cond={"class_labels": labels})
print("guided:", "finite" if x0.isfinite().all() else "not finite", tuple(x0.shape))
