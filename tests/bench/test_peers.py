"""Other libraries' samplers as rows of the benchmark: where the method is ours, so is the sample; calls are counted.

A row whose library is missing is skipped; those of diffusers, whose import takes seconds, are slow.
"""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from benchmarks import peers
from benchmarks.peers import azula, base, diffusers, k_diffusion, skrample, torchdiffeq
from benchmarks.peers.base import Noises, most_steps, seed_of, seeded
from scoresde import noise
from scoresde.bench.evaluate import CountingDenoiser
from scoresde.bench.samplers import Prepared, prepare, stable_diffusion
from scoresde.bench.suite import Cell, Choice, choice
from scoresde.catalogue import get_solver
from scoresde.grids import get_grid
from scoresde.rows import Solver
from scoresde.sample import make_plan
from scoresde.sde import EDM, SDE, VE, VP, RectifiedFlow
from scoresde.targets import GaussianMixture

TABLES = "stable-diffusion"
PROCESSES: dict[str, SDE] = {
    "vp": VP(),
    "ve": VE(),
    "edm": EDM(),
    "flow": RectifiedFlow(shift=3.0),
    TABLES: stable_diffusion(),
}
TARGET = GaussianMixture.five()
SEED, FIRST, COUNT = 3, 4, 5
EXACT, TABLE = 1e-11, 1e-5  # largest differences: in float64 throughout, and with a peer's tables in float32


def cell(solver: Choice, sde: str = "vp", grid: Choice | str = "karras", nfe: int = 10, end: Any = "zero") -> Cell:
    grid = choice(grid) if isinstance(grid, str) else grid
    return Cell(choice("mixture"), choice(sde), solver, grid, nfe, SEED, COUNT, end, "float64")


def prepared(asked: Cell) -> Prepared:
    """Ready for the cell, or the test is skipped for want of the library."""
    try:
        return prepare(asked, PROCESSES[asked.sde.name], ["benchmarks.peers"])
    except ImportError as error:
        pytest.skip(str(error))


def start(sde: SDE, row: Prepared, first: int = FIRST, count: int = COUNT) -> Tensor:
    return noise.normal((count, 2), SEED, first, dtype=torch.float64) * sde.prior_std(row.begin)


def drawn(asked: Cell, first: int = FIRST, count: int = COUNT) -> tuple[Prepared, Tensor, int]:
    """(the row, its samples, the calls that were counted)."""
    sde, row = PROCESSES[asked.sde.name], prepared(asked)
    counting = CountingDenoiser(TARGET.denoiser(sde))
    with torch.inference_mode():
        samples = row.draw(counting, start(sde, row, first, count), SEED, first, {})
    return row, samples, counting.calls


# -- the same method is the same sample -------------------------------------------------------------------------------
class Like(NamedTuple):
    """A peer's sampler, ours of the same method, and what both run on. ``ends_early`` marks grids of ours whose last
    time is replaced by the peer's end."""

    theirs: Choice
    ours: str | Solver
    sde: str = "vp"
    grid: str = "karras"
    end: str = "zero"
    nfe: int = 10
    ends_early: bool = False


def k(name: str, ours: str, sde: str = "vp", grid: str = "karras", **options: Any) -> Like:
    return Like(choice(f"k-diffusion/{name}", **options), ours, sde, grid)


def az(name: str, ours: str, sde: str = "vp", grid: str = "karras", **options: Any) -> Like:
    return Like(choice(f"azula/{name}", **options), ours, sde, grid)


def ode(name: str, ours: str, end: str = "zero", sde: str = "edm", grid: str = "karras", **options: Any) -> Like:
    return Like(choice(f"torchdiffeq/{name}", **options), ours, sde, grid, end)


def skr(name: str, ours: str, sde: str = "vp", grid: str = "karras", **options: Any) -> Like:
    return Like(choice(f"skrample/{name}", **options), ours, sde, grid)


def table(name: str, ours: str | Solver, *, nfe: int = 10, ends_early: bool = False, **options: Any) -> Like:
    like = Like(choice(f"diffusers/{name}", **options), ours, TABLES, "uniform", "zero", nfe)
    return like._replace(ends_early=ends_early)


