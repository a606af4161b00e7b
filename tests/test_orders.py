"""Every solver's declared order is measured: against an exact flow, or from exact moments where it draws noise."""

import math
import re
from pathlib import Path

import pytest
import torch

import scoresde as ss
from scoresde.theory import Moments, gaussian_frechet, gaussian_moments, observed_order, standard_problems
from tests.problems import DETERMINISTIC, FIXED, STOCHASTIC, OnMixture

# Every process is measured for the table in the docs; here the first one always.
FLOWS, WEAK = ("vp", "edm", "flow"), ("vp", "subvp", "edm")


def some_slow(names: tuple[str, ...]) -> list:
    first, *others = names
    return [first, *(pytest.param(name, marks=pytest.mark.slow) for name in others)]


def test_every_process_of_the_table_is_measured() -> None:
    assert (tuple(standard_problems(weak=False)), tuple(standard_problems(weak=True))) == (FLOWS, WEAK)


@pytest.mark.parametrize("process", some_slow(FLOWS))
@pytest.mark.parametrize(
    "solver",
    [
        pytest.param(s, marks=pytest.mark.slow if s.evaluations > 1 or s.converges > 2 else ())
        for s in DETERMINISTIC.values()
    ],
    ids=DETERMINISTIC,
)
def test_global_order_on_the_mixture(solver: ss.Solver, process: str) -> None:
    problem = standard_problems(weak=False)[process]
    assert observed_order(problem, solver) == pytest.approx(solver.converges, abs=0.15)


def test_table_in_the_docs_is_that_of_the_catalogue() -> None:
    """Every solver is in it, as it is now, with measured orders; `python -m benchmarks.orders` writes it anew."""
    page = (Path(__file__).parent.parent / "docs" / "orders.md").read_text(encoding="utf-8")
    rows = {name: line.split(" | ") for name, line in re.findall(r"^\| `(\S+)` \| (.*) \|$", page, re.MULTILINE)}
    assert list(rows) == [*DETERMINISTIC, *STOCHASTIC]
    for name, solver in FIXED.items():
        kind, calls, declared, *measured = rows[name]
        assert (kind, int(calls)) == (solver.kind, solver.evaluations)
        assert [int(n) for n in re.findall(r"\d+", declared)][:1] == [solver.converges]
        assert len(measured) == 3
        if not solver.converges:
            assert set(measured) == {"–"}
            continue
        for order in measured:
            assert float(order) == pytest.approx(solver.converges, abs=0.15 if solver.deterministic else 0.25)


def test_corrected_third_order_gains_an_order_over_the_official_one() -> None:
    problem = OnMixture(ss.VP())
    steps = (160, 320)
    assert problem.slopes(ss.get_solver("dpmpp-3m"), steps)[0] == pytest.approx(3, abs=0.15)
    assert problem.slopes(ss.get_solver("dpmpp-3m-official"), steps)[0] == pytest.approx(2, abs=0.15)
    assert problem.error(ss.get_solver("dpmpp-3m"), 320) < 0.2 * problem.error(ss.get_solver("dpmpp-3m-official"), 320)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [{"solver_type": "taylor"}, {"r1": 0.3}, {"kind": "x0", "r1": 1.0}, {"inner_type": "midpoint", "kind": "x0"}],
)
def test_options_keep_the_order_of_singlestep(options: dict) -> None:
    problem = OnMixture(ss.VP(), end=0.05)
    for order in (2, 3):
        if order == 3 and options.get("r1") == 1.0:
            continue  # r1 < r2 <= 1
        solver = ss.get_solver(f"dpm-solver-{order}", **options)
        assert problem.slopes(solver, (160, 320))[0] == pytest.approx(order, abs=0.15)


