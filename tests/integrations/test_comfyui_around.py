"""What goes round a sampler in ComfyUI: images, masks, stages, callbacks, interrupts, seeds, dtypes."""

# ruff: noqa: F811 (fixtures)

import gc
import math
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import scoresde as ss
from scoresde.denoiser import Evaluation
from tests.integrations.comfy_models import (
    NEGATIVE,
    PROMPT,
    SHAPE,
    TARGET,
    Reference,
    call_of,
    custom,
    empty,
    ksample,
    levels_of,  # noqa: F401
    listed,
    make,
    package,  # noqa: F401
    reference,
    sample_scoresde,  # noqa: F401
)
from tests.integrations.comfy_stub import nodes as stock
from tests.integrations.comfy_stub import samplers as comfy_samplers
from tests.integrations.comfy_stub.model_patcher import ModelPatcher


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["eps", "flow"])
@pytest.mark.parametrize("solver", ["unipc-3", "heun"])
def test_image_to_image(package: ModuleType, levels_of: Callable, kind: str, solver: str) -> None:
    model, image = make(kind), TARGET.sample(2, 7)
    got = ksample(model, listed(solver), "scoresde_karras", 6, denoise=0.5, latent_image={"samples": image})
    (sigmas,) = package.NODE_CLASS_MAPPINGS["ScoresdeScheduler"]().get_sigmas(model, 6, "karras", 0.5)
    (theirs,) = stock.BasicScheduler().get_sigmas(model, "scoresde_karras", 6, 0.5)
    assert torch.equal(sigmas, theirs)
    assert len(sigmas) == 7
    assert sigmas[0] < model.get_model_object("model_sampling").sigma_max
    assert torch.equal(got, reference(model, levels_of, solver, sigmas, image))


def test_denoising_nothing_leaves_the_image(package: ModuleType) -> None:
    model, image = make("eps"), TARGET.sample(2, 7)
    (sigmas,) = package.NODE_CLASS_MAPPINGS["ScoresdeScheduler"]().get_sigmas(model, 6, "karras", 0.0)
    (sampler,) = package.NODE_CLASS_MAPPINGS["ScoresdeSampler"]().get_sampler("heun", "independent", True)
    assert torch.equal(custom(model, sampler, sigmas, latent_image={"samples": image}), image)


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["dpmpp-2m", "heun", "ddim-cfgpp", "dpmpp-2m-cfgpp"])
@pytest.mark.parametrize("kind", ["eps", "flow"])
def test_masks(package: ModuleType, kind: str, solver: str) -> None:
    model, image = make(kind), TARGET.sample(2, 7)
    mask = torch.zeros(2, *SHAPE, dtype=torch.float64)
    mask[..., 1] = 1.0
    got = ksample(model, listed(solver), latent_image={"samples": image, "noise_mask": mask})
    torch.testing.assert_close(got[..., 0], image[..., 0])
    assert (got[..., 1] - image[..., 1]).abs().min() > 1e-3
    everywhere = ksample(model, listed(solver), latent_image={"samples": image, "noise_mask": torch.ones_like(mask)})
    assert torch.equal(everywhere, ksample(model, listed(solver), latent_image={"samples": image}))


class MaskedReference(Reference):
    """The model behind a mask, of which both predictions get the image that is kept."""

    def __init__(self, model: ModelPatcher, levels: Any, cfg: float, image: Tensor, mask: Callable) -> None:
        super().__init__(model, levels, cfg)
        self.image, self.mask = image, mask
        self.noise = torch.randn(image.shape, dtype=image.dtype, generator=torch.manual_seed(3))

    def evaluate(self, x: Tensor, t: Any, **cond: Any) -> Evaluation:
        m, sigma = self.mask(t), torch.full((2,), self.sde.sigma(t), dtype=x.dtype)
        known = self.model.model_sampling.noise_scaling(sigma, self.noise, self.image)
        found = super().evaluate(x * m + known * (1 - m), t)
        assert found.unconditional is not None
        guided, negative = (p * m + self.image * (1 - m) for p in (found.prediction, found.unconditional))
        return Evaluation(guided, "x0", negative)


