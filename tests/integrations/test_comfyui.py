"""The ComfyUI nodes, on a stub of ComfyUI: every solver and grid through the stock nodes, for every kind of model."""

import copy
import gc
import math
import shutil
import sys
import threading
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import scoresde as ss
from scoresde.catalogue import TABLE
from scoresde.denoiser import BaseDenoiser, Evaluation
from scoresde.grids import GRIDS
from scoresde.targets import Gaussian
from tests.integrations import comfy_stub
from tests.integrations.comfy_stub import model_sampling as kinds
from tests.integrations.comfy_stub import nodes as stock
from tests.integrations.comfy_stub import samplers as comfy_samplers
from tests.integrations.comfy_stub import sampling as comfy_sampling
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


# -- loading and the lists --------------------------------------------------------------------------------------------
def test_every_solver_and_grid_is_in_the_lists_of_the_stock_nodes(package: ModuleType) -> None:
    offered = stock.KSampler.INPUT_TYPES()["required"]
    samplers, schedulers = offered["sampler_name"][0], offered["scheduler"][0]
    assert {listed(name) for name in ss.solvers()} <= set(samplers)
    assert {listed(name) for name in ss.grids()} <= set(schedulers)
    assert samplers[:4] == ["euler", "euler_cfg_pp", "dpmpp_2m", "ddim"], "the stock names stay where they are"
    for names in (samplers, schedulers):
        assert len(set(names)) == len(names)


def test_loading_twice_changes_nothing(package: ModuleType) -> None:
    before = list(comfy_samplers.SAMPLER_NAMES), list(comfy_samplers.SCHEDULER_NAMES)
    sys.modules[f"{package.__name__}.registration"].register()
    assert before == (comfy_samplers.SAMPLER_NAMES, comfy_samplers.SCHEDULER_NAMES)


