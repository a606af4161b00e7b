"""Swap the sampler of a pipeline of diffusers, and count what the network is asked.

Run it with ``python docs/examples/diffusers_pipeline.py``; it needs ``pip install "scoresde[diffusers]"`` and nothing
from the network: the pipeline is built from a configuration, with random weights.
"""

# diffusers makes its classes when they are asked for, which type checkers do not see:
# pyright: reportPrivateImportUsage=false, reportAttributeAccessIssue=false

from __future__ import annotations

import diffusers
import torch

from scoresde.integrations.diffusers import Scheduler


def a_pipeline() -> diffusers.DDPMPipeline:
    """In place of ``DiffusionPipeline.from_pretrained(...)``."""
    torch.manual_seed(0)
    unet = diffusers.UNet2DModel(
        sample_size=16, in_channels=3, out_channels=3, layers_per_block=1, block_out_channels=(16, 32),
        norm_num_groups=8, down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    return diffusers.DDPMPipeline(unet=unet, scheduler=diffusers.DDPMScheduler())


def main() -> None:
    """Ten calls of the network with each of some solvers, and other ways to ask."""
    torch.set_num_threads(1)  # more do not help a network of this size
    pipe = a_pipeline()
    pipe.set_progress_bar_config(disable=True)
    own = pipe.scheduler
    calls: list[float] = []
    pipe.unet.register_forward_pre_hook(lambda _, inputs: calls.append(float(inputs[1])))

    def draw(steps: int) -> None:
        calls.clear()
        image = pipe(num_inference_steps=steps, generator=torch.Generator().manual_seed(0), output_type="np").images
        told = ", ".join(f"{t:.4g}" for t in calls[:3])
        name = getattr(pipe.scheduler.config, "solver", type(pipe.scheduler).__name__)
        print(f"{name:24} {len(calls):3} calls, at {told}, ...   mean {image.mean():.3f}")

    print("num_inference_steps=10 is a budget of ten calls of the network, whatever the solver:")
    draw(10)
    for solver in ("dpmpp-2m", "dpmpp-3s", "unipc-3", "sde-dpmpp-2m", "heun", "adams-4-rk"):
        pipe.scheduler = Scheduler.from_config(own, solver=solver)
        draw(10)

    print("or ten steps of the solver, two calls each:")
    pipe.scheduler = Scheduler.from_config(own, solver="heun", count="steps")
    draw(10)

    print("on another grid, with the integer timesteps of the training:")
    pipe.scheduler = Scheduler.from_config(own, solver="DPM++ 2M Karras", rounding="grid")
    draw(10)

    print("an adaptive solver calls as often as it needs:")
    pipe.scheduler = Scheduler.from_config(own, solver="dpm-solver-23")
    draw(10)
    print()
    print("what the sampler is about to do:")
    pipe.scheduler = Scheduler.from_config(own, solver="unipc-2")
    pipe.scheduler.set_timesteps(4)
    print(pipe.scheduler.plan)


if __name__ == "__main__":
    main()