# Of no order are samplers that do not converge: of Langevin correctors tests/test_langevin.py measures the bias, of
# consistency sampling tests/test_consistency.py the limit.
@pytest.mark.parametrize(
    "solver",
    [
        pytest.param(s, id=n, marks=pytest.mark.slow if s.evaluations > 1 else ())
        for n, s in STOCHASTIC.items()
        if s.converges
    ],
)
@pytest.mark.parametrize("process", some_slow(WEAK))
def test_weak_order_on_a_gaussian(solver: ss.Solver, process: str) -> None:
    """The law of the sample is exact, from the canonical form: no Monte Carlo."""
    problem = standard_problems(weak=True)[process]
    assert observed_order(problem, solver) == pytest.approx(solver.converges, abs=0.25)


def test_gaussian_moments_are_those_of_the_canonical_matrices() -> None:
    """The recursion of the canonical form, written out, against the loop on coefficients."""
    sde, v, mu = ss.VP(), 0.3, -0.4
    plan = ss.make_plan(ss.get_solver("ddim", eta=0.7), sde, ss.get_grid("karras", sde, 6, end="eps"))
    A, B, C = plan.matrices()
    n = plan.nfe
    gains = torch.zeros(n, 2 + plan.noises, dtype=torch.float64)  # of m_j: coefficients of (1, x_T, z)
    for i in range(n + 1):
        x = torch.cat([torch.zeros(1, dtype=torch.float64), A[i : i + 1], C[i]]) + B[i] @ gains
        if i < n:
            a, s = sde.alpha(plan.times[i]), sde.sigma(plan.times[i])
            gain = a * v / (a * a * v + s * s)
            gains[i] = gain * x
            gains[i, 0] += (1 - gain * a) * mu
    start = Moments(torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64))
    moments = gaussian_moments(plan, torch.tensor([v], dtype=torch.float64), mu, start=start)
    assert moments.mean.item() == pytest.approx(x[0].item(), abs=1e-12)
    assert moments.variance.item() == pytest.approx((x[1:] ** 2).sum().item(), rel=1e-12)


def test_gaussian_moments_are_those_of_samples() -> None:
    from scoresde.targets import Gaussian

    sde, n = ss.VP(), 20000
    target = Gaussian(torch.zeros(1), torch.tensor([0.3]))
    solver = ss.get_solver("ddim", eta=1.0)
    plan = ss.make_plan(solver, sde, ss.get_grid("log-snr", sde, 5, end="eps"))
    samples = ss.sample(target.denoiser(sde), (n, 1), solver=solver, steps=5, grid="log-snr", end="eps", seed=3)
    start = Moments(torch.zeros(1), torch.ones(1))
    expected = gaussian_moments(plan, torch.tensor([0.3]), start=start).variance.item()
    assert samples.var().item() == pytest.approx(expected, rel=4 * math.sqrt(2 / n))


@pytest.mark.parametrize("n", [5, 10, 20, 40])
def test_euler_on_a_gaussian_shrinks_by_cos_to_the_n(n: int) -> None:
    """On a grid uniform in arctan(sigma/c), Euler multiplies the std of N(0, c^2) by cos^n of the angle step."""
    c, sde = 0.5, ss.EDM()
    plan = ss.make_plan("euler", sde, ss.get_grid("arctan", sde, n, end="eps", scale=c))
    std = gaussian_moments(plan, torch.tensor([c * c])).variance.sqrt().item()
    angle = (math.atan(sde.sigma_max / c) - math.atan(sde.sigma_min / c)) / n
    exact = math.hypot(c, sde.sigma_min)
    assert std / exact == pytest.approx(math.cos(angle) ** n, rel=1e-12)


def test_gaussian_frechet_is_differentiable_and_falls_with_steps() -> None:
    sde, v = ss.EDM(), torch.tensor([0.01, 0.1, 1.0], dtype=torch.float64, requires_grad=True)
    distances = [gaussian_frechet(ss.make_plan("heun", sde, ss.get_grid("karras", sde, n)), v) for n in (5, 10, 20)]
    assert distances[0] > distances[1] > distances[2] > 0
    (gradient,) = torch.autograd.grad(distances[0], v)
    assert torch.isfinite(gradient).all()
    assert gradient.abs().sum() > 0
