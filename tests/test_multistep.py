"""Deterministic multistep methods: identities on the canonical matrices, exact weights, starts, ends and options."""

import math

import numpy as np
import pytest

import scoresde as ss
from scoresde.solvers import DEIS, PNDM, Adams, OfficialIPNDMv
from scoresde.solvers.starting import METHODS, steps_begin
from tests.problems import OnMixture

VP = ss.VP()
IN_LAM = [("x0", "lam"), ("epsilon", "lam")]
IN_CLOCK = [("epsilon", "clock"), ("flow", "clock")]


def plan_of(
    solver: ss.Solver | str, sde: ss.SDE = VP, steps: int = 7, end: str = "eps", grid: str = "karras"
) -> ss.Plan:
    plan = ss.make_plan(solver, sde, ss.get_grid(grid, sde, steps, end=end))
    assert isinstance(plan, ss.Plan)
    return plan


def uniform_in_sigma(steps: int = 8) -> tuple[ss.SDE, list[float]]:
    return ss.EDM(), np.linspace(80.0, 2.0, steps + 1).tolist()


# -- identities ------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", [*(Adams(1, *space) for space in (*IN_LAM, *IN_CLOCK)), DEIS(1), PNDM(1)], ids=str)
@pytest.mark.parametrize("end", ["zero", "eps"])
def test_order_1_is_ddim(solver: ss.Solver, end: str) -> None:
    for sde in (VP, ss.EDM(), ss.SubVP(), ss.RectifiedFlow()):
        assert plan_of(solver, sde, end=end).allclose(plan_of("ddim", sde, end=end), atol=1e-12)


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("adams-2", ss.get_solver("dpmpp-2m", solver_type="taylor")),
        ("adams-3", ss.get_solver("dpmpp-3m", solver_type="taylor")),
        ("adams-2-epsilon", ss.get_solver("dpm-solver-2m", solver_type="taylor")),
        ("adams-3-epsilon", ss.get_solver("dpm-solver-3m", solver_type="taylor")),
    ],
)
@pytest.mark.parametrize("sde", [VP, ss.EDM(), ss.CosineVP()], ids=lambda s: s.name)
def test_multistep_dpm_solver_is_adams(name: str, other: ss.Solver, sde: ss.SDE) -> None:
    ours = plan_of(name, sde)
    reference = plan_of(other, sde)
    scale = 1 + reference.matrices().B.abs().max().item()
    assert ours.allclose(reference, atol=1e-12 * scale)
    assert not ours.allclose(plan_of("dpmpp-2m", sde), atol=1e-3)


@pytest.mark.parametrize("order", [2, 3, 4])
def test_lms_is_ipndm_on_uniform_sigma(order: int) -> None:
    """With equal steps in sigma, rhoAB, LMS and iPNDM are one method."""
    sde, times = uniform_in_sigma()
    lms, ipndm = ss.make_plan(f"lms-{order}", sde, times), ss.make_plan(f"ipndm-{order}", sde, times)
    assert lms.allclose(ipndm, atol=1e-11)  # coefficients are of the size of the steps, about 10
    assert not plan_of(f"lms-{order}").allclose(plan_of(f"ipndm-{order}"), atol=1e-3)


@pytest.mark.parametrize("order", [2, 3, 4])
def test_deis_in_time_is_lms_where_time_is_sigma(order: int) -> None:
    sde = ss.EDM(0.01, 50.0)
    assert plan_of(DEIS(order), sde).allclose(plan_of(f"lms-{order}", sde), atol=1e-11)
    assert not plan_of(DEIS(order)).allclose(plan_of(f"lms-{order}"), atol=1e-3)


