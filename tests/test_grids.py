"""Grids: ends, spacing in their own coordinate, and bad arguments."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

import scoresde as ss

from .test_sde import PROCESSES

each_process = pytest.mark.parametrize("sde", PROCESSES.values(), ids=PROCESSES)


@each_process
@pytest.mark.parametrize("grid", ss.grids())
@pytest.mark.parametrize("end", ["zero", "eps"])
@pytest.mark.parametrize("steps", [1, 2, 3, 10, 50])
def test_ends_and_order(sde: ss.SDE, grid: str, end: str, steps: int) -> None:
    times = ss.get_grid(grid, sde, steps, end=end)
    assert len(times) == steps + 1
    assert all(a > b for a, b in pairwise(times))
    if grid == "edm":
        assert times[0] <= sde.T
    else:
        assert times[0] == sde.T
    assert times[-1] == (0.0 if end == "zero" else sde.eps) or grid == "edm"


# grid -> the coordinate in which it is equally spaced
COORDINATES = {
    "uniform": lambda sde, t: t,
    "quadratic": lambda sde, t: math.sqrt(t),
    "log-snr": lambda sde, t: sde.lam(t),
    "karras": lambda sde, t: sde.rho(t) ** (1 / 7),
    "edm": lambda sde, t: sde.rho(t) ** (1 / 7),
    "arctan": lambda sde, t: math.atan(sde.rho(t)),
}


@pytest.mark.parametrize("grid", ss.grids())
@given(steps=st.integers(2, 40), beta_max=st.floats(5.0, 40.0))
def test_spacing(grid: str, steps: int, beta_max: float) -> None:
    sde = ss.VP(beta_max=beta_max)
    u = [COORDINATES[grid](sde, t) for t in ss.get_grid(grid, sde, steps, end="eps")]
    width = (u[-1] - u[0]) / steps
    assert [b - a for a, b in pairwise(u)] == pytest.approx([width] * steps, rel=1e-7)


def test_karras_numbers_of_edm() -> None:
    """Equation 5 of the paper, written out, for 18 steps."""
    times = ss.get_grid("karras", ss.EDM(), 18)
    a, b = 80 ** (1 / 7), 0.002 ** (1 / 7)
    assert times[:-1] == pytest.approx([(a + i / 17 * (b - a)) ** 7 for i in range(18)], rel=1e-12)
    assert times[-1] == 0.0
    assert ss.get_grid("edm", ss.EDM(), 18) == times


def test_edm_grid_on_vp_has_its_levels() -> None:
    sde = ss.VP(eps=1e-6)
    times = ss.get_grid("edm", sde, 10)
    assert sde.rho(times[0]) == pytest.approx(80.0)
    assert sde.rho(times[-2]) == pytest.approx(0.002)


def test_own_times_functions_and_aliases() -> None:
    sde = ss.VP()
    assert ss.get_grid([1.0, 0.4, 0.0], sde) == (1.0, 0.4, 0.0)
    halving = lambda sde, steps, start, end: [start * 2.0**-i for i in range(steps)] + [end]  # noqa: E731
    assert ss.get_grid(halving, sde, 3, end="eps") == (1.0, 0.5, 0.25, 1e-3)
    assert ss.get_grid("exponential", ss.EDM(), 4) == ss.get_grid("log-snr", ss.EDM(), 4)
    assert ss.get_grid("uniform", sde, 2, start=0.8, end=0.2) == pytest.approx((0.8, 0.5, 0.2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ss.get_grid("karas", ss.VP(), 5), "nearest: karras"),
        (lambda: ss.get_grid("karras", ss.VP(), 5, rh=7.0), "'rh' is not an option of grid 'karras'; its options: rho"),
        (lambda: ss.get_grid("uniform", ss.VP(), 5, rho=7.0), "options: none"),
        (lambda: ss.get_grid("karras", ss.VP(), 5, rho=-1.0), "rho must be positive"),
        (lambda: ss.get_grid("quadratic", ss.VP(), 5, power=0.0), "power must be positive"),
        (lambda: ss.get_grid("arctan", ss.VP(), 5, scale=0.0), "scale must be positive"),
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
