"""Samplers in pipelines of diffusers with tiny random weights: the rows of benchmarks/compatibility."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.compatibility.cases import SHAPES, Case, Peer, after_strength, all_cases, difference, run_case
from benchmarks.compatibility.hardwired import HARDWIRED, Hardwired
from benchmarks.compatibility.samplers import compare, in_float64, ours, quiet, theirs
from benchmarks.compatibility.stable_diffusion import SPLIT
from benchmarks.measured import OUT

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::FutureWarning")]  # of what diffusers will remove

CASES = {case.name: case for case in all_cases()}
RUNS = [(case, shape) for case in CASES.values() for shape in SHAPES if shape != "adaptive" or not case.not_adaptive]
PEERS = [(case, peer) for case in CASES.values() for peer in case.peers]
STEPS = 6
SD = CASES["Stable Diffusion 1"]


@pytest.fixture(scope="module", autouse=True)
def silent() -> None:
    quiet()


@pytest.mark.parametrize(("case", "shape"), RUNS, ids=lambda it: getattr(it, "name", it))
def test_solver_of_each_shape_runs(case: Case, shape: str) -> None:
    outcome = run_case(case, ours(SHAPES[shape]), STEPS)
    assert outcome.finite
    assert outcome.made == outcome.expected


BY_STEPS = [(case, "heun") for case in CASES.values()] + [
    (case, "res-3s") for case in CASES.values() if case.runs is after_strength
]


@pytest.mark.parametrize(("case", "solver"), BY_STEPS, ids=lambda it: getattr(it, "name", it))
def test_counting_steps(case: Case, solver: str) -> None:
    """Timesteps are `order` to a step, by which img2img finds its place."""
    outcome = run_case(case, ours(solver, count="steps"), 5)
    assert outcome.finite
    assert outcome.made == outcome.expected


@pytest.mark.parametrize(("case", "peer"), PEERS, ids=lambda it: getattr(it, "name", None) or it.scheduler)
def test_equal_to_diffusers(case: Case, peer: Peer) -> None:
    found = compare(case, peer)
    assert (found <= peer.tolerance) == (not peer.differs), found


@pytest.mark.parametrize(
    "case", [case for case in CASES.values() if case.runs is CASES["DDPM"].runs], ids=lambda c: c.name
)
def test_budget_is_used(case: Case) -> None:
    """As many calls as asked, less at most one step's."""
    for shape, per_step in (("multistep", 1), ("Heun-like", 2), ("high-order", 3)):
        outcome = run_case(case, ours(SHAPES[shape]), STEPS)
        assert STEPS - per_step < outcome.made <= STEPS


def test_callback_changes_latents() -> None:
    """What a callback hands back is what the next evaluation sees."""

    def smaller(pipe: Any, step: int, t: Any, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"latents": tensors["latents"] * (0.5 if step == 2 else 1.0)}

    peer = Peer("ddim", "DDIMScheduler")
    make = theirs(peer.scheduler, peer.config)
    with in_float64(peer.scheduler):
        expected = run_case(SD, make, 5, torch.float64, callback_on_step_end=smaller)
        unchanged = run_case(SD, make, 5, torch.float64)
    one = run_case(
        SD,
        lambda own: ours("ddim", rounding="grid", textbook=True)(make(own)),
        5,
        torch.float64,
        callback_on_step_end=smaller,
    )
    assert difference(one.state, expected.state) < 1e-9
    assert difference(one.state, unchanged.state) > 1e-3
    for shape in ("multistep", "singlestep", "predictor-corrector", "stochastic"):
        outcome = run_case(SD, ours(SHAPES[shape]), STEPS, callback_on_step_end=smaller)
        assert outcome.ok


def test_denoised_image_of_changed_latents() -> None:
    """pred_original_sample is of the latents that `step` was given, whether a callback changed them or not."""
    from benchmarks.compatibility.parts import fixed, named

    theirs_own = named("DDIMScheduler").from_config({"clip_sample": False})
    mine = ours("ddim", rounding="grid")(theirs_own)
    for each in (mine, theirs_own):
        each.set_timesteps(4)
    x = x_other = fixed(1, 3, 4, 4, dtype=torch.float64)
    for i, t in enumerate(mine.timesteps):
        output = fixed(1, 3, 4, 4, dtype=torch.float64, seed=i + 1)
        got, expected = mine.step(output, t, x), theirs_own.step(output, t, x_other)
        assert difference(got.pred_original_sample, expected.pred_original_sample) < 1e-5
        x, x_other = 0.5 * got.prev_sample, 0.5 * expected.prev_sample


def test_two_results_of_a_step() -> None:
    """PixArt with one step takes the second result of `step`, Latent Consistency Models unpack two."""
    for name in ("PixArt", "Latent Consistency Models"):
        assert run_case(CASES[name], ours("ddim"), 1).ok