UNIPC_3 = get_solver("unipc-3", order_of_last_steps=(2, 1))
IN_FLOAT64 = [
    k("euler", "euler"), k("euler", "euler", "edm"), k("euler", "euler-flow", "flow", "uniform"),
    k("heun", "heun"), k("heun", "heun-flow", "flow", "uniform"), k("dpm_2", "dpm-solver-2"),
    k("lms", "lms-4"), k("lms", "lms-3", order=3), k("dpmpp_2m", "dpmpp-2m"), k("dpmpp_2m", "dpmpp-2m", "ve"),
    k("euler_ancestral", "ddpm"), k("euler_ancestral", "ddpm", "edm"), k("dpm_2_ancestral", "dpm-solver-2-ancestral"),
    k("dpmpp_2s_ancestral", "dpmpp-2s-ancestral"), k("dpmpp_sde", "dpmpp-2s", eta=0.0),
    k("dpmpp_2m_sde", "sde-dpmpp-2m"), k("dpmpp_2m_sde", "sde-dpmpp-2m-heun", solver_type="heun"),
    k("dpmpp_3m_sde", "sde-dpmpp-3m-official"),
    az("DDIM", "ddim"), az("DDIM", "ddim", "flow", "uniform"), az("Euler", "euler"), az("Heun", "heun"),
    az("zAB", "lms-2"), az("zAB", "lms-3", order=3), az("vAB", "adams-2-flow", "flow", "uniform"),
    az("zEAB", "adams-2-epsilon"), az("xEAB", "adams-2", "edm"), az("xEAB", "adams-3", order=3),
    az("REAB", "reab-2-official"),
    ode("euler", "euler"), ode("midpoint", "midpoint", "eps"), ode("heun2", "heun"), ode("heun3", "heun3", "eps"),
    ode("rk4", "rk38"), ode("rk4", "rk38", "eps", "vp"), ode("euler", "euler-flow", sde="flow", grid="uniform"),
    ode("heun2", "heun-flow", sde="vp", variable="flow"), ode("heun2", "pf-heun", "eps", "vp", "uniform", variable="t"),
    skr("Euler", "ddim"), skr("Euler", "ddpm", stochasticity=1.0), skr("DPM", "dpmpp-2m"),
    skr("DPM", "dpmpp-2m", "flow", "uniform"), skr("UniPC", "unipc-2", fast_solve=True),
]  # fmt: skip
IN_FLOAT32_TABLES = [
    table("DDIM", "ddim"), table("DDIM", "ddpm", eta=1.0), table("PNDM", "plms", nfe=11),
    table("Euler", "euler"), table("Heun", "heun", nfe=9), table("KDPM2", "dpm-solver-2", nfe=9),
    table("LMS", "lms-4"),
    table("DPMSolverMultistep", "dpmpp-2m"),
    table("DPMSolverMultistep", "sde-dpmpp-2m", algorithm_type="sde-dpmsolver++"),
    table("DPMSolverMultistep", "dpmpp-3m-official", nfe=20, solver_order=3),
    table("UniPC", "unipc-2"), table("UniPC", UNIPC_3, solver_order=3),
    table("DEIS", "adams-2-epsilon", ends_early=True, lower_order_final=False),
    Like(choice("diffusers/EDMEuler"), "euler", "edm"),
    Like(choice("diffusers/EDMDPMSolverMultistep"), "dpmpp-2m", "edm", "log-snr"),
    Like(choice("diffusers/FlowMatchEuler"), "euler-flow", "flow", "quadratic"),
]  # fmt: skip


def label(like: Like) -> str:
    return f"{like.theirs.label}-{like.sde}-{like.end}"


def check_like(like: Like, tolerance: float) -> None:
    sde = PROCESSES[like.sde]
    row, theirs, _ = drawn(cell(like.theirs, like.sde, like.grid, like.nfe, like.end))
    denoiser = TARGET.denoiser(sde)
    for steps in range(1, row.nfe + 1):  # as many steps as make the same number of calls
        ends = like.end if like.ends_early else row.end
        grid = get_grid(like.grid, sde, steps, end=ends)
        plan = make_plan(like.ours, sde, (*grid[:-1], row.end) if like.ends_early else grid)
        if plan.nfe == row.nfe:
            break
    assert (plan.nfe, plan.begin.t) == (row.nfe, pytest.approx(row.begin, rel=1e-12))
    assert (plan.noises > 0) == row.stochastic
    run = plan.start(start(sde, row), SEED, FIRST)
    while not run.done:
        run.tell(denoiser(run.x, run.t))
    assert_close(theirs, run.sample, rtol=0, atol=tolerance)


@pytest.mark.parametrize("like", IN_FLOAT64, ids=label)
def test_the_same_method_gives_the_same_sample(like: Like) -> None:
    check_like(like, EXACT)


@pytest.mark.slow
@pytest.mark.parametrize("like", IN_FLOAT32_TABLES, ids=label)
def test_the_same_method_gives_the_same_sample_in_diffusers(like: Like) -> None:
    check_like(like, TABLE)