@pytest.mark.slow
def test_the_folder_is_all_that_is_copied(package: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied = tmp_path / "custom_nodes" / "scoresde nodes-1.0"
    shutil.copytree(PACKAGE, copied, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setenv("SCORESDE_COMFYUI_LISTS", "0")
    monkeypatch.delattr(comfy_sampling, "sample_scoresde_dpmpp_2m")
    loaded = stock.load_custom_node(str(copied))
    assert set(loaded.NODE_CLASS_MAPPINGS) == set(loaded.NODE_DISPLAY_NAME_MAPPINGS)
    assert not hasattr(comfy_sampling, "sample_scoresde_dpmpp_2m"), "the variable leaves the lists alone"
    for node in loaded.NODE_CLASS_MAPPINGS.values():
        given = node.INPUT_TYPES()
        assert set(given) <= {"required", "optional"}
        assert callable(getattr(node(), node.FUNCTION))
        assert len(node.RETURN_TYPES) == len(getattr(node, "RETURN_NAMES", node.RETURN_TYPES))


def test_the_packages_files_agree() -> None:
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    assert project["dependencies"] == (PACKAGE / "requirements.txt").read_text().split()
    (needed,) = project["dependencies"]
    assert needed.replace(">=", " ") in (PACKAGE / "__init__.py").read_text()
    assert project["version"].startswith(needed.partition(">=")[2])


def test_without_scoresde_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    comfy_stub.install(monkeypatch)
    monkeypatch.setitem(sys.modules, "scoresde.integrations.k_diffusion", None)
    with pytest.raises(ImportError, match="pip install --upgrade scoresde"):
        stock.load_custom_node(str(PACKAGE))


def test_an_old_comfyui_is_refused(package: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(comfy_samplers, "SCHEDULER_HANDLERS")
    with pytest.raises(ImportError, match="SCHEDULER_HANDLERS"):
        sys.modules[f"{package.__name__}.registration"].register()


# -- solvers ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["eps", "flow"])
@pytest.mark.parametrize("solver", ["dpmpp-2m", "heun", "ddpm", "ddim-cfgpp"])
def test_the_stock_node_is_scoresde_sample(levels_of: Callable, kind: str, solver: str) -> None:
    check_solver(levels_of, kind, solver)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*norms of samples:UserWarning")
@pytest.mark.parametrize("kind", ["eps", "v", "edm", "flow"])
@pytest.mark.parametrize("solver", list(TABLE))
def test_every_solver_is_scoresde_sample(levels_of: Callable, kind: str, solver: str) -> None:
    check_solver(levels_of, kind, solver)


def check_solver(levels_of: Callable, kind: str, solver: str) -> None:
    model, progress = make(kind), []
    sigmas = comfy_samplers.calculate_sigmas(model.get_model_object("model_sampling"), "scoresde_karras", 4)
    got = ksample(model, listed(solver), steps=4, progress=progress)
    assert torch.equal(got, reference(model, levels_of, solver, sigmas))
    assert all(total == 4 for _, total in progress)
    told = [step for step, _ in progress]
    # euler-afs does not evaluate in its first step, nor does a Langevin step at pure noise.
    skipping = {1} if solver in ("euler-afs", "langevin") else set()
    if solver not in ADAPTIVE or solver in ("pc-langevin", "langevin"):
        assert told in ([1, 2, 3, 4], sorted({1, 2, 3, 4} - skipping))
    else:
        assert told == sorted(set(told) & {1, 2, 3, 4})


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(MODELS))
@pytest.mark.parametrize("noise", ["independent", "path"])
def test_the_sampler_node_is_scoresde_sample(package: ModuleType, levels_of: Callable, kind: str, noise: str) -> None:
    model, nodes = make(kind), package.NODE_CLASS_MAPPINGS
    (sampler,) = nodes["ScoresdeSampler"]().get_sampler("sde-dpmpp-2m", noise, False, 0.7, '{"solver_type": "taylor"}')
    (sigmas,) = nodes["ScoresdeScheduler"]().get_sigmas(model, 6, "log-snr", 1.0)
    solver = ss.get_solver("sde-dpmpp-2m", eta=0.7, solver_type="taylor")
    want = reference(model, levels_of, solver, sigmas, noise=noise, most_gain=math.inf)
    assert torch.equal(custom(model, sampler, sigmas), want)


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(MODELS))
@pytest.mark.parametrize("ours", ["euler", "ddim-cfgpp", "dpmpp-2m"])
def test_against_the_stock_samplers(package: ModuleType, kind: str, ours: str) -> None:
    theirs = {"euler": "euler", "ddim-cfgpp": "euler_cfg_pp", "dpmpp-2m": "dpmpp_2m"}[ours]
    if ours == "dpmpp-2m" and MODELS[kind][1] is kinds.CONST:
        pytest.skip("ComfyUI's own takes the flow for x = x0 + sigma noise")
    if ours == "ddim-cfgpp" and kind == "flow-scaled":
        pytest.skip("ComfyUI's own leaves the scale of the noise out")
    model = make(kind)
    (sampler,) = package.NODE_CLASS_MAPPINGS["ScoresdeSampler"]().get_sampler(ours, "independent", False)
    sigmas = comfy_samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", 6)
    got, want = custom(model, sampler, sigmas), custom(model, comfy_samplers.sampler_object(theirs), sigmas)
    # Their mixes are of float32 sigmas.
    torch.testing.assert_close(got, want, rtol=1e-5, atol=3e-7 * float(sigmas[0]) + 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["dpmpp-3m", "deis-tab3", "unipc-3", "lms-4"])
@pytest.mark.parametrize("kind", ["eps", "v"])
def test_against_the_models_own_process(package: ModuleType, kind: str, solver: str) -> None:
    """Without ComfyUI: the network on the variance-preserving process that it was trained on."""
    model = make(kind)
    sampling, network = model.get_model_object("model_sampling"), model.model.diffusion_model
    sde = ss.DiscreteVP((1 / (1 + sampling.sigmas.double() ** 2)).tolist())
    sigmas = comfy_samplers.calculate_sigmas(sampling, "scoresde_uniform", 10)

    def net(x: Tensor, t: Tensor) -> Tensor:
        return network(x, t.round().long(), PROMPT)

    prediction = {"eps": "epsilon", "v": "v"}[kind]
    denoiser = ss.Denoiser(net, sde, prediction=prediction, time="index")
    noise = torch.randn(2, *SHAPE, dtype=torch.float64, generator=torch.manual_seed(3))
    want = ss.sample(denoiser, (2, *SHAPE), solver=solver, steps=10, grid="uniform", x_T=noise, most_gain=None)
    got = ksample(model, listed(solver), "scoresde_uniform", 10, cfg=1.0)
    assert len(sigmas) == 11
    # deis-tab's integrals run over the table, between whose entries the two interpolate differently.
    torch.testing.assert_close(got, want, rtol=0, atol=1e-3 if solver.startswith("deis") else 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["edm", "flow", "flow-scaled", "flux"])
def test_many_steps_reach_the_exact_solution(package: ModuleType, levels_of: Callable, kind: str) -> None:
    model = make(kind)
    levels = levels_of(model.get_model_object("model_sampling"))
    got = ksample(model, "scoresde_dpmpp_3m", "scoresde_log_snr", 80, cfg=1.0)
    noise = torch.randn(2, *SHAPE, dtype=torch.float64, generator=torch.manual_seed(3))
    begin = levels.sde.point(levels.sde.T)
    x_T = noise * (math.hypot(1.0, begin.sigma) if begin.alpha else begin.sigma)
    want = TARGET.flow(x_T - begin.alpha * PROMPT, begin, levels.sde.point(0.0)) + PROMPT
    torch.testing.assert_close(got, want, rtol=0, atol=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["edm", "flow", "flow-scaled"])
@pytest.mark.parametrize("solver", ["sde_dpmpp_2m", "dpmpp_sde", "er_sde_2", "sa_solver"])
def test_stochastic_solvers_keep_the_distribution(package: ModuleType, kind: str, solver: str) -> None:
    got = ksample(make(kind), f"scoresde_{solver}", "scoresde_log_snr", 60, cfg=1.0, latent_image=empty(4096))
    std = TARGET.eigenvalues.sqrt().reshape(SHAPE)
    assert (got.std(0) / std - 1).abs().max() < 0.06
    assert ((got.mean(0) - TARGET.mean - PROMPT) / std).abs().max() < 0.08


@pytest.mark.slow
def test_without_a_negative_prompt_cfgpp_is_its_inner_solver(package: ModuleType) -> None:
    model = make("flow")
    (ours, plain) = (ksample(model, f"scoresde_{s}", cfg=1.0, negative=None) for s in ("ddim_cfgpp", "ddim"))
    torch.testing.assert_close(ours, plain)
    assert not torch.equal(plain, ksample(model, "scoresde_ddim_cfgpp", cfg=0.6))


@pytest.mark.slow
def test_the_users_options_are_left_as_they_were(package: ModuleType, sample_scoresde: Callable) -> None:
    inner = call_of(lambda x, sigma, **_: 0.5 * x, make("eps").model.model_sampling)
    extra_args = {"model_options": {"transformer_options": {}}, "seed": 1, "denoise_mask": None}
    before = copy.deepcopy(extra_args)
    sample_scoresde(inner, torch.ones(1, *SHAPE), torch.tensor([2.0, 1.0, 0.0]), extra_args, solver="ddim-cfgpp")
    assert extra_args == before

    model, seen = make("eps"), []
    model.model_options["sampler_post_cfg_function"] = [lambda args: seen.append(1) or args["denoised"]]
    at_1 = ksample(model, "scoresde_ddim_cfgpp", cfg=1.0)
    assert len(seen) == 5, "other functions are called too"
    assert model.model.calls == 10, "ComfyUI leaves the unconditional prediction out at 1 otherwise"
    assert not torch.equal(at_1, ksample(make("eps"), "scoresde_ddim", cfg=1.0))
    assert len(model.model_options["sampler_post_cfg_function"]) == 1
    assert "disable_cfg1_optimization" not in model.model_options


# -- what goes round a sampler ----------------------------------------------------------------------------------------
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


# -- sigmas -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["eps", "flow"])
@pytest.mark.parametrize("grid", ["karras", "log-snr", "uniform", "sgm-uniform"])
def test_a_grid_runs_from_the_largest_sigma_to_zero(package: ModuleType, kind: str, grid: str) -> None:
    check_grid(kind, grid, 10)


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(MODELS))
@pytest.mark.parametrize("grid", list(GRIDS))
@pytest.mark.parametrize("steps", [1, 5, 150])
def test_every_grid_runs_from_the_largest_sigma_to_zero(package: ModuleType, kind: str, grid: str, steps: int) -> None:
    check_grid(kind, grid, steps)


