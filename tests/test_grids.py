"""Grids: ends on every process, spacing in their own coordinate, numbers of their sources, the shift, bad arguments."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import scoresde as ss
from scoresde.catalogue import split_name
from scoresde.grids import GRIDS, NAMES, grid_with, resolution_shift, token_shift
from scoresde.targets import GaussianMixture

from .test_sde import PROCESSES

each_process = pytest.mark.parametrize("sde", PROCESSES.values(), ids=PROCESSES)
each_grid = pytest.mark.parametrize("grid", ss.grids())
# Grids with noise levels of their own, which begin or end there if the process goes further.
OWN_LEVELS = {"edm", "vp", "gits", *(f"ays-{model}" for model in ("sd15", "sdxl", "svd"))}
OWN_LEVELS |= {f"oss-{model}" for model in ("flux", "wan", "chroma")}


QUICK = {name: PROCESSES[name] for name in ("vp", "ve", "flow", "discrete-zero-snr")}


@pytest.mark.parametrize(
    ("processes", "shift", "counts"),
    [
        pytest.param(QUICK, 1.0, (1, 2, 3, 10), id="quick"),
        *(
            pytest.param(
                {name: sde}, shift, (1, 2, 3, 5, 10, 20, 50), id=f"{name}-shift-{shift}", marks=pytest.mark.slow
            )
            for name, sde in PROCESSES.items()
            for shift in (1.0, 3.0, 0.4)
        ),
    ],
)
@each_grid
def test_ends_and_order(grid: str, processes: dict[str, ss.SDE], shift: float, counts: tuple[int, ...]) -> None:
    for sde in processes.values():
        for end, last in (("zero", 0.0), ("eps", sde.eps), (0.05 * sde.T, 0.05 * sde.T)):
            for steps in counts:
                times = ss.get_grid(grid, sde, steps, end=end, shift=shift)
                assert len(times) == steps + 1
                check_ends_and_order(times, sde, grid, last)


def check_ends_and_order(times: tuple[float, ...], sde: ss.SDE, grid: str, last: float) -> None:
    # Strictly decreasing; and never so close that a step is lost in rounding.
    assert all(a - b > 1e-9 * a for a, b in pairwise(times))
    if grid not in OWN_LEVELS:
        assert times[-1] == last
        assert times[0] == sde.T or grid == "ddim-leading"
    if sde.alpha(sde.T) == 0.0 and grid != "ddim-leading":
        assert times[0] == sde.T  # pure noise, not a large sigma
    if last == 0.0:
        assert times[-1] == 0.0
        assert len(times) == 2 or times[-2] >= sde.eps * (1 - 1e-9)


@each_grid
def test_starts_late(grid: str) -> None:
    """As when an image is changed: from a time in between, which is kept."""
    for sde in QUICK.values():
        for start in (0.3 * sde.T, sde.eps):
            if grid in OWN_LEVELS and start == sde.eps:
                continue  # below its levels
            times = ss.get_grid(grid, sde, 5, start=start)
            assert len(times) == 6
            assert times[-1] == 0.0
            assert times[0] == start or grid in {"ddim-leading", *OWN_LEVELS}


# grid -> the coordinate in which it is equally spaced
COSINE, VP = ss.CosineVP(), ss.VP()
COORDINATES = {
    "uniform": lambda sde, t: t,
    "quadratic": lambda sde, t: math.sqrt(t),
    "log-snr": lambda sde, t: sde.lam(t),
    "polyexponential": lambda sde, t: sde.lam(t),
    "karras": lambda sde, t: sde.rho(t) ** (1 / 7),
    "edm": lambda sde, t: sde.rho(t) ** (1 / 7),
    "vp": lambda sde, t: VP.t_at_lam(sde.lam(t)),
    "cosine": lambda sde, t: COSINE.t_at_lam(sde.lam(t)),
    "arctan": lambda sde, t: math.atan(sde.rho(t)),
    "probit": lambda sde, t: math.erfc(sde.lam(t) / math.sqrt(18)),
    "normal": lambda sde, t: t,
    "sgm-uniform": lambda sde, t: t,
}


@pytest.mark.parametrize("grid", COORDINATES)
@settings(max_examples=20)
@given(steps=st.integers(2, 25), beta_max=st.floats(5.0, 40.0))
def test_spacing(grid: str, steps: int, beta_max: float) -> None:
    sde = ss.VP(beta_max=beta_max)
    u = [COORDINATES[grid](sde, t) for t in ss.get_grid(grid, sde, steps, end="eps")]
    width = (u[-1] - u[0]) / steps
    assert [b - a for a, b in pairwise(u)] == pytest.approx([width] * steps, rel=1e-7)


@settings(max_examples=30)
@given(rho=st.floats(0.3, 12.0), scale=st.floats(0.05, 20.0), steps=st.integers(1, 30))
def test_options_of_spacing(rho: float, scale: float, steps: int) -> None:
    sde = ss.EDM()
    low, high = sde.sigma_min, sde.sigma_max
    ramp = [1 - i / steps for i in range(steps + 1)]
    wanted = {
        ("karras", "rho", rho): [(low ** (1 / rho) * (1 - r) + high ** (1 / rho) * r) ** rho for r in ramp],
        ("polyexponential", "rho", rho): [math.exp(math.log(low) + math.log(high / low) * r**rho) for r in ramp],
        ("quadratic", "power", rho): [(low ** (1 / rho) * (1 - r) + high ** (1 / rho) * r) ** rho for r in ramp],
        ("arctan", "scale", scale): [
            scale * math.tan(math.atan(low / scale) * (1 - r) + math.atan(high / scale) * r) for r in ramp
        ],
    }
    for (grid, option, value), times in wanted.items():
        assert ss.get_grid(grid, sde, steps, end="eps", **{option: value}) == pytest.approx(times, rel=1e-9)


def test_karras_numbers_of_edm() -> None:
    """Equation 5 of the paper, written out, for 18 steps."""
    times = ss.get_grid("karras", ss.EDM(), 18)
    a, b = 80 ** (1 / 7), 0.002 ** (1 / 7)
    assert times[:-1] == pytest.approx([(a + i / 17 * (b - a)) ** 7 for i in range(18)], rel=1e-12)
    assert times[-1] == 0.0
    assert ss.get_grid("edm", ss.EDM(), 18) == times


def test_edm_and_vp_grids_bring_their_levels() -> None:
    sde = ss.VP(eps=1e-6)
    times = ss.get_grid("edm", sde, 10)
    assert sde.rho(times[0]) == pytest.approx(80.0)
    assert sde.rho(times[-2]) == pytest.approx(0.002)
    sde = ss.EDM(1e-5, 1e5)
    t = [1.0, 0.6667, 0.33340000000000003, 0.0001]
    wanted = [math.sqrt(math.exp(19.9 * u**2 / 2 + 0.1 * u) - 1) for u in t]
    assert ss.get_grid("vp", sde, 4, eps_s=1e-4)[:-1] == pytest.approx(wanted, rel=1e-9)
    assert ss.get_grid("vp", ss.VP(), 9) == pytest.approx(ss.get_grid("normal", ss.VP(), 9), rel=1e-9)


def test_cosine_is_arctan_without_its_offset() -> None:
    sde = ss.EDM()
    near = ss.get_grid("cosine", sde, 12, end="eps", s=1e-9)
    assert near == pytest.approx(ss.get_grid("arctan", sde, 12, end="eps"), rel=1e-5)
    flow = ss.RectifiedFlow()
    assert [flow.rho(t) for t in ss.get_grid("cosine", flow, 4)[1:]] == pytest.approx(
        [COSINE.rho(u) for u in (0.75, 0.5, 0.25, 0.0)]
    )


# -- pure noise


@pytest.mark.parametrize("name", ["flow", "discrete-zero-snr"])
@pytest.mark.parametrize("grid", ["log-snr", "karras", "polyexponential", "beta-diffusers"])
def test_pure_noise_stands_for_the_first_level_of_a_grid_that_cannot_measure_it(name: str, grid: str) -> None:
    sde = PROCESSES[name]
    below = ss.get_grid(grid, sde, 6, start=sde.T - sde.eps)
    assert ss.get_grid(grid, sde, 6) == (sde.T, *below[1:])


def test_no_step_is_spent_on_leaving_pure_noise() -> None:
    """What this replaced, a first step of sde.eps in time, was worse at every step count tried."""
    sde = ss.RectifiedFlow()
    means = torch.tensor([[-1.0, 0.0], [1.0, 0.5]], dtype=torch.float64)
    target = GaussianMixture(torch.tensor([0.4, 0.6]).double(), means, 0.05 * torch.eye(2).double().repeat(2, 1, 1))
    denoiser = target.denoiser(sde)
    x_T = torch.randn(100, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def sample(grid) -> torch.Tensor:
        return ss.sample(denoiser, (100, 2), solver="dpmpp-2m", grid=grid, x_T=x_T)

    exact = sample(ss.get_grid("arctan", sde, 600, end="eps"))
    for steps in (5, 10):
        grid = ss.get_grid("log-snr", sde, steps, end="eps")
        spent = (1.0, *ss.get_grid("log-snr", sde, steps - 1, start=1 - sde.eps, end="eps"))
        assert len(grid) == len(spent)
        error, worse = ((sample(times) - exact).square().mean() for times in (grid, spent))
        assert error < 0.8 * worse


# -- the shift


@settings(max_examples=50)
@given(shift=st.floats(0.2, 8.0), steps=st.integers(1, 30))
def test_shift_on_flow_is_the_formula(shift: float, steps: int) -> None:
    flow = ss.RectifiedFlow()
    plain = [1 - i / steps for i in range(steps + 1)]
    wanted = [shift * t / (1 + (shift - 1) * t) for t in plain]
    times = ss.get_grid("uniform", flow, steps, shift=shift)
    if times[-2] > wanted[-2] * (1 + 1e-9):  # the formula goes below eps
        assert wanted[-2] < flow.eps
        return
    assert times == pytest.approx(wanted, rel=1e-9, abs=1e-12)
    assert ss.get_grid(plain, flow, shift=shift) == pytest.approx(wanted, rel=1e-9, abs=1e-12)
    shifted = ss.RectifiedFlow(shift=shift)  # the process that has the shift in its own time
    assert [shifted.sigma(t) for t in ss.get_grid("uniform", shifted, steps)] == pytest.approx(times, abs=1e-12)


@each_process
@pytest.mark.parametrize("grid", ["uniform", "karras", "beta", "cosine", "bong-tangent"])
def test_shift_takes_its_logarithm_off_lambda(sde: ss.SDE, grid: str) -> None:
    start, end = sde.T * 0.9, sde.T * 0.1
    before = [sde.t_at_lam(sde.lam(t) + math.log(1.5)) for t in (start, end)]
    plain = ss.get_grid(grid, sde, 8, start=before[0], end=before[1])
    shifted = ss.get_grid(grid, sde, 8, start=start, end=end, shift=1.5)
    moved = [sde.lam(b) - sde.lam(a) for a, b in zip(plain, shifted, strict=True)]
    assert moved == pytest.approx([-math.log(1.5)] * 9, abs=1e-9)


def test_shift_changes_nothing_that_is_uniform_in_lambda() -> None:
    for sde in (ss.VP(), ss.EDM()):
        plain, shifted = (ss.get_grid("log-snr", sde, 9, shift=s, end="eps") for s in (1.0, 2.0))
        assert shifted == pytest.approx(plain, rel=1e-9)


def test_shift_of_a_resolution() -> None:
    assert resolution_shift(1024**2, 512**2) == 2.0
    assert resolution_shift(1024**2, 256**2, base_shift=0.75) == 3.0
    assert token_shift(256) == pytest.approx(math.exp(0.5))
    assert token_shift(4096) == pytest.approx(math.exp(1.15))
    assert token_shift(2176) == pytest.approx(math.exp(0.825))


def test_a_grid_with_options_stands_where_a_name_does() -> None:
    sde = ss.RectifiedFlow()
    grid = grid_with("quadratic", power=3.0, shift=2.0)
    assert ss.get_grid(grid, sde, 6) == ss.get_grid("quadratic", sde, 6, power=3.0, shift=2.0)
    assert ss.get_grid(grid_with(grid, shift=0.5), sde, 6) == pytest.approx(ss.get_grid("quadratic", sde, 6, power=3.0))
    denoiser = GaussianMixture(torch.ones(1), torch.zeros(1, 1), torch.ones(1, 1, 1)).denoiser(sde)
    assert ss.sample(denoiser, (2, 1), steps=4, grid=grid).shape == (2, 1)


# -- names


def test_own_times_functions_and_aliases() -> None:
    sde = ss.VP()
    assert ss.get_grid([1.0, 0.4, 0.0], sde) == (1.0, 0.4, 0.0)
    halving = lambda sde, steps, start, end: [start * 2.0**-i for i in range(steps)] + [end]  # noqa: E731
    assert ss.get_grid(halving, sde, 3, end="eps") == (1.0, 0.5, 0.25, 1e-3)
    assert ss.get_grid(halving, sde, 3) == (1.0, 0.5, 0.001, 0.0)
    assert ss.get_grid("exponential", ss.EDM(), 4) == ss.get_grid("log-snr", ss.EDM(), 4)
    assert ss.get_grid("uniform", sde, 2, start=0.8, end=0.2) == pytest.approx((0.8, 0.5, 0.2))
    assert len(NAMES) == sum(1 + len(entry.aliases) for entry in GRIDS.values())  # none twice


@pytest.mark.parametrize(
    ("name", "solver", "grid"),
    [
        ("DPM++ 2M SGM Uniform", "dpmpp-2m", "sgm-uniform"),
        ("DPM++ 2M Karras", "dpmpp-2m", "karras"),
        ("euler simple", "euler", "uniform"),
        ("Euler Beta", "euler", "beta"),
        ("euler beta57", "euler", "beta57"),
        ("dpmpp_2m_sde karras", "sde-dpmpp-2m", "karras"),
        ("Heun KL Optimal", "heun", "arctan"),
        ("DPM++ 2M Align Your Steps", "dpmpp-2m", "ays-sd15"),
        ("dpmpp_2m ays_sdxl", "dpmpp-2m", "ays-sdxl"),
        ("ddim ddim_uniform", "ddim", "ddim-leading"),
        ("ddim uniform", "ddim", "uniform"),
        ("lms polyexponential", "lms-4", "polyexponential"),
        ("euler linear_quadratic", "euler", "linear-quadratic"),
        ("heun bong_tangent", "heun", "bong-tangent"),
    ],
)
def test_names_of_a_solver_and_a_grid(name: str, solver: str, grid: str) -> None:
    assert split_name(name) == (solver, grid)


def test_a_name_with_two_readings_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from scoresde import catalogue

    monkeypatch.setitem(catalogue.PLAIN, "eulersgm", "heun")
    with pytest.raises(ValueError, match="'euler' on 'sgm-uniform' or 'heun' on 'uniform': pass the grid apart"):
        split_name("euler sgm uniform")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ss.get_grid("karas", ss.VP(), 5), "nearest: karras"),
        (lambda: ss.get_grid("karras", ss.VP(), 5, rh=7.0), "'rh' is not an option of grid 'karras'; its options: rho"),
        (lambda: ss.get_grid("uniform", ss.VP(), 5, rho=7.0), "options: none"),
        (lambda: ss.get_grid("karras", ss.VP(), 5, rho=-1.0), "rho must be positive"),
        (lambda: ss.get_grid("polyexponential", ss.VP(), 5, rho=0.0), "rho must be positive"),
        (lambda: ss.get_grid("quadratic", ss.VP(), 5, power=0.0), "power must be positive"),
        (lambda: ss.get_grid("arctan", ss.VP(), 5, scale=0.0), "scale must be positive"),
        (lambda: ss.get_grid("probit", ss.VP(), 5, scale=math.inf), "scale must be positive and finite, got inf"),
        (lambda: ss.get_grid("cosine", ss.VP(), 5, s=0.0), "s must be positive"),
        (lambda: ss.get_grid("beta", ss.VP(), 5, alpha=0.0), "alpha must be positive"),
        (lambda: ss.get_grid("beta", ss.VP(), 50, alpha=1e-3), "repeats"),
        (lambda: ss.get_grid("leading", ss.VP(), 5, offset=-1.0), "offset must be at least 0"),
        (lambda: ss.get_grid("leading", ss.VP(), 5, spare=2), "spare must be 0 or 1"),
        (lambda: ss.get_grid("linear-quadratic", ss.VP(), 5, linear_steps=5), "from 1 to steps - 1 = 4, got 5"),
        (lambda: ss.get_grid("linear-quadratic", ss.VP(), 4, threshold_noise=0.7), "below 2 L / .* = 0.6667"),
        (lambda: ss.get_grid("bong-tangent", ss.VP(), 5, middle=1.0), "middle must be between 0 and 1"),
        (lambda: ss.get_grid("bong-tangent", ss.VP(), 5, slope_1=0.0), "slope_1 must be positive"),
        (lambda: ss.get_grid("bong-tangent", ss.VP(), 5, pivot_1=2.0), "mean of pivot_1 and pivot_2"),
        (lambda: ss.get_grid("ays-sd15", ss.EDM(), 5, end=20.0), "levels, 14.615 to 0.029, do not meet"),
        (lambda: ss.get_grid("edm", ss.EDM(80.0, 90.0), 5, end="eps"), "levels, .*80 to 0.002, do not meet"),
        (lambda: ss.get_grid("uniform", ss.VP(), 5, shift=0.0), "shift must be positive"),
        (lambda: ss.get_grid("uniform", ss.VE(), 5, shift=1e-3, end=0.9), "leaves nothing between t=1.0 and 0.9"),
        (lambda: ss.get_grid([1.0, 0.0], ss.VP(), shift=2.0), "outside"),
        (lambda: resolution_shift(0, 1), "pixels must be positive"),
        (lambda: token_shift(5, max_tokens=256), "max_tokens must be above base_tokens=256"),
        (lambda: ss.get_grid("karras", ss.VP(), 0), "steps must be at least 1"),
        (lambda: ss.get_grid("karras", ss.VP()), "steps is needed"),
        (lambda: ss.get_grid("karras", ss.VP(), 5, start=2.0), "outside"),
        (lambda: ss.get_grid("karras", ss.VP(), 5, start=0.1, end=0.5), "decrease strictly"),
        (lambda: ss.get_grid([1.0, 0.0], ss.VP(), rho=7.0), "do not apply to your own grid"),
    ],
)
def test_bad_arguments(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_steps_must_be_an_int() -> None:
    with pytest.raises(TypeError, match="steps must be an int of at least 1, got '5'"):
        ss.get_grid("karras", ss.VP(), "5")  # type: ignore[arg-type]
