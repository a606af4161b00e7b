"""What a diffusers config means, against the schedulers of diffusers themselves."""

from __future__ import annotations

import importlib
import inspect
import itertools
import json
import math
import sys
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

import scoresde as ss
from scoresde.predictions import convert

pytestmark = [
    pytest.mark.slow,  # importing diffusers takes seconds
    pytest.mark.filterwarnings("ignore:.*:FutureWarning:diffusers.*"),
]

Options = dict[str, Any]
SD: Options = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SVD: Options = {
    **SD,
    **{"prediction_type": "v_prediction", "timestep_type": "continuous", "use_karras_sigmas": True},
    **{"sigma_min": 0.002, "sigma_max": 700.0, "timestep_spacing": "leading", "steps_offset": 1},
}
FLOW: Options = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
TWO_STAGES = (
    "HeunDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "DPMSolverSDEScheduler",
    "FlowMatchHeunDiscreteScheduler",
)
IN_FILES = {  # classes that diffusers hides where torchsde is missing, or that it does not export
    "DPMSolverSDEScheduler": "scheduling_dpmsolver_sde",
    "CosineDPMSolverMultistepScheduler": "scheduling_cosine_dpmsolver_multistep",
    "ScoreSdeVpScheduler": "deprecated.scheduling_sde_vp",
}


@pytest.fixture(scope="module", autouse=True)
def _quiet() -> Iterator[None]:
    import diffusers

    level = diffusers.logging.get_verbosity()
    diffusers.logging.set_verbosity_error()
    yield
    diffusers.logging.set_verbosity(level)


def class_of(name: str) -> Any:
    import diffusers

    if name not in IN_FILES:
        return getattr(diffusers, name)
    if importlib.util.find_spec("torchsde") is None:  # its schedulers need it to draw noise, not for their grids
        sys.modules.setdefault("torchsde", types.ModuleType("torchsde"))
        try:
            return getattr(importlib.import_module(f"diffusers.schedulers.{IN_FILES[name]}"), name)
        finally:
            del sys.modules["torchsde"]
    return getattr(importlib.import_module(f"diffusers.schedulers.{IN_FILES[name]}"), name)


def read(name: str, options: Options) -> Any:
    from scoresde.integrations.diffusers.source import read

    return read({"_class_name": name, **options})


def names() -> list[str]:
    from scoresde.integrations.diffusers.classes import CLASSES

    return list(CLASSES)


# -- cases: of each class, options ------------------------------------------------------------------------------------
def spaced(*more: Options) -> list[Options]:
    """Every spacing, with other options one by one."""
    at = [{"timestep_spacing": s, "steps_offset": k} for s, k in (("linspace", 0), ("leading", 0), ("leading", 1))]
    at.append({"timestep_spacing": "trailing"})
    return [{**SD, **a, **b} for a, b in itertools.product(at, ({}, *more))]


def short(*more: Options) -> list[Options]:
    return [{**options, "num_train_timesteps": 250} for options in spaced(*more)]


