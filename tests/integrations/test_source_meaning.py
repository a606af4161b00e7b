"""What the configs of diffusers' schedulers mean but for time: noise, predictions, limits; and which are refused."""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from scoresde.predictions import convert
from tests.integrations.diffusers_cases import (
    CASES,
    FLOW,
    SD,
    SVD,
    Options,
    class_of,
    close,
    grid_of,
    read,
    same_label,
    silence,
    with_our_table,
)

# Importing diffusers takes seconds.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.*:FutureWarning:diffusers.*")]


@pytest.fixture(scope="module", autouse=True)
def _quiet() -> Iterator[None]:
    with silence():
        yield


# -- noise ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", CASES)
def test_noise(name: str) -> None:
    """Noised data, and the noise that a run starts from, as diffusers has it: up to Euler's unscaled states."""
    g = torch.Generator().manual_seed(0)
    x0, noise = (torch.randn(2, 3, 4, 4, generator=g, dtype=torch.float64) for _ in range(2))
    for options in [o for o in CASES[name] if not o.get("use_dynamic_shifting")][:3]:
        source = read(name, options)
        if options.get("invert_sigmas") or (name == "SASolverScheduler" and str(options).count("use_")):
            continue  # SASolverScheduler adds the noise of the rounded label
        scheduler = class_of(name)(**options)
        with_our_table(scheduler, source)
        labels, _ = grid_of(scheduler, name, 9, None)
        times = source.times(9, rounding="grid")
        unscaled = source.begins == "sigma unless leading"
        add = getattr(scheduler, "scale_noise", None) or getattr(scheduler, "add_noise", None)
        if add is None or name == "ScoreSdeVeScheduler":
            continue
        for t, label in list(zip(times, labels, strict=False))[::4]:
            at = torch.tensor([label, label], dtype=scheduler.timesteps.dtype)
            if name == "FlowMatchHeunDiscreteScheduler":
                scheduler._step_index = None
                theirs = add(x0, at[:1], noise)
            else:
                theirs = add(x0, at, noise) if hasattr(scheduler, "scale_noise") else add(x0, noise, at)
            scale = source.sde.alpha(t) if unscaled else 1.0
            assert torch.allclose(source.sde.marginal(x0, t, noise), theirs.double() * scale, rtol=2e-5, atol=2e-5), (
                options
            )
        if hasattr(scheduler, "init_noise_sigma"):
            begin = source.sde.point(times[0])
            theirs = float(scheduler.init_noise_sigma) * (begin.alpha if unscaled else 1.0)
            assert close(source.noise_scale(begin), theirs, 1e-5), options


