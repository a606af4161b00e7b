"""k-diffusion's functions: which noise they ask for and when, and what they do on a rectified flow."""

from __future__ import annotations

import math
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

import scoresde as ss
from scoresde.integrations import k_diffusion as kd
from scoresde.plan import make_plan
from scoresde.solvers import DDIM, DPMppSDE, MultistepDPM
from scoresde.targets import Gaussian
from tests.integrations.k_diffusion_models import (
    FLOW_SIGMAS,
    SIGMAS,
    Recorder,
    each,
    model,
    of_flow,
    start,
    target,
)


def requested(name: str, sigmas: Tensor = SIGMAS, of: Any = model, **options: Any) -> list[tuple[float, float]]:
    requests: list[tuple[float, float]] = []

    def sampler(sigma: Tensor, sigma_next: Tensor) -> Tensor:
        requests.append((sigma.item(), sigma_next.item()))
        return torch.zeros(4, 3)

    getattr(kd, name)(of, start(sigmas[0].item()), sigmas, noise_sampler=sampler, **options)
    return requests


STEPS = [(20.0, 6.0), (6.0, 1.5), (1.5, 0.3)]


@pytest.mark.parametrize(
    "name", ["sample_euler_ancestral", "sample_dpm_2_ancestral", "sample_dpmpp_2s_ancestral", "sample_dpmpp_2m_sde",
             "sample_dpmpp_3m_sde", "sample_ddpm", "sample_er_sde_3", "sample_lcm"]
)  # fmt: skip
def test_noise_is_asked_for_each_step(name: str) -> None:
    assert requested(name) == STEPS


def test_noise_of_stages() -> None:
    halves = [(s, math.sqrt(s * t)) for s, t in STEPS]
    theirs = [pair for (s, u), (_, t) in zip(halves, STEPS, strict=True) for pair in ((s, u), (s, t))]
    assert requested("sample_dpmpp_sde") == [pytest.approx(pair) for pair in theirs]
    parts = [pair for (s, u), (_, t) in zip(halves, STEPS, strict=True) for pair in ((s, u), (u, t))]
    assert requested("sample_seeds_2") == [pytest.approx(pair) for pair in parts]


def test_noise_of_functions_without_sigmas() -> None:
    """No step aims below sigma_min, so the last one adds no noise; the steps before it join up."""
    requests: list[tuple[float, float]] = []
    told = Recorder()

    def sampler(sigma: Tensor, sigma_next: Tensor) -> Tensor:
        requests.append((sigma.item(), sigma_next.item()))
        return torch.ones(4, 3)

    kd.sample_dpm_fast(told, start(), 0.02, 20.0, 7, eta=1.0, noise_sampler=sampler)
    assert requests == [pytest.approx((20.0, 2.0)), pytest.approx((2.0, 0.2))]
    assert len(told.sigmas) == 7
    assert min(told.sigmas) > 0.02
    requests.clear()
    _, info = kd.sample_dpm_adaptive(told, start(), 0.02, 20.0, eta=0.7, noise_sampler=sampler, return_info=True)
    assert len(requests) == info["n_accept"] - 1
    assert requests[0][0] == 20.0
    assert [t for _, t in requests[:-1]] == [s for s, _ in requests[1:]]
    assert min(told.sigmas) > 0.02


def test_noise_that_counts_for_nothing_is_not_drawn() -> None:
    assert requested("sample_euler_ancestral", eta=0.0) == []
    assert requested("sample_dpmpp_sde", s_noise=0.0) == []


def test_default_noise_is_torchs_own() -> None:
    torch.manual_seed(4)
    out = kd.sample_euler_ancestral(model, start(), SIGMAS)
    torch.manual_seed(4)
    same = kd.sample_euler_ancestral(model, start(), SIGMAS, noise_sampler=lambda a, b: torch.randn_like(start()))
    assert torch.equal(out, same)


def test_churn_draws_in_every_step() -> None:
    """k-diffusion draws in steps without churn too; the noise of the later ones must be the same."""
    torch.manual_seed(4)
    out = kd.sample_euler(model, start(), SIGMAS, s_churn=1.0, s_tmax=2.0)
    torch.manual_seed(4)
    _, _, z2, z3 = (torch.randn_like(start()) for _ in range(4))
    x = start()
    for i, z in enumerate((0 * z2, 0 * z2, z2, z3)):
        s, t = SIGMAS[i], SIGMAS[i + 1]
        hat = s * 1.25 if i >= 2 else s
        x = x + z * (hat**2 - s**2).sqrt()
        x = x + (x - model(x, hat.expand(4))) / hat * (t - hat)
    torch.testing.assert_close(out, x)


@pytest.mark.slow
def test_stochastic_default_is_one_path() -> None:
    """dpmpp_sde's two noises of a step belong to one Brownian path, seeded from torch's generator."""
    torch.manual_seed(4)
    out = kd.sample_dpmpp_sde(model, start(), SIGMAS)
    torch.manual_seed(4)
    sampler = kd.BrownianNoiseSampler(start())
    assert torch.equal(out, kd.sample_dpmpp_sde(model, start(), SIGMAS, noise_sampler=sampler))
    torch.manual_seed(4)
    seed = int(torch.randint(0, 2**63 - 1, []))
    sde = ss.EDM(0.3, 20.0)
    noise = ss.BrownianPath((4, 3), seed, clock="sigma", dtype=torch.float64)
    run = make_plan(DPMppSDE(), sde, SIGMAS.tolist()).start(start(), noise=noise)
    while not run.done:
        run.tell(model(run.x, torch.full((4,), run.t, dtype=torch.float64)))
    torch.testing.assert_close(out, run.sample)
    for function in (kd.sample_dpmpp_2m_sde, kd.sample_dpmpp_3m_sde):
        torch.manual_seed(4)
        out = function(model, start(), SIGMAS)
        torch.manual_seed(4)
        assert torch.equal(out, function(model, start(), SIGMAS, noise_sampler=kd.BrownianNoiseSampler(start())))