ZERO_SNR: Options = {"rescale_betas_zero_snr": True}
COSINE: Options = {"beta_schedule": "squaredcos_cap_v2"}
CONVERTED: list[Options] = [{"use_karras_sigmas": True}, {"use_exponential_sigmas": True}, {"use_beta_sigmas": True}]
SIGMA_MIN: Options = {"final_sigmas_type": "sigma_min"}
CLIPPED: Options = {**COSINE, "lambda_min_clipped": -5.1}
FLOWS: list[Options] = [{**FLOW, "flow_shift": 1.0}, {**FLOW, "flow_shift": 3.0}]
MATCHED: list[Options] = [
    *({}, {"shift": 3.0}, {"shift": 2.0, "shift_terminal": 0.1}),
    *({"invert_sigmas": True, "shift": 2.0}, {"use_dynamic_shifting": True, "shift": 3.0}),
    {"use_dynamic_shifting": True, "time_shift_type": "linear"},
    *({"use_karras_sigmas": True, "shift": 3.0}, {"use_exponential_sigmas": True}, {"use_beta_sigmas": True}),
]
CASES: dict[str, list[Options]] = {
    "DDPMScheduler": [*spaced(ZERO_SNR), *({"beta_schedule": b} for b in ("sigmoid", "laplace", "squaredcos_cap_v2"))],
    "DDPMParallelScheduler": spaced(),
    "DDIMScheduler": [
        *spaced(ZERO_SNR, {"set_alpha_to_one": False}),
        {"trained_betas": [0.01 + 0.0001 * i for i in range(200)], "num_train_timesteps": 200},
    ],
    "DDIMParallelScheduler": spaced(),
    "PNDMScheduler": [{**o, "skip_prk_steps": True} for o in spaced({"set_alpha_to_one": True})],
    "CogVideoXDDIMScheduler": spaced(ZERO_SNR, {"snr_shift_scale": 1.0}),
    "CogVideoXDPMScheduler": spaced(ZERO_SNR),
    "UnCLIPScheduler": [{}, {"num_train_timesteps": 500}],
    "EulerDiscreteScheduler": [
        *spaced(ZERO_SNR, SIGMA_MIN, *CONVERTED, {**COSINE, **CONVERTED[0]}),
        *(SVD, {**CONVERTED[0], "sigma_min": 0.5, "sigma_max": 300.0}),
        {**CONVERTED[1], "sigma_min": 0.002, "sigma_max": 30.0},
    ],
    "EulerAncestralDiscreteScheduler": spaced(ZERO_SNR),
    # Making one of these takes long with a long table.
    "HeunDiscreteScheduler": [*short(*CONVERTED), {"beta_schedule": "exp"}],
    "KDPM2DiscreteScheduler": short(*CONVERTED),
    "KDPM2AncestralDiscreteScheduler": short(CONVERTED[0]),
    "LMSDiscreteScheduler": short(*CONVERTED),
    "DPMSolverSDEScheduler": short(CONVERTED[0]),
    "DPMSolverMultistepScheduler": [
        *spaced(ZERO_SNR, SIGMA_MIN, *CONVERTED, {"use_lu_lambdas": True}, {**COSINE, **CONVERTED[0]}),
        *({**CLIPPED, "timestep_spacing": s} for s in ("linspace", "leading")),
        *FLOWS, {**FLOW, "use_dynamic_shifting": True}, {**FLOW, **SIGMA_MIN, "flow_shift": 3.0},
    ],
    "DPMSolverSinglestepScheduler": [
        *({**SD, **o} for o in ({}, SIGMA_MIN, *CONVERTED, {"lambda_min_clipped": -2.0})), *FLOWS,
    ],
    "UniPCMultistepScheduler": [
        *spaced(ZERO_SNR, SIGMA_MIN, *CONVERTED), *FLOWS, {**FLOW, "use_dynamic_shifting": True},
        {**FLOW, "use_dynamic_shifting": True, "time_shift_type": "linear"}, {**FLOW, "shift_terminal": 0.02},
        {**FLOW, **CONVERTED[0], "sigma_min": 0.01, "sigma_max": 200.0},
    ],
    "DEISMultistepScheduler": [*spaced(*CONVERTED), *FLOWS, {**FLOW, "use_dynamic_shifting": True}],
    "SASolverScheduler": [*spaced(*CONVERTED), *FLOWS],
    "LCMScheduler": [{}, {"original_inference_steps": 100, **ZERO_SNR}],
    "TCDScheduler": [{}, {"original_inference_steps": 100}],
    "FlowMatchEulerDiscreteScheduler": MATCHED,
    "FlowMatchHeunDiscreteScheduler": [{}, {"shift": 3.0}],
    "FlowMatchLCMScheduler": MATCHED,
    "LTXEulerAncestralRFScheduler": [{}],
    "MiniMaxH3Scheduler": [{}, {"shift": 2.0}],
    "EDMEulerScheduler": [{}, {"sigma_schedule": "exponential"}, {**SIGMA_MIN, "rho": 5.0}],
    "EDMDPMSolverMultistepScheduler": [{}, {"sigma_schedule": "exponential"}, {**SIGMA_MIN, "sigma_max": 10.0}],
    "CosineDPMSolverMultistepScheduler": [{}, {"sigma_schedule": "karras"}, SIGMA_MIN],
    "CMStochasticIterativeScheduler": [{"num_train_timesteps": 201}],
    "IPNDMScheduler": [{}],
    "DDPMWuerstchenScheduler": [{}, {"scaler": 1.2}, {"scaler": 0.5}],
    "ScoreSdeVeScheduler": [{}],
    "ScoreSdeVpScheduler": [{}],
}  # fmt: skip


def counts(i: int) -> list[int]:
    """Some of 2 to 50 steps; all of them, over the cases of a class."""
    return [2 + (7 * i + k) % 49 for k in (0, 14, 33)]