def check_grid(kind: str, grid: str, steps: int) -> None:
    model = make(kind)
    (sigmas,) = stock.BasicScheduler().get_sigmas(model, listed(grid), steps, 1.0)
    assert sigmas.dtype == torch.float32
    # Near pure noise of a flow some of many are one in float32.
    assert len(sigmas) == steps + 1 or (grid, kind, steps) == ("beta-diffusers", "flux", 150)
    assert (sigmas[1:] < sigmas[:-1]).all()
    assert sigmas[-1] == 0.0
    largest = model.get_model_object("model_sampling").sigma_max
    if grid == "ddim-leading" and steps > 1:
        assert sigmas[0] < largest  # its first level is left out
    elif not grid.startswith(("ays", "gits", "oss", "edm", "vp")):  # these have noise levels of their own
        assert float(sigmas[0]) == pytest.approx(float(largest), rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["eps", "v", "edm", "flow", "flux"])
@pytest.mark.parametrize(
    ("ours", "theirs", "atol"),
    [("uniform", "simple", 1e-6), ("karras", "karras", 1e-5), ("log-snr", "exponential", 1e-5)],
)
def test_grids_are_comfyuis(package: ModuleType, kind: str, ours: str, theirs: str, atol: float) -> None:
    if MODELS[kind][1] is kinds.CONST and ours != "uniform":
        pytest.skip("ComfyUI spaces a flow's sigma by the rule for x = x0 + sigma noise")
    sampling = make(kind).get_model_object("model_sampling")
    got, want = (comfy_samplers.calculate_sigmas(sampling, name, 10) for name in (listed(ours), theirs))
    torch.testing.assert_close(got, want, rtol=1e-5, atol=atol)


