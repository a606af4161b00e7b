"""What solvers declare is what they do; their shared mathematics, names and options."""

import math
from dataclasses import FrozenInstanceError

import pytest
import torch

import scoresde as ss
from scoresde.solvers.exponential import exact_step, interpolation_weights, phi
from tests.problems import FIXED, SOME_SLOW

PROCESSES = {"vp": ss.VP(), "cosine": ss.CosineVP(), "subvp": ss.SubVP(), "edm": ss.EDM(), "flow": ss.RectifiedFlow()}


@pytest.mark.parametrize("solver", FIXED.values(), ids=FIXED)
def test_declarations(solver: ss.Solver) -> None:
    """kind, memory, noises and evaluations are those of a plan of full steps."""
    sde, steps = ss.VP(), 9
    grid = ss.get_grid("uniform", sde, steps, end="eps")
    plan = ss.make_plan(ss.get_solver("dpm-solver-3") if solver.name == "dpm-solver-fast" else solver, sde, grid)
    assert {row.kind for row in plan.rows} == {solver.kind}
    assert plan.nfe == steps * solver.evaluations + solver.further_evaluations
    assert plan.memory == solver.memory
    assert plan.noises == steps * solver.noises + solver.further_noises
    assert solver.name
    assert solver.paper
    with pytest.raises(FrozenInstanceError):
        solver.anything = 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("solver", SOME_SLOW)
@pytest.mark.parametrize(
    "sde",
    [
        pytest.param(s, marks=pytest.mark.slow if name in ("cosine", "subvp", "edm") else ())
        for name, s in PROCESSES.items()
    ],
    ids=PROCESSES,
)
@pytest.mark.parametrize("end", ["zero", pytest.param("eps", marks=pytest.mark.slow)])
def test_every_solver_runs_on_every_process(solver: ss.Solver, sde: ss.SDE, end: str) -> None:
    """From one step up, from alpha = 0 where the process starts there, into sigma = 0: finite."""
    from scoresde.targets import GaussianMixture

    denoiser = GaussianMixture.five().denoiser(sde)
    for steps in (1, 2, 5):
        for grid in ("uniform", "karras"):
            out = ss.sample(denoiser, (4, 2), solver=solver, steps=steps, grid=grid, end=end)
            assert torch.isfinite(out).all()


def test_fast_fills_the_budget_as_the_paper_says() -> None:
    sde = ss.VP()
    orders = {12: [3, 3, 3, 2, 1], 13: [3, 3, 3, 3, 1], 14: [3, 3, 3, 3, 2]}
    for nfe, expected in orders.items():
        plan = ss.plan_for("dpm-solver-fast", sde, nfe=nfe, grid="log-snr", end="eps", most_gain=math.inf)
        assert plan.nfe == nfe
        ends = [i for i, row in enumerate(plan.rows) if row.anchor is None]
        assert [b - a for a, b in zip([-1, *ends], ends, strict=False)] == expected
    for nfe in range(1, 20):
        assert ss.plan_for("dpm-solver-fast", sde, nfe=nfe, end="zero", most_gain=math.inf).nfe == nfe


@pytest.mark.parametrize(("name", "expected"), [("ddim", 10), ("heun", 9), ("dpm-solver-3", 10), ("dpmpp-2m", 10)])
def test_budgets(name: str, expected: int) -> None:
    assert ss.plan_for(name, ss.VP(), nfe=10, most_gain=math.inf).nfe == expected


@pytest.mark.parametrize("z", [0.0, 1e-12, 1e-3, 0.5, 0.999, 1.001, 3.0, 30.0, -1e-3, -0.9999, -1.0001, -5.0, -40.0])
@pytest.mark.parametrize("n", range(6))
def test_phi_against_high_precision(n: int, z: float) -> None:
    mpmath = pytest.importorskip("mpmath")
    with mpmath.workdps(50):
        z_exact = mpmath.mpf(z)
        exact = (
            mpmath.exp(z_exact)
            if n == 0
            else mpmath.quad(
                lambda u: mpmath.exp((1 - u) * z_exact) * u ** (n - 1) / mpmath.factorial(n - 1), [0, 0.5, 1]
            )
        )
    assert phi(n, z) == pytest.approx(float(exact), rel=4e-15)