# -- diffusers' own -----------------------------------------------------------------------------------------------
def with_our_table(scheduler: Any, source: Any) -> None:
    """Its float32 table of alpha^2, after a look at it, replaced by ours in float64: so that the rest is compared
    closely."""
    table = getattr(source.schedule, "indices", None) or source.schedule.labels
    table = getattr(table, "table", None) or getattr(table, "sde", None)
    if isinstance(table, ss.DiscreteVP) and hasattr(scheduler, "alphas_cumprod"):
        ours = torch.tensor(table.alphas_cumprod, dtype=torch.float64)
        assert torch.allclose(scheduler.alphas_cumprod.double(), ours, rtol=2e-3, atol=2e-8)
        assert torch.allclose(scheduler.alphas_cumprod.double()[:-1], ours[:-1], rtol=1e-4, atol=2e-8)
        scheduler.alphas_cumprod = ours


def grid_of(scheduler: Any, name: str, steps: int, mu: float | None) -> tuple[list[float], list[float] | None]:
    """(timesteps, sigmas with the end) of a step each."""
    scheduler.set_timesteps(steps + (name == "MiniMaxH3Scheduler"), **({} if mu is None else {"mu": mu}))
    labels, sigmas = scheduler.timesteps.tolist(), getattr(scheduler, "sigmas", None)
    if name == "PNDMScheduler":
        labels = [float(t) for t in scheduler._timesteps[::-1]]  # before some are repeated
    if name == "DDPMWuerstchenScheduler":
        labels = labels[:-1]
    if name == "ScoreSdeVeScheduler":
        scheduler.set_sigmas(steps)
        labels = scheduler.sigmas.tolist()  # what its pipeline tells the network
        sigmas = torch.cat([scheduler.sigmas, torch.zeros(1)])
    if name in TWO_STAGES:
        labels = labels[::2]
    if sigmas is None:
        return labels, None
    values = sigmas.tolist()
    return labels, [key for key, _ in itertools.groupby(values)] if name in TWO_STAGES else values


def close(a: float, b: float, rtol: float = 2e-6, least: float = 1e-3) -> bool:
    return abs(a - b) <= rtol * max(abs(b), least)


def same_label(source: Any, name: str, t: float, theirs: float) -> bool:
    ours = source.timestep(t, rounding="grid")
    real = source.label(t)
    # A label that is cut down from 333.0 or 332.9999999 is 333 or 332.
    cut = source.schedule.told(0.9) == 0.0 and abs(real - round(real)) < 1e-3 and abs(ours - theirs) == 1.0
    return close(ours, theirs, least=0.1) or cut


@pytest.mark.parametrize("name", CASES)
def test_grid(name: str) -> None:
    """Labels and noise levels are diffusers' own."""
    for i, options in enumerate(CASES[name]):
        source, mu = read(name, options), 1.3 if options.get("use_dynamic_shifting") else None
        scheduler = class_of(name)(**options)
        with_our_table(scheduler, source)
        for steps in counts(i):
            what = (options, steps)
            times = source.times(steps, rounding="grid", mu=mu)
            labels, sigmas = grid_of(scheduler, name, steps, mu)
            assert len(labels) == steps == len(times) - 1, what
            wrong = [t for t, label in zip(times, labels, strict=False) if not same_label(source, name, t, label)]
            assert not wrong, (what, [source.timestep(t, rounding="grid") for t in times[:-1]], labels)
            if sigmas is None:
                continue
            ours = [source.sigma(t) for t in times]
            assert all(map(close, ours[:-1], sigmas[:-1])), (what, ours, sigmas)
            no_step = sigmas[-1] >= sigmas[-2] * (1 - 1e-6) and not options.get("invert_sigmas")
            to_data = no_step or name == "CMStochasticIterativeScheduler"
            assert close(ours[-1], 0.0 if to_data else sigmas[-1], 2e-4), (what, ours[-3:], sigmas[-3:])


def test_every_class_has_cases() -> None:
    assert list(CASES) == names()


def test_every_scheduler_of_diffusers_has_a_row() -> None:
    from diffusers import schedulers

    from scoresde.integrations.diffusers.classes import UNSUPPORTED

    exported = {n for row in schedulers._import_structure.values() for n in row if n.endswith("Scheduler")}
    assert not exported - set(names()) - set(UNSUPPORTED), "give each a row in CLASSES or UNSUPPORTED"


@pytest.mark.parametrize("name", CASES)
def test_missing_keys_have_the_defaults_of_the_class(name: str) -> None:
    cls = class_of(name)
    config = json.loads(cls().to_json_string()) if hasattr(cls, "to_json_string") else {}
    full, bare = read(name, {**config, "_class_name": name, "shape": "of another class"}), read(name, {})
    assert full.options == bare.options
    for key, parameter in inspect.signature(cls).parameters.items():
        assert bare.options.get(key, parameter.default) == parameter.default, key
    mu = 1.0 if full.options.get("use_dynamic_shifting") else None
    assert full.times(5, mu=mu) == bare.times(5, mu=mu)


