"""The scheduler's loop waits for no device: on the meta device tensors have no values, and reading one would fail."""

import pytest
import torch

from tests.problems import FIXED

SOURCES = {"DDIMScheduler": {}, "FlowMatchEulerDiscreteScheduler": {"shift": 3.0}, "EDMEulerScheduler": {}}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # other people's, as diffusers is imported
@pytest.mark.parametrize("source", SOURCES)
def test_nothing_in_the_loop_of_a_pipeline_reads_a_value(source: str) -> None:
    import diffusers

    from scoresde.integrations.diffusers import Scheduler

    theirs = getattr(diffusers, source)(**SOURCES[source])
    for solver in FIXED:
        if "churn" in solver and source == "EDMEulerScheduler":
            continue  # its first step would go above the most noise of the process
        scheduler = Scheduler.from_config(theirs, solver=solver, count="steps")
        scheduler.set_timesteps(3, device="meta")
        x = torch.empty(1, 2, 4, 4, device="meta")
        for t in scheduler.timesteps:
            output = torch.empty_like(scheduler.scale_model_input(x, t))
            x = scheduler.step(output, t, x, return_dict=False)[0]
        assert x.device.type == "meta"
