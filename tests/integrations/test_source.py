"""The time grids of diffusers' schedulers, read from their configs, against the schedulers themselves."""

from __future__ import annotations

import inspect
import itertools
import json
import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch

import scoresde as ss
from tests.integrations.diffusers_cases import (
    CASES,
    CONVERTED,
    FLOW,
    SD,
    SIGMA_MIN,
    SVD,
    Options,
    class_of,
    close,
    counts,
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
    from scoresde.integrations.diffusers.classes import CLASSES

    assert list(CASES) == list(CLASSES)


def test_every_scheduler_of_diffusers_has_a_row() -> None:
    from diffusers import schedulers

    from scoresde.integrations.diffusers.classes import CLASSES, UNSUPPORTED

    exported = {n for row in schedulers._import_structure.values() for n in row if n.endswith("Scheduler")}
    assert not exported - set(CLASSES) - set(UNSUPPORTED), "give each a row in CLASSES or UNSUPPORTED"


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
        ("DEISMultistepScheduler", {**CONVERTED[0], "sigma_min": 0.5}, 0.0),  # so it would with levels that end above
        ("UniPCMultistepScheduler", {**CONVERTED[0], **SIGMA_MIN, "sigma_min": 0.5}, 0.0),
        ("DPMSolverMultistepScheduler", {**CONVERTED[0], **SIGMA_MIN, "sigma_min": 0.5}, 1.0),
        ("EulerDiscreteScheduler", {**SIGMA_MIN, "timestep_spacing": "trailing"}, 1.0),
        ("EulerDiscreteScheduler", SIGMA_MIN, 0.0),
    ],
)
def test_end(name: str, options: Options, end: float) -> None:
    """At the data, or at the first of the 1000 entries."""
    assert read(name, options).times(10, rounding="grid")[-1] == pytest.approx(end / 1000, rel=1e-12)


@pytest.mark.parametrize("converted", CONVERTED[:2])
@pytest.mark.parametrize("name", ["HeunDiscreteScheduler", "LMSDiscreteScheduler", "DEISMultistepScheduler"])
def test_keys_that_are_no_options_are_heeded(name: str, converted: Options) -> None:
    """Classes look for sigma_min and sigma_max in a config from elsewhere; LMS does so but for Karras' levels."""
    config = {**SD, **converted, "sigma_min": 0.1, "sigma_max": 8.0, "_class_name": name}
    source, scheduler = read(name, config), class_of(name).from_config(config)
    with_our_table(scheduler, source)
    _, sigmas = grid_of(scheduler, name, 7, None)
    assert sigmas is not None
    assert all(close(source.sigma(t), v) for t, v in zip(source.times(7, rounding="grid")[:-1], sigmas, strict=False))


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
    "options",
    [{"shift": 3.0}, {"use_dynamic_shifting": True}, {"shift_terminal": 0.1, "shift": 2.0}, {"invert_sigmas": True}],
)
@pytest.mark.parametrize("name", ["FlowMatchEulerDiscreteScheduler", "FlowMatchLCMScheduler"])
def test_given_sigmas_of_a_flow(name: str, options: Options) -> None:
    given, mu = [1.0 - i / 8 for i in range(8)], 0.8 if options.get("use_dynamic_shifting") else None
    source, scheduler = read(name, options), class_of(name)(**options)
    scheduler.set_timesteps(sigmas=given, mu=mu)
    for sigmas in (given, [*given, 0.0]):
        times = source.times_of_sigmas(sigmas, mu=mu)
        assert [source.sigma(t) for t in times] == pytest.approx(scheduler.sigmas.tolist(), abs=1e-6)
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