@pytest.mark.slow
@pytest.mark.parametrize(("ours", "theirs"), [("normal", "normal"), ("sgm-uniform", "sgm_uniform")])
def test_grids_over_a_tables_indices_are_comfyuis(package: ModuleType, ours: str, theirs: str) -> None:
    sampling = make("eps").get_model_object("model_sampling")
    for steps in (5, 12, 30):
        got, want = (comfy_samplers.calculate_sigmas(sampling, name, steps) for name in (listed(ours), theirs))
        torch.testing.assert_close(got, want, rtol=2e-6, atol=0)


@pytest.mark.parametrize("shift", [1.0, 3.0, 7.5])
def test_the_shift_of_a_flow_is_read_off_its_sigmas(levels_of: Callable, shift: float) -> None:
    flow = type("ModelSampling", (kinds.ModelSamplingDiscreteFlow, kinds.CONST), {})(shift=shift)
    assert levels_of(flow).sde.shift == pytest.approx(shift, rel=1e-6)
    flux = type("ModelSampling", (kinds.ModelSamplingFlux, kinds.CONST), {})(shift=math.log(shift))
    assert levels_of(flux).sde.shift == pytest.approx(shift, rel=1e-6)


@pytest.mark.parametrize("kind", list(MODELS))
def test_times_and_sigmas_are_inverse(levels_of: Callable, kind: str) -> None:
    sampling = make(kind).get_model_object("model_sampling")
    levels = levels_of(sampling)
    sigmas = torch.cat([torch.zeros(1), 0.3 * sampling.sigmas[:1], sampling.sigmas[::7], sampling.sigmas[-1:]])
    times = levels.times(sigmas.tolist())
    assert torch.equal(levels.sigmas(times), sigmas), "to the last bit of float32"
    assert times[0] == 0.0
    assert times[-1] == levels.sde.T == 1.0
    # The process is consistent: g^2 / alpha^2 is the growth of (sigma / alpha)^2.
    t = torch.tensor([0.0004, 0.31415, 0.71234], dtype=torch.float64)
    h = 1e-7
    growth = (levels.sde.rho(t + h) ** 2 - levels.sde.rho(t - h) ** 2) / (2 * h)
    torch.testing.assert_close(growth, levels.sde.diffusion_squared(t) / levels.sde.alpha(t) ** 2, rtol=1e-4, atol=0)
    torch.testing.assert_close(levels.sde.lam(t), levels.sde.alpha(t).log() - levels.sde.sigma(t).log())
    torch.testing.assert_close(levels.sde.t_at_lam(levels.sde.lam(t)), t)