def test_eta() -> None:
    """The share of noise that a pipeline is asked for, drawn from its generator."""
    make = theirs("DDIMScheduler", {})
    with in_float64("DDIMScheduler"):
        expected = run_case(SD, make, 5, torch.float64, eta=0.5)
    got = run_case(SD, lambda own: ours("ddim", rounding="grid")(make(own)), 5, torch.float64, eta=0.5)
    assert difference(got.state, expected.state) < 1e-9


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("solver", ["dpmpp-2m-sde", "euler-ancestral"])
def test_a_generator_for_each_sample(solver: str, seed: int | None) -> None:
    """A sample is the same in a batch and alone."""
    pipe = SD.build(torch.float64)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = ours(solver, seed=seed)(pipe.scheduler)

    def generators(*seeds: int) -> list[torch.Generator]:
        return [torch.Generator().manual_seed(seed) for seed in seeds]

    both = SD.call(pipe, 4, generators(1, 2), num_images_per_prompt=2)
    alone = SD.call(pipe, 4, generators(1))
    torch.testing.assert_close(both[:1], alone, rtol=1e-9, atol=1e-9)
    assert difference(both[1:], alone) > 1e-2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("solver", ["dpmpp-2m", "unipc-3"])
def test_half_precision(solver: str, dtype: torch.dtype) -> None:
    """Latents keep their dtype, and what a step adds is not rounded away."""
    pipe = SD.build(dtype)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = ours(solver)(pipe.scheduler)
    latents = SD.call(pipe, STEPS, torch.Generator().manual_seed(0))
    assert latents.dtype == dtype
    assert latents.isfinite().all()


def test_base_and_refiner_are_one_run() -> None:
    """Cut in two with denoising_end and denoising_start, a method without memory takes the same steps."""
    from benchmarks.compatibility.parts import named

    base = CASES["Stable Diffusion XL"].build(torch.float64)
    base.scheduler = ours("ddim")(base.scheduler)
    base.set_progress_bar_config(disable=True)
    refiner = named("StableDiffusionXLImg2ImgPipeline")(**base.components)
    refiner.set_progress_bar_config(disable=True)
    call = CASES["Stable Diffusion XL"].call
    whole = call(base, STEPS, torch.Generator().manual_seed(0))
    half = call(base, STEPS, torch.Generator().manual_seed(0), denoising_end=SPLIT)
    rest = call(refiner, STEPS, torch.Generator().manual_seed(0), denoising_start=SPLIT, image=half)
    assert difference(half, whole) > 1e-2
    torch.testing.assert_close(rest, whole, rtol=1e-9, atol=1e-9)


def test_handed_over_but_for_a_factor() -> None:
    """Where diffusers' Euler keeps x/alpha, ours keeps x: the latents of denoising_end are proportional."""
    case = CASES["Stable Diffusion XL base, denoising_end"]
    make = theirs("EulerDiscreteScheduler", {})
    with in_float64("EulerDiscreteScheduler"):
        expected = run_case(case, make, 5, torch.float64).state
    got = run_case(case, lambda own: ours("euler", rounding="grid", textbook=True)(make(own)), 5, torch.float64).state
    factor = (got / expected).flatten()
    assert factor[0] < 0.9
    torch.testing.assert_close(factor, factor[:1].expand_as(factor), rtol=1e-9, atol=0.0)


def test_pipeline_saved_and_loaded(tmp_path: Path) -> None:
    from benchmarks.compatibility.parts import named

    case = CASES["DDPM"]
    pipe = case.build(torch.float32)
    pipe.scheduler = ours("unipc-3", grid="karras")(pipe.scheduler)
    pipe.save_pretrained(tmp_path)
    again = named("DiffusionPipeline").from_pretrained(tmp_path, local_files_only=True)
    assert type(again.scheduler) is type(pipe.scheduler)
    kept, given = (
        {key: value for key, value in each.scheduler.config.items() if key[0] != "_"} for each in (again, pipe)
    )
    assert kept == given
    for each in (pipe, again):
        each.set_progress_bar_config(disable=True)
    one, other = (case.call(each, 4, torch.Generator().manual_seed(0)) for each in (pipe, again))
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)  # loaded weights lie elsewhere in memory


@pytest.mark.parametrize("group", HARDWIRED, ids=lambda group: group.pipelines)
def test_pipelines_that_are_for_one_scheduler_are_so_still(group: Hardwired) -> None:
    """If diffusers changes them, the list is to be changed."""
    import diffusers.pipelines

    folder = Path(str(diffusers.pipelines.__file__)).parent
    for file in group.files:
        assert group.evidence in (folder / file).read_text(encoding="utf-8"), file


def test_tables_of_the_docs_are_of_these_pipelines() -> None:
    """`python -m benchmarks.compatibility` writes them anew."""
    rows, pairs, groups = (
        json.loads((OUT / f"compatibility-{question}.json").read_text(encoding="utf-8"))["rows"]
        for question in ("pipelines", "schedulers", "hardwired")
    )
    assert [row["pipeline"] for row in rows] == list(CASES)
    for row in rows:
        assert {shape: cell["solver"] for shape, cell in row["solvers"].items()} == SHAPES
        for cell in row["solvers"].values():
            assert "not" in cell or (cell["finite"] and cell["made"] == cell["expected"])
    assert [(row["pipeline"], row["solver"], row["scheduler"], row["differs"]) for row in pairs] == [
        (case.name, peer.solver, peer.scheduler, peer.differs) for case, peer in PEERS
    ]
    assert all(row["equal"] == (not row["differs"]) for row in pairs)
    assert [(row["pipelines"], row["does"], row["instead"]) for row in groups] == [
        (it.pipelines, it.does, it.instead) for it in HARDWIRED
    ]