# -- what the network says -----------------------------------------------------------------------------------------
def x0_of(source: Any, t: float, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    at = source.sde.point(t)
    if source.precondition is not None:
        _, c_skip, c_out = source.precondition.coefficients(at.alpha, at.sigma)
        return c_skip * x + c_out * out
    on_x, on_out = convert(source.kind, "x0", at.alpha, at.sigma)
    return on_x * x + on_out * out


PREDICTIONS: list[tuple[str, Options]] = [
    *((n, {**SD, "prediction_type": p, "clip_sample": False}) for n, p in itertools.product(
        ("DDPMScheduler", "DDIMScheduler", "CogVideoXDDIMScheduler"), ("epsilon", "sample", "v_prediction"))),
    *((n, {**SD, "prediction_type": p}) for n, p in itertools.product(
        ("EulerDiscreteScheduler", "DPMSolverMultistepScheduler", "UniPCMultistepScheduler"),
        ("epsilon", "sample", "v_prediction"))),
    ("UnCLIPScheduler", {"prediction_type": "sample", "clip_sample": False}),
    ("EulerDiscreteScheduler", SVD),
    ("DPMSolverMultistepScheduler", {**FLOW, "flow_shift": 3.0}),
    ("UniPCMultistepScheduler", {**FLOW, "flow_shift": 3.0}),
    *((n, {"prediction_type": p}) for n, p in itertools.product(
        ("EDMEulerScheduler", "EDMDPMSolverMultistepScheduler", "CosineDPMSolverMultistepScheduler"),
        ("epsilon", "v_prediction"))),
    ("CMStochasticIterativeScheduler", {"clip_denoised": False}),
    ("FlowMatchEulerDiscreteScheduler", {"invert_sigmas": True}),
    ("FlowMatchEulerDiscreteScheduler", {"shift": 2.0}),
    ("MiniMaxH3Scheduler", {}),
    ("IPNDMScheduler", {}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options"), PREDICTIONS)
def test_predictions(name: str, options: Options) -> None:
    """A network's output means the same x0."""
    g = torch.Generator().manual_seed(1)
    x, out = (torch.randn(2, 3, 4, 4, generator=g, dtype=torch.float64) for _ in range(2))
    source, scheduler = read(name, options), class_of(name)(**options)
    with_our_table(scheduler, source)
    labels, _ = grid_of(scheduler, name, 6, None)
    t = source.times(6, rounding="grid")[2]
    label = scheduler.timesteps[2]
    scheduler._step_index = 2
    their_x = x / source.sde.alpha(t) if name == "EulerDiscreteScheduler" else x
    if hasattr(scheduler, "precondition_outputs"):
        theirs = scheduler.precondition_outputs(x, out, torch.tensor(source.sigma(t)))
        assert torch.allclose(
            scheduler.precondition_inputs(x, scheduler.sigmas[2]),
            x * source.precondition.coefficients(1.0, source.sigma(t))[0],
            rtol=1e-5,
        )
    elif hasattr(scheduler, "get_scalings_for_boundary_condition"):
        c_skip, c_out = scheduler.get_scalings_for_boundary_condition(torch.tensor(source.sigma(t)))
        theirs = c_skip * x + c_out * out
        scaled = scheduler.scale_model_input(x, label)
        assert torch.allclose(scaled, x * source.precondition.coefficients(1.0, source.sigma(t))[0], rtol=1e-5)
    elif hasattr(scheduler, "convert_model_output"):
        theirs = scheduler.convert_model_output(out, sample=x)
    elif name in ("FlowMatchEulerDiscreteScheduler", "MiniMaxH3Scheduler"):
        # One step straight to the data.
        scheduler.sigmas[3] = 1.0 if options.get("invert_sigmas") else 0.0
        theirs = scheduler.step(out, label, x).prev_sample
    elif name == "IPNDMScheduler":
        scheduler.alphas[3], scheduler.betas[3] = 1.0, 0.0
        theirs = scheduler.step(out, label, x).prev_sample
    else:
        theirs = scheduler.step(out, int(labels[2]) if label.dtype == torch.int64 else label, their_x)
        theirs = theirs.pred_original_sample
    ours = x0_of(source, t, x, out)
    assert torch.allclose(ours, theirs.double(), rtol=2e-5, atol=2e-5), (ours - theirs).abs().max()


# -- configs as they are stored ------------------------------------------------------------------------------------
STOCK: dict[str, tuple[Options, str]] = {  # with keys of other classes; and the kind of prediction
    "Stable Diffusion 1.5": (
        {**SD, "_class_name": "PNDMScheduler", "_diffusers_version": "0.6.0", "num_train_timesteps": 1000,
         "set_alpha_to_one": False, "skip_prk_steps": True, "steps_offset": 1, "trained_betas": None,
         "clip_sample": False},
        "epsilon",
    ),
    "Stable Diffusion XL": (
        {**SD, "_class_name": "EulerDiscreteScheduler", "clip_sample": False, "interpolation_type": "linear",
         "prediction_type": "epsilon", "sample_max_value": 1.0, "set_alpha_to_one": False, "skip_prk_steps": True,
         "steps_offset": 1, "timestep_spacing": "leading", "trained_betas": None, "use_karras_sigmas": False},
        "epsilon",
    ),
    "Stable Video Diffusion": (
        {**SVD, "_class_name": "EulerDiscreteScheduler", "interpolation_type": "linear", "set_alpha_to_one": False},
        "v",
    ),
    "DeepFloyd IF": (
        {"_class_name": "DDPMScheduler", "beta_schedule": "squaredcos_cap_v2", "clip_sample": True,
         "dynamic_thresholding_ratio": 0.95, "sample_max_value": 1.5, "thresholding": True,
         "variance_type": "learned_range"},
        "epsilon",
    ),
    "Stable Diffusion 3": (
        {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0},
        "flow",
    ),
    "Wan": (
        {"_class_name": "UniPCMultistepScheduler", "flow_shift": 3.0, "use_flow_sigmas": True,
         "prediction_type": "flow_prediction", "beta_schedule": "linear", "solver_order": 2},
        "flow",
    ),
    "Stable Audio": (
        {"_class_name": "CosineDPMSolverMultistepScheduler", "sigma_max": 500, "sigma_min": 0.3,
         "prediction_type": "v_prediction", "sigma_data": 1.0, "sigma_schedule": "exponential"},
        "x0",
    ),
}  # fmt: skip


@pytest.mark.parametrize("model", STOCK)
def test_stored_configs(model: str) -> None:
    from scoresde.integrations.diffusers.source import read

    config, kind = STOCK[model]
    name = config["_class_name"]
    source, scheduler = read(config), class_of(name).from_config(config)
    assert (source.scheduler, source.kind) == (name, kind)
    with_our_table(scheduler, source)
    labels, _ = grid_of(scheduler, name, 5, None)
    for t, label in zip(source.times(5, rounding="grid"), labels, strict=False):
        assert same_label(source, name, t, label)
    assert source.learned_variance is (model == "DeepFloyd IF")
    assert (source.limit is not None) is (model == "DeepFloyd IF")


# -- limits --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", CASES)
def test_limits(name: str) -> None:
    from scoresde.integrations.diffusers.outputs import LimitX0

    parameters = inspect.signature(class_of(name)).parameters
    clips = "clip_sample" in parameters and name not in (
        "CogVideoXDDIMScheduler",
        "CogVideoXDPMScheduler",
        "TCDScheduler",
    )
    expected = LimitX0(1.0) if clips and parameters["clip_sample"].default else None
    assert read(name, {}).limit == (LimitX0() if name == "CMStochasticIterativeScheduler" else expected)
    if clips:
        assert read(name, {"clip_sample": True, "clip_sample_range": 3.0}).limit == LimitX0(3.0)
        assert read(name, {"clip_sample": False}).limit is None
    if "thresholding" in parameters and name != "TCDScheduler":
        options: Options = {"thresholding": True, "sample_max_value": 2.0, "dynamic_thresholding_ratio": 0.8}
        x = 4 * torch.randn(3, 3, 5, 5, generator=torch.Generator().manual_seed(0))
        limit = read(name, options).limit
        assert torch.allclose(limit(x), class_of(name)(**options)._threshold_sample(x), rtol=1e-6)
        assert limit(x.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("name", "value", "learned"),
    [
        ("DDPMScheduler", "learned_range", True),
        ("DDPMScheduler", "fixed_small", False),
        ("DPMSolverMultistepScheduler", "learned", True),
        ("DPMSolverMultistepScheduler", None, False),
        ("UnCLIPScheduler", "learned_range", True),
        ("DDIMScheduler", "learned_range", False),  # not one of its options
    ],
)
def test_learned_variance(name: str, value: str | None, learned: bool) -> None:
    assert read(name, {"variance_type": value}).learned_variance is learned


# -- errors --------------------------------------------------------------------------------------------------------
def test_unsupported_classes_say_what_to_pass_instead() -> None:
    from scoresde.integrations.diffusers.classes import UNSUPPORTED

    for name in UNSUPPORTED:
        with pytest.raises(ValueError, match=rf"{name} cannot be carried over: .*(keep diffusers|pass)"):
            read(name, {})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "must have the _class_name of a diffusers scheduler, got None"),
        ({"_class_name": "DDIMSchedule"}, "nearest: DDIMScheduler"),
        ({"_class_name": "FlaxDDIMScheduler"}, "DDIMScheduler"),
        ({"_class_name": "DDIMScheduler", "beta_schedule": "liner"}, "config of DDIMScheduler: beta_schedule='liner'"),
        ({"_class_name": "DDIMScheduler", "timestep_spacing": "late"}, "timestep_spacing='late'"),
        ({"_class_name": "DDIMScheduler", "prediction_type": "noise"}, "prediction_type='noise'"),
        ({"_class_name": "DDIMScheduler", "trained_betas": [0.1, 0.2]}, "trained_betas has 2 entries"),
        ({"_class_name": "UniPCMultistepScheduler", "prediction_type": "flow_prediction"}, "needs use_flow_sigmas"),
        ({"_class_name": "EulerDiscreteScheduler", "use_karras_sigmas": True, "use_beta_sigmas": True}, "only one of"),
        (
            {"_class_name": "EulerDiscreteScheduler", "use_karras_sigmas": True, "sigma_min": 2.0, "sigma_max": 1.0},
            "sigma_min must be positive and below sigma_max",
        ),
        ({"_class_name": "EulerDiscreteScheduler", "final_sigmas_type": "none"}, "final_sigmas_type='none'"),
        ({"_class_name": "EDMEulerScheduler", "prediction_type": "sample"}, "prediction_type='sample'"),
        ({"_class_name": "DDIMScheduler", "thresholding": True, "sample_max_value": 0.5}, "sample_max_value"),
        ({"_class_name": "DDIMScheduler", "clip_sample_range": -1.0}, "clip_sample_range"),
        ({"_class_name": "FlowMatchLCMScheduler", "scale_factors": [0.5]}, "scale_factors"),
        ({"_class_name": "IPNDMScheduler", "trained_betas": [0.1]}, "trained_betas of IPNDMScheduler"),
        ({"_class_name": "LCMScheduler", "original_inference_steps": 2000}, "original_inference_steps"),
    ],
)
def test_bad_configs(config: Options, message: str) -> None:
    from scoresde.integrations.diffusers.source import read

    with pytest.raises(ValueError, match=message):
        read(config)