@pytest.mark.slow
def test_noise_beyond_the_table(package: ModuleType, levels_of: Callable) -> None:
    """SetFirstSigma, or a node's own idea of the largest sigma."""
    model = make("eps")
    (sampler,) = package.NODE_CLASS_MAPPINGS["ScoresdeSampler"]().get_sampler("dpmpp-2m", "independent", True)
    for first in (14.7, 136.0):
        sigmas = torch.tensor([first, 9.0, 3.0, 1.0, 0.0])
        levels = levels_of(model.get_model_object("model_sampling"), sigmas)
        assert torch.equal(levels.sigmas(levels.times(sigmas.tolist())), sigmas)
        assert torch.isfinite(custom(model, sampler, sigmas)).all()


@pytest.mark.parametrize(
    ("kind", "sigmas", "message"),
    [
        ("eps", [1.0, 2.0, 0.0], r"must fall: sigmas\[1\]=2 after 1"),
        ("flow", [1.2, 0.5, 0.0], r"at most 1.0, got sigmas\[0\]=1.2"),
        ("eps", [1.0, float("nan"), 0.0], "must be finite"),
    ],
)
def test_sigmas_that_cannot_be(sample_scoresde: Callable, kind: str, sigmas: list[float], message: str) -> None:
    inner = call_of(lambda x, sigma, **_: x, make(kind).model.model_sampling)
    with pytest.raises(ValueError, match=message):
        sample_scoresde(inner, torch.ones(1, *SHAPE), torch.tensor(sigmas), {}, None, True, solver="ddim")


def test_no_step_is_no_work(sample_scoresde: Callable) -> None:
    inner = call_of(lambda x, sigma, **_: pytest.fail("called"), make("flow").model.model_sampling)
    x = torch.ones(1, *SHAPE)
    for sigmas in ([1.0], [0.5, 0.5]):
        assert sample_scoresde(inner, x, torch.tensor(sigmas), {}, None, True, solver="ddim") is x


def test_a_path_of_an_adaptive_solver_is_refused(sample_scoresde: Callable) -> None:
    inner = call_of(lambda x, sigma, **_: x, make("flow").model.model_sampling)
    with pytest.raises(ValueError, match="follows no path"):
        sample_scoresde(inner, torch.ones(1, *SHAPE), torch.tensor([1.0, 0.0]), solver="rk45", noise="path")


