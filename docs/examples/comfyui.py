"""The ComfyUI nodes at work, without ComfyUI: on the stand-in for its interfaces that the tests use.

It loads the folder of custom nodes as ComfyUI does, and then takes the stock KSampler and SamplerCustom through a flow
model (Stable Diffusion 3's kind) whose exact denoiser is known: the data is N(1, 0.5^2), so the exact sample is too.
"""

import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.integrations import comfy_stub  # noqa: E402
from tests.integrations.comfy_stub import model_patcher, model_sampling, nodes, samplers  # noqa: E402

sys.modules.update(comfy_stub.modules())  # from here on, `import comfy` finds the stand-in
ours = nodes.load_custom_node(str(ROOT / "integrations" / "comfyui")).NODE_CLASS_MAPPINGS
print(f"KSampler offers {len(samplers.SAMPLER_NAMES)} samplers and {len(samplers.SCHEDULER_NAMES)} schedulers")


class Sampling(model_sampling.ModelSamplingDiscreteFlow, model_sampling.CONST):
    """What ComfyUI makes of a flow model's settings."""


def network(x: torch.Tensor, timestep: torch.Tensor, prompt: float) -> torch.Tensor:
    """The exact velocity, noise minus data, of data N(prompt, 0.5^2)."""
    sigma = (timestep / 1000).reshape(-1, 1, 1, 1)
    alpha = 1 - sigma
    x0 = prompt + 0.25 * alpha / (0.25 * alpha**2 + sigma**2) * (x - alpha * prompt)
    return (x - x0) / sigma


model = model_patcher.ModelPatcher(model_patcher.BaseModel(network, Sampling(shift=3.0)))
latent = {"samples": torch.zeros(64, 4, 8, 8)}
exact = 1 + 0.5 * torch.randn(latent["samples"].shape, generator=torch.manual_seed(0))

print("\nKSampler, 10 steps of one call each, from the same noise: error against the exact sample")
for sampler, scheduler in (
    ("euler", "simple"),
    ("scoresde_dpmpp_2m", "scoresde_uniform"),
    ("scoresde_dpmpp_2m", "scoresde_arctan"),
    ("scoresde_unipc_3", "scoresde_arctan"),
):
    (out,) = nodes.KSampler().sample(model, 0, 10, 1.0, sampler, scheduler, 1.0, 0.0, latent)
    print(f"  {sampler:20} {scheduler:18} {(out['samples'] - exact).std():.5f}")

print("\nscoresde Sampler -> scoresde Scheduler (budget) -> SamplerCustom: 20 calls of the network at most")
for solver in ("heun", "res-3s", "sde-dpmpp-2m"):
    (sampler,) = ours["ScoresdeSampler"]().get_sampler(solver, "independent", True)
    sampler, sigmas, steps, calls = ours["ScoresdeBudget"]().get_sigmas(model, sampler, 20, "arctan", 1.0)
    before = model.model.calls
    out, _ = nodes.SamplerCustom().sample(model, True, 0, 1.0, 1.0, 0.0, sampler, sigmas, latent)
    assert model.model.calls - before == calls
    error = (out["samples"].std() - 0.5).abs()
    print(f"  {solver:14} {steps:2} steps, {calls} calls: error of the standard deviation {error:.4f}")