@pytest.mark.slow
@pytest.mark.parametrize("function", [False, True])
@pytest.mark.parametrize("solver", ["dpmpp-2m", "dpmpp-2m-cfgpp"])
def test_soft_masks(levels_of: Callable, solver: str, function: bool) -> None:
    model, image = make("flow"), TARGET.sample(2, 7)
    latent = {"samples": image, "noise_mask": torch.full((2, *SHAPE), 0.3, dtype=torch.float64)}
    if function:  # differential diffusion's place
        model.model_options["denoise_mask_function"] = lambda sigma, mask, extra_options: (
            mask * extra_options["model"].inner_model.model_sampling.sigma_max * (1 + sigma.reshape(-1, 1, 1, 1))
        )
    levels = levels_of(model.model.model_sampling)
    masked = MaskedReference(model, levels, 0.6, image, lambda t: 0.3 * (1 + levels.sde.sigma(t)) if function else 0.3)
    sigmas = comfy_samplers.calculate_sigmas(model.model.model_sampling, "scoresde_karras", 5)
    want = ss.sample(masked, (2, *SHAPE), solver=solver, grid=levels.times(sigmas.tolist()), x_T=masked.noise)
    got = ksample(model, listed(solver), cfg=0.6, latent_image=latent)
    torch.testing.assert_close(got, want)


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["ddim", "heun", "ddpm"])
@pytest.mark.parametrize("kind", ["v", "flow"])
def test_two_stages_are_one(package: ModuleType, kind: str, solver: str) -> None:
    """KSamplerAdvanced's way: the second stage goes on from the first one's noisy latent. A Brownian path joins up."""
    model = make(kind)
    (sampler,) = package.NODE_CLASS_MAPPINGS["ScoresdeSampler"]().get_sampler(solver, "path", False)
    (sigmas,) = package.NODE_CLASS_MAPPINGS["ScoresdeScheduler"]().get_sigmas(model, 8, "karras", 1.0)
    half = custom(model, sampler, sigmas[:5])
    got = custom(model, sampler, sigmas[4:], add_noise=False, latent_image={"samples": half})
    torch.testing.assert_close(got, custom(model, sampler, sigmas), rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["eps", "flow"])
def test_stages_of_the_stock_node(package: ModuleType, kind: str) -> None:
    model, advanced = make(kind), stock.KSamplerAdvanced().sample
    common = (3, 6, 1.5, "scoresde_ddim", "scoresde_karras", PROMPT, NEGATIVE)
    (half,) = advanced(model, "enable", *common, empty(), 0, 3, "enable")
    (got,) = advanced(model, "disable", *common, half, 3, 10000, "disable")
    torch.testing.assert_close(got["samples"], ksample(model, "scoresde_ddim", steps=6), rtol=0, atol=1e-5)


