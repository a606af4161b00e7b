"""Solvers that draw noise: identities with each other and with their deterministic forms, laws, options, errors."""

import math
from itertools import pairwise

import pytest
import torch

import scoresde as ss
from scoresde.solvers.er_sde import LOG_PHI_OVER_X, one_sided_sum
from scoresde.solvers.quadrature import gauss_legendre, integrate_log
from scoresde.targets import GaussianMixture
from scoresde.theory import gaussian_moments
from tests.exact import normals
from tests.problems import OnMixture, slopes

PROCESSES = {"vp": ss.VP(), "cosine": ss.CosineVP(), "subvp": ss.SubVP(), "edm": ss.EDM(), "flow": ss.RectifiedFlow()}
VARIANCE = torch.tensor([0.04, 0.5, 2.0], dtype=torch.float64)


@pytest.fixture(params=PROCESSES.values(), ids=list(PROCESSES))
def sde(request: pytest.FixtureRequest) -> ss.SDE:
    return request.param


def plan(solver: ss.Solver | str, sde: ss.SDE, steps: int = 8, end: str | float = "zero", grid: str = "karras"):
    return ss.make_plan(solver, sde, ss.get_grid(grid, sde, steps, end=end))


def law_error(solver: ss.Solver, sde: ss.SDE, steps: int) -> float:
    end = sde.t_at_lam(2.0)
    got = gaussian_moments(plan(solver, sde, steps, end), VARIANCE, 0.7)
    exact = sde.alpha(end) ** 2 * VARIANCE + sde.sigma(end) ** 2
    return ((got.mean - sde.alpha(end) * 0.7).abs() + (got.variance - exact).abs()).max().item()


# -- identities


@pytest.mark.parametrize("end", ["zero", "eps"])
def test_five_names_of_the_ancestral_sampler(sde: ss.SDE, end: str) -> None:
    ancestral = plan(ss.get_solver("ddim", eta=1.0), sde, end=end)
    assert ancestral.noises > 0
    for other in (
        ss.get_solver("sde-dpmpp-1"),
        ss.get_solver("er-sde-1", phi="x^2"),
        ss.get_solver("dpm-solver-1", eta=1.0),
        ss.get_solver("dpmpp-2s", order=1, eta=1.0),
        ss.get_solver("er-sde-3", phi="x^2", order_of_last_steps=(1,) * 8),
    ):
        assert ancestral.allclose(plan(other, sde, end=end), atol=1e-12), other
    assert not ancestral.allclose(plan(ss.get_solver("ddim", eta=0.9), sde, end=end), atol=1e-3)


def test_er_sde_without_noise_is_ddim(sde: ss.SDE) -> None:
    er = plan(ss.get_solver("er-sde-1", phi="x"), sde)
    assert er.noises == 0
    assert er.allclose(plan("ddim", sde), atol=1e-12)
    assert er.allclose(plan(ss.get_solver("er-sde-1", phi="x", official=True), sde), atol=1e-12)


@pytest.mark.parametrize("eta", [0.3, 1.0, 2.0])
def test_power_phi_is_the_reverse_sde(eta: float) -> None:
    """phi = x^(1+eta) is the kept fraction e^(-eta h) of SDE-DPM-Solver++."""
    sde = ss.VP()
    er = ss.get_solver("er-sde-1", phi=lambda x: x ** (1 + eta))
    assert plan(er, sde).allclose(plan(ss.get_solver("dpmpp-1", eta=eta), sde), atol=1e-12)


@pytest.mark.parametrize("phi", ["x^2", "x^1.5"])
def test_a_function_and_its_name_agree(phi: str) -> None:
    power = float(phi.removeprefix("x^"))
    named = plan(ss.get_solver("er-sde-3", phi=phi), ss.EDM())
    assert named.allclose(plan(ss.get_solver("er-sde-3", phi=lambda x: x**power), ss.EDM()), atol=1e-10)