# -- ends ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "options", "end"),
    [
        ("DDIMScheduler", {}, 0.0),
        ("DDIMScheduler", {"set_alpha_to_one": False, "steps_offset": 1}, 1.0),
        ("DDIMScheduler", {"set_alpha_to_one": False}, 0.0),  # its last step would go from entry 0 to entry 0
        ("PNDMScheduler", {"steps_offset": 1}, 1.0),
        ("PNDMScheduler", {"steps_offset": 1, "set_alpha_to_one": True}, 0.0),
        ("DDPMScheduler", {}, 0.0),
        ("TCDScheduler", {}, 1.0),
        ("LCMScheduler", {}, 0.0),
        ("DEISMultistepScheduler", {}, 1.0),
        ("DEISMultistepScheduler", CONVERTED[0], 0.0),
        ("EulerDiscreteScheduler", {**SIGMA_MIN, "timestep_spacing": "trailing"}, 1.0),
        ("EulerDiscreteScheduler", SIGMA_MIN, 0.0),
    ],
)
def test_end(name: str, options: Options, end: float) -> None:
    """At the data, or at the first of the 1000 entries."""
    assert read(name, options).times(10, rounding="grid")[-1] == pytest.approx(end / 1000, rel=1e-12)


def test_log_linear_levels() -> None:
    """Euler's labels of these levels are those of other levels; ours are right."""
    options = {**SD, "interpolation_type": "log_linear"}
    source, scheduler = read("EulerDiscreteScheduler", options), class_of("EulerDiscreteScheduler")(**options)
    scheduler.set_timesteps(7)
    for ours, theirs in zip(source.times(7), scheduler.sigmas[:8].tolist(), strict=True):
        assert close(source.sigma(ours), theirs, 1e-4)
        assert source.time(source.label(ours)) == pytest.approx(ours, rel=1e-12)


def test_one_step_begins_in_noise() -> None:
    """diffusers' only step of "linspace" and "leading" begins at index 0 or 1."""
    for spacing, name in itertools.product(
        ("linspace", "leading", "trailing"), ("DDIMScheduler", "EulerDiscreteScheduler", "HeunDiscreteScheduler")
    ):
        assert read(name, {"timestep_spacing": spacing}).times(1, rounding="grid") == (1.0, 0.0)
    assert read("UnCLIPScheduler", {}).times(1) == (1.0, 0.0)
    assert read("EDMEulerScheduler", {"sigma_schedule": "exponential"}).times(1) == (80.0, 0.0)


# -- without rounding ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", CASES)
def test_without_rounding(name: str) -> None:
    """The same times to within the rounding; labels and numbers go to times and back."""
    for i, options in enumerate(CASES[name][:6]):
        source, mu = read(name, options), 1.3 if options.get("use_dynamic_shifting") else None
        steps = counts(i)[0]
        times = source.times(steps, mu=mu)
        assert times == source.times(steps, rounding="label", mu=mu)
        for t, rounded in zip(times[:-1], source.times(steps, rounding="grid", mu=mu), strict=False):
            index = source.schedule.whole
            assert abs(source.label(t) - source.label(rounded)) <= (steps + 1 if index else 1e-9), options
            assert source.timestep(t) == source.label(t)
            if index:
                assert source.timestep(t, rounding="label") == round(source.label(t))
            if 1 / 1000 <= t < source.sde.T:  # below its first entry a table has no labels
                assert source.time(source.label(t)) == pytest.approx(t, rel=1e-6)
            assert source.time_of_sigma(source.sigma(t)) == pytest.approx(t, rel=1e-6)


def test_real_valued_indices() -> None:
    for spacing, first, stride in (
        ("trailing", 999.0, 1000 / 7),
        ("linspace", 999.0, 999 / 6),
        ("leading", 6000 / 7 + 1, 1000 / 7),
    ):
        source = read("DDIMScheduler", {"timestep_spacing": spacing, "steps_offset": 1})
        labels = [source.label(t) for t in source.times(7)[:-1]]
        assert labels == pytest.approx([first - i * stride for i in range(7)], abs=1e-9)


# -- given timesteps and sigmas ------------------------------------------------------------------------------------
AYS = [14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.0]


def test_given_sigmas_of_a_table() -> None:
    source = read("EulerDiscreteScheduler", SD)
    scheduler = class_of("EulerDiscreteScheduler")(**SD)
    scheduler.set_timesteps(sigmas=AYS)
    for given in (AYS, AYS[:-1]):
        times = source.times_of_sigmas(given)
        assert [source.sigma(t) for t in times] == pytest.approx(AYS, rel=1e-4)
        assert [source.label(t) for t in times[:-1]] == pytest.approx(scheduler.timesteps.tolist(), abs=0.1)
    ends = read("EulerDiscreteScheduler", {**SD, **SIGMA_MIN, "timestep_spacing": "trailing"})
    assert ends.times_of_sigmas([10.0, 1.0]) == ends.times_of_sigmas([10.0, 1.0, ends.sigma(0.001)])