@pytest.mark.slow
def test_a_seeded_path_is_shared_by_batches_and_step_counts() -> None:
    """Sample 2 is the same in another batch; half the steps end near it on the same path, and on another do not."""
    sigmas = kd.get_sigmas_exponential(33, 0.05, 20.0).double()[:-1]

    def sample(every: int, seed: int, first: int = 0) -> Tensor:
        noise = kd.BrownianNoiseSampler(start()[first:], seed=seed, index=first)
        return kd.sample_dpmpp_2m_sde(model, start()[first:], sigmas[::every].clone(), noise_sampler=noise)

    fine = sample(1, 3)
    torch.testing.assert_close(sample(1, 3, first=2), fine[2:])
    assert (sample(2, 3) - fine).abs().max() < 0.3 * (sample(1, 4) - fine).abs().max()


def test_flow_euler_ancestral_is_comfyuis() -> None:
    """Its formula on x = (1 - s) x0 + s noise, in which eta shortens the way to a colder point."""
    torch.manual_seed(2)
    flow, eta = of_flow(), 0.7
    out = kd.sample_euler_ancestral(flow, start(1.0), FLOW_SIGMAS, eta=eta)
    torch.manual_seed(2)
    x = start(1.0)
    for s, t in pairwise(FLOW_SIGMAS):
        denoised = flow(x, s.expand(4))
        if t == 0:
            x = denoised
            continue
        down = t * (1 + (t / s - 1) * eta)
        x = down / s * x + (1 - down / s) * denoised
        kept = (1 - t) / (1 - down)
        x = kept * x + torch.randn_like(x) * (t**2 - (down * kept) ** 2).sqrt()
    torch.testing.assert_close(out, x)


@pytest.mark.parametrize("name", ["sample_euler", "sample_heun", "sample_dpm_2", "sample_lms", "sample_dpmpp_2m"])
def test_deterministic_functions_carry_over_unchanged(name: str) -> None:
    flow = of_flow()
    plain = getattr(kd, name)(lambda x, s: flow(x, s), start(1.0), FLOW_SIGMAS)
    assert torch.equal(getattr(kd, name)(flow, start(1.0), FLOW_SIGMAS), plain)


def test_stochastic_functions_run_on_rectified_flow() -> None:
    """The same plan on RectifiedFlow; taken for EDM, the sample is another."""
    flow, sde = of_flow(), ss.RectifiedFlow()
    denoiser = target().denoiser(sde)
    for name, solver in (
        ("sample_dpmpp_2m_sde", MultistepDPM(2, eta=1.0)),
        ("sample_dpmpp_sde", DPMppSDE(coupling="independent")),
        ("sample_ddpm", DDIM(1.0)),
    ):
        torch.manual_seed(2)
        noises = [torch.randn(4, 3, dtype=torch.float64) for _ in range(20)]
        out = getattr(kd, name)(flow, start(1.0), FLOW_SIGMAS, noise_sampler=each(noises))
        run = make_plan(solver, sde, FLOW_SIGMAS.tolist()).start(start(1.0), noise=noises.__getitem__)
        while not run.done:
            run.tell(denoiser(run.x, run.t))
        torch.testing.assert_close(out, run.sample)


@pytest.mark.slow
def test_flow_law_of_stochastic_functions() -> None:
    """On a Gaussian the deviation of many samples is the target's; with EDM's rule on a flow it is far from it."""
    flat = Gaussian(torch.zeros(1).double(), torch.tensor([0.25]).double())
    flow = of_flow(kd.wrap_denoiser(flat.denoiser(ss.RectifiedFlow()), "flow"))
    sigmas, x = torch.linspace(1, 0, 41).double(), torch.randn(20000, 1, dtype=torch.float64)
    for name in ("sample_dpm_2_ancestral", "sample_dpmpp_2s_ancestral", "sample_dpmpp_2m_sde"):
        sample = partial(getattr(kd, name), noise_sampler=lambda a, b: torch.randn_like(x))
        assert sample(flow, x, sigmas).std().item() == pytest.approx(0.5, rel=0.03)
        assert sample(lambda x, s: flow(x, s), x, sigmas).std().item() > 0.6


def test_churn_on_a_flow() -> None:
    seen: list[dict] = []
    flow = of_flow()
    kd.sample_heun(flow, start(1.0), FLOW_SIGMAS, callback=seen.append, s_churn=4.0, s_tmin=0.25, s_tmax=0.5)
    for d in seen:
        s, hat = d["sigma"].item(), d["sigma_hat"].item()
        raised = hat / (1 - hat) / (s / (1 - s)) if s < 1.0 else 1.0
        assert raised == pytest.approx(math.sqrt(2.0) if 0.25 <= s <= 0.5 else 1.0)
        assert hat <= 1.0
