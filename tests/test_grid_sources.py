"""Grids against what their sources compute, written out a second time or copied as numbers."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import scoresde as ss
from scoresde.grids.flow import level
from scoresde.grids.quantile import beta_quantile

# -- indices of a trained table


def indices(grid: str, steps: int, n: int = 1000, **options: float) -> list[float]:
    """Times as indices of a table of n steps; index -1 is the data."""
    table = ss.DiscreteVP(torch.linspace(0.999, 0.001, n, dtype=torch.float64).tolist())
    return [t * n - 1 for t in ss.get_grid(grid, table, steps, **options)]


@pytest.mark.parametrize(
    ("grid", "options", "wanted"),
    [
        ("simple", {}, [999, 799, 599, 399, 199, -1]),  # sigmas[-(1 + int(i * 1000 / 5))]
        ("trailing", {}, [999, 799, 599, 399, 199, -1]),  # arange(1000, 0, -200) - 1
        ("normal", {}, [999, 749.25, 499.5, 249.75, 0, -1]),  # linspace(999, 0, 5)
        ("sgm-uniform", {}, [999, 799.2, 599.4, 399.6, 199.8, -1]),  # linspace(999, 0, 6)[:-1]
        ("ddim-uniform", {}, [801, 601, 401, 201, 1, -1]),  # 1, 201, ... backwards
        ("leading", {"offset": 0}, [800, 600, 400, 200, 0, -1]),  # arange(5) * 200 backwards
        # arange(6) * (1000 / 6) backwards, the last one dropped, + 1
        ("leading", {"spare": 1}, [834 + 1 / 3, 667 + 2 / 3, 501, 334 + 1 / 3, 167 + 2 / 3, -1]),
    ],
)
def test_indices_of_a_trained_table(grid: str, options: dict, wanted: list[float]) -> None:
    assert indices(grid, 5, **options) == pytest.approx(wanted, abs=1e-9)


def test_leading_stays_below_the_start() -> None:
    assert indices("leading", 1) == pytest.approx([999, -1])
    assert indices("leading", 8, n=10)[0] == pytest.approx(9)  # offset 1 would begin at 9.75


@given(p=st.floats(1e-12, 1.0 - 1e-9), a=st.floats(0.1, 30.0), b=st.floats(0.1, 30.0))
def test_beta_quantile_to_rounding(p: float, a: float, b: float) -> None:
    special = pytest.importorskip("scipy.special")
    assert beta_quantile(p, a, b) == pytest.approx(float(special.betaincinv(a, b, p)), rel=1e-10, abs=1e-300)
    assert (beta_quantile(0.0, a, b), beta_quantile(1.0, a, b)) == (0.0, 1.0)


def test_beta_quantile_where_it_is_all_but_zero() -> None:
    # p = x^a / (a B(a, 1)) = x^a exactly
    assert beta_quantile(0.5, 0.001, 1.0) == pytest.approx(0.5**1000, rel=1e-10)
    assert beta_quantile(1e-9, 0.05, 1.0) == pytest.approx(1e-180, rel=1e-10)


def test_beta_is_quantiles() -> None:
    stats = pytest.importorskip("scipy.stats")
    for a, b in ((0.6, 0.6), (0.5, 0.7), (3.0, 0.2), (0.15, 8.0), (1.0, 1.0), (25.0, 40.0)):
        p = [1 - i / 25 for i in range(25)]
        wanted = [999 * float(stats.beta.ppf(q, a, b)) for q in p] + [-1]
        assert indices("beta", 25, alpha=a, beta=b) == pytest.approx(wanted, rel=1e-9, abs=1e-9)
    assert indices("beta57", 9) == indices("beta", 9, alpha=0.5, beta=0.7)
    # diffusers: quantiles between the ends of sigma, of 1 - linspace(0, 1, n), then 0
    wanted = [0.002 + (80 - 0.002) * float(stats.beta.ppf(1 - i / 7, 0.6, 0.6)) for i in range(8)]
    assert ss.get_grid("beta-diffusers", ss.EDM(), 8) == pytest.approx([*wanted, 0.0], rel=1e-9)


# -- the time of rectified flow


def mochi(n: int, threshold: float, linear: int) -> list[float]:
    """The schedule of Mochi as its code states it: a line, then c2 i^2 + c1 i + c0."""
    diff = linear - threshold * n
    c2 = diff / (linear * (n - linear) ** 2)
    c1 = threshold / linear - 2 * diff / (n - linear) ** 2
    line = [threshold * i / linear for i in range(linear)]
    return [1 - s for s in (*line, *(c2 * i * i + c1 * i + c2 * linear**2 for i in range(linear, n)), 1.0)]


def bong(n: int) -> list[float]:
    """The schedule of RES4LYF with its defaults: (2/pi atan(-slope (x - pivot)) + 1)/2, twice, rescaled."""

    def part(points: int, pivot: int, high: float, low: float) -> list[float]:
        y = [(2 / math.pi * math.atan(-0.2 * 40 / (n + 2) * (x - pivot)) + 1) / 2 for x in range(points)]
        return [(v - y[-1]) / (y[0] - y[-1]) * (high - low) + low for v in y]

    first = int(0.6 * (n + 2))
    return part(first, first, 1.0, 0.5)[:-1] + part(n + 2 - first, 0, 0.5, 0.0)


@pytest.mark.parametrize("sde", [ss.RectifiedFlow(), ss.RectifiedFlow(shift=3.0), ss.EDM(sigma_max=1e9)], ids=repr)
def test_grids_of_flow_have_its_levels_everywhere(sde: ss.SDE) -> None:
    for n in (2, 3, 5, 8, 20):
        levels = [level(sde, t) for t in ss.get_grid("linear-quadratic", sde, n)]
        assert levels == pytest.approx(mochi(n, 0.025, n // 2), abs=1e-8)
        levels = [level(sde, t) for t in ss.get_grid("bong-tangent", sde, n)]
        assert levels == pytest.approx(bong(n), abs=1e-8)
    levels = [level(sde, t) for t in ss.get_grid("linear-quadratic", sde, 12, threshold_noise=0.1, linear_steps=4)]
    assert levels == pytest.approx(mochi(12, 0.1, 4), abs=1e-8)


def test_probit_is_a_sigmoid_of_normal_quantiles() -> None:
    stats = pytest.importorskip("scipy.stats")
    wanted = [1 / (1 + math.exp(-2.0 * stats.norm.ppf(1 - i / 9))) for i in range(1, 9)]
    assert ss.get_grid("probit", ss.RectifiedFlow(), 9, scale=2.0) == pytest.approx([1.0, *wanted, 0.0], abs=1e-12)


# -- tables


STABLE_DIFFUSION = ss.DiscreteVP.from_betas(torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2)
TABLES = {
    "ays-sd15": "14.615 6.475 3.861 2.697 1.886 1.396 .963 .652 .399 .152",
    "ays-sdxl": "14.615 6.315 3.771 2.181 1.342 .862 .555 .380 .234 .113",
    "gits": "14.61464119 5.85520077 2.84484982 1.67050016 1.08895338 .74807048 .50118381 .32104823 .19894916 .09824532",
}


@pytest.mark.parametrize("grid", TABLES)
def test_ten_steps_of_a_table(grid: str) -> None:
    wanted = [float(v) for v in TABLES[grid].split()]
    times = ss.get_grid(grid, STABLE_DIFFUSION, 10)
    assert [STABLE_DIFFUSION.rho(t) for t in times[:-1]] == pytest.approx(wanted, rel=5e-5)
    assert times[0] == STABLE_DIFFUSION.T
    assert times[-1] == 0.0


def test_other_counts_of_a_table_are_log_linear() -> None:
    sde = ss.EDM(0.002, 700.0)
    five = ss.get_grid("ays-svd", sde, 5)
    assert five == pytest.approx((700.0, 15.886, 4.248, 0.981, 0.173, 0.0))
    twenty = ss.get_grid("ays-svd", sde, 20, end="eps")
    assert twenty[1] == pytest.approx(math.sqrt(700.0 * 54.5))
    assert twenty[-3:] == pytest.approx((0.034, math.sqrt(0.034 * 0.002), 0.002))
    assert [STABLE_DIFFUSION.rho(t) for t in ss.get_grid("gits", STABLE_DIFFUSION, 3)[1:3]] == pytest.approx(
        [1.56271636, 0.52423614], rel=5e-5
    )
    flow = ss.RectifiedFlow(shift=2.0)
    levels = [level(flow, t) for t in ss.get_grid("oss-flux", flow, 10)]
    wanted = [1.0, 0.9886, 0.9819, 0.975, 0.966, 0.9471, 0.9158, 0.8287, 0.5512, 0.2808, 0.0]
    assert levels == pytest.approx(wanted, rel=1e-9)
    assert level(flow, ss.get_grid("oss-flux", flow, 20)[3]) == pytest.approx(math.sqrt(0.9886 * 0.9819))
