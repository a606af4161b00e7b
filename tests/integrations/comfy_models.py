"""Models of every kind of ComfyUI's with an exact denoiser, and the stock nodes called on them."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

import scoresde as ss
from scoresde.denoiser import BaseDenoiser, Evaluation
from scoresde.targets import Gaussian
from tests.integrations import comfy_stub
from tests.integrations.comfy_stub import model_sampling as kinds
from tests.integrations.comfy_stub import nodes as stock
from tests.integrations.comfy_stub.model_patcher import BaseModel, ModelPatcher

PACKAGE = Path(__file__).parents[2] / "integrations" / "comfyui"
SHAPE = (2, 2, 2)
TARGET = Gaussian(torch.linspace(-1, 1, 8).reshape(SHAPE), torch.linspace(0.2, 2.0, 8) ** 2)
# Known values of a flow with a shift and of noise of another scale, of one with 10000 levels, of a table that repeats.
MODELS: dict[str, tuple[type, type, dict[str, Any]]] = {
    "eps": (kinds.ModelSamplingDiscrete, kinds.EPS, {}),
    "v": (kinds.ModelSamplingDiscrete, kinds.V_PREDICTION, {}),
    "v-zero-snr": (kinds.ModelSamplingDiscrete, kinds.V_PREDICTION, {"zsnr": True}),
    "edm": (kinds.ModelSamplingContinuousEDM, kinds.EDM, {}),
    "flow": (kinds.ModelSamplingDiscreteFlow, kinds.CONST, {"shift": 3.0}),
    "flow-scaled": (kinds.ModelSamplingDiscreteFlow, kinds.CONST, {"shift": 2.0, "noise_scale": 1.5}),
    "flux": (kinds.ModelSamplingFlux, kinds.CONST, {}),
    "cascade": (kinds.StableCascadeSampling, kinds.EPS, {}),
}
ADAPTIVE = [name for name, solver in ss.solvers().items() if isinstance(solver, ss.LazySolver)]
PROMPT, NEGATIVE = 0.5, -0.25


@pytest.fixture(scope="module")
def package() -> Iterator[ModuleType]:
    """The custom nodes as ComfyUI loads them, on the stub."""
    with pytest.MonkeyPatch.context() as patch:
        comfy_stub.install(patch)
        yield stock.load_custom_node(str(PACKAGE))


@pytest.fixture
def levels_of(package: ModuleType) -> Callable[..., Any]:
    return sys.modules[f"{package.__name__}.levels"].Levels.of


@pytest.fixture
def sample_scoresde(package: ModuleType) -> Callable[..., Tensor]:
    return sys.modules[f"{package.__name__}.sampling"].sample_scoresde


def exact_x0(x: Tensor, alpha: Tensor, sigma: Tensor, cond: float) -> Tensor:
    """The denoiser of the target, moved by the prompt."""
    shift = alpha.reshape(-1, 1, 1, 1) * cond
    return TARGET.x0(x - shift, alpha.double(), sigma.double()) + cond


def make(kind: str) -> ModelPatcher:
    """A model of this kind, whose network is exact for the target (moved by the prompt) at the levels it is told."""
    table, meaning, options = MODELS[kind]
    sampling = type("ModelSampling", (table, meaning), {})(**options)

    def network(xc: Tensor, timestep: Tensor, cond: float) -> Tensor:
        if issubclass(meaning, kinds.CONST):
            sigma = timestep / getattr(sampling, "multiplier", 1.0)
            x, alpha, noise = xc, 1 - sigma, sigma * getattr(sampling, "noise_scale", 1.0)
        else:
            index = table in (kinds.ModelSamplingDiscrete, kinds.StableCascadeSampling)
            sigma = sampling.sigmas[timestep] if index else sampling.sigma(timestep)
            sigma = sigma.double()
            alpha, noise = torch.ones_like(sigma), sigma
            x = xc * (sigma**2 + 1).sqrt().reshape(-1, 1, 1, 1)
        x0, s = exact_x0(x, alpha, noise, cond), sigma.reshape(-1, 1, 1, 1)
        # What the meaning's calculate_denoised turns back into x0.
        if issubclass(meaning, kinds.V_PREDICTION):
            total = s**2 + 1
            return (x0 - x / total) * total**0.5 / s * meaning.sign
        return (x - x0) / s

    return ModelPatcher(BaseModel(network, sampling))


def empty(batch: int = 2, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    return {"samples": torch.zeros(batch, *SHAPE, dtype=dtype)}


def ksample(
    model: ModelPatcher, sampler: str, scheduler: str = "scoresde_karras", steps: int = 5, **given: Any
) -> Tensor:
    options = {"seed": 3, "cfg": 1.5, "positive": PROMPT, "negative": NEGATIVE, "latent_image": empty(), **given}
    cfg, image = options.pop("cfg"), options.pop("latent_image")
    seed, positive, negative = (options.pop(name) for name in ("seed", "positive", "negative"))
    (out,) = stock.KSampler().sample(model, seed, steps, cfg, sampler, scheduler, positive, negative, image, **options)
    return out["samples"]


def custom(model: ModelPatcher, sampler: Any, sigmas: Tensor, add_noise: bool = True, **given: Any) -> Tensor:
    options = {"seed": 3, "cfg": 1.5, "positive": PROMPT, "negative": NEGATIVE, "latent_image": empty(), **given}
    out, _ = stock.SamplerCustom().sample(
        *(model, add_noise, options["seed"], options["cfg"], options["positive"], options["negative"]),
        *(sampler, sigmas, options["latent_image"], options.get("progress")),
    )
    return out["samples"]


class Reference(BaseDenoiser):
    """The guided model as a denoiser: what the nodes should be equal to scoresde.sample with."""

    def __init__(self, model: ModelPatcher, levels: Any, cfg: float = 1.5) -> None:
        self.model, self.levels, self.sde, self.cfg = model.patched_model(), levels, levels.sde, cfg

    def __call__(self, x: Tensor, t: Any, **cond: Any) -> Tensor:
        return self.evaluate(x, t).prediction

    def evaluate(self, x: Tensor, t: Any, **cond: Any) -> Evaluation:
        sigma = x.new_full(x.shape[:1], self.sde.sigma(t) / self.levels.sde.noise_scale)
        prompted, negative = (self.model.apply_model(x, sigma, c) for c in (PROMPT, NEGATIVE))
        return Evaluation(negative + (prompted - negative) * self.cfg, "x0", negative)


def reference(
    model: ModelPatcher, levels_of: Callable, solver: Any, sigmas: Tensor, image: Tensor | None = None, **options: Any
) -> Tensor:
    """scoresde.sample from the noise that ComfyUI draws, and the end scaled as ComfyUI does."""
    image = empty()["samples"] if image is None else image
    sampling = model.get_model_object("model_sampling")
    levels = levels_of(sampling)
    noise = torch.randn(image.shape, dtype=image.dtype, generator=torch.manual_seed(3))
    largest = bool(sigmas[0] >= sampling.sigma_max)
    x_T = sampling.noise_scaling(sigmas[0], noise, image, largest)
    out = ss.sample(
        Reference(model, levels), tuple(image.shape), solver=solver, grid=levels.times(sigmas.tolist()), x_T=x_T,
        **{"seed": 3, **options},
    )  # fmt: skip
    return sampling.inverse_noise_scaling(sigmas[-1], out)


def listed(name: str) -> str:
    return "scoresde_" + name.replace("-", "_")


def call_of(function: Callable, sampling: Any) -> Any:
    """A function as KSAMPLER's model."""

    class Inner:
        model_sampling = sampling

    class Guider:
        inner_model = Inner

    class Model:
        inner_model = Guider

        def __call__(self, x: Tensor, sigma: Tensor, **extra_args: Any) -> Tensor:
            return function(x, sigma, **extra_args)

    return Model()