def test_not_a_config() -> None:
    from scoresde.integrations.diffusers.source import read

    with pytest.raises(TypeError, match=r"pass its \.config"):
        read(class_of("DDIMScheduler")())
    with pytest.raises(TypeError, match="got str"):
        read("DDIMScheduler")  # type: ignore[arg-type]


def test_too_many_steps() -> None:
    for name, options, steps in (
        ("DDIMScheduler", {"steps_offset": 1}, 1000),
        ("DDIMScheduler", {"timestep_spacing": "linspace"}, 1500),
        ("DPMSolverMultistepScheduler", {"timestep_spacing": "leading"}, 1000),
        ("LCMScheduler", {}, 51),
        ("CMStochasticIterativeScheduler", {}, 41),
        ("DDPMWuerstchenScheduler", {}, 400),
    ):
        with pytest.raises(ValueError, match=f"num_inference_steps={steps}"):
            read(name, options).times(steps, rounding="grid")
    with pytest.raises(ValueError, match="num_inference_steps=2500"):
        read("DDPMScheduler", {"timestep_spacing": "trailing"}).times(2500)
    source = read("DDIMScheduler", {})
    with pytest.raises(ValueError, match="num_inference_steps"):
        source.times(0)
    with pytest.raises(TypeError, match="num_inference_steps"):
        source.times(2.5)
    with pytest.raises(ValueError, match="rounding='integer'"):
        source.times(5, rounding="integer")


