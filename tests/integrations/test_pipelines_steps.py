"""Steps of the user's own, noises and threads in whole pipelines of flows, video and sound."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch

from benchmarks.compatibility import audio, transformer, video
from benchmarks.compatibility.cases import difference, run_case
from benchmarks.compatibility.samplers import ours, quiet

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::FutureWarning")]  # of what diffusers will remove

CASES = {case.name: case for module in (transformer, video, audio) for case in module.CASES}
FLOW = [1.0, 0.7, 0.4, 0.1]
EXACT: dict[str, Any] = {"rounding": "grid", "textbook": True}


@pytest.fixture(scope="module", autouse=True)
def silent() -> None:
    quiet()


@pytest.mark.parametrize(
    ("name", "sigmas"),
    [
        ("Stable Diffusion 3", FLOW),
        ("Flux", FLOW),
        ("Flux img2img", FLOW),
        ("AuraFlow", FLOW),
        ("Stable Video Diffusion", [700.0, 80.0, 10.0, 1.0, 0.1, 0.0]),
    ],
)
def test_sigmas_of_the_user(name: str, sigmas: list[float]) -> None:
    """They are the steps of any solver; with Euler they give what diffusers gives."""
    expected = run_case(CASES[name], None, 6, sigmas=sigmas)
    euler = run_case(CASES[name], ours("euler-flow", **EXACT), 6, sigmas=sigmas)
    assert euler.ok
    assert euler.made == expected.made
    assert difference(euler.state, expected.state) < 1e-5  # float32
    for solver in ("dpmpp-2m", "heun", "unipc-3"):
        outcome = run_case(CASES[name], ours(solver), 6, sigmas=sigmas)
        assert outcome.ok
        assert outcome.made >= expected.made


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("Sana", {"sigmas": [0.99, 0.7, 0.4, 0.1]}),
        ("Sana", {"timesteps": [999, 700, 300]}),
        ("CogVideoX", {"timesteps": [999, 700, 300]}),
    ],
)
def test_steps_that_the_own_scheduler_refuses(name: str, steps: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        run_case(CASES[name], None, 6, **steps)
    outcome = run_case(CASES[name], ours("dpmpp-2m"), 6, **steps)
    assert outcome.ok
    assert outcome.made == len(*steps.values())


@pytest.mark.parametrize("name", ["Stable Diffusion 3", "Flux", "Wan", "Dance Diffusion"])
def test_noise_of_pipelines_that_pass_no_generator(name: str) -> None:
    """It is torch's own, unless the scheduler has a seed."""
    pipe = CASES[name].build(torch.float32)
    pipe.set_progress_bar_config(disable=True)
    own = pipe.scheduler

    def draw(seed: int | None, state: int) -> torch.Tensor:
        pipe.scheduler = ours("sde-dpmpp-2m", seed=seed)(own)
        torch.manual_seed(state)
        return CASES[name].call(pipe, 6, torch.Generator().manual_seed(0))

    assert torch.equal(draw(None, 1), draw(None, 1))
    assert difference(draw(None, 1), draw(None, 2)) > 1e-2
    assert torch.equal(draw(5, 1), draw(5, 2))
    assert difference(draw(5, 1), draw(6, 1)) > 1e-2


def test_pipelines_in_threads() -> None:
    names = ["Stable Diffusion 3", "Flux", "AuraFlow", "Wan", "CogVideoX", "AudioLDM 2"]
    alone = {name: run_case(CASES[name], ours("unipc-3"), 6).state for name in names}
    found: dict[str, torch.Tensor] = {}
    pipes = {name: CASES[name].build(torch.float32) for name in names}
    gate = threading.Barrier(len(names))

    def work(name: str) -> None:
        pipe = pipes[name]
        pipe.set_progress_bar_config(disable=True)
        pipe.scheduler = ours("unipc-3")(pipe.scheduler)
        gate.wait()
        with torch.no_grad():
            found[name] = CASES[name].call(pipe, 6, torch.Generator().manual_seed(0))

    threads = [threading.Thread(target=work, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(found) == set(names)
    for name in names:
        torch.testing.assert_close(found[name].reshape(alone[name].shape), alone[name])