def test_what_the_callback_is_told(sample_scoresde: Callable) -> None:
    told, evaluated = [], []

    def denoise(x: Tensor, sigma: Tensor, **extra_args: Any) -> Tensor:
        evaluated.append((x, sigma))
        return 0.5 * x

    inner = call_of(denoise, make("edm").model.model_sampling)
    sigmas, x = torch.tensor([8.0, 4.0, 4.0, 1.0, 0.0]), torch.ones(2, *SHAPE)
    sample_scoresde(inner, x, sigmas, {"seed": 1}, told.append, True, solver="heun", most_gain=math.inf)
    assert [t["i"] for t in told] == [0, 2, 3], "a repeated sigma is no step"
    assert [float(t["sigma"]) for t in told] == [8.0, 4.0, 1.0]
    assert [float(t["sigma_hat"]) for t in told] == [8.0, 4.0, 1.0]
    firsts = [evaluated[i] for i in (0, 2, 4)]  # Heun evaluates twice, into 0 once
    for t, (state, sigma) in zip(told, firsts, strict=True):
        assert torch.equal(t["x"], state)
        assert torch.equal(t["denoised"], 0.5 * state)
        assert torch.equal(sigma, t["sigma"].expand(2)), "exactly the float32 that ComfyUI gave"

    told.clear()
    churn = ss.get_solver("heun-churn", s_churn=2.0)
    sample_scoresde(inner, x, sigmas, {"seed": 1}, told.append, True, solver=churn)
    assert [t["i"] for t in told] == [0, 2, 3]
    assert all(t["sigma_hat"] > t["sigma"] for t in told[:2])


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["dpmpp-2m", "dpmpp-23"])
def test_an_interrupt_passes_through(package: ModuleType, solver: str) -> None:
    class Interrupted(Exception):
        pass

    model = make("eps")
    apply_model = model.model.apply_model

    def interrupted(*args: Any) -> Tensor:
        if model.model.calls >= 5:
            raise Interrupted
        return apply_model(*args)

    model.model.apply_model = interrupted  # type: ignore[method-assign]
    before = threading.active_count()
    with pytest.raises(Interrupted):
        ksample(model, listed(solver))
    gc.collect()
    for thread in threading.enumerate():
        if thread.name.startswith("scoresde"):
            thread.join(5)
    assert threading.active_count() <= before


def test_noise_of_a_sample_is_its_own(sample_scoresde: Callable) -> None:
    inner = call_of(lambda x, sigma, **_: 0.5 * x, make("eps").model.model_sampling)
    x, sigmas = torch.ones(3, *SHAPE), torch.tensor([8.0, 4.0, 1.0, 0.5])

    def run(x: Tensor, seed: int | None) -> Tensor:
        return sample_scoresde(inner, x, sigmas, {"seed": seed}, None, True, solver="ddpm")

    assert torch.allclose(run(x, 5)[:1], run(x[:1], 5))
    assert not torch.equal(run(x, 5), run(x, 6))
    assert not torch.equal(run(x, 5)[0], run(x, 5)[1])
    assert torch.equal(run(x, None), run(x, 0))
    assert torch.isfinite(run(x, 2**64 - 1)).all(), "ComfyUI's largest seed"


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("kind", ["eps", "flow"])
def test_the_dtype_of_the_state_is_kept(sample_scoresde: Callable, kind: str, dtype: torch.dtype) -> None:
    inner = call_of(lambda x, sigma, **_: 0.5 * x, make(kind).model.model_sampling)
    x, sigmas = torch.ones(2, *SHAPE, dtype=dtype), torch.tensor([1.0, 0.8, 0.5, 0.0])
    out = sample_scoresde(inner, x, sigmas, {"seed": 0}, None, True, solver="unipc-3")
    assert out.dtype == dtype
    assert torch.isfinite(out).all()


class Reads(TorchDispatchMode):
    """Counts what would wait for the device."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        self.count += name in ("_local_scalar_dense", "item", "nonzero", "is_nonzero", "equal")
        return func(*args, **(kwargs or {}))


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["dpmpp-3m", "unipc-3", "heun", "ddim-cfgpp"])
def test_the_loop_does_not_wait_for_the_device(package: ModuleType, sample_scoresde: Callable, solver: str) -> None:
    """Sigmas are read once, before the first call of the network; what is not finite, after the last one."""
    counter, reads = Reads(), []

    def denoise(x: Tensor, sigma: Tensor, **extra_args: Any) -> Tensor:
        reads.append(counter.count)
        return 0.5 * x

    inner = call_of(denoise, make("flow").model.model_sampling)
    x, sigmas = torch.ones(2, *SHAPE), torch.linspace(1, 0, 9)
    with counter:
        sample_scoresde(inner, x, sigmas, {"seed": 1}, lambda told: None, True, solver=solver)
    assert reads[0] > 0, "nothing is counted"
    assert reads == reads[:1] * len(reads)
