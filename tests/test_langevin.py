"""Langevin correctors: the law that they leave, their noise, and the predictor that they correct."""

import gc
import math
import threading
import time
from itertools import pairwise

import pytest
import torch

import scoresde as ss
from scoresde import noise
from scoresde.adaptive import Langevin
from scoresde.plan import plan_steps
from scoresde.solvers import AnnealedLangevin
from scoresde.targets import Gaussian, GaussianMixture
from scoresde.theory import Moments, gaussian_moments

VP, VE = ss.VP(), ss.VE()
MIXTURE = GaussianMixture.five()
WIDE = Gaussian(torch.zeros(24, dtype=torch.float64), torch.logspace(-1, 0.5, 24, dtype=torch.float64))


def normals(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def drive(run, denoiser: ss.BaseDenoiser) -> torch.Tensor:
    while not run.done:
        run.tell(denoiser(run.x, run.t))
    return run.sample


# -- of fixed size -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("snr", [0.16, 0.32])
def test_annealed_langevin_leaves_the_variance_that_its_step_size_says(snr: float) -> None:
    """v / (1 - epsilon / 2v), from whatever variance it begins with, by exact moments."""
    v = torch.tensor([0.02, 0.1, 1.0], dtype=torch.float64)
    solver = AnnealedLangevin(None, snr=snr, corrections=3000)
    plan = plan_steps(solver, VE, [(0.5, 0.499)])
    wrong = Moments(torch.full((3,), 0.7, dtype=torch.float64), torch.full((3,), 5.0, dtype=torch.float64))
    moments = gaussian_moments(plan, v, 0.3, start=wrong)
    sigma2 = VE.sigma(0.5) ** 2
    epsilon, at_level = 2 * snr**2 * sigma2, v + sigma2
    assert torch.allclose(moments.variance, at_level / (1 - epsilon / (2 * at_level)), rtol=1e-10)
    assert torch.allclose(moments.mean, torch.full_like(v, 0.3), rtol=1e-10)


@pytest.mark.slow
def test_the_bias_of_the_corrector_stays_and_falls_with_snr() -> None:
    """More steps do not help beyond it: no order of convergence."""
    v, end = torch.tensor([0.04], dtype=torch.float64), VP.t_at_lam(2.0)
    exact = VP.alpha(end) ** 2 * v + VP.sigma(end) ** 2

    def bias(snr: float, steps: int) -> float:
        solver = AnnealedLangevin(snr=snr, corrections=20)
        plan = ss.make_plan(solver, VP, ss.get_grid("karras", VP, steps, end=end))
        return (gaussian_moments(plan, v).variance / exact - 1).item()

    few, many = bias(0.3, 150), bias(0.3, 600)
    assert few == pytest.approx(many, rel=0.15)
    assert many == pytest.approx(0.09 * (VP.sigma(end) ** 2 / exact).item(), rel=0.25)
    assert bias(0.15, 600) == pytest.approx(many / 4, rel=0.25)


def test_annealed_langevin_with_a_predictor_is_corrections_and_its_rows() -> None:
    grid = [1.0, 0.6, 0.3, 0.1]
    plan = ss.make_plan(AnnealedLangevin(ss.get_solver("ddpm"), corrections=2), VP, grid)
    alone = ss.make_plan("ddpm", VP, grid)
    assert [row.x for row in plan.rows[2::3]] == [
        row.x._replace(z=((3 * i + 2, row.x.z[0][1]),)) for i, row in enumerate(alone.rows)
    ]
    assert [row.kind for row in plan.rows] == ["score", "score", "x0"] * 3
    assert (plan.nfe, plan.noises) == (9, 9)
    heun = ss.make_plan(AnnealedLangevin(ss.get_solver("heun")), VP, [*grid, 0.0])
    assert heun.nfe == 3 * 3 + 1 + 1  # into the data with one correction and one denoising
    assert heun.end.sigma == 0.0


@pytest.mark.parametrize("delta", [0.01, 0.3])
def test_exact_corrections_are_those_of_azula(delta: float) -> None:
    """x <- alpha D + sqrt(1 - delta) (x - alpha D) + sqrt(delta) sigma z, then DDIM."""
    options = {} if delta == 0.01 else {"snr": math.sqrt(-math.log1p(-delta)) / 2}
    solver = ss.get_solver("PCSampler", corrections=2, **options)
    denoiser, grid = MIXTURE.denoiser(VP), [0.8, 0.5, 0.2]
    x, z = normals(5, 2), normals(4, 5, 2, seed=1)
    got = drive(ss.make_plan(solver, VP, grid).start(x, noise=lambda k: z[k]), denoiser)
    for i, (s, t) in enumerate(pairwise(grid)):
        for k in (2 * i, 2 * i + 1):
            mean = VP.alpha(s) * denoiser(x, s)
            x = mean + math.sqrt(1 - delta) * (x - mean) + math.sqrt(delta) * VP.sigma(s) * z[k]
        x0 = denoiser(x, s)
        x = VP.alpha(t) * x0 + VP.sigma(t) / VP.sigma(s) * (x - VP.alpha(s) * x0)
    assert torch.allclose(got, x, rtol=1e-12)


def test_exact_corrections_leave_a_quarter_of_what_they_renew() -> None:
    v, delta = torch.tensor([0.0, 0.02, 0.5, 3.0], dtype=torch.float64), 0.1
    snr = math.sqrt(-math.log1p(-delta)) / 2
    plan = plan_steps(ss.get_solver("pc-ald-exact", predictor=None, corrections=1000, snr=snr), VE, [(0.5, 0.499)])
    right = v + VE.sigma(0.5) ** 2
    start = Moments(torch.zeros(4, dtype=torch.float64), 1.1 * right)
    moments = gaussian_moments(plan, v, start=start)
    assert torch.allclose(moments.variance / right - 1, -delta / 4 * v / right, rtol=delta, atol=1e-9)


# -- scaled by the samples -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("norms", ["sample", "batch"])
def test_a_correction_by_hand(norms: str) -> None:
    x, z = normals(3, 24), normals(3, 24, seed=1)
    score = WIDE.denoiser(VP).predict(x, 0.5, "score")
    z_norm, s_norm = z.square().sum(1).sqrt(), score.square().sum(1).sqrt()
    if norms == "batch":
        z_norm, s_norm = z_norm.mean(), s_norm.mean()
    size = torch.as_tensor(2 * (VP.alpha(0.5) / VP.alpha(0.4)) ** 2 * (0.2 * z_norm / s_norm) ** 2).expand(3)[:, None]
    plan = ss.make_plan(Langevin(None, snr=0.2, norms=norms), VP, [0.5, 0.4])
    got = drive(plan.start(x, noise=lambda k: z), WIDE.denoiser(VP))
    assert torch.allclose(got, x + size * score + (2 * size).sqrt() * z, rtol=1e-12)


@pytest.mark.parametrize("norms", ["sample", "batch"])
def test_the_law_at_a_level_is_kept(norms: str) -> None:
    """From three times its variance to the right one, up to r^2 and, for the samples' own norms, 4/d."""
    d, n, r = 512, 60, 0.16
    target = Gaussian(torch.zeros(d, dtype=torch.float64), torch.full((d,), 0.5, dtype=torch.float64))
    x_T = normals(n, d) * math.sqrt(3 * (0.5 * VP.alpha(0.4) ** 2 + VP.sigma(0.4) ** 2))
    plan = ss.make_plan(Langevin(None, snr=r, corrections=160, norms=norms), VP, [0.4, 0.399])
    got = drive(plan.start(x_T), target.denoiser(VP))
    excess = got.square().mean().item() / (0.5 * VP.alpha(0.4) ** 2 + VP.sigma(0.4) ** 2) - 1
    expected = r**2 + (4 / d if norms == "sample" else 0.0)
    assert excess == pytest.approx(expected, abs=4 * math.sqrt(2 / (n * d)) + 0.002)


@pytest.mark.parametrize("corrections", [1, 2])
@pytest.mark.parametrize("name", ["reverse-diffusion", "euler-maruyama", "ddpm-large", "heun", "dpm-solver-3"])
def test_without_a_step_size_it_is_its_predictor(name: str, corrections: int) -> None:
    """The predictor draws after the corrections of its step."""
    predictor, grid = ss.get_solver(name), [1.0, 0.7, 0.3, 0.1, 0.0]
    x, z = normals(3, 24), normals(40, 3, 24, seed=1)
    per_step = corrections + predictor.noises
    plan = ss.make_plan(Langevin(predictor, snr=1e-12, corrections=corrections), VP, grid)
    alone = ss.make_plan(predictor, VP, grid)
    got = drive(plan.start(x, noise=lambda k: z[k]), WIDE.denoiser(VP))
    expected = drive(alone.start(x, noise=lambda k: z[k * per_step + corrections]), WIDE.denoiser(VP))
    assert torch.allclose(got, expected, atol=1e-8)


@pytest.mark.parametrize("predictor", ["reverse-diffusion", "heun", None])
def test_evaluations_are_those_of_the_steps(predictor: str | None) -> None:
    solver = Langevin(None if predictor is None else ss.get_solver(predictor), corrections=2)
    run = ss.plan_for(solver, VP, steps=4, end="eps").start(normals(2, 24))
    drive(run, WIDE.denoiser(VP))
    assert run.nfe == 4 * solver.evaluations
    # From pure noise nothing is corrected, and into the data goes one denoising.
    flow = ss.RectifiedFlow()
    run = ss.plan_for(solver, flow, steps=4).start(normals(2, 24))
    assert torch.isfinite(drive(run, WIDE.denoiser(flow))).all()
    first = 1 if predictor else 0
    assert run.nfe == first + 2 * solver.evaluations + 2 + 1


def test_a_sample_is_a_function_of_seed_and_index() -> None:
    denoiser = WIDE.denoiser(VP)

    def draw(batch: int, index: int = 0, **options) -> torch.Tensor:
        solver = Langevin(**options)
        return ss.sample(denoiser, (batch, 24), solver=solver, steps=6, seed=3, index=index, dtype=torch.float64)

    whole = draw(8)
    assert torch.allclose(draw(3, index=4), whole[4:7], rtol=1e-9, atol=1e-9)
    assert torch.allclose(draw(1, index=7), whole[7:], rtol=1e-9, atol=1e-9)
    together = draw(8, norms="batch")
    assert not torch.allclose(draw(3, index=4, norms="batch"), together[4:7], atol=1e-3)
    assert torch.allclose(draw(1, norms="batch"), whole[:1], rtol=1e-9, atol=1e-9)


def test_noise_is_seeded_as_in_a_plan() -> None:
    x = normals(2, 24)
    plan = ss.make_plan(Langevin(None), VP, [0.5, 0.4, 0.3])
    seeded = drive(plan.start(x, seed=9, index=4), WIDE.denoiser(VP))
    own = drive(
        plan.start(x, noise=lambda k: noise.normal((2, 24), 9, 4, 1 + k, dtype=torch.float64)), WIDE.denoiser(VP)
    )
    assert torch.equal(seeded, own)


@pytest.mark.parametrize("sde", [VP, VE], ids=lambda s: s.name)
def test_correcting_repairs_a_coarse_predictor(sde: ss.SDE) -> None:
    """The claim of the paper: with the same predictor, corrections bring the samples closer to the law."""
    denoiser, n = WIDE.denoiser(sde), 400

    def off(solver) -> float:
        x = ss.sample(denoiser, (n, 24), solver=solver, steps=12, end="eps", dtype=torch.float64)
        return (x.var(0) / WIDE.eigenvalues - 1).abs().mean().item()

    corrected = [off(Langevin(corrections=c, norms="batch")) for c in (1, 4)]
    assert corrected[1] < corrected[0] < 0.8 * off(ss.get_solver("reverse-diffusion"))


def test_few_numbers_warn() -> None:
    with pytest.warns(
        UserWarning, match=r'langevin: the norms of samples of 2 numbers .* by about 200%; pass norms="batch"'
    ):
        ss.sample(MIXTURE.denoiser(VP), (4, 2), solver="pc-langevin", steps=2)
    x = ss.sample(MIXTURE.denoiser(VP), (2000, 2), solver=Langevin(norms="batch"), steps=40)
    assert torch.allclose(x.std(0), torch.tensor([1.45, 1.54]), rtol=0.06)


def test_abandoned_runs_end_their_threads() -> None:
    before = threading.active_count()
    for _ in range(3):
        run = ss.plan_for(Langevin(), VP, steps=5).start(normals(2, 24))
        run.tell(normals(2, 24))
        del run
    gc.collect()
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before


@pytest.mark.parametrize("make", [Langevin, AnnealedLangevin])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"snr": 0.0}, "snr must be positive and finite, got 0.0"),
        ({"corrections": 0}, "corrections must be at least 1, got 0"),
        ({"corrections": 1.5}, "corrections must be an int"),
        ({"predictor": "heun"}, "predictor must be a fixed-step solver"),
        ({"predictor": ss.get_solver("dpmpp-2m")}, "predictor must keep nothing across steps"),
        ({"factors": (1.0, -1.0)}, "factors must be finite and at least 0, got -1.0"),
        ({"factors": math.inf}, "factors must be finite and at least 0, got inf"),
    ],
)
def test_bad_options(make, options: dict, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        make(**options)


def test_more_bad_options() -> None:
    with pytest.raises(ValueError, match="norms='each' is unknown"):
        Langevin(norms="each")
    with pytest.raises(ValueError, match="factors has 2 entries, for a grid of 3 steps"):
        ss.plan_for(Langevin(factors=(1.0, 1.0)), VP, steps=3).start(normals(2, 24))
    with pytest.raises(ValueError, match="factors has 2 entries, for a grid of 3 steps"):
        ss.plan_for(AnnealedLangevin(factors=(1.0, 1.0)), VP, steps=3)
