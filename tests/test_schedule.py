"""A process from functions: what the processes with formulas are, by automatic differentiation and Newton's method."""

import math

import pytest
import torch

import scoresde as ss
from scoresde.sde.schedule import Schedule, slopes
from tests.integrations.networks import assert_close

KNOWN = [ss.VP(), ss.SubVP(), ss.CosineVP(), ss.VE(), ss.RectifiedFlow(shift=3.0), ss.EDM()]
TABLE = ss.DiscreteVP.from_betas(torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64))
each_known = pytest.mark.parametrize("sde", KNOWN, ids=lambda sde: sde.name)


def as_schedule(sde: ss.SDE) -> Schedule:
    return Schedule(lambda t: (sde.alpha(t), sde.sigma(t)), eps=sde.eps, T=sde.T)


@each_known
def test_a_schedule_is_the_process_whose_levels_it_has(sde: ss.SDE) -> None:
    mine = as_schedule(sde)
    t = torch.logspace(-6, 0, 50, dtype=torch.float64) * sde.T * (1 - 1e-3)
    for name, rtol in (("alpha", 0.0), ("sigma", 0.0), ("lam", 1e-13), ("drift", 1e-12), ("diffusion_squared", 1e-12)):
        assert_close(getattr(mine, name)(t), getattr(sde, name)(t), rtol=rtol, atol=1e-14)
    assert_close(mine.t_at_lam(sde.lam(t)), t, rtol=2e-13, atol=1e-15)
    assert mine.point(0.0) == sde.point(0.0) == (0.0, 1.0, 0.0)
    assert mine.t_at_lam(math.inf) == 0.0
    assert mine.t_at_lam(-math.inf) == mine.t_at_lam(sde.lam(sde.T)) == sde.T


@each_known
def test_a_plan_on_it_is_the_plan_on_the_process(sde: ss.SDE) -> None:
    mine, theirs = (ss.plan_for("dpmpp-2s", s, steps=5, grid="log-snr", end="eps") for s in (as_schedule(sde), sde))
    assert mine.times == pytest.approx(theirs.times, rel=1e-11)
    for a, b in zip(mine.matrices(), theirs.matrices(), strict=True):
        assert torch.allclose(torch.as_tensor(a), torch.as_tensor(b), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("sde", [*KNOWN, TABLE, *map(as_schedule, KNOWN)], ids=lambda sde: sde.name)
def test_slopes_are_the_derivatives(sde: ss.SDE) -> None:
    t, h = torch.tensor([0.2004, 0.5004, 0.9004], dtype=torch.float64) * sde.T, 1e-5 * sde.T
    with torch.inference_mode():
        fall, rise = slopes(sde, t)
    for found, of in ((fall, sde.alpha), (rise, sde.sigma)):
        assert_close(found, (of(t + h) - of(t - h)) / (2 * h), rtol=1e-7, atol=1e-9)


def test_where_noise_is_left_at_time_zero() -> None:
    """lambda beyond that of t -> 0 is at 0, which is the data itself."""
    rest = Schedule(lambda t: (1 - 0.9 * t, 0.01 + t))
    assert rest.sigma(1e-300) == pytest.approx(0.01)
    assert rest.sigma(0.0) == 0.0
    assert rest.t_at_lam(math.log(1 / 0.0099)) == 0.0
    assert rest.lam(rest.t_at_lam(4.6)) == pytest.approx(4.6, abs=1e-13)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Schedule("vp"), TypeError, "levels must be a function"),  # type: ignore[arg-type]
        (lambda: Schedule(lambda t: t), ValueError, r"two tensors \(alpha, sigma\), got Tensor"),  # type: ignore
        (lambda: Schedule(lambda t: (1 - t, t.float())), ValueError, "sigma must be float64"),
        (lambda: Schedule(lambda t: (t.sum(), t)), ValueError, "alpha must be float64 of the shape of t"),
        (lambda: Schedule(lambda t: (1 - 2 * t, t)), ValueError, "alpha >= 0"),
        (lambda: Schedule(lambda t: (t, 1 - 0.9 * t)), ValueError, "Where data are at t=1, give levels of 1 - t"),
        (lambda: Schedule(lambda t: (1 - t, t), eps=2.0), ValueError, "eps must be below T"),
        (lambda: Schedule(lambda t: (1 - t, t)).config(), ValueError, "holds a function"),
        (
            lambda: Schedule(lambda t: (1 - t.detach(), t.detach())).drift(0.5),
            ValueError,
            "computed from the given times with torch operations",
        ),
    ],
)
def test_errors(make, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()