# -- calls ------------------------------------------------------------------------------------------------------------
@cache
def home(name: str) -> tuple[str, str]:
    """A process and a grid that a row runs on."""
    if name == "k-diffusion/dpm_fast":
        return "vp", "log-snr"
    if name == "torchdiffeq/explicit_adams":
        return "flow", "own"
    if not name.startswith("diffusers/"):
        return "vp", "karras"
    family = diffusers.ROWS[name.partition("/")[2]].families[0]
    return {"discrete-vp": TABLES}.get(family, family), "own"


def check_calls(name: str) -> None:
    sde, grid = home(name)
    for nfe in (5, 6, 8, 10, 20):
        row, samples, calls = drawn(cell(choice(name), sde, grid, nfe), count=2)
        assert calls == row.nfe <= nfe
        assert row.nfe > nfe - 4  # of a method of four stages
        assert samples.shape == (2, 2)
        assert bool(torch.isfinite(samples).all())
        assert row.package.split()[0] == name.partition("/")[0]


@pytest.mark.parametrize("name", [name for name in peers.SAMPLERS if not name.startswith("diffusers/")])
def test_budgets_are_kept_and_counted(name: str) -> None:
    check_calls(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", diffusers.SAMPLERS)
def test_budgets_are_kept_and_counted_in_diffusers(name: str) -> None:
    check_calls(name)


@pytest.mark.parametrize("name", ["k-diffusion/heun", "k-diffusion/dpmpp_sde", "torchdiffeq/rk4", "skrample/RKUltra"])
def test_calls_where_the_grid_does_not_end_at_zero(name: str) -> None:
    row, _, calls = drawn(cell(choice(name), end="eps", nfe=13))
    assert calls == row.nfe <= 13
    assert row.end == VP().eps


# -- noise ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["euler_ancestral", "dpmpp_2m_sde", "dpmpp_sde"])
def test_noise_belongs_to_the_sample_and_not_to_its_chunk(name: str) -> None:
    asked = cell(choice(f"k-diffusion/{name}"))
    _, together, _ = drawn(asked, first=0, count=4)
    _, later, _ = drawn(asked, first=2, count=2)
    assert_close(together[2:], later, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("solver", [choice("azula/DDPM"), choice("k-diffusion/euler", s_churn=4.0)], ids=str)
def test_torchs_generator_is_the_chunks_and_afterwards_as_before(solver: Choice) -> None:
    asked = cell(solver)
    before = torch.get_rng_state()
    row, one, _ = drawn(asked)
    torch.manual_seed(7)
    _, again, _ = drawn(asked)
    _, other, _ = drawn(asked, first=FIRST + COUNT)
    assert row.stochastic
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    torch.set_rng_state(before)
    drawn(asked)
    assert torch.equal(torch.get_rng_state(), before)


def test_noises_are_those_of_our_runs() -> None:
    x = torch.zeros(3, 2)
    noises = Noises(x, 5, 7)
    for k in range(2):
        assert torch.equal(noises(), noise.normal((3, 2), 5, 7, stream=1 + k))


def test_seeds_of_chunks_differ() -> None:
    seeds = {seed_of(seed, first) for seed in range(4) for first in (0, 1000, 2**40)}
    assert len(seeds) == 12
    with seeded(torch.zeros(1), 1, 0):
        one = torch.randn(3)
    with seeded(torch.zeros(1), 1, 1000):
        assert not torch.equal(one, torch.randn(3))


# -- what cannot be done is said before any work ----------------------------------------------------------------------
REFUSED = {
    "no such option": (cell(choice("torchdiffeq/euler", eta=1.0)), "option of 'torchdiffeq/euler'='eta' is unknown"),
    "no options": (cell(choice("k-diffusion/dpmpp_2m", eta=1.0)), "'k-diffusion/dpmpp_2m' has no options, got 'eta'"),
    "budget": (cell(choice("torchdiffeq/rk4"), nfe=3, end="eps"), "nfe=3 is too small .* at least 4 calls"),
    "grid": (cell(choice("azula/DDIM"), grid="karas"), "grid='karas' is unknown; nearest: karras"),
    "own spacing": (cell(choice("azula/DDIM"), grid="own"), "'azula/DDIM' has no spacing of its own"),
    "own options": (cell(choice("k-diffusion/heun"), grid=choice("own", rho=5)), "the grid 'own' has no options"),
    "equal steps": (cell(choice("torchdiffeq/explicit_adams")), "has the coefficients of equal steps"),
    "levels of dpm_fast": (cell(choice("k-diffusion/dpm_fast")), "runs on the grid 'log-snr' only"),
    "noise on flows": (cell(choice("k-diffusion/dpmpp_2m_sde"), "flow"), "cannot run on 'flow', where alpha = 0"),
    "alpha = 0": (cell(choice("azula/Euler"), "flow"), "'azula/Euler' divides by alpha, which is 0 at the start"),
    "variable": (cell(choice("torchdiffeq/euler", variable="rho"), "flow"), "'rho' is infinite where alpha = 0"),
}
REFUSED_BY_DIFFUSERS = {
    "process": (cell(choice("diffusers/DDIM")), "has no schedule for 'vp'; it has one for tables such as"),
    "grid": (cell(choice("diffusers/DDIM"), TABLES), "takes neither sigmas nor timesteps; it has 'uniform'"),
    "fine grid": (cell(choice("diffusers/DDPM"), TABLES, "log-snr", 200), "finer than the 1000 entries of the table"),
    "spacing": (cell(choice("diffusers/Euler", timestep_spacing="leading"), TABLES), "goes with the grid 'own'"),
    "end": (cell(choice("diffusers/DDIM"), TABLES, "uniform", end=0.1), "ends at 'zero' or 'eps', got end=0.1"),
    "edm grid": (cell(choice("diffusers/EDMEuler"), "edm", "uniform"), "runs on the grids 'karras', 'log-snr' and"),
    "flow grid": (cell(choice("diffusers/FlowMatchHeun"), "flow"), "runs on the grid 'own' only, got 'karras'"),
    "option": (cell(choice("diffusers/UniPC", order=3), TABLES, "own"), "nearest: solver_order"),
}  # fmt: skip


def check_refused(case: tuple[Cell, str]) -> None:
    with pytest.raises(ValueError, match=case[1]):
        prepared(case[0])


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_what_a_peer_cannot_do_is_an_error(case: tuple[Cell, str]) -> None:
    check_refused(case)


@pytest.mark.slow
@pytest.mark.parametrize("case", REFUSED_BY_DIFFUSERS.values(), ids=REFUSED_BY_DIFFUSERS)
def test_what_diffusers_cannot_do_is_an_error(case: tuple[Cell, str]) -> None:
    check_refused(case)


def test_a_missing_library_is_named_with_what_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """And none is imported before one of its rows is asked for."""
    missing: Mapping[str, Any] = dict.fromkeys(
        ["azula.sample", "diffusers", "skrample.sampling.structured", "torchdiffeq"]
    )
    for module in missing:
        monkeypatch.setitem(sys.modules, module, None)
    k_diffusion.sampling.cache_clear()
    for adapter in (azula, diffusers, k_diffusion, skrample, torchdiffeq):
        importlib.reload(adapter)
        name = next(iter(adapter.SAMPLERS))
        sde, grid = home(name)
        with pytest.raises(ImportError, match=rf"{adapter.PACKAGE.name} cannot be imported .*; run: pip install"):
            adapter.SAMPLERS[name](cell(choice(name), sde, grid), PROCESSES[sde])


def test_k_diffusion_leaves_no_module_behind() -> None:
    before = set(sys.modules)
    prepared(cell(choice("k-diffusion/euler")))
    new = {name for name in set(sys.modules) - before if not name.startswith(("scoresde", "benchmarks"))}
    assert not [name for name in new if "k_diffusion" in name or "torchvision" in name]


def test_most_steps_fill_the_budget() -> None:
    asked = cell(choice("k-diffusion/heun"), nfe=10)
    assert most_steps(asked, base.each(2, last=1)) == 5
    assert most_steps(asked, base.each(1)) == 10
    assert most_steps(asked, base.each(4)) == 2


def test_the_variable_t_is_the_probability_flow_in_time() -> None:
    """On VP with the Euler method, by hand: x + (s - t) (f x + g^2 epsilon / 2 sigma)."""
    sde = PROCESSES["vp"]
    row, got, _ = drawn(cell(choice("torchdiffeq/euler", variable="t"), grid="uniform", nfe=3))
    assert row.end == sde.eps
    x, denoiser = start(sde, row), TARGET.denoiser(sde)
    times = get_grid("uniform", sde, 3, end="eps")
    for t, s in pairwise(times):
        slope = sde.drift(t) * x + sde.diffusion_squared(t) / (2 * sde.sigma(t)) * denoiser.predict(x, t, "epsilon")
        x = x + (s - t) * slope
    assert_close(got, x, rtol=1e-12, atol=1e-12)
    assert math.isclose(row.begin, sde.T)