@pytest.mark.parametrize(
    ("noisy", "plain"),
    [
        (ss.get_solver("sde-dpmpp-2m", eta=0.0), ss.get_solver("dpmpp-2m")),
        (ss.get_solver("sde-dpmpp-3m", eta=0.0), ss.get_solver("dpmpp-3m")),
        (ss.get_solver("sde-dpm-solver-2m", eta=0.0), ss.get_solver("dpm-solver-2m")),
        (ss.get_solver("dpmpp-2s-ancestral", eta=0.0), ss.get_solver("dpmpp-2s")),
        (ss.get_solver("dpm-solver-2-ancestral", eta=0.0), ss.get_solver("dpm-solver-2")),
        (ss.get_solver("dpmpp-sde", eta=0.0), ss.get_solver("dpmpp-2s")),
        (ss.get_solver("dpmpp-sde", eta=0.0, r=0.3), ss.get_solver("dpmpp-2s", r1=0.3)),
        (ss.get_solver("heun-churn", s_churn=0.0), ss.get_solver("heun")),
        (ss.get_solver("euler-churn", s_min=1e9), ss.get_solver("euler")),
    ],
    ids=lambda s: s.name,
)
def test_without_noise_a_method_is_its_deterministic_form(noisy: ss.Solver, plain: ss.Solver, sde: ss.SDE) -> None:
    for end in ("zero", "eps"):
        assert plan(noisy, sde, end=end).allclose(plan(plain, sde, end=end), atol=1e-12)


def test_small_noise_is_close_to_none() -> None:
    """eta is an option of one method, not a switch between two."""
    for name in ("dpmpp-2m", "dpmpp-3m", "dpm-solver-2m", "dpmpp-2s", "dpm-solver-3", "ddim"):
        a, b = (plan(ss.get_solver(name, eta=eta), ss.VP(), end="eps").matrices() for eta in (0.0, 1e-9))
        assert torch.allclose(a.B, b.B, atol=1e-6)


def test_a_function_of_the_user_is_part_of_a_solver_and_not_of_its_plan() -> None:
    def phi(x: float) -> float:
        return x**1.7

    for name, option in (("er-sde-3", "phi"), ("sa-solver", "tau")):
        solver = ss.get_solver(name, **{option: phi if option == "phi" else lambda point: min(1.0, point.rho)})
        assert hash(solver) == hash(solver)
        steps = plan(solver, ss.VP())
        assert steps.noises > 0
        assert ss.Plan.from_json(steps.to_json()) == steps


@pytest.mark.parametrize("phi", LOG_PHI_OVER_X)
def test_er_sde_2_is_a_step_of_its_equation(phi: str) -> None:
    """A prediction linear in rho is integrated exactly: against many small steps of order 1."""
    sde = ss.EDM()
    rho = [2.0, 1.5, 1.0]
    a, b, n = 0.3, 0.7, 4000  # D(rho) = a + b rho
    er = ss.make_plan(ss.get_solver("er-sde-2", phi=phi), sde, rho)
    A, B, _ = er.matrices()
    first = a + b * rho[0]
    x = A[1].item() * 2.5 + B[1, 0].item() * first
    got = A[2].item() * 2.5 + B[2, 0].item() * first + B[2, 1].item() * (a + b * rho[1])

    def phi_of(r: float) -> float:
        return r * math.exp(LOG_PHI_OVER_X[phi](r))

    grid = [rho[1] + (rho[2] - rho[1]) * i / n for i in range(n + 1)]
    mean = x
    for s, t in pairwise(grid):
        r = phi_of(t) / phi_of(s)
        mean = r * mean + (1 - r) * (a + b * 0.5 * (s + t))
    assert got == pytest.approx(mean, abs=1e-6)


# -- laws


def test_deterministic_er_sde_3_has_order_3_and_the_authors_2() -> None:
    problem = OnMixture(ss.VP(), end=ss.VP().t_at_lam(3.0))
    exact, official = ss.get_solver("er-sde-3", phi="x"), ss.get_solver("er-sde-3", phi="x", official=True)
    assert problem.slopes(exact, (160, 320))[0] == pytest.approx(3, abs=0.15)
    assert problem.slopes(official, (160, 320))[0] < 2.2


