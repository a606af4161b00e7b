"""The ComfyUI nodes' sigmas: every grid, noise levels as times, budgets, options and bad input."""

# ruff: noqa: F811 (fixtures)

import math
from collections.abc import Callable
from types import ModuleType

import pytest
import torch

from scoresde.grids import GRIDS
from tests.integrations.comfy_models import (
    MODELS,
    SHAPE,
    call_of,
    custom,
    levels_of,  # noqa: F401
    listed,
    make,
    package,  # noqa: F401
    sample_scoresde,  # noqa: F401
)
from tests.integrations.comfy_stub import model_sampling as kinds
from tests.integrations.comfy_stub import nodes as stock
from tests.integrations.comfy_stub import samplers as comfy_samplers


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