def test_bad_given_grids() -> None:
    source, flow = read("EulerDiscreteScheduler", SD), read("FlowMatchEulerDiscreteScheduler", {})
    with pytest.raises(ValueError, match="timesteps must be within 0 and 999"):
        source.times_of_labels([1000.0, 5.0])
    with pytest.raises(ValueError, match=r"timesteps: .*must decrease strictly"):
        source.times_of_labels([5.0, 10.0])
    with pytest.raises(ValueError, match=r"sigmas must be at most 14\.6"):
        source.times_of_sigmas([80.0, 1.0])
    for empty in (source, flow, read("FlowMatchEulerDiscreteScheduler", {"shift_terminal": 0.1})):
        with pytest.raises(ValueError, match="at least one noise level"):
            empty.times_of_sigmas([0.0])
    with pytest.raises(ValueError, match=r"within \(0, 1\]"):
        flow.times_of_sigmas([1.5, 0.5])


# -- the process of angles -----------------------------------------------------------------------------------------
def test_angle() -> None:
    from scoresde.integrations.diffusers.processes import Angle

    sde = Angle.between(0.002, 700.0)
    assert (sde.rho(sde.eps), sde.rho(sde.T)) == pytest.approx((0.002, 700.0))
    t = torch.linspace(0.01, 0.99, 20, dtype=torch.float64)
    assert torch.allclose(sde.alpha(t) ** 2 + sde.sigma(t) ** 2, torch.ones_like(t), rtol=1e-14)
    assert torch.allclose(sde.t_at_lam(sde.lam(t)), t, rtol=1e-12)
    assert sde.sigma(1e-9) == pytest.approx(0.5e-9 * math.pi)
    whole = Angle()
    assert (whole.alpha(1.0), whole.sigma(1.0), whole.prior_std()) == (0.0, 1.0, 1.0)
    h = 1e-6
    drift = (math.log(sde.alpha(0.4 + h)) - math.log(sde.alpha(0.4 - h))) / (2 * h)
    assert sde.drift(0.4) == pytest.approx(drift, rel=1e-6)
    lam = (sde.lam(0.4 + h) - sde.lam(0.4 - h)) / (2 * h)
    assert sde.diffusion_squared(0.4) == pytest.approx(-2 * sde.sigma(0.4) ** 2 * lam, rel=1e-6)
    with pytest.raises(ValueError, match="T must be at most 1"):
        Angle(T=1.5)