@pytest.mark.slow
@pytest.mark.parametrize(
    "solver",
    [
        ss.get_solver("sde-dpmpp-2m", solver_type="taylor"),
        ss.get_solver("sde-dpmpp-2m", eta=0.5),
        ss.get_solver("sde-dpm-solver-2m", eta=0.5),
        ss.get_solver("er-sde-2", phi="x^1.5"),
        ss.get_solver("er-sde-2", phi="x^0.9*log10(1+100*x^1.5)"),
        ss.get_solver("er-sde-3", phi="x^2"),
        ss.get_solver("dpmpp-2s-ancestral", eta=0.6, r1=0.3),
        ss.get_solver("dpm-solver-2-ancestral", r1=1.0),
        ss.get_solver("dpmpp-sde", coupling="path"),
        ss.get_solver("dpmpp-sde", eta=0.5, r=0.4),
        ss.get_solver("heun-churn", s_churn=10.0, s_min=0.05, s_max=50.0),
    ],
    ids=lambda s: s.name,
)
def test_options_keep_the_weak_order(solver: ss.Solver) -> None:
    errors = [law_error(solver, ss.VP(), n) for n in (400, 800)]
    assert slopes(errors, (400, 800))[0] == pytest.approx(solver.converges, abs=0.25)


def test_ancestral_steps_keep_order_3() -> None:
    """The step to the colder point has its order, and the noise is exact in law."""
    for name in ("dpm-solver-3", "dpmpp-3s"):
        errors = [law_error(ss.get_solver(name, eta=1.0), ss.VP(), n) for n in (100, 200)]
        assert slopes(errors, (100, 200))[0] == pytest.approx(3, abs=0.25)


def test_independent_draws_cost_dpmpp_sde_an_order() -> None:
    """What k-diffusion does without a Brownian path."""
    coupled, independent = (ss.get_solver("dpmpp-sde", coupling=c) for c in ("sigma", "independent"))
    errors = [law_error(independent, ss.EDM(), n) for n in (200, 400)]
    assert slopes(errors, (200, 400))[0] == pytest.approx(1, abs=0.25)
    assert (coupled.converges, independent.converges) == (2, 1)
    assert errors[0] > 100 * law_error(coupled, ss.EDM(), 200)


def test_s_noise_scales_the_noise_alone() -> None:
    names = ("ddpm", "sde-dpmpp-2m", "dpmpp-2s-ancestral", "dpmpp-sde", "heun-churn", "er-sde-2")
    for name in (*names, "sa-solver", "lcm", "tcd", "heun-restart"):
        one, two = (plan(ss.get_solver(name, s_noise=s), ss.VP()).matrices() for s in (1.0, 1.5))
        assert torch.equal(one.A, two.A)
        assert torch.equal(one.B, two.B)
        assert torch.allclose(1.5 * one.C, two.C, rtol=1e-14)
        assert one.C.abs().max() > 0.01


def test_churn_raises_the_noise_as_the_paper_says() -> None:
    sde, n = ss.EDM(), 10
    grid = ss.get_grid("karras", sde, n)
    churn = ss.get_solver("euler-churn", s_churn=2.0, s_min=0.05, s_max=50.0, s_noise=1.003)
    steps = ss.make_plan(churn, sde, grid)
    for t, evaluated in zip(grid, steps.times, strict=False):
        assert evaluated == pytest.approx(t * (1.2 if 0.05 <= t <= 50.0 else 1.0), rel=1e-12)
    added = [row.x.z[0][1] for row in steps.rows if row.at is None]
    inside = [t for t in grid if 0.05 <= t <= 50.0]
    assert added == pytest.approx([1.003 * math.sqrt((1.2 * t) ** 2 - t**2) for t in inside], rel=1e-12)
    most = ss.make_plan(ss.get_solver("euler-churn", s_churn=1e6), sde, grid)
    assert most.times[0] == pytest.approx(math.sqrt(2) * grid[0], rel=1e-12)


def test_churned_noise_keeps_the_marginal_exactly() -> None:
    """A step of churn with an exact ODE solution has the exact law: on a point mass DDIM is that solution."""
    sde = ss.VP()
    law = gaussian_moments(plan("euler-churn", sde, 6, "eps"), torch.zeros(1, dtype=torch.float64), 0.7)
    assert law.variance.item() == pytest.approx(sde.sigma(sde.eps) ** 2, rel=1e-11)
    assert law.mean.item() == pytest.approx(0.7 * sde.alpha(sde.eps), rel=1e-11)


def test_a_point_mass_has_its_exact_law_under_every_cooled_method(sde: ss.SDE) -> None:
    for name in ("ddpm", "sde-dpmpp-2m", "sde-dpmpp-3m", "dpmpp-2s-ancestral", "dpm-solver-2-ancestral", "er-sde-3"):
        law = gaussian_moments(plan(name, sde, 7, "eps"), torch.zeros(1, dtype=torch.float64), 0.7)
        assert law.variance.item() == pytest.approx(sde.sigma(sde.eps) ** 2, rel=1e-10), name


