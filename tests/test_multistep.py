"""Deterministic multistep methods: exact weights, published algorithms written out, ends and options."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

import scoresde as ss
from scoresde.solvers import DEIS, PNDM, REAB, Adams, GradientEstimation, OfficialIPNDMv
from scoresde.targets import GaussianMixture
from scoresde.theory import gaussian_moments
from tests.problems import FIXED, OnMixture, drive, starts

VP = ss.VP()
IN_LAM = [("x0", "lam"), ("epsilon", "lam")]
IN_CLOCK = [("epsilon", "clock"), ("flow", "clock"), ("unit-v", "clock")]


def plan_of(
    solver: ss.Solver | str, sde: ss.SDE = VP, steps: int = 7, end: str = "eps", grid: str = "karras"
) -> ss.Plan:
    plan = ss.make_plan(solver, sde, ss.get_grid(grid, sde, steps, end=end))
    assert isinstance(plan, ss.Plan)
    return plan


def uniform_in_sigma(steps: int = 8) -> tuple[ss.SDE, list[float]]:
    return ss.EDM(), np.linspace(80.0, 2.0, steps + 1).tolist()


# -- weights ---------------------------------------------------------------------------------------


def test_flow_weights_are_those_of_its_own_time() -> None:
    sde = ss.RectifiedFlow()
    times = [1.0, 0.75, 0.5, 0.25, 0.0]
    rows = ss.make_plan(Adams(3, "flow", "clock"), sde, times).rows
    h = -0.25
    expected = [(1.0,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (23 / 12, -16 / 12, 5 / 12)]
    for row, weights in zip(rows, expected, strict=True):
        assert row.x.x == pytest.approx(1.0, rel=1e-14)
        assert row.x.d == pytest.approx([h * w for w in weights], rel=1e-12)


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
        "unit-v": (lambda lam: 1.0, lambda lam: np.arctan(np.exp(-lam))),  # alpha^2 + sigma^2 = 1
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


# -- published algorithms written out --------------------------------------------------------------


def heunpp2(denoise: Callable[[Tensor, float], Tensor], x: Tensor, sigmas: Sequence[float]) -> Tensor:
    def slope(y: Tensor, sigma: float) -> Tensor:
        return (y - denoise(y, sigma)) / sigma

    for i, sigma in enumerate(sigmas[:-1]):
        slopes, weights, y = [slope(x, sigma)], [], x
        for before, at in pairwise(sigmas[i : min(i + 3, len(sigmas) - 1)]):
            y = y + (at - before) * slopes[-1]
            slopes.append(slope(y, at))
            weights.append(at)
        weights = [w / (len(slopes) * sigmas[0]) for w in weights]
        mean = sum(w * d for w, d in zip([1 - sum(weights), *weights], slopes, strict=True))
        x = x + (sigmas[i + 1] - sigma) * mean
    return x


def gradient_estimation(denoise: Callable[[Tensor, float], Tensor], x: Tensor, sigmas: Sequence[float]) -> Tensor:
    old = None
    for sigma, after in pairwise(sigmas):
        clean = denoise(x, sigma)
        new = (x - clean) / sigma
        x = clean if after == 0 else x + (after - sigma) * (new if old is None else 2 * new - old)
        old = new
    return x


def reab2_official(denoise: Callable[[Tensor, float], Tensor], x: Tensor, sigmas: Sequence[float]) -> Tensor:
    """In azula's variables, on a process with alpha = 1; weights by a linear system, integrals by trapezoids."""
    u, kept = np.log(sigmas), []
    for i, (sigma, after) in enumerate(pairwise(sigmas)):
        a = sigma**2 / (1 + sigma**2)
        kept = [*kept[-1:], ((1 - a) * x - denoise(x, sigma)) / math.sqrt(a)]
        k = np.arange(len(kept))
        nodes = np.linspace(u[i], u[i + 1], 257)
        values = nodes ** k[:, None] / (2 * np.cosh(nodes))
        moments = (nodes[1] - nodes[0]) * (values.sum(1) - (values[:, 0] + values[:, -1]) / 2)
        weights = np.linalg.solve(u[i + 1 - len(kept) : i + 1] ** k[:, None], moments)
        mean = sum(float(w) * m for w, m in zip(weights, kept, strict=True))
        x = math.sqrt((1 + after**2) / (1 + sigma**2)) * x + math.sqrt(1 + sigma**2) * mean
    return x


