"""azula's denoisers run by our samplers, and ours by azula's."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

import scoresde as ss
from scoresde.integrations.azula import Posterior, from_azula, to_azula
from scoresde.targets import Gaussian
from tests.exact import normals
from tests.integrations.networks import FLAT, assert_close, check_exact, check_samples

SCHEDULES = ("VESchedule", "VPSchedule", "CosineSchedule", "RectifiedSchedule", "DecaySchedule")
TIMES = (0.02, 0.3, 0.8, 1.0)
GAUSSIAN = Gaussian.log_spaced(4, 0.02, 2.0)


@pytest.fixture
def az() -> Any:
    """Its modules, where it is installed (it declares torchvision, which it does not need)."""
    pytest.importorskip("azula.denoise", exc_type=ImportError)
    import azula

    return azula


def karras(az: Any, schedule: Any) -> Any:
    """The exact denoiser of FLAT, as azula's preconditioning has it: from c_in x_t and log(sigma/alpha)."""

    class Backbone(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("dtype", torch.zeros((), dtype=torch.float64))  # what it is called with

        def forward(self, x: torch.Tensor, log_rho: torch.Tensor) -> torch.Tensor:
            rho = log_rho.exp().expand(len(x))
            r = rho[:, None]
            scaled = x * (1 + r**2).sqrt()  # x_t / alpha
            return (FLAT.x0(scaled, 1.0, rho) - scaled / (1 + r**2)) * (1 + r**2).sqrt() / r

    # alpha in c_skip: azula's mean is c_skip x_t + c_out b with c_out = sigma / |(alpha, sigma)|, exact for alpha = 1.
    return az.denoise.KarrasDenoiser(Backbone(), schedule)


def simple(az: Any, schedule: Any) -> Any:
    """As `karras`, without preconditioning."""
    whole = karras(az, schedule).backbone

    class Backbone(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("dtype", torch.zeros((), dtype=torch.float64))

        def forward(self, x: torch.Tensor, log_rho: torch.Tensor) -> torch.Tensor:
            r = log_rho.exp().expand(len(x))[:, None]
            scaled = x * (1 + r**2).sqrt()
            return scaled / (1 + r**2) + r / (1 + r**2).sqrt() * whole(x, log_rho)

    return az.denoise.SimpleDenoiser(Backbone(), schedule)


@pytest.mark.parametrize("name", SCHEDULES)
def test_any_schedule_is_its_process(az: Any, name: str) -> None:
    schedule = getattr(az.noise, name)()
    denoiser = from_azula(simple(az, schedule))
    t = torch.tensor(TIMES, dtype=torch.float64)
    alpha, sigma = schedule(t)
    assert torch.equal(denoiser.sde.alpha(t), alpha)
    assert torch.equal(denoiser.sde.sigma(t), sigma)
    if name == "VESchedule":
        same = ss.VE(1e-3, 1e3)
        assert_close(denoiser.sde.diffusion_squared(t), same.diffusion_squared(t), rtol=1e-12, atol=0)
        assert_close(denoiser.sde.t_at_lam(same.lam(t)), t, rtol=1e-13, atol=0)
    check_exact(denoiser, FLAT, TIMES, tol=1e-7)


def test_its_own_denoisers(az: Any) -> None:
    schedule = az.noise.RectifiedSchedule()
    covariance = az.linalg.covariance.FullCovariance(GAUSSIAN.eigenvectors, GAUSSIAN.eigenvalues)
    gaussian = from_azula(az.denoise.GaussianDenoiser(GAUSSIAN.mean, covariance, schedule))
    x = normals(3, 4)
    for t in TIMES:
        alpha, sigma = gaussian.sde.alpha(t), gaussian.sde.sigma(t)
        assert_close(gaussian(x, t), GAUSSIAN.x0(x, alpha, sigma), rtol=1e-8, atol=1e-8)
    check_exact(from_azula(karras(az, az.noise.VESchedule(1e-3, 80.0))), FLAT, TIMES, tol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["VPSchedule", "RectifiedSchedule"])
def test_samples_end_where_the_exact_flow_does(az: Any, name: str) -> None:
    check_samples(from_azula(simple(az, getattr(az.noise, name)())), FLAT)


@pytest.mark.slow
@pytest.mark.parametrize("sde", [ss.VP(), ss.EDM(), ss.RectifiedFlow(T=0.999)], ids=lambda sde: sde.name)
@pytest.mark.parametrize(("theirs", "ours"), [("DDIMSampler", "ddim"), ("HeunSampler", "heun")])
def test_azulas_samplers_on_ours_are_our_solvers(az: Any, sde: ss.SDE, theirs: str, ours: str) -> None:
    exact, stop = FLAT.denoiser(sde), 0.01
    x = sde.prior_std() * normals(5, 2)
    sampler = getattr(az.sample, theirs)(to_azula(exact), stop=stop, steps=12, silent=True, dtype=torch.float64)
    grid = [sde.T * float(t) for t in sampler.timesteps]
    got = ss.sample(exact, x.shape, solver=ours, grid=grid, x_T=x, most_gain=math.inf)
    # azula's Heun corrects its last step too; ours does, where the end is not the data.
    assert_close(sampler(x), got, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
def test_azulas_multistep_samplers_reach_the_exact_solution(az: Any) -> None:
    sde = ss.VP()
    exact, x, stop = FLAT.denoiser(sde), normals(5, 2), 0.01
    for name in ("zABSampler",):
        sampler = getattr(az.sample, name)(to_azula(exact), stop=stop, steps=200, silent=True, dtype=torch.float64)
        end = FLAT.flow(x, sde.point(1.0), sde.point(stop))
        assert (sampler(x) - end).square().mean().sqrt() < 2e-2


def test_to_data_and_back(az: Any) -> None:
    """t = 0 is the data, sigma = 0, for samplers that take no logarithm of it; both ways are the identity."""
    sde = ss.EDM()
    theirs = to_azula(FLAT.denoiser(sde))
    out = az.sample.DDIMSampler(theirs, steps=6, silent=True)(80 * normals(4, 2).float())
    assert out.dtype == torch.float32
    assert bool(torch.isfinite(out).all())
    again = from_azula(theirs)
    x, t = normals(3, 2), torch.tensor([0.2, 0.5, 1.0], dtype=torch.float64)
    assert_close(again(x, t), FLAT.denoiser(sde)(x, 80 * t), rtol=1e-12, atol=1e-12)


def test_dtypes_conditions_and_parameters() -> None:
    seen: list[Any] = []

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(()))

        def forward(self, x, t, y=None):
            seen.append((x.dtype, t.dtype, t.shape, y))
            return self.weight * x

    class Theirs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = Net()

        def schedule(self, t):
            return 1 - 0.9 * t, 0.001 + t

        def forward(self, x, t, **cond):
            return Posterior(self.net(x, t, **cond))

    denoiser, x = from_azula(Theirs()), torch.ones(2, 3, dtype=torch.bfloat16)
    assert denoiser(x, 0.3, y=1).dtype == torch.bfloat16
    denoiser(x, torch.tensor([0.3, 0.4]), y=2)
    from_azula(Theirs(), time_dtype=torch.float64)(x, 0.3)
    assert seen == [
        (torch.bfloat16, torch.float32, (), 1),
        (torch.bfloat16, torch.float32, (2,), 2),
        (torch.bfloat16, torch.float64, (), None),
    ]
    ours = to_azula(ss.Denoiser(Net(), ss.VP(), prediction="x0"))
    assert len(list(ours.parameters())) == 1
    assert ours(torch.ones(2, 3), torch.tensor(0.5), y=4).mean.tolist() == [[1.0] * 3] * 2
    assert seen[-1] == (torch.float32, torch.float32, (2,), 4)
    alpha, sigma = ours.schedule(torch.tensor([0.0, 1.0]))
    assert (alpha[0], sigma[0]) == (1.0, 0.0)
    assert sigma.dtype == torch.float32


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: from_azula(3), TypeError, r"denoiser must be callable as denoiser\(x, t"),
        (lambda: from_azula(lambda x, t: x), TypeError, "denoiser must have a schedule"),
        (lambda: to_azula(lambda x, t: x), TypeError, "scoresde.Denoiser"),  # type: ignore[arg-type]
        (lambda: from_azula(to_azula(FLAT.denoiser(ss.VP())), time_dtype=torch.int32), TypeError, "time_dtype must be"),
        (lambda: from_azula(to_azula(FLAT.denoiser(ss.VP())), eps=-1.0), ValueError, "eps must be positive"),
    ],
)
def test_errors(call, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_what_is_no_posterior_or_no_schedule() -> None:
    class Wrong(SimpleNamespace):
        def __call__(self, x, t):
            return x

    with pytest.raises(TypeError, match="must give a posterior with a mean, got Tensor"):
        from_azula(Wrong(schedule=lambda t: (1 - t, t)))(torch.zeros(2, 3), 0.5)
    with pytest.raises(ValueError, match="alpha/sigma must fall strictly"):
        from_azula(Wrong(schedule=lambda t: (t, 1.1 - t)))