# -- chains


def test_chains_of_a_process_are_the_ddpm_chain() -> None:
    betas = torch.linspace(1e-3, 0.2, 20, dtype=torch.float64)
    sde, grid = ss.DiscreteVP.from_betas(betas), [k / 20 for k in range(20, 0, -1)]
    transitions = tuple((math.sqrt(1 - b), b) for b in betas.flip(0).tolist()[:-1])
    for name in ("reverse-diffusion", "reverse-diffusion-ode", "ddpm-large"):
        of_process, own = ss.get_solver(name), ss.get_solver(name, transitions=transitions)
        assert ss.make_plan(of_process, sde, grid).allclose(ss.make_plan(own, sde, grid), atol=1e-11)


def test_ancestral_variances_share_their_mean(sde: ss.SDE) -> None:
    grid = ss.get_grid("uniform", sde, 6)
    large, small = (ss.make_plan(name, sde, grid).matrices() for name in ("ddpm-large", "ddpm"))
    assert torch.allclose(large.A, small.A, atol=1e-11)
    assert torch.allclose(large.B, small.B, atol=1e-10)
    assert (large.C.abs() >= small.C.abs() - 1e-12).all()


def test_denoise_last_drops_the_last_noise() -> None:
    chains = [plan(ss.get_solver("reverse-diffusion", denoise_last=last), ss.VP(), 5, "eps") for last in (False, True)]
    assert [p.noises for p in chains] == [5, 4]


# -- ancestral steps on a rectified flow


def plain_flow_ancestral(denoise, x: torch.Tensor, sigmas: list[float], eta: float, z: torch.Tensor, second: bool):
    """ComfyUI's steps on a rectified flow: down to a lower sigma by the flow, and up again by noise."""
    for i, (s, t) in enumerate(pairwise(sigmas)):
        down = t * (1 + (t / s - 1) * eta)
        at_s = denoise(x, s)
        if t == 0:
            return at_s
        if second and s < 1:  # DPM-Solver++ 2S to the lower point, with its inner point halfway in log-SNR
            lam = 0.5 * (math.log((1 - s) / s) + math.log((1 - down) / down))
            u = 1 / (1 + math.exp(lam))
            at_s = denoise(u / s * x + (1 - u / s) * at_s, u)
        x = down / s * x + (1 - down / s) * at_s
        ratio = (1 - t) / (1 - down)
        x = ratio * x + math.sqrt(t**2 - (down * ratio) ** 2) * z[i]
    return x


@pytest.mark.parametrize("eta", [0.3, 1.0])
@pytest.mark.parametrize("end", ["zero", "eps"])
@pytest.mark.parametrize(("name", "T"), [("euler_ancestral_RF", 1.0), ("dpmpp_2s_ancestral_RF", 0.98)])
def test_ancestral_steps_on_a_flow_are_comfyuis(name: str, T: float, eta: float, end: str) -> None:
    sde = ss.RectifiedFlow(T=T)
    grid = list(ss.get_grid("uniform", sde, 6, end=end))
    denoise, z = GaussianMixture.five().denoiser(sde), normals(7, 4, 2)
    run = ss.make_plan(ss.get_solver(name, eta=eta), sde, grid).start(z[6], noise=lambda k: z[k])
    while not run.done:
        run.tell(denoise(run.x, run.t))
    expected = plain_flow_ancestral(denoise, z[6], grid, eta, z, second="2s" in name)
    assert torch.allclose(run.sample, expected, atol=1e-12)
    other = ss.make_plan(ss.get_solver(name, eta=eta, renewal="posterior"), sde, grid)
    assert not other.allclose(run.plan, atol=1e-3)


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        *(("sample_ddpm", "ddpm"), ("euler_ancestral_RF", "euler-ancestral-flow"), ("sample_lcm", "lcm")),
        *(
            ("LCMScheduler", "lcm"),
            ("CMStochasticIterativeScheduler", "consistency"),
            ("TCDScheduler", "tcd"),
        ),
        *(("exp_heun_2_x0_sde", "seeds-2-heun"), ("sample_seeds_2", "seeds-2"), ("seeds_3", "seeds-3")),
        *(("dpmpp_2m_sde_heun", "sde-dpmpp-2m-heun"), ("dpmpp_2m_sde_gpu", "sde-dpmpp-2m")),
        *(("DPM++ 2M SDE Heun", "sde-dpmpp-2m-heun"), ("dpmpp_3m_sde_gpu", "sde-dpmpp-3m-official")),
        *(("dpmpp_sde_gpu", "dpmpp-sde"), ("restart", "heun-restart"), ("er_sde", "er-sde-3")),
        *(("sa_solver", "sa-solver"), ("sa_solver_pece", "sa-solver-pece"), ("SASolverScheduler", "sa-solver")),
    ],
)
def test_names_that_users_know(alias: str, name: str) -> None:
    assert ss.get_solver(alias) == ss.get_solver(name)