# -- shift ---------------------------------------------------------------------------------------------------------
def test_shift() -> None:
    assert read("DDIMScheduler", {}).shift() == 1.0
    flow = "FlowMatchEulerDiscreteScheduler"
    assert read(flow, {"shift": 3.0}).shift(0.7) == 3.0
    assert read(flow, {"use_dynamic_shifting": True}).shift(0.7) == math.exp(0.7)
    assert read(flow, {"use_dynamic_shifting": True, "time_shift_type": "linear"}).shift(1.7) == 1.7
    dpm = read("DPMSolverMultistepScheduler", {**FLOW, "flow_shift": 2.0, "use_dynamic_shifting": True})
    assert (dpm.shift(), dpm.shift(0.7)) == (2.0, math.exp(0.7))
    dynamic = read(flow, {"use_dynamic_shifting": True})
    assert [dynamic.before_shift(t, 0.7) for t in dynamic.times_of_sigmas([0.9, 0.4], mu=0.7)] == pytest.approx(
        [0.9, 0.4, 0]
    )
    with pytest.raises(ValueError, match="mu must be given"):
        read(flow, {"use_dynamic_shifting": True}).times(5)


# -- whole loops ---------------------------------------------------------------------------------------------------
WEIGHTS = torch.randn(8, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64) / 3


def network(x: torch.Tensor, label: float) -> torch.Tensor:
    return torch.tanh(x @ WEIGHTS + math.sin(label / 300.0))


LOOPS: list[tuple[str, Options, str]] = [
    ("DDIMScheduler", {**SD, "clip_sample": False, "steps_offset": 1, "set_alpha_to_one": False}, "ddim"),
    ("EulerDiscreteScheduler", SD, "euler"),
    ("EulerDiscreteScheduler", {**SD, "use_karras_sigmas": True}, "ddim"),
    ("EulerDiscreteScheduler", SVD, "ddim"),
    (
        "EulerDiscreteScheduler",
        {**SD, "timestep_spacing": "trailing", "rescale_betas_zero_snr": True, "prediction_type": "v_prediction"},
        "ddim",
    ),
    ("HeunDiscreteScheduler", SD, "heun"),
    ("DPMSolverMultistepScheduler", SD, "dpmpp-2m"),
    ("DPMSolverMultistepScheduler", {**FLOW, "flow_shift": 3.0}, "dpmpp-2m"),
    ("UniPCMultistepScheduler", {**FLOW, "flow_shift": 3.0}, "unipc-2"),
    ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0}, "euler"),
    ("FlowMatchEulerDiscreteScheduler", {"invert_sigmas": True}, "euler"),
    ("MiniMaxH3Scheduler", {}, "ddim"),
    ("EDMEulerScheduler", {}, "euler"),
    ("EDMDPMSolverMultistepScheduler", {}, "dpmpp-2m"),
]


@pytest.mark.parametrize(("name", "options", "solver"), LOOPS)
def test_whole_loops(name: str, options: Options, solver: str) -> None:
    """A plan on the source's grid gives what diffusers' own loop gives, to its float32."""
    noise = torch.randn(4, 8, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    source, scheduler = read(name, options), class_of(name)(**options)
    with_our_table(scheduler, source)
    scheduler.set_timesteps(20 + (name == "MiniMaxH3Scheduler"))
    theirs = noise * float(getattr(scheduler, "init_noise_sigma", 1.0))
    for t in scheduler.timesteps:
        scaled = scheduler.scale_model_input(theirs, t) if hasattr(scheduler, "scale_model_input") else theirs
        theirs = scheduler.step(network(scaled, float(t)), t, theirs, return_dict=False)[0]

    plan = ss.make_plan(solver, source.sde, source.times(20, rounding="grid"))
    run = plan.start(noise * source.noise_scale(plan.begin))
    while not run.done:
        at, label = run.point, source.timestep(run.t, rounding="grid")
        if source.precondition is None:
            run.tell(network(run.x, label), source.kind)
        else:
            c_in, c_skip, c_out = source.precondition.coefficients(at.alpha, at.sigma)
            run.tell(c_skip * run.x + c_out * network(c_in * run.x, label))
    assert torch.allclose(run.sample, theirs.double(), rtol=2e-5, atol=2e-5), (run.sample - theirs).abs().max()