def test_flow_weights_are_those_of_its_own_time() -> None:
    sde = ss.RectifiedFlow()
    times = [1.0, 0.75, 0.5, 0.25, 0.0]
    rows = ss.make_plan(Adams(3, "flow", "clock"), sde, times).rows
    h = -0.25
    expected = [(1.0,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (23 / 12, -16 / 12, 5 / 12)]
    for row, weights in zip(rows, expected, strict=True):
        assert row.x.x == pytest.approx(1.0, rel=1e-14)
        assert row.x.d == pytest.approx([h * w for w in weights], rel=1e-12)


# -- weights ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [2, 4, 6, 9])
@pytest.mark.parametrize(("kind", "variable"), [*IN_LAM, *IN_CLOCK])
def test_adams_integrates_polynomials(order: int, kind: str, variable: str) -> None:
    """d(x/S) = m dc with m a polynomial of degree order - 1 in the variable, against Gauss–Legendre quadrature."""
    lams = [0.3 * i + 0.02 * i * i for i in range(order + 1)]
    times = [VP.t_at_lam(lam) for lam in lams]
    *_, row = ss.make_plan(Adams(order, kind, variable), VP, times).rows
    scale, clock = {
        "x0": (lambda lam: VP.sigma(VP.t_at_lam(lam)), np.exp),
        "epsilon": (lambda lam: VP.alpha(VP.t_at_lam(lam)), lambda lam: np.exp(-lam)),
        "flow": (
            lambda lam: VP.alpha(VP.t_at_lam(lam)) + VP.sigma(VP.t_at_lam(lam)),
            lambda lam: 1 / (1 + np.exp(lam)),
        ),
    }[kind]
    nodes, weights = np.polynomial.legendre.leggauss(40)
    low, high = lams[-2:]
    lam = 0.5 * (low + high) + 0.5 * (high - low) * nodes
    step = 1e-5
    slope = (clock(lam + step) - clock(lam - step)) / (2 * step)  # to 1e-10
    place = (lambda v: np.asarray(v) - low) if variable == "lam" else (lambda v: clock(np.asarray(v)) - clock(low))
    for degree in range(order):
        exact = scale(high) * 0.5 * (high - low) * (weights * slope * place(lam) ** degree).sum()
        got = sum(w * place(at) ** degree for w, at in zip(row.x.d, lams[-2::-1], strict=True))
        size = sum(abs(w * place(at) ** degree) for w, at in zip(row.x.d, lams[-2::-1], strict=True))
        assert got == pytest.approx(exact, abs=1e-8 * float(size))


def test_deis_integrates_polynomials_in_time() -> None:
    times = [0.9, 0.7, 0.6, 0.42, 0.3]
    *_, row = ss.make_plan("deis-tab3", VP, times).rows
    nodes, weights = np.polynomial.legendre.leggauss(60)
    t = 0.36 + 0.06 * nodes  # from 0.42 to 0.3
    slope = np.array([VP.diffusion_squared(u) / (2 * VP.alpha(u) * VP.sigma(u)) for u in t])  # d rho / dt
    for degree in range(4):
        exact = -VP.alpha(0.3) * 0.06 * (weights * slope * (t - 0.42) ** degree).sum()
        got = sum(w * (u - 0.42) ** degree for w, u in zip(row.x.d, times[-2::-1], strict=True))
        assert got == pytest.approx(exact, rel=1e-11)


def test_official_ipndm_v_is_lms_up_to_order_2() -> None:
    assert plan_of(OfficialIPNDMv(2)).allclose(plan_of("lms-2"), atol=1e-12)
    for order in (3, 4):
        assert not plan_of(OfficialIPNDMv(order)).allclose(plan_of(f"lms-{order}"), atol=1e-4)


def test_official_ipndm_v_has_the_published_slips() -> None:
    """On equal steps order 3 is right and order 4 is not; on other grids the weights of order 4 do not sum to 1."""
    sde, times = uniform_in_sigma()
    h = times[1] - times[0]
    last = {order: ss.make_plan(OfficialIPNDMv(order), sde, times).rows[-1].x.d for order in (3, 4)}
    assert [w / h for w in last[3]] == pytest.approx([23 / 12, -16 / 12, 5 / 12])
    assert [w / h for w in last[4]] == pytest.approx([2.375, -2.708, 1.792, -0.458], abs=1e-3)
    edm = ss.EDM()
    sigmas = ss.get_grid("karras", edm, 7, end="eps")
    off = {}
    for name in ("ipndm-v-4-official", "lms-4"):
        rows = ss.make_plan(name, edm, sigmas).rows
        off[name] = max(
            abs(sum(row.x.d) / (t - s) - 1) for row, s, t in zip(rows, sigmas[:-1], sigmas[1:], strict=True)
        )
    assert off["ipndm-v-4-official"] > 1e-4
    assert off["lms-4"] < 1e-12


# -- starts ----------------------------------------------------------------------------------------


def test_plms_begins_with_heun() -> None:
    plms, heun, ipndm = plan_of("plms"), plan_of("heun"), plan_of("ipndm-4")
    assert plms.nfe == ipndm.nfe + 1
    assert plms.matrices().B[:3, :2].flatten().tolist() == pytest.approx(heun.matrices().B[:3, :2].flatten().tolist())
    # With a past of four, the start is over.
    assert [row.x for row in plms.rows[-3:]] == [row.x for row in ipndm.rows[-3:]]
    # The predictor's evaluation lies between those that are mixed, and has no weight.
    assert plms.rows[2].x.d[1] == 0.0


def test_pndm_begins_with_three_steps_of_four_stages() -> None:
    plan = plan_of("pndm", steps=6)
    assert plan.nfe == 3 * 4 + 3
    t = [p for i, p in enumerate(plan.times[:12]) if i % 4 == 0] + list(plan.times[12:])
    assert t == list(ss.get_grid("karras", VP, 6, end="eps")[:-1])
    assert plan.times[1] == plan.times[2] == pytest.approx(0.5 * (t[0] + t[1]))
    assert plan.times[3] == t[1]
    first = plan.rows[12].x.d  # of the first Adams step: places of the first stages
    assert [i for i, w in enumerate(first) if w] == [0, 4, 8, 12]
    assert first[4] / first[0] == pytest.approx(-59 / 55)


@pytest.mark.parametrize("order", METHODS)
@pytest.mark.parametrize(("kind", "variable"), [*IN_LAM, *IN_CLOCK])
def test_start_of_full_order(order: int, kind: str, variable: str) -> None:
    """The start is a Runge–Kutta method of one order less, and is over after order - 1 steps."""
    with_start = Adams(order, kind, variable, start="runge-kutta")
    plan, plain = plan_of(with_start, steps=12), plan_of(Adams(order, kind, variable), steps=12)
    assert plan.nfe == 12 + (order - 1) * (order - 2)
    assert [row.x for row in plan.rows[-3:]] == [row.x for row in plain.rows[-3:]]
    used = [i for i, w in enumerate(plan.rows[(order - 1) ** 2].x.d) if w]
    assert used == [i * (order - 1) for i in range(order)]


def test_start_of_order_3_is_heun() -> None:
    heun, lms = plan_of("heun", steps=2), plan_of(Adams(3, "epsilon", "clock", start="runge-kutta"), steps=2)
    assert lms.allclose(heun, atol=1e-12)


def test_low_order_start_costs_an_order_and_the_other_start_keeps_it() -> None:
    sde = ss.EDM()
    problem = OnMixture(sde, end=sde.t_at_lam(3.0))
    (low,), (full,) = (problem.slopes(Adams(4, start=start), (320, 640)) for start in ("lower", "runge-kutta"))
    assert low < 3.3
    assert full == pytest.approx(4, abs=0.15)


def test_steps_begin_without_a_start() -> None:
    points = [VP.point(t) for t in (0.3, 0.5, 0.8)]
    step = ss.Step(VP, points[0], VP.point(0.1), tuple(points[1:]))
    assert steps_begin(step, 1) == [0, 1, 2]


# -- ends ------------------------------------------------------------------------------------------


def test_clocks_step_into_the_data() -> None:
    for name in ("lms-3", "adams-3-flow", "plms"):
        row = plan_of(name, end="zero").rows[-1]
        assert row.kind != "x0", name
        assert len(row.x.d) > 1, name
        last = ss.get_solver(name, order_of_last_steps=(1,))
        A, B, _ = plan_of(last, end="zero").matrices()
        assert A[-1].item() == pytest.approx(0.0, abs=1e-12)
        assert B[-1].tolist() == pytest.approx([0.0] * (len(B) - 2) + [1.0], abs=1e-10)  # the denoiser's output


@pytest.mark.parametrize("name", ["adams-3", "adams-3-epsilon", "deis-tab2", "ipndm-3", "ipndm-v-3-official"])
def test_others_end_with_the_denoisers_output(name: str) -> None:
    assert plan_of(name, end="zero").rows[-1].x == ss.Mix(d=(1.0,))


def test_flow_keeps_its_order_from_pure_noise() -> None:
    """No special step out of alpha = 0, and the prediction made there is used."""
    sde = ss.RectifiedFlow()
    problem = OnMixture(sde, end=0.1)
    (slope,) = problem.slopes(Adams(3, "flow", "clock", start="runge-kutta"), (160, 320), grid="uniform")
    assert slope == pytest.approx(3, abs=0.15)


@pytest.mark.parametrize("name", ["adams-3", "lms-3", "deis-tab2", "ipndm-3", "ipndm-v-3-official"])
def test_order_of_last_steps(name: str) -> None:
    plan = plan_of(ss.get_solver(name, order_of_last_steps=(2, 1)))
    assert [len(row.x.d) for row in plan.rows] == [1, 2, 3, 3, 3, 2, 1]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Adams(10), r"order must be one of \[1, 2, .*, 9\], got 10"),
        (lambda: Adams(3, "v"), "kind='v' is unknown"),
        (lambda: Adams(3, "x0", "clock"), "variable='clock' is unknown"),
        (lambda: Adams(3, "flow"), "variable='lam' is unknown"),
        (lambda: Adams(3, start="heun"), "start='heun' is unknown"),
        (lambda: Adams(6, start="runge-kutta"), r"of order \[2, 3, 4, 5\], got 6"),
        (lambda: Adams(3, order_of_last_steps=(0,)), "order_of_last_steps must be a tuple"),
        (lambda: DEIS(0), "order must be one of"),
        (lambda: PNDM(5), r"order must be one of \[1, 2, 3, 4\], got 5"),
        (lambda: PNDM(3, "heun"), "of a method of order 4, got order=3"),
        (lambda: PNDM(4, "rk"), "start='rk' is unknown"),
        (lambda: OfficialIPNDMv(5), r"order must be one of \[1, 2, 3, 4\], got 5"),
    ],
)
def test_bad_options(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_high_order_is_finite_from_the_first_step() -> None:
    plan = plan_of(Adams(9), steps=12)
    assert all(math.isfinite(w) for row in plan.rows for w in row.x.d)
    assert [len(row.x.d) for row in plan.rows] == [*range(1, 9), 9, 9, 9, 9]
