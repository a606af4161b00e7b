"""The ComfyUI nodes on a stub of ComfyUI: loading, and every solver in the stock nodes, for every kind of model."""

# ruff: noqa: F811 (fixtures)

import copy
import math
import shutil
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

import scoresde as ss
from scoresde.catalogue import TABLE
from tests.integrations import comfy_stub
from tests.integrations.comfy_models import (
    ADAPTIVE,
    MODELS,
    PACKAGE,
    PROMPT,
    SHAPE,
    TARGET,
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
from tests.integrations.comfy_stub import model_sampling as kinds
from tests.integrations.comfy_stub import nodes as stock
from tests.integrations.comfy_stub import samplers as comfy_samplers
from tests.integrations.comfy_stub import sampling as comfy_sampling


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
