"""Explicit Runge–Kutta methods: coefficients, forms, and tableaus of a user's own."""

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor

import scoresde as ss
from scoresde.sde import Point
from scoresde.solvers import RungeKutta
from scoresde.solvers.tableaus import TABLEAUX, Tableau, rooted_trees, two_stages
from scoresde.targets import ExactDenoiser, GaussianMixture
from tests.problems import OnMixture, drive, starts

PROCESSES = {"vp": ss.VP(), "cosine": ss.CosineVP(), "edm": ss.EDM(), "flow": ss.RectifiedFlow(T=0.999)}


@pytest.mark.parametrize("name", TABLEAUX)
def test_tableaus_meet_the_conditions_of_their_order_and_no_more(name: str) -> None:
    tableau = TABLEAUX[name]
    assert tableau.order_error(tableau.order) < 2e-14
    assert tableau.order_error(tableau.order + 1) > 1e-5
    assert tableau.paper


def test_a_wrong_digit_is_found_out() -> None:
    """RES4LYF's tableau of Dormand and Prince with a sign flipped has order 1 instead of 5."""
    good = TABLEAUX["dopri5-fixed"]
    *rows, row = good.a[:5]
    bad = good._replace(a=(*rows, (*row[:3], -row[3]), good.a[5]))
    assert bad.order_error(2) > 0.01
    assert bad.order_error(1) < 1e-14


def test_rooted_trees_are_counted_right() -> None:
    assert [len(rooted_trees(n)) for n in range(1, 9)] == [1, 1, 2, 4, 9, 20, 48, 115]


# form, kind -> (scale, variable, half log-SNR at a value of it, weight), written out anew
VARIABLES: dict[tuple[str, str], tuple[Callable, Callable, Callable, Callable]] = {
    ("clock", "epsilon"): (lambda p: p.alpha, lambda p: p.sigma / p.alpha, lambda c: -math.log(c), lambda p: 1.0),
    ("clock", "x0"): (lambda p: p.sigma, lambda p: p.alpha / p.sigma, math.log, lambda p: 1.0),
    ("clock", "flow"): (
        lambda p: p.alpha + p.sigma,
        lambda p: p.sigma / (p.alpha + p.sigma),
        lambda c: math.log((1 - c) / c),
        lambda p: 1.0,
    ),
    ("lawson", "x0"): (lambda p: p.sigma, lambda p: p.lam, lambda c: c, lambda p: math.exp(p.lam)),
    ("lawson", "epsilon"): (lambda p: p.alpha, lambda p: p.lam, lambda c: c, lambda p: -math.exp(-p.lam)),
}


def textbook(tableau: Tableau, form: str, denoiser: ExactDenoiser, times: list[float], x: Tensor, kind: str) -> Tensor:
    """k_i = f(y + h sum a_ij k_j), y + h sum b_i k_i, in the variable y = x / scale."""
    scale, variable, lam_at, weight = VARIABLES[form, kind]
    sde = denoiser.sde
    for s, t in pairwise(map(sde.point, times)):
        start, h, slopes = variable(s), variable(t) - variable(s), []
        for row in tableau.a:
            y = x / scale(s) + h * sum((w * k for w, k in zip(row, slopes, strict=True)), torch.zeros_like(x))
            u: Point = sde.point_at_lam(lam_at(start + math.fsum(row) * h))
            slopes.append(weight(u) * denoiser.predict(y * scale(u), u.t, kind))
        x = scale(t) * (x / scale(s) + h * sum(w * k for w, k in zip(tableau.b, slopes, strict=True)))
    return x


@pytest.mark.parametrize(("form", "kind"), VARIABLES)
@pytest.mark.parametrize("method", ["midpoint", "ssprk3", "ralston4", "rk6"])
@pytest.mark.parametrize(
    "sde",
    [pytest.param(sde, marks=() if name == "vp" else pytest.mark.slow) for name, sde in PROCESSES.items()],
    ids=PROCESSES,
)
def test_rows_are_the_textbook_method(method: str, form: str, kind: str, sde: ss.SDE) -> None:
    denoiser = GaussianMixture.five().denoiser(sde)
    x_T = starts(5) * sde.prior_std()
    grid = ss.get_grid("karras", sde, 6, end="eps")
    solver = RungeKutta(method, kind, form)
    ours = drive(ss.make_plan(solver, sde, grid), denoiser, x_T)
    exact = textbook(TABLEAUX[method], form, denoiser, list(grid), x_T, kind)
    assert torch.allclose(ours, exact, rtol=1e-9, atol=1e-9)