@pytest.mark.parametrize(
    "options", [{"shift": 3.0}, {"use_dynamic_shifting": True}, {"shift_terminal": 0.1, "shift": 2.0}]
)
@pytest.mark.parametrize("name", ["FlowMatchEulerDiscreteScheduler", "FlowMatchLCMScheduler"])
def test_given_sigmas_of_a_flow(name: str, options: Options) -> None:
    given, mu = [1.0 - i / 8 for i in range(8)], 0.8 if options.get("use_dynamic_shifting") else None
    source, scheduler = read(name, options), class_of(name)(**options)
    scheduler.set_timesteps(sigmas=given, mu=mu)
    for sigmas in (given, [*given, 0.0]):
        times = source.times_of_sigmas(sigmas, mu=mu)
        assert times == pytest.approx(scheduler.sigmas.tolist(), abs=1e-6)
        assert [source.label(t) for t in times[:-1]] == pytest.approx(scheduler.timesteps.tolist(), abs=1e-3)


def test_given_sigmas_of_unipc_as_a_flow() -> None:
    options = {**FLOW, "use_dynamic_shifting": True}
    source, scheduler = read("UniPCMultistepScheduler", options), class_of("UniPCMultistepScheduler")(**options)
    given = [1.0 - i / 8 for i in range(8)]
    scheduler.set_timesteps(sigmas=np.array(given), mu=0.8)
    assert source.times_of_sigmas(given, mu=0.8, rounding="grid") == pytest.approx(scheduler.sigmas.tolist(), abs=1e-7)
    assert source.times_of_sigmas(given, mu=0.8)[0] == 1.0
    ltx = read("LTXEulerAncestralRFScheduler", {"shift": 3.0})
    assert ltx.times_of_sigmas([1.0, 0.5, 0.0]) == (1.0, 0.5, 0.0)  # these are not shifted again


@pytest.mark.parametrize(
    "name", ["DDPMScheduler", "EulerDiscreteScheduler", "DPMSolverMultistepScheduler", "LCMScheduler"]
)
def test_given_timesteps(name: str) -> None:
    source, given = read(name, SD), [999, 600, 320, 19]
    scheduler = class_of(name)(**SD)
    scheduler.set_timesteps(timesteps=given)
    assert scheduler.timesteps.tolist() == given
    times = source.times_of_labels(torch.tensor(given))
    assert times == (1.0, 0.601, 0.321, 0.02, 0.0)
    whole = 0.601 if name != "EulerDiscreteScheduler" else source.time(600.4)  # Euler takes labels as they are
    assert source.times_of_labels([600.4, 3.0], rounding="grid")[0] == pytest.approx(whole, rel=1e-12)
    assert source.label(source.times_of_labels([600.4, 3.0])[0]) == pytest.approx(600.4, rel=1e-9)


@pytest.mark.parametrize(
    ("name", "options"),
    [("EDMEulerScheduler", {}), ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0}), ("EulerDiscreteScheduler", SVD)],
)
def test_labels_go_back_to_the_grid(name: str, options: Options) -> None:
    source = read(name, options)
    times = source.times(9)
    assert source.times_of_labels([source.label(t) for t in times[:-1]]) == pytest.approx(times, rel=1e-9)


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


# -- shift ---------------------------------------------------------------------------------------------------------
def test_shift() -> None:
    assert read("DDIMScheduler", {}).shift() == 1.0
    flow = "FlowMatchEulerDiscreteScheduler"
    assert read(flow, {"shift": 3.0}).shift(0.7) == 3.0
    assert read(flow, {"use_dynamic_shifting": True}).shift(0.7) == math.exp(0.7)
    assert read(flow, {"use_dynamic_shifting": True, "time_shift_type": "linear"}).shift(1.7) == 1.7
    dpm = read("DPMSolverMultistepScheduler", {**FLOW, "flow_shift": 2.0, "use_dynamic_shifting": True})
    assert (dpm.shift(), dpm.shift(0.7)) == (2.0, math.exp(0.7))
    with pytest.raises(ValueError, match="mu must be given"):
        read(flow, {"use_dynamic_shifting": True}).times(5)


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
    with pytest.raises(ValueError, match="at least one noise level"):
        source.times_of_sigmas([0.0])
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
