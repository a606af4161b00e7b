"""What only a GPU can show: one stream of noise on every device, and a loop that never waits for the device."""

import pytest
import torch

import scoresde as ss
from scoresde.noise import normal

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def test_noise_is_that_of_the_cpu() -> None:
    here = normal((5, 3, 8, 8), 7, 11, 2, dtype=torch.float64)
    there = normal((5, 3, 8, 8), 7, 11, 2, dtype=torch.float64, device="cuda").cpu()
    assert torch.allclose(here, there, atol=1e-14)  # the bits are the same; log and cos may differ in the last one


@pytest.mark.parametrize("solver", ["dpmpp-3m", "heun", "ddpm", "euler-maruyama", "dpm-solver-3"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_loop_never_waits(solver: str, dtype: torch.dtype) -> None:
    denoiser = ss.Denoiser(lambda x, t: torch.tanh(x), ss.VP())
    run = ss.plan_for(solver, ss.VP(), steps=6).start(torch.randn(4, 16, device="cuda", dtype=dtype))
    torch.cuda.set_sync_debug_mode("error")
    try:
        while not run.done:
            run.tell(*denoiser.evaluate(run.x, run.t))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.isfinite(run.sample).all()


def test_samples_agree_with_the_cpu() -> None:
    denoiser = ss.Denoiser(lambda x, t: torch.tanh(x), ss.VP())
    for solver in ("dpmpp-2m", "ddpm"):
        here = ss.sample(denoiser, (4, 16), solver=solver, steps=8, dtype=torch.float64)
        there = ss.sample(denoiser, (4, 16), solver=solver, steps=8, dtype=torch.float64, device="cuda").cpu()
        assert torch.allclose(here, there, atol=1e-9)
