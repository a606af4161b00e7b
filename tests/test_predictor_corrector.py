"""UniPC and SA-Solver: their rows against the algorithm written out, orders, options."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor

import scoresde as ss
from scoresde.solvers import SASolver, TauBetween, UniPC
from scoresde.solvers.predictor_corrector import PredictorCorrector, adams_step
from scoresde.targets import GaussianMixture
from scoresde.theory import gaussian_moments
from tests.problems import OnMixture, drive, slopes

SDE = ss.VP()
TIMES = [0.95, 0.8, 0.62, 0.5, 0.33, 0.2, 0.11, 0.05]


def plan_of(solver: ss.Solver | str, times: list[float] | None = None) -> ss.Plan:
    return ss.make_plan(solver, SDE, TIMES if times is None else times)


# -- weights ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["x0", "epsilon"])
def test_variants_differ_where_the_polynomial_is_a_line_only(kind: str) -> None:
    bh1, bh2, vary = (plan_of(UniPC(3, variant, kind)) for variant in ("bh1", "bh2", "vary"))
    official = plan_of(UniPC(3, "vary", kind, official=True))
    for i, rows in enumerate(zip(bh1.rows, bh2.rows, vary.rows, strict=True)):
        # Rows from number 3 on have a predictor of order 3, and a corrector of order 3 of a step before.
        same = all(row.x.d == pytest.approx(rows[0].x.d, rel=1e-10) for row in rows)
        assert same == (i == 0 or i >= 3)
    assert all(a.x.d != pytest.approx(b.x.d, rel=1e-3) for a, b in zip(official.rows[3:], vary.rows[3:], strict=True))
    assert plan_of(UniPC(1, "vary", kind, official=True)).rows == plan_of(UniPC(1, "vary", kind)).rows


def test_weights_sum_to_the_integral_of_a_constant() -> None:
    s, t, *before = (SDE.point(u) for u in (0.5, 0.4, 0.6, 0.75))
    for tau in (0.0, 0.6, 1.0):
        for points in ([s], [s, *before], [t, s], [t, s, *before], [t]):
            for line in ("exact", "bh1"):
                a, weights, noise = adams_step("x0", s, t, points, tau, line)
                assert sum(weights) == pytest.approx(t.alpha - a * s.alpha, rel=1e-12)
                assert noise == pytest.approx(t.sigma * math.sqrt(1 - math.exp(-2 * tau**2 * (t.lam - s.lam))))


# -- the algorithm written out ---------------------------------------------------------------------


def predict_evaluate_correct(
    solver: PredictorCorrector, denoiser: ss.BaseDenoiser, x: Tensor, z: Tensor, predictor: int, corrector: int
) -> Tensor:
    """The paper's loop, with the corrector started again from the point s: one state, no merged rows.

    Of the start of a solver that has one only the states are used, of a Runge–Kutta method on the steps of the start.
    """
    points = [SDE.point(t) for t in TIMES]
    tau = getattr(solver, "tau", 0.0)
    made = [denoiser.predict(x, points[0].t, solver.kind)]
    for i, (s, t) in enumerate(pairwise(points)):
        past = points[: i + 1][::-1]
        a, weights, noise = adams_step(solver.kind, s, t, past[:predictor], tau)
        predicted = a * x + sum(w * m for w, m in zip(weights, made, strict=False)) + noise * z[i]
        if i + 2 == len(points):
            return predicted
        m = denoiser.predict(predicted, t.t, solver.kind)
        _, weights, _ = adams_step(solver.kind, s, t, [t, *past][:corrector], tau)
        x = a * x + sum(w * m for w, m in zip(weights, [m, *made], strict=False)) + noise * z[i]
        made.insert(0, denoiser.predict(x, t.t, solver.kind) if solver.mode == "PECE" else m)
    raise AssertionError


@pytest.mark.parametrize(
    ("solver", "predictor", "corrector"),
    [
        *((UniPC(p, "vary"), p, p + 1) for p in (1, 2, 3, 4)),
        (UniPC(3, "vary", "epsilon"), 3, 4),
        *((SASolver(p, c, tau=0.7), p, c) for p, c in ((1, 1), (1, 4), (2, 2), (3, 4), (4, 1), (4, 4))),
        *((SASolver(p, c, tau=0.7, mode="PECE"), p, c) for p, c in ((1, 1), (1, 4), (2, 3), (3, 4), (4, 2))),
        (SASolver(3, 4, tau=0.7, kind="epsilon"), 3, 4),
    ],
)
def test_rows_are_the_algorithm(solver: PredictorCorrector, predictor: int, corrector: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x, *z = torch.randn(len(TIMES), 5, 2, dtype=torch.float64, generator=generator)
    denoiser = GaussianMixture.five().denoiser(SDE)
    expected = predict_evaluate_correct(solver, denoiser, x, torch.stack(z), predictor, corrector)
    plan = plan_of(solver)
    assert torch.allclose(drive(plan, denoiser, x, z.__getitem__), expected, rtol=0.0, atol=1e-11)
    assert plan.memory == solver.memory
    steps = len(TIMES) - 1
    assert plan.nfe == (2 * steps - 1 if solver.mode == "PECE" else steps)


def test_uncorrected_steps_are_those_of_the_predictor() -> None:
    unip, unipc, mixed = (plan_of(s) for s in (UniPC(2, corrector=False), UniPC(2), UniPC(2, uncorrected_steps=(0, 1))))
    assert mixed.rows[:3] == unip.rows[:3]
    assert mixed.rows[3:] == unipc.rows[3:]


def test_the_last_point_can_be_corrected() -> None:
    """For one more evaluation; the corrected point is the one that the next step would start from."""
    short = plan_of(SASolver(tau=0.0, correct_last=True), TIMES[:-1])
    assert short.nfe == len(TIMES) - 1
    longer = plan_of(SASolver(tau=0.0, mode="PECE", correct_last=True), TIMES[:-1])
    assert longer.nfe == 2 * (len(TIMES) - 2)
    denoiser, x = GaussianMixture.five().denoiser(SDE), torch.ones(3, 2, dtype=torch.float64)
    solver = SASolver(tau=0.0)
    predicted = drive(plan_of(solver, TIMES[:-1]), denoiser, x)
    corrected = drive(short, denoiser, x)
    assert (predicted - corrected).abs().max() > 1e-4
    assert plan_of(SASolver(3, 0, tau=0.0, correct_last=True)).rows == plan_of(SASolver(3, 0, tau=0.0)).rows


# -- noise -----------------------------------------------------------------------------------------


def test_tau_is_taken_at_one_end_of_a_step() -> None:
    rho = [SDE.rho(t) for t in TIMES]
    band = TauBetween(0.8, rho[4] * 1.001, rho[1] * 1.001)  # holds nodes 1, 2 and 3
    for where, expected in (("end", [0, 1, 2]), ("start", [1, 2, 3])):
        solver = SASolver(tau=band, tau_at=where)
        plan = plan_of(solver)
        assert [i for i, row in enumerate(plan.rows) if row.x.z] == expected
        assert plan.noises == 3
        assert solver.noises == 1
    assert plan_of(SASolver(tau=lambda p: 0.3)).rows == plan_of(SASolver(tau=0.3)).rows


def test_last_step_without_noise() -> None:
    noisy, quiet = plan_of(SASolver()), plan_of(SASolver(ode_last=True))
    assert noisy.noises == len(TIMES) - 1
    assert quiet.noises == len(TIMES) - 2
    assert quiet.rows[:-1] == noisy.rows[:-1]


def weak_slope(solver: ss.Solver, sde: ss.SDE = SDE) -> float:
    variance, errors, end = torch.tensor([0.04, 0.5, 2.0], dtype=torch.float64), [], sde.t_at_lam(2.0)
    exact = sde.alpha(end) ** 2 * variance + sde.sigma(end) ** 2
    for n in (300, 600):
        moments = gaussian_moments(
            ss.make_plan(solver, sde, ss.get_grid("karras", sde, n, end=end)), variance, torch.tensor(0.7)
        )
        off = (moments.mean - sde.alpha(end) * 0.7).abs() + (moments.variance - exact).abs()
        errors.append(off.max().item())
    return slopes(errors, (300, 600))[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "solver",
    [
        SASolver(1, 0),
        SASolver(2, 0),
        SASolver(3, 0),
        SASolver(1, 1),
        SASolver(1, 2),
        SASolver(2, 2, line="bh1"),
        SASolver(3, 4, tau=0.5),
        SASolver(3, 4, mode="PECE"),
        SASolver(2, 3, kind="epsilon"),
    ],
    ids=lambda s: f"{s.predictor_order}{s.corrector_order}{s.mode}-{s.tau}-{s.kind}",
)
def test_weak_order_of_sa_solver(solver: SASolver) -> None:
    assert weak_slope(solver) == pytest.approx(solver.converges, abs=0.25)


# -- orders without noise --------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "solver",
    [
        UniPC(1, "bh1"),
        UniPC(1, "vary", official=True),
        UniPC(2, "bh1"),
        UniPC(2, "vary"),
        UniPC(2, "vary", official=True),
        UniPC(2, "vary", "epsilon", official=True),
        UniPC(1, kind="epsilon"),
        UniPC(2, kind="epsilon"),
        UniPC(2, "bh1", "epsilon"),
        UniPC(3, "vary", "epsilon"),
        SASolver(2, 3, tau=0.0),
        SASolver(3, 2, tau=0.0),
        SASolver(1, 4, tau=0.0),
        SASolver(1, 1, tau=0.0),
        SASolver(2, 3, tau=0.0, mode="PECE"),
        SASolver(3, 4, tau=0.0),
    ],
    ids=lambda s: f"{s.name}-{s.converges}-{s.mode}",
)
def test_global_order_of_options(solver: PredictorCorrector) -> None:
    problem = OnMixture(SDE, end=SDE.t_at_lam(3.0))
    coarse = solver.shows_order_at
    assert problem.slopes(solver, (coarse, 2 * coarse))[0] == pytest.approx(solver.converges, abs=0.15)


def test_lower_orders_at_the_end() -> None:
    """lower_order_final: the last step is DDIM from a point that a step of order 2 predicted."""
    plan = plan_of(UniPC(3, order_of_last_steps=(2, 1)))
    a, weights, _ = adams_step("x0", SDE.point(TIMES[-2]), SDE.point(TIMES[-1]), [SDE.point(TIMES[-2])])
    last = plan.rows[-1].x
    assert last.x == pytest.approx(a)
    # The corrector of the step before is of order 2: three predictions, and the predictor's of order 2 taken back.
    assert len(last.d) == 3
    assert sum(last.d) == pytest.approx(weights[0], rel=1e-12)


# -- options ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: UniPC(5), r"order must be one of \[1, 2, 3, 4\], got 5"),
        (lambda: UniPC(2, "bh3"), "variant='bh3' is unknown"),
        (lambda: UniPC(2, "vary_coef"), "nearest: vary"),
        (lambda: UniPC(kind="v"), "kind='v' is unknown"),
        (lambda: UniPC(2, "bh2", official=True), "official=True is about the corrector of variant='vary'"),
        (lambda: UniPC(2, "vary", official=True, corrector=False), "corrector=False"),
        (lambda: UniPC(order_of_last_steps=(5,)), "order_of_last_steps"),
        (lambda: UniPC(uncorrected_steps=(-1,)), "uncorrected_steps must be a tuple of step numbers"),
        (lambda: SASolver(0, 1), r"predictor_order must be one of \[1, 2, 3, 4\], got 0"),
        (lambda: SASolver(1, 5), r"corrector_order must be one of \[0, 1, 2, 3, 4\], got 5"),
        (lambda: SASolver(tau=-1.0), "tau must be at least 0, or a function of the noise level, got -1.0"),
        (lambda: SASolver(tau=math.nan), "tau must be at least 0"),
        (lambda: SASolver(tau_at="middle"), "tau_at='middle' is unknown"),
        (lambda: SASolver(mode="PC"), "mode='PC' is unknown"),
        (lambda: SASolver(2, 0, mode="PECE"), "needs a corrector_order"),
        (lambda: SASolver(line="bh2"), "line='bh2' is unknown"),
        (lambda: SASolver(kind="flow"), "kind='flow' is unknown"),
        (lambda: TauBetween(1.0, 2.0, 1.0), "rho_min <= rho_max"),
    ],
)
def test_bad_options(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("UniPCMultistepScheduler", "unipc-2"),
        ("uni_pc_bh2", "unipc-3"),
        ("uni_pc", "unipc-3-bh1"),
        ("SASolverScheduler", "sa-solver"),
    ],
)
def test_names_that_users_know(alias: str, name: str) -> None:
    assert ss.get_solver(alias) == ss.get_solver(name)


def test_names() -> None:
    assert UniPC(4, "bh1", "epsilon").name == "unipc-4-bh1-epsilon"
    assert UniPC(1, corrector=False).name == "unip-1"
    assert UniPC(2, "vary", official=True).name == "unipc-2-vary-official"
