"""The lines that the README shows for a pipeline of diffusers, as printed, on a pipeline that is tiny."""

import re
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.slow

README = Path(__file__).parents[2] / "README.md"


def test_three_lines() -> None:
    from benchmarks.compatibility.cases import all_cases

    text = README.read_text(encoding="utf-8")
    (lines,) = re.findall(r"^```py\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    pipe = next(case for case in all_cases() if case.name == "Latent Diffusion").build(torch.float32)
    own, calls = pipe.scheduler, []
    pipe.unet.register_forward_pre_hook(lambda *_: calls.append(1))
    names = {"pipe": pipe, "prompt": "a lighthouse"}
    exec(lines, names)
    assert type(own).__name__ != type(pipe.scheduler).__name__ == "Scheduler"
    assert len(calls) == 10
    assert names["image"].mode == "RGB"
