"""Starts that keep the order of a multistep method: cost, rows, and the order from end to end, with and without."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

import scoresde as ss
from scoresde.plan import plan_steps
from scoresde.solvers import DEIS, PNDM, REAB, Adams, MultistepDPM, UniPC
from scoresde.solvers.predictor_corrector import adams_step
from scoresde.solvers.runge_kutta import RungeKutta
from scoresde.solvers.starting import METHODS, Multistep, steps_begin
from scoresde.targets import GaussianMixture
from tests.problems import FIXED, OnMixture, drive, slopes, starts

VP = ss.VP()
WITH_START = {n: s for n, s in FIXED.items() if isinstance(s, Multistep) and s.start == "runge-kutta" and n != "pndm"}
EVERY = [
    *(Adams(k, *space, start="runge-kutta") for k in METHODS for space in (("x0", "lam"), ("epsilon", "lam"))),
    *(Adams(k, kind, "clock", start="runge-kutta") for k in METHODS for kind in ("epsilon", "flow", "unit-v")),
    *(MultistepDPM(k, kind, start="runge-kutta") for k in (2, 3) for kind in ("x0", "epsilon")),
    *(DEIS(k, start="runge-kutta") for k in METHODS),
    *(REAB(k, start="runge-kutta") for k in METHODS),
    *(UniPC(k, variant, start="runge-kutta") for k in (1, 2, 3, 4) for variant in ("bh1", "bh2", "vary")),
    *(UniPC(k, kind=kind, corrector=False, start="runge-kutta") for k in (2, 3, 4) for kind in ("x0", "epsilon")),
]


def plan_of(solver: ss.Solver, steps: int, sde: ss.SDE = VP, end: str = "eps") -> ss.Plan:
    return ss.make_plan(solver, sde, ss.get_grid("karras", sde, steps, end=end))


# -- rows ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", EVERY, ids=lambda s: s.name)
def test_start_is_over_after_one_step_less_than_the_order(solver: Multistep) -> None:
    """One-step methods of one order less than the whole; then the rows are those of the method without a start."""
    k, stages = solver.order, len(METHODS[solver.full_order].b)
    plan = plan_of(solver, 14)
    plain = plan_of(replace(solver, start="lower"), 14)  # type: ignore[type-var]
    assert plan.nfe == 14 + (k - 1) * (stages - 1) == 14 + solver.further_evaluations
    assert plan.memory == solver.memory
    assert [row.x for row in plan.rows[-4:]] == [row.x for row in plain.rows[-4:]]
    starting = plan.rows[: (k - 1) * stages]
    assert [row.anchor is None for row in starting] == ([False] * (stages - 1) + [True]) * (k - 1)
    first = plan.rows[(k - 1) * stages].x.d  # it reads the predictions where steps begin, and no other
    assert [i for i, w in enumerate(first) if w] == [i * stages for i in range(k)]


@pytest.mark.parametrize("p", [2, 3, 4])
@pytest.mark.parametrize("kind", ["x0", "epsilon"])
def test_unipc_after_its_start_is_the_paper_s_loop(p: int, kind: str) -> None:
    """The states of the start are not corrected, for they were not predicted; written out with one state."""
    times = [0.95, 0.8, 0.62, 0.5, 0.33, 0.2, 0.11, 0.05]
    denoiser, made = GaussianMixture.five().denoiser(VP), []
    points = [VP.point(t) for t in times]
    one_step = RungeKutta({2: "heun", 3: "kutta3", 4: "rk4"}[p], kind)

    def step(x: Tensor, s: ss.Point, t: ss.Point, through: Sequence[ss.Point]) -> Tensor:
        a, weights, _ = adams_step(kind, s, t, through)
        return a * x + sum(w * m for w, m in zip(weights, made, strict=False))

    x = evaluated = starts(5)
    for i, (s, t) in enumerate(pairwise(points)):
        past = points[i::-1]
        made.insert(0, denoiser.predict(evaluated, s.t, kind))
        if i >= p:
            x = step(x, past[1], s, past[: p + 1])  # the step that ended at s, with the prediction made there
        if i < p - 1:
            x = evaluated = drive(ss.make_plan(one_step, VP, (s.t, t.t)), denoiser, x)
        else:
            evaluated = step(x, s, t, past[:p])
    plan = ss.make_plan(UniPC(p, "vary", kind, start="runge-kutta"), VP, times)
    assert torch.allclose(drive(plan, denoiser, starts(5)), evaluated, rtol=0, atol=1e-11)


def test_where_steps_begin() -> None:
    """Among stages at other levels, at the level where the next step begins, and with the oldest forgotten."""
    a, b, c, d, e = (VP.point(t) for t in (0.9, 0.7, 0.5, 0.3, 0.1))
    route, past = ((a, b), (b, c), (c, d), (d, e)), (d, VP.point(0.4), c, c, VP.point(0.6), b, b, a)
    assert steps_begin(ss.Step(VP, d, e, past, 3, 4, route)) == [0, 3, 6, 8]
    assert steps_begin(ss.Step(VP, d, e, past[:7], 3, 4, route)) == [0, 3, 6]
    assert steps_begin(ss.Step(VP, d, e, (), 3, 4, route)) == [0]


def test_a_start_on_steps_that_do_not_join() -> None:
    """The next step begins where the last one did not end: its predictions are still those where steps begin."""
    solver = MultistepDPM(3, start="runge-kutta")
    plan = plan_steps(solver, VP, [(0.9, 0.72), (0.7, 0.52), (0.5, 0.32), (0.3, 0.12)])
    assert [i for i, w in enumerate(plan.rows[4].x.d) if w] == [0, 2, 4]


@pytest.mark.parametrize("solver", EVERY, ids=lambda s: s.name)
def test_short_plans(solver: Multistep) -> None:
    """Fewer steps than the start has, out of pure noise and into the data."""
    for sde in (VP, ss.RectifiedFlow()):
        denoiser = GaussianMixture.five().denoiser(sde)
        for steps in (1, 2, 3, 5):
            out = ss.sample(denoiser, (4, 2), solver=solver, steps=steps, grid="karras")
            assert torch.isfinite(out).all()
    assert plan_of(solver, 1, end="zero").nfe == 1


# -- orders ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "dpmpp-3m-rk",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("unipc-3-rk", "adams-4-rk", "unipc-4-rk", "deis-tab3-rk", "adams-5-rk")
        ),
    ],
)
def test_order_of_3_and_more_from_end_to_end(name: str) -> None:
    """From sde.T to sde.eps, not to a moderate level where the last steps are easy."""
    solver = ss.get_solver(name)
    (slope,) = OnMixture(VP).slopes(solver, (320, 640))
    assert slope > 2.95
    assert slope == pytest.approx(solver.converges, abs=0.2)


# solver -> the order that is left in the end from lower orders at the start
LEFT: dict[str, tuple[Callable[[str], ss.Solver], int]] = {
    "dpmpp-3m": (lambda start: MultistepDPM(3, start=start), 2),
    "unipc-4": (lambda start: UniPC(4, start=start), 3),
    "unip-4": (lambda start: UniPC(4, corrector=False, start=start), 2),
    "adams-4": (lambda start: Adams(4, start=start), 2),
    "adams-5": (lambda start: Adams(5, start=start), 2),
    "deis-tab3": (lambda start: DEIS(4, start=start), 2),
    "reab-3": (lambda start: REAB(3, start=start), 2),
    "adams-4-v": (lambda start: Adams(4, "unit-v", "clock", start), 2),
}


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n == "dpmpp-3m" else pytest.mark.slow) for n in LEFT])
def test_without_the_start_the_order_falls(name: str) -> None:
    """At a start from moderate noise, as in image-to-image, where the first steps do not have it easy."""
    make, left = LEFT[name]
    problem, steps = OnMixture(ss.EDM(sigma_max=2.0)), (320, 640)
    lower, full = ([problem.error(make(start), n) for n in steps] for start in ("lower", "runge-kutta"))
    assert slopes(lower, steps)[0] == pytest.approx(left, abs=0.15)
    assert slopes(full, steps)[0] == pytest.approx(make("runge-kutta").converges, abs=0.2)
    assert full[0] < 0.15 * lower[0]


# -- options ---------------------------------------------------------------------------------------


def test_names_of_the_catalogue() -> None:
    assert {"dpmpp-3m-rk", "unipc-3-rk", "deis-tab3-rk", "adams-4-rk", "lms-4-rk"} <= set(WITH_START)
    assert all(name.endswith("-rk") and solver.converges >= 3 for name, solver in WITH_START.items())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Adams(3, start="heun"), "start='heun' is unknown"),
        (lambda: Adams(6, start="runge-kutta"), r"of order \[2, 3, 4, 5\], got 6 \(order=6\)"),
        (lambda: DEIS(1, start="runge-kutta"), r"of order \[2, 3, 4, 5\], got 1"),
        (lambda: MultistepDPM(3, eta=1.0, start="runge-kutta"), "eta > 0 and official=True do not have; got eta=1.0"),
        (lambda: MultistepDPM(3, official=True, start="runge-kutta"), "official=True"),
        (lambda: UniPC(3, "vary", official=True, start="runge-kutta"), "official=True does not have"),
        (lambda: UniPC(start="rk"), "start='rk' is unknown"),
        (lambda: PNDM(3, "heun"), "of a method of order 4, got order=3"),
    ],
)
def test_bad_options(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