# -- quadrature


def test_gauss_legendre_is_numpys() -> None:
    import numpy as np

    rule = np.array(sorted(gauss_legendre(24))).T
    assert np.allclose(rule, np.polynomial.legendre.leggauss(24), rtol=0.0, atol=1e-14)


@pytest.mark.parametrize("power", [-2.0, -1.5, -1.0, -0.5, 0.0, 2.0])
@pytest.mark.parametrize("ends", [(0.002, 80.0), (1.0, 1.0001), (1e-6, 1e-3)])
def test_integrate_log_of_powers(power: float, ends: tuple[float, float]) -> None:
    low, high = ends
    exact = math.log(high / low) if power == -1 else (high ** (power + 1) - low ** (power + 1)) / (power + 1)
    assert integrate_log(lambda x: x**power, low, high) == pytest.approx(exact, rel=1e-11)


def test_the_authors_sums_approach_the_integral_slowly() -> None:
    exact = integrate_log(lambda x: 1 / x**2, 1.0, 1.5)
    assert abs(one_sided_sum(lambda x: 1 / x**2, 1.0, 1.5) / exact - 1) == pytest.approx(4e-3, rel=0.2)


# -- errors


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ss.get_solver("dpmpp-2m", eta=-0.1), "eta must be finite and at least 0, got -0.1"),
        (lambda: ss.get_solver("dpmpp-2m", eta=math.nan), "eta must be finite"),
        (lambda: ss.get_solver("dpmpp-2s", eta=1.5), r"eta must be within \[0, 1\], got 1.5"),
        (lambda: ss.get_solver("ddim", s_noise=-1.0), "s_noise must be finite and at least 0"),
        (lambda: ss.get_solver("sde-dpmpp-2m", sign_slip=True), "sign_slip"),
        (lambda: ss.get_solver("er-sde-3", phi="x^3"), "phi='x\\^3' is unknown"),
        (lambda: ss.get_solver("er-sde-3", order=4), "order must be one of"),
        (lambda: plan(ss.get_solver("er-sde-1", phi=lambda x: x**0.5), ss.VP()), "must be positive and not decrease"),
        (lambda: ss.get_solver("heun-churn", s_churn=-1.0), "s_churn must be finite"),
        (lambda: ss.get_solver("heun-churn", s_min=2.0, s_max=1.0), "s_min <= s_max"),
        (lambda: ss.get_solver("heun-churn", inner=ss.get_solver("dpmpp-2m")), "inner must be deterministic"),
        (lambda: ss.get_solver("heun-churn", inner=ss.get_solver("ddpm")), "inner must be deterministic"),
        (lambda: ss.get_solver("dpmpp-sde", r=1.0), r"r must be within \(0, 1\)"),
        (lambda: ss.get_solver("dpmpp-sde", coupling="brown"), "coupling='brown' is unknown"),
        (lambda: ss.get_solver("ddim", renewal="rf"), "renewal='rf' is unknown"),
        (lambda: ss.get_solver("dpmpp-2s", renewal="rf"), "renewal='rf' is unknown"),
        (lambda: ss.get_solver("sa-solver", s_noise=math.nan), "s_noise must be finite"),
        (lambda: ss.get_solver("ddpm-large", probability_flow=True), "probability_flow"),
        (lambda: ss.get_solver("ddpm-large", transitions=((0.0, 1.0),)), "transitions must be pairs"),
        (
            lambda: plan(ss.get_solver("reverse-diffusion", transitions=((0.9, 0.1),)), ss.VP()),
            "transitions has 1 entries, for a grid of 8 steps",
        ),
    ],
)
def test_bad_options(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
