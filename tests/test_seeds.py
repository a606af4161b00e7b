"""SEEDS: what it is without noise, the joint law of its stages, its weak order on Gaussians and on a mixture."""

import math
from dataclasses import dataclass

import pytest
import torch

import scoresde as ss
from scoresde.rows import Row, Step
from scoresde.solvers import SEEDS
from scoresde.theory import gaussian_moments
from tests.problems import slopes

PROCESSES = {"vp": ss.VP(), "subvp": ss.SubVP(), "edm": ss.EDM(), "flow": ss.RectifiedFlow()}


@pytest.fixture(params=PROCESSES.values(), ids=list(PROCESSES))
def sde(request: pytest.FixtureRequest) -> ss.SDE:
    return request.param


def planned(solver: ss.Solver, sde: ss.SDE, steps: int = 6, end: str | float = "zero") -> ss.Plan:
    return ss.make_plan(solver, sde, ss.get_grid("karras", sde, steps, end=end))


@pytest.mark.parametrize("end", ["zero", "eps"])
@pytest.mark.parametrize(
    ("options", "name", "same"),
    [
        ({}, "dpmpp-2s", {}),
        ({"r1": 0.3}, "dpmpp-2s", {"r1": 0.3}),
        ({"solver_type": "taylor", "r1": 0.7}, "dpmpp-2s", {"solver_type": "taylor", "r1": 0.7}),
        ({"solver_type": "taylor", "r1": 1.0}, "dpmpp-2s", {"solver_type": "taylor", "r1": 1.0}),
        ({"kind": "epsilon"}, "dpm-solver-2", {}),
        ({"order": 3}, "dpmpp-3s", {}),
        ({"order": 3, "kind": "epsilon", "r1": 0.2, "r2": 0.9}, "dpm-solver-3", {"r1": 0.2, "r2": 0.9}),
    ],
)
def test_without_noise_it_is_a_singlestep_dpm_solver(
    sde: ss.SDE, end: str, options: dict, name: str, same: dict
) -> None:
    seeds = SEEDS(**options, eta=0.0)
    assert seeds.noises == 0
    assert planned(seeds, sde, end=end).allclose(planned(ss.get_solver(name, **same), sde, end=end))


def test_seeds_2_is_dpmpp_sde_on_the_path_of_the_reverse_sde(sde: ss.SDE) -> None:
    for r in (0.5, 0.3):
        other = ss.get_solver("dpmpp-sde", coupling="path", r=r)
        assert planned(SEEDS(2, r1=r), sde).allclose(planned(other, sde), atol=1e-11)
    assert not planned(SEEDS(2), sde).allclose(planned(ss.get_solver("dpmpp-sde"), sde), atol=1e-4)


@pytest.mark.parametrize("kind", ["x0", "epsilon"])
@pytest.mark.parametrize("eta", [0.4, 1.0, 2.0])
def test_stages_lie_on_one_path_of_the_noise(sde: ss.SDE, kind: str, eta: float) -> None:
    """With no prediction the reverse SDE is an Ornstein–Uhlenbeck process, whose covariances are known."""
    start, t = (sde.t_at_lam(lam) for lam in (-1.0, 0.7))
    plan = ss.make_plan(SEEDS(3, kind, eta, r1=0.2, r2=0.7), sde, [start, t])
    _, _, C = plan.matrices()
    if kind == "epsilon":  # in the predictions of noise: x loses its part in D = (x - sigma eps) / alpha
        run = plan.start(torch.zeros(3, 1, dtype=torch.float64), noise=lambda k: torch.eye(3).double()[:, k, None])
        states = []
        while not run.done:
            states.append(run.x[:, 0])
            run.tell(torch.zeros_like(run.x), kind="epsilon")
        C = torch.stack([*states, run.sample[:, 0]])
    points = [*(row.at for row in plan.rows), plan.end]
    s = points[0]
    for i, u in enumerate(points):
        h = u.lam - s.lam
        variance = u.sigma**2 * (-math.expm1(-2 * eta * h) if kind == "x0" else eta * math.expm1(2 * h))
        assert (C[i] ** 2).sum().item() == pytest.approx(variance, rel=1e-11)
        for j in range(i, len(points)):
            v = points[j]
            decay = v.sigma / u.sigma * math.exp(-eta * (v.lam - u.lam)) if kind == "x0" else v.alpha / u.alpha
            assert (C[i] * C[j]).sum().item() == pytest.approx(decay * variance, rel=1e-11)


def law_errors(solver: ss.Solver, sde: ss.SDE, steps: tuple[int, ...]) -> list[float]:
    end, v = sde.t_at_lam(2.0), torch.tensor([0.04, 0.5, 2.0], dtype=torch.float64)
    exact = sde.alpha(end) ** 2 * v + sde.sigma(end) ** 2
    errors = []
    for n in steps:
        got = gaussian_moments(planned(solver, sde, n, end), v, 0.7)
        errors.append(((got.mean - 0.7 * sde.alpha(end)).abs() + (got.variance - exact).abs()).max().item())
    return errors


@pytest.mark.parametrize(
    "options",
    [
        {"solver_type": "taylor"},
        {"kind": "epsilon"},
        {"eta": 0.5},
        {"order": 3, "kind": "epsilon"},
        {"order": 3, "eta": 0.5},
        {"order": 3, "r2": 1.0},
    ],
)
@pytest.mark.slow
def test_options_keep_weak_order_2(options: dict) -> None:
    steps = (300, 600)
    assert slopes(law_errors(SEEDS(**options), ss.VP(), steps), steps)[0] == pytest.approx(2, abs=0.25)


@dataclass(frozen=True)
class Independent(SEEDS):
    """Each stage with a noise of its own, of the right variance."""

    def rows(self, step: Step) -> list[Row]:
        rows = super().rows(step)
        deviations = [math.sqrt(sum(c * c for _, c in row.x.z)) for row in rows]
        return [row._replace(x=row.x._replace(z=((k, deviations[k]),))) for k, row in enumerate(rows)]


@pytest.mark.parametrize("order", [2, 3])
def test_independent_noises_cost_an_order(order: int) -> None:
    steps = (200, 400)
    assert slopes(law_errors(Independent(order), ss.VP(), steps), steps)[0] == pytest.approx(1, abs=0.25)


def test_s_noise_scales_the_noise_alone() -> None:
    for order in (2, 3):
        one, two = (planned(SEEDS(order, s_noise=s), ss.VP()).matrices() for s in (1.0, 1.5))
        assert torch.equal(one.A, two.A)
        assert torch.equal(one.B, two.B)
        assert torch.allclose(1.5 * one.C, two.C, rtol=1e-14)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": 4}, r"order must be one of \[2, 3\], got 4"),
        ({"kind": "v"}, "kind='v' is unknown"),
        ({"eta": -1.0}, "eta must be finite and at least 0"),
        ({"r1": 1.1}, r"r1, r2 must satisfy 0 < r1 \(< r2\) <= 1, got \(1.1,\)"),
        ({"r1": 0.0}, "r1, r2 must satisfy"),
        ({"r2": 0.5}, "r2: SEEDS-2 has one inner point"),
        ({"order": 3, "r1": 0.7}, "r1, r2 must satisfy"),
        ({"solver_type": "phi_1"}, "solver_type='phi_1' is unknown"),
    ],
)
def test_bad_options(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ss.get_solver("seeds-2", **options)