def test_lawson_in_data_prediction_has_the_weights_of_the_integrating_factor() -> None:
    """exp((c_i - c_j) z) a_ij and exp((1 - c_j) z) b_j at z = -h."""
    sde = ss.EDM()
    s, t = sde.point(4.0), sde.point(1.0)
    h = t.lam - s.lam
    plan = ss.make_plan("lawson-rk4", sde, (s.t, t.t))
    A, B, _ = plan.matrices()
    assert A[-1].item() == pytest.approx(math.exp(-h), rel=1e-14)
    half = math.exp(-h / 2)
    assert B[-1].tolist() == pytest.approx([h * w for w in (half**2 / 6, half / 3, half / 3, 1 / 6)], rel=1e-13)
    assert B[3].tolist() == pytest.approx([0, 0, h * half, 0], rel=1e-13)


@pytest.mark.parametrize("alpha", [0.3, 0.5, 2 / 3, 1.0])
def test_a_tableau_of_your_own(alpha: float) -> None:
    solver = RungeKutta(two_stages(alpha))
    assert (solver.name, solver.order, solver.evaluations) == ("runge-kutta", 2, 2)
    assert solver.memory == (0 if alpha == 0.5 else 1)
    if named := {0.5: "midpoint", 2 / 3: "ralston", 1.0: "heun"}.get(alpha):
        sde = ss.VP()
        grid = ss.get_grid("karras", sde, 5)
        assert ss.make_plan(solver, sde, grid).allclose(ss.make_plan(named, sde, grid))
    else:
        assert OnMixture(ss.VP(), end=0.05).slopes(solver, (160, 320))[0] == pytest.approx(2, abs=0.15)


@pytest.mark.parametrize(
    ("tableau", "message"),
    [
        (Tableau(1, ((0.5,),), (1.0,)), r"explicit tableau of 1 stages has rows a of 0, 1, ... weights, got \[1\]"),
        (Tableau(2, ((),), (0.5, 0.5)), r"of 2 stages .* got \[0\]"),
        (Tableau(1, (), ()), "explicit tableau of 0 stages"),
        (Tableau(2, ((), (math.nan,)), (0.5, 0.5)), "must be finite"),
        (Tableau(2, ((), (1.5,)), (2 / 3, 1 / 3)), r"within the step, \[0, 1\], got c=\(0, 1.5\)"),
        (Tableau(2, ((), (1.0,)), (0.5, 0.6)), "must sum to 1, got 1.1"),
        (Tableau(0, ((),), (1.0,)), "order of a tableau must be an integer of at least 1, got 0"),
        (TABLEAUX["kutta3"]._replace(order=4), "has not the order 4 that it declares"),
    ],
)
def test_bad_tableaus(tableau: Tableau, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RungeKutta(tableau)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"form": "lawsom"}, "form='lawsom' is unknown; nearest: lawson"),
        ({"form": "lawson", "kind": "flow"}, "kind='flow' is unknown"),
        ({"method": "rk44"}, "method='rk44' is unknown; nearest: rk4"),
    ],
)
def test_bad_options(options: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ss.get_solver("rk4", **options)


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("midpoint_2s", "midpoint"),
        ("ralston_2s", "ralston"),
        ("heun_3s", "heun3"),
        ("rk4_4s", "rk4"),
        ("rk38_4s", "rk38"),
        ("deis-rho3kutta", "kutta3"),
        ("lawson4_4s", "lawson-rk4"),
    ],
)
def test_names_that_users_know(alias: str, name: str) -> None:
    assert ss.get_solver(alias) == ss.get_solver(name)


@pytest.mark.slow
def test_order_of_lawsons_form_in_noise_prediction() -> None:
    solver = RungeKutta("rk4", "epsilon", "lawson")
    assert solver.name == "lawson-rk4-epsilon"
    assert OnMixture(ss.VP(), end=0.05).slopes(solver, (320, 640))[0] == pytest.approx(4, abs=0.15)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["tsit5", "dopri5-fixed"])
def test_methods_outside_the_catalogue_are_at_least_as_exact_as_their_order(method: str) -> None:
    problem = OnMixture(ss.VP(), end=0.05)
    assert problem.slopes(RungeKutta(method), (60, 120))[0] > 4.85
    assert problem.error(RungeKutta(method), 60) < problem.error(RungeKutta("rk5"), 60)
