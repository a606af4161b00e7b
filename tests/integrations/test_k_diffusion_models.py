"""Every solver through a function in the manner of k-diffusion; models and Denoisers both ways."""

from __future__ import annotations

import inspect
import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

import scoresde as ss
from scoresde.integrations import k_diffusion as kd
from scoresde.plan import make_plan
from scoresde.solvers import MultistepDPM
from scoresde.targets import Gaussian
from tests.integrations.k_diffusion_models import (
    FLOW_SIGMAS,
    PROCESSES,
    SIGMAS,
    Recorder,
    each,
    model,
    start,
    target,
)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*langevin:UserWarning")
@pytest.mark.parametrize("process", ["edm", "flow"])
@pytest.mark.parametrize("name", ss.solvers())
def test_every_solver_runs(name: str, process: str) -> None:
    """Through its function and directly, with the same noise: the same sample and number of evaluations."""
    solver = ss.get_solver(name)
    sigmas = FLOW_SIGMAS if process == "flow" else kd.get_sigmas_karras(8, 0.02, 20.0).double()
    sde = ss.RectifiedFlow() if process == "flow" else ss.EDM(sigmas[-2].item(), 20.0)
    if name == "rk45":
        pytest.importorskip("torchdiffeq")
    denoiser, seen = target().denoiser(sde), []
    told = Recorder(kd.wrap_denoiser(denoiser, process))
    noises = [torch.randn(4, 3, dtype=torch.float64) for _ in range(40)]
    function = inspect.unwrap(kd.catalogue._made(name))  # also where k-diffusion has a function of the name
    out = function(
        kd.Model(told, process), start(sigmas[0].item()), sigmas, None, seen.append,
        noise_sampler=each(noises),
    )  # fmt: skip
    plan: Any = ss.make_plan(solver, sde, sigmas.tolist())
    run = plan.start(start(sigmas[0].item()), noise=noises.__getitem__)
    while not run.done:
        run.tell(denoiser(run.x, run.t))
    torch.testing.assert_close(out, run.sample, rtol=1e-9, atol=1e-9)
    assert len(told.sigmas) == run.nfe
    if isinstance(solver, ss.Solver):
        skipped = solver.further_evaluations < 0 and solver.evaluations == 1  # a step without an evaluation
        assert len(seen) == len(sigmas) - 1 - skipped
        assert [d["i"] for d in seen] == list(range(int(skipped), len(sigmas) - 1))