# -- budgets and options ----------------------------------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.parametrize(
    ("solver", "calls", "steps"),
    [
        ("heun", 9, 5),
        ("dpmpp-2m", 9, 9),
        ("dpmpp-2s", 9, 5),
        ("dpm-solver-fast", 9, 4),
        ("dpm-solver-fast", 10, 5),
        ("dpm-solver-fast", 11, 5),
    ],
)
@pytest.mark.parametrize("denoise", [1.0, 0.6])
def test_a_budget(package: ModuleType, solver: str, calls: int, steps: int, denoise: float) -> None:
    model, nodes = make("edm"), package.NODE_CLASS_MAPPINGS
    (sampler,) = nodes["ScoresdeSampler"]().get_sampler(solver, "independent", False)
    out = nodes["ScoresdeBudget"]().get_sigmas(model, sampler, calls, "karras", denoise)
    filled, sigmas, made, planned = out
    assert (made, len(sigmas)) == (steps, steps + 1)
    assert planned == calls
    custom(model, filled, sigmas, cfg=1.0)
    assert model.model.calls == planned
    (again,) = nodes["ScoresdeScheduler"]().get_sigmas(model, steps, "karras", denoise)
    assert torch.equal(again, sigmas)


def test_a_budget_of_a_sampler_from_the_stock_list(package: ModuleType) -> None:
    (sampler,) = stock.KSamplerSelect().get_sampler("scoresde_heun")
    budget = package.NODE_CLASS_MAPPINGS["ScoresdeBudget"]()
    *_, steps, calls = budget.get_sigmas(make("flow"), sampler, 8, "karras", 1.0)
    assert 4 <= steps <= 8
    assert calls <= 8
    with pytest.raises(ValueError, match="must be one of scoresde"):
        budget.get_sigmas(make("flow"), stock.KSamplerSelect().get_sampler("euler")[0], 8, "karras", 1.0)


def test_bad_input_says_what_would_be_right(package: ModuleType) -> None:
    nodes = package.NODE_CLASS_MAPPINGS
    sampler, scheduler = nodes["ScoresdeSampler"]().get_sampler, nodes["ScoresdeScheduler"]().get_sigmas
    for options, message in (("{eta", "must be JSON"), ("[1]", "JSON object"), ('{"etta": 1}', "'etta' is not an opt")):
        with pytest.raises(ValueError, match=message):
            sampler("ddim", "independent", True, options=options)
    with pytest.raises(ValueError, match="'eta' is not an option"):
        sampler("heun", "independent", True, 0.5)
    with pytest.raises(ValueError, match="not an option of grid 'karras'"):
        scheduler(make("eps"), 5, "karras", 1.0, options='{"sigma": 3}')
    with pytest.raises(ValueError, match="denoise must be"):
        scheduler(make("eps"), 5, "karras", 1.5)
    budget = nodes["ScoresdeBudget"]().get_sigmas
    with pytest.raises(ValueError, match="too small for pc-ald"):
        budget(make("edm"), sampler("pc-ald", "independent", False)[0], 1, "karras", 1.0, options='{"rho": 7}')
    with pytest.raises(ValueError, match="fills no budget"):
        budget(make("edm"), sampler("rk45", "independent", False)[0], 8, "karras", 1.0)


def test_options_and_shift_reach_the_grid(package: ModuleType) -> None:
    get = package.NODE_CLASS_MAPPINGS["ScoresdeScheduler"]().get_sigmas
    model = make("flow")
    (plain,) = get(model, 6, "karras", 1.0)
    assert not torch.equal(plain, get(model, 6, "karras", 1.0, options='{"rho": 3}')[0])
    (shifted,) = get(model, 6, "uniform", 1.0, shift=2.0)
    sigma = get(model, 6, "uniform", 1.0)[0]
    torch.testing.assert_close(shifted, 2 * sigma / (1 + sigma))