def test_exact_step_integrates_polynomials() -> None:
    """d(x/scale) = m d(clock) with m = lambda^n, by Gauss–Legendre quadrature."""
    import numpy as np

    sde = ss.VP()
    s, t = sde.point(0.7), sde.point(0.3)
    nodes, weights = np.polynomial.legendre.leggauss(60)
    lam = 0.5 * (t.lam + s.lam) + 0.5 * (t.lam - s.lam) * nodes
    for kind, scale, kernel in (("x0", t.sigma, np.exp(lam)), ("epsilon", -t.alpha, np.exp(-lam))):
        _, *integrals = exact_step(kind, s, t, 4)
        for n, got in enumerate(integrals):
            integrand = kernel * (lam - s.lam) ** n / math.factorial(n)
            assert got == pytest.approx(scale * 0.5 * (t.lam - s.lam) * (weights * integrand).sum(), rel=1e-12)


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
def test_interpolation_weights_are_exact_for_polynomials(k: int) -> None:
    sde = ss.VP()
    s, t = sde.point(0.5), sde.point(0.4)
    nodes = [0.0, -0.31, -0.47, -0.9, -1.3][:k]
    integrals = exact_step("x0", s, t, k)[1:]
    weights = interpolation_weights(nodes, integrals)
    for degree in range(k):  # p = u^degree has one non-zero derivative at 0: degree!
        got = sum(w * u**degree for w, u in zip(weights, nodes, strict=True))
        assert got == pytest.approx(integrals[degree] * math.factorial(degree), rel=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ss.get_solver("dpmpp-4m"), "nearest: dpmpp-"),
        (lambda: ss.get_solver("ddim", etta=0.1), "'etta' is not an option of solver 'ddim'; its options: eta"),
        (lambda: ss.get_solver("ddim", eta=2.0), r"eta must be within \[0, 1\], got 2.0"),
        (lambda: ss.get_solver("dpmpp-2m", order=4), r"order must be one of \[1, 2, 3\], got 4"),
        (lambda: ss.get_solver("dpmpp-2m", kind="v"), "kind='v' is unknown"),
        (lambda: ss.get_solver("dpmpp-2m", order_of_last_steps=(4,)), "order_of_last_steps"),
        (lambda: ss.get_solver("dpm-solver-3", r1=0.9), "r1 < r2"),
        (lambda: ss.get_solver("dpm-solver-2", fast=True), "fast"),
        (lambda: ss.get_solver("heun", method="huen"), "nearest: heun"),
        (lambda: ss.get_solver("euler-maruyama", step_size=-1.0), "step_size must be positive"),
        (lambda: ss.get_solver("rk45", rtol=0.0), "rtol and atol must be positive"),
        (lambda: ss.get_solver("DPM++ 2M Karras"), "names a grid too"),
    ],
)
def test_bad_options(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("DPM++ 2M", "dpmpp-2m"),
        ("dpmpp_2m", "dpmpp-2m"),
        ("sample_dpmpp_2m", "dpmpp-2m"),
        ("DPMSolverMultistepScheduler", "dpmpp-2m"),
        ("DPM++ 3M", "dpmpp-3m"),
        ("sample_heun", "heun"),
        ("DDIMScheduler", "ddim"),
        ("DPM-Solver-fast", "dpm-solver-fast"),
    ],
)
def test_names_that_users_know(alias: str, name: str) -> None:
    assert ss.get_solver(alias) == ss.get_solver(name)


def test_catalogue_names_are_the_solvers_own() -> None:
    for name, solver in ss.solvers().items():
        if not name.startswith("ddpm"):  # DDIM with a preset
            assert solver.name == name
        assert ss.get_solver(name) == solver