def test_cfgpp_uses_the_unconditional_prediction() -> None:
    """From a guided denoiser, or from a model that gives both."""
    weak, strong = (
        target().denoiser(ss.EDM()),
        Gaussian(torch.ones(3).double(), torch.ones(3).double()).denoiser(ss.EDM()),
    )

    class Guided(ss.BaseDenoiser):
        sde = ss.EDM()

        def __call__(self, x: Tensor, t: float | Tensor, **cond: Any) -> Tensor:
            return self.evaluate(x, t).prediction

        def evaluate(self, x: Tensor, t: float | Tensor, **cond: Any) -> Any:
            own, other = strong(x, t), weak(x, t)
            return SimpleNamespace(prediction=own + 2 * (own - other), kind="x0", unconditional=other)

    def pair(x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        found = Guided().evaluate(x, sigma[0].item())
        return found.prediction, found.unconditional

    out = kd.sample_ddim_cfgpp(Guided(), start(), SIGMAS)
    torch.testing.assert_close(kd.sample_ddim_cfgpp(pair, start(), SIGMAS), out)
    assert (kd.sample_ddim_cfgpp(lambda x, s: pair(x, s)[0], start(), SIGMAS) - out).abs().max() > 0.1


@pytest.mark.parametrize("process", ["edm", "flow"])
@pytest.mark.parametrize("name", PROCESSES)
def test_wrap_round_trip(name: str, process: str) -> None:
    sde = PROCESSES[name]
    denoiser = target().denoiser(sde)
    wrapped = kd.wrap(denoiser, process=process)
    assert isinstance(wrapped, kd.Model)
    back = (
        kd.wrap(wrapped) if process == "flow" or name not in ("flow", "shifted-flow") else kd.wrap(wrapped, 0.01, 99.0)
    )
    assert isinstance(back, ss.Denoiser)
    for t in (0.05 * sde.T, 0.4 * sde.T, 0.9 * sde.T):
        alpha, sigma = sde.alpha(t), sde.sigma(t)
        size = alpha if process == "edm" else alpha + sigma
        level, x = sigma / size, start(sigma)
        expected = denoiser(x, t)
        torch.testing.assert_close(
            wrapped(x / size, torch.full((4,), level, dtype=torch.float64)), expected, rtol=1e-9, atol=1e-9
        )
        torch.testing.assert_close(back(x / size, level), expected, rtol=1e-9, atol=1e-9)
    levels = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    each = torch.cat([wrapped(start()[i : i + 1], levels[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(wrapped(start(), levels), each, rtol=1e-6, atol=1e-6)


def test_a_wrapped_denoiser_samples_as_it_does_itself() -> None:
    sde = ss.VP()
    denoiser = target().denoiser(sde)
    times = ss.get_grid("log-snr", sde, 10)
    sigmas = torch.tensor([sde.rho(t) for t in times], dtype=torch.float64)
    run = make_plan(MultistepDPM(2), sde, times).start(start(sde.sigma(1.0)))
    while not run.done:
        run.tell(denoiser(run.x, run.t))
    wrapped = kd.wrap(denoiser)
    assert wrapped.sigma_max == sde.rho(1.0)
    for given in (wrapped, denoiser):
        out = kd.sample_dpmpp_2m(given, start(sde.sigma(1.0)) / sde.alpha(1.0), sigmas)
        torch.testing.assert_close(out, run.sample)


def test_wrap_finds_the_range_of_k_diffusions_wrappers() -> None:
    discrete = SimpleNamespace(sigmas=torch.tensor([0.03, 1.0, 14.6]))

    class Wrapper:
        def __init__(self, **known: Any) -> None:
            vars(self).update(known)

        def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
            return model(x, sigma)

    for known in ({"sigma_min": torch.tensor(0.03), "sigma_max": torch.tensor(14.6)}, vars(discrete)):
        sde = kd.wrap(Wrapper(**known)).sde
        assert (sde.eps, sde.T) == pytest.approx((0.03, 14.6))
    assert kd.wrap(Wrapper(**vars(discrete)), sigma_max=9.0).sde.T == 9.0
    assert isinstance(kd.wrap(model, process="flow").sde, ss.RectifiedFlow)
    assert kd.Model(Wrapper(**vars(discrete)), sigma_max=9.0).sigma_min == pytest.approx(0.03)
    out = ss.sample(kd.wrap(model, 0.03, 20.0), (2, 3), solver="dpmpp-2m", steps=6)
    assert torch.isfinite(out).all()


def test_levels_beyond_the_denoisers_process() -> None:
    """Churn asks above sigma_max, a last sigma may lie below VE's sigma_min, and a flow starts from pure noise."""
    told: list[float] = []

    def net(x: Tensor, t: Tensor) -> Tensor:
        told.append(t[0].item())
        return x

    for sde in (ss.VP(), ss.VE(), PROCESSES["discrete"]):
        denoiser = ss.Denoiser(net, sde)
        for process, level in (("edm", 1e-3), ("edm", 1e3), ("flow", 1.0)):
            x = kd.wrap(denoiser, process=process)(start(level), torch.full((4,), level, dtype=torch.float64))
            assert torch.isfinite(x).all()
            assert 0.0 < told.pop() <= (sde.T if process == "flow" else math.inf)
    assert torch.equal(kd.wrap(denoiser)(start(), torch.zeros(4)), start())


def test_a_wrapped_model_sees_the_dtype_of_x() -> None:
    told = Recorder(lambda x, s: x / (1 + s[:, None] ** 2))
    with torch.no_grad():
        assert kd.wrap(told, 0.03, 20.0)(start(1.0, torch.float16), 0.5).dtype == torch.float16
    assert told.sigmas == [0.5]