@pytest.mark.parametrize(
    ("name", "loop", "end"),
    [
        *(("heunpp2", heunpp2, "zero"), ("heunpp2", heunpp2, "eps"), ("ge", gradient_estimation, "zero")),
        *(("ge", gradient_estimation, "eps"), ("REABSampler", reab2_official, "eps")),
    ],
)
def test_published_loops(name: str, loop: Callable[..., Tensor], end: str) -> None:
    sde = ss.EDM(sigma_max=20.0)
    denoiser, x = GaussianMixture.five().denoiser(sde), 20 * starts(5)
    for steps in (1, 2, 3, 8):
        sigmas = ss.get_grid("karras", sde, steps, end=end)
        got = drive(ss.make_plan(ss.get_solver(name), sde, sigmas), denoiser, x)
        assert torch.allclose(got, loop(denoiser, x, sigmas), rtol=0, atol=1e-11), steps


def test_options_of_gradient_estimation() -> None:
    problem = OnMixture(VP, end=VP.t_at_lam(3.0))
    half = GradientEstimation(1.5)
    assert problem.slopes(half, (160, 320))[0] == pytest.approx(half.converges, abs=0.15)
    noisy = plan_of(GradientEstimation(mu=0.5))
    assert noisy.noises == 7
    law = gaussian_moments(plan_of(GradientEstimation(1.0, mu=0.8), steps=2000), torch.tensor([0.5]))
    end = VP.point(VP.eps)
    assert law.variance.item() == pytest.approx(0.5 * end.alpha**2 + end.sigma**2, rel=2e-2)


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


# -- ends ------------------------------------------------------------------------------------------


def test_clocks_step_into_the_data() -> None:
    for name in ("lms-3", "adams-3-flow", "plms"):  # adams-3-v too, whose order 1 is not DDIM
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


# Wrappers have the inner solver's.
MULTISTEP = {
    n: s for n, s in FIXED.items() if s.evaluations == 1 and s.memory > 0 and s.order > 1 and not hasattr(s, "inner")
}


@pytest.mark.parametrize("solver", MULTISTEP.values(), ids=MULTISTEP)
def test_every_family_has_orders_of_last_steps(solver: ss.Solver) -> None:
    kept = plan_of(solver, steps=12)
    lower = plan_of(replace(solver, order_of_last_steps=(1, 1)), steps=12)  # type: ignore[type-var]
    assert kept.nfe == lower.nfe
    assert kept.rows[:-2] == lower.rows[:-2]
    assert kept.rows[-2].x != lower.rows[-2].x


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GradientEstimation(0.5), "gamma must be finite and at least 1, got 0.5"),
        (lambda: GradientEstimation(mu=1.0), r"mu must be within \[0, 1\), got 1.0"),
        (lambda: REAB(0), "order must be one of"),
        (lambda: REAB(official=True, start="runge-kutta"), "keeps an order that official=True does not have"),
        (lambda: Adams(10), r"order must be one of \[1, 2, .*, 9\], got 10"),
        (lambda: Adams(3, "v"), "kind='v' is unknown"),
        (lambda: Adams(3, "x0", "clock"), "variable='clock' is unknown"),
        (lambda: Adams(3, "flow"), "variable='lam' is unknown"),
        (lambda: Adams(3, order_of_last_steps=(0,)), "order_of_last_steps must be a tuple"),
        (lambda: DEIS(0), "order must be one of"),
        (lambda: PNDM(5), r"order must be one of \[1, 2, 3, 4\], got 5"),
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


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        *(("sample_heunpp2", "heunpp2-official"), ("sample_gradient_estimation", "gradient-estimation")),
        *(("xEABSampler", "adams-2"), ("zEABSampler", "adams-2-epsilon"), ("zABSampler", "lms-2")),
        *(("vABSampler", "adams-2-flow"), ("REABSampler", "reab-2-official")),
    ],
)
def test_names_that_users_know(alias: str, name: str) -> None:
    assert ss.get_solver(alias) == ss.get_solver(name)
