"""Velocities of every convention, against exact ones."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import scoresde as ss
from scoresde.guidance import ClassifierFree
from scoresde.integrations import flow
from scoresde.sde.schedule import Schedule, slopes
from tests.exact import draws, normals
from tests.integrations.networks import FLAT, IMAGES, assert_close, check_exact, check_samples

TIMES = (0.03, 0.4, 0.8, 1.0)


def column(v: Tensor, x: Tensor) -> Tensor:
    return v.reshape((-1,) + (1,) * (x.ndim - 1))


def exact_velocity(path: Callable[[Tensor], tuple[Tensor, ...]], target=FLAT) -> Callable[..., Tensor]:
    """dx/dt from the formulas (alpha, sigma, alpha', sigma') of a path, written out in its own direction of time."""

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma, fall, rise = (v.expand(len(x)) for v in path(t))
        x0 = target.x0(x, alpha, sigma)
        noise = (x - column(alpha, x) * x0) / column(sigma, x)
        return column(fall, x) * x0 + column(rise, x) * noise

    return velocity


def one(t: Tensor) -> Tensor:
    return torch.ones_like(t)


STRAIGHT = exact_velocity(lambda t: (1 - t, t, -one(t), one(t)))
STRAIGHT_TO_DATA = exact_velocity(lambda t: (t, 1 - t, one(t), -one(t)))
SIGMA_MIN = 0.1
LIPMAN = exact_velocity(lambda t: (t, 1 - (1 - SIGMA_MIN) * t, one(t), -(1 - SIGMA_MIN) * one(t)))


def vp_path(t: Tensor) -> tuple[Tensor, ...]:
    alpha, beta = torch.exp(-0.25 * t**2 * 19.9 - 0.05 * t), 0.1 + 19.9 * t
    sigma = (1 - alpha**2).sqrt()
    return alpha, sigma, -0.5 * beta * alpha, 0.5 * beta * alpha**2 / sigma


def circle_path(t: Tensor) -> tuple[Tensor, ...]:
    u = 0.5 * math.pi * t
    return torch.sin(u), torch.cos(u), 0.5 * math.pi * torch.cos(u), -0.5 * math.pi * torch.sin(u)


CIRCLE = Schedule(lambda t: (torch.cos(0.5 * math.pi * t), torch.sin(0.5 * math.pi * t)), T=0.999)
VP_TO_DATA = exact_velocity(lambda t: (*vp_path(1 - t)[:2], *(-v for v in vp_path(1 - t)[2:])))

TABLE = ss.DiscreteVP.from_betas(torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64))

CASES = {
    "straight": (STRAIGHT, {}, TIMES),
    "straight, shifted, 1000t": (
        lambda x, t: STRAIGHT(x, t / 1000),
        {"sde": ss.RectifiedFlow(shift=3.0), "time_scale": 1000.0},
        TIMES,
    ),
    "straight to data": (STRAIGHT_TO_DATA, {"convention": "data-at-one"}, TIMES),
    "straight to data, (t, x)": (
        lambda t, x: STRAIGHT_TO_DATA(x, t),
        {"convention": "data-at-one", "order": "tx"},
        TIMES,
    ),
    "Lipman": (LIPMAN, {"convention": "data-at-one", "sde": flow.lipman(SIGMA_MIN)}, TIMES),
    "trained table": (
        exact_velocity(lambda t: (TABLE.alpha(t), TABLE.sigma(t), *slopes(TABLE, t))),
        {"sde": TABLE},
        TIMES,
    ),
    "VP": (exact_velocity(vp_path), {"sde": ss.VP()}, TIMES),
    "VP to data": (VP_TO_DATA, {"convention": "data-at-one", "sde": ss.VP()}, TIMES),
    "circle to data, 1000t": (
        lambda x, t: exact_velocity(circle_path)(x, t / 1000),
        {"convention": "data-at-one", "sde": CIRCLE, "time_scale": 1000.0},
        TIMES[:3],
    ),
    "EDM": (exact_velocity(lambda t: (one(t), t, 0 * t, one(t))), {"sde": ss.EDM()}, (0.01, 1.0, 50.0)),
}
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@each_case
def test_x0_is_exact(case) -> None:
    velocity, options, times = case
    # The data-at-one networks divide by their own 1 - t, rounded, in these tests: not exactly our t.
    check_exact(flow.from_velocity(velocity, **options), FLAT, times, tol=1e-7)


@pytest.mark.slow
@each_case
def test_samples_end_where_the_exact_flow_does(case) -> None:
    velocity, options, _ = case
    check_samples(flow.from_velocity(velocity, **options), FLAT)


@pytest.mark.parametrize("sde", [ss.VP(), ss.SubVP(), ss.CosineVP(), ss.VE(), flow.lipman(0.05)], ids=lambda s: s.name)
def test_the_velocity_is_the_slope_of_the_exact_flow(sde: ss.SDE) -> None:
    """Without any formula for it: by differences along the exact solution."""
    t, h = 0.6, 1e-4
    x = draws(FLAT, sde.alpha(t), sde.sigma(t))

    def velocity(x: Tensor, times: Tensor) -> Tensor:
        ahead, behind = (FLAT.flow(x, sde.point(t), sde.point(t + d)) for d in (h, -h))
        return (ahead - behind) / (2 * h)

    got = flow.from_velocity(velocity, sde=sde)(x, t)
    assert_close(got, FLAT.x0(x, sde.alpha(t), sde.sigma(t)), atol=1e-4, rtol=1e-4)


def test_conditions_images_and_guidance() -> None:
    seen = []

    def velocity(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        seen.append((t, y))
        return exact_velocity(lambda t: (1 - t, t, -one(t), one(t)), IMAGES)(x, t)

    for sde in (None, Schedule(lambda t: (1 - t, t))):
        denoiser = flow.from_velocity(velocity, sde=sde)
        guided = ClassifierFree(denoiser, 2.0, {"y": 9})
        x = normals(3, 2, 2, 3)
        y = torch.tensor([1, 2, 3])
        assert torch.allclose(denoiser(x, 0.3, y=y), IMAGES.x0(x, 0.7, 0.3), atol=1e-12)
        assert torch.allclose(guided(x, torch.tensor([0.3] * 3), y=y), IMAGES.x0(x, 0.7, 0.3), atol=1e-6)
        assert seen[-1][1].tolist() == [1, 2, 3, 9, 9, 9]
        assert seen[-1][0].shape == (6,)


def test_half_precision_states_get_x0_in_single() -> None:
    denoiser = flow.from_velocity(lambda x, t: exact_velocity(vp_path)(x, t.double()).to(x.dtype), sde=ss.VP())
    x = draws(FLAT, ss.VP().alpha(0.5), ss.VP().sigma(0.5)).bfloat16()
    assert denoiser.evaluate(x, 0.5).prediction.dtype == torch.float32
    got = denoiser(x, 0.5)
    assert got.dtype == torch.bfloat16
    exact = FLAT.x0(x.double(), ss.VP().alpha(0.5), ss.VP().sigma(0.5))
    assert (got.double() - exact).abs().max() < 0.1


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: flow.from_velocity(3), TypeError, r"velocity must be callable as velocity\(x, t"),  # type: ignore
        (lambda: flow.from_velocity(STRAIGHT, convention="data"), ValueError, "nearest: data-at-one"),
        (lambda: flow.from_velocity(STRAIGHT, order="t,x"), ValueError, "order='t,x' is unknown"),
        (lambda: flow.from_velocity(STRAIGHT, time_scale=0.0), ValueError, "time_scale must be positive"),
        (lambda: flow.from_velocity(STRAIGHT, sde="vp"), TypeError, "sde must be a process"),  # type: ignore[arg-type]
        (
            lambda: flow.from_velocity(STRAIGHT, sde=ss.EDM(), convention="data-at-one"),
            ValueError,
            "has noise at t=0 and data at t=1",
        ),
        (
            lambda: flow.from_velocity(STRAIGHT, sde=ss.DiscreteVP([0.9, 0.5, 0.0])),
            ValueError,
            r"has alpha = 0 at t=1.0.*give a Schedule",
        ),
        (lambda: flow.lipman(0.0), ValueError, r"the path of 0 is RectifiedFlow\(\)"),
        (
            lambda: flow.from_velocity(lambda x, t: x[:, :1], sde=ss.VP())(torch.zeros(2, 3), 0.5),
            ValueError,
            "net must return a tensor of the shape of x",
        ),
    ],
)
def test_errors(call, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
