"""Processes: the formulas against each other, against autograd, and against a simulated forward process."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import scoresde as ss
from benchmarks.robustness import PROCESSES, ddpm_table
from scoresde.sde import SDES, sde_from_config

each_process = pytest.mark.parametrize("sde", PROCESSES.values(), ids=PROCESSES)


def inner_times(sde: ss.SDE, n: int = 400) -> torch.Tensor:
    """Times from 1e-6 T to T, log-spaced, none at a node of a table or where alpha = 0."""
    low = max(1e-6 * sde.T, sde.eps * 1e-2)
    return torch.logspace(math.log10(low), math.log10(sde.T * (1 - 1e-3)), n, dtype=torch.float64) * (1 + 1e-7)


@each_process
def test_time_is_recovered_from_lambda(sde: ss.SDE) -> None:
    t = inner_times(sde)
    # lam of VE is linear in t, so t inherits the rounding of lam absolutely; the others are accurate relatively.
    assert torch.allclose(sde.t_at_lam(sde.lam(t)), t, rtol=2e-14, atol=1e-15)


@each_process
@given(u=st.floats(0.0, 1.0))
def test_lambda_is_recovered_from_time(sde: ss.SDE, u: float) -> None:
    low, high = sde.lam(sde.T * (1 - 1e-3)), sde.lam(sde.eps)
    lam = low + u * (high - low)
    assert sde.lam(sde.t_at_lam(lam)) == pytest.approx(lam, abs=2e-13)


@each_process
def test_drift_and_diffusion_are_the_derivatives_of_alpha_and_sigma(sde: ss.SDE) -> None:
    t = inner_times(sde).requires_grad_()
    log_alpha = sde.alpha(t).log()
    f = torch.autograd.grad(log_alpha.sum(), t)[0] if log_alpha.requires_grad else torch.zeros_like(t)
    variance_rate = torch.autograd.grad(sde.sigma(t).square().sum(), t)[0]
    g2 = variance_rate - 2 * f * sde.sigma(t).detach() ** 2
    t = t.detach()
    assert torch.allclose(sde.drift(t), f, rtol=1e-12, atol=1e-14)
    assert torch.allclose(sde.diffusion_squared(t), g2, rtol=1e-11, atol=1e-15)
    assert torch.allclose(sde.diffusion(t) ** 2, sde.diffusion_squared(t), rtol=1e-14)
    assert (sde.diffusion_squared(t) >= 0).all()


@each_process
def test_lambda_decreases_with_time_and_is_log_of_the_ratio(sde: ss.SDE) -> None:
    t = inner_times(sde)
    lam = sde.lam(t)
    assert (lam.diff() < 0).all()
    assert torch.allclose(lam, (sde.alpha(t) / sde.sigma(t)).log(), rtol=1e-12, atol=1e-12)
    assert torch.allclose(sde.rho(t), torch.exp(-lam), rtol=1e-12)


@each_process
def test_ends(sde: ss.SDE) -> None:
    data, noise = sde.point(0.0), sde.point(sde.T)
    assert data == (0.0, 1.0, 0.0)
    assert data.lam == math.inf
    assert data.rho == 0.0
    assert sde.t_at_lam(math.inf) == 0.0
    assert math.isfinite(noise.sigma)
    assert noise.sigma > 0
    if noise.alpha == 0.0:
        assert noise.lam == -math.inf
        assert noise.rho == math.inf
        assert sde.t_at_lam(-math.inf) == sde.T
    assert 0 < sde.eps < sde.T
    assert 0.9 < sde.prior_std() / noise.sigma < 1.1


@pytest.mark.parametrize("name", ["vp", "subvp", "cosine", "flow", "flow-shift-3", "discrete", "discrete-zero-snr"])
def test_small_times_lose_no_digits(name: str) -> None:
    """sigma^2 at tiny t against its Taylor series: 1 - alpha^2 computed naively has no digits left here."""
    sde, t = PROCESSES[name], 1e-12
    rate = sde.diffusion_squared(t / 2)  # the series of sigma^2 starts with the integral of g^2 ...
    if name == "subvp":  # ... which for SubVP starts with its second-order term: sigma = 1 - alpha^2 ~ beta_min t
        assert sde.sigma(t) == pytest.approx(0.1 * t, rel=1e-9)
    elif "flow" in name:
        assert sde.sigma(t) == pytest.approx(sde.config()["shift"] * t, rel=1e-9)
    else:
        assert sde.sigma(t) ** 2 == pytest.approx(rate * t, rel=1e-9)


@pytest.mark.parametrize(
    "sde", [ss.VP(), ss.SubVP(), ss.CosineVP(T=0.9), ss.VE(0.1, 5.0), ss.EDM(0.01, 5.0), ss.RectifiedFlow(T=0.9)]
)
def test_simulated_forward_process_has_these_marginals(sde: ss.SDE) -> None:
    """Euler–Maruyama on dx = f x dt + g dw, as exact moments: mean and variance of the chain, no Monte Carlo."""
    start, n = sde.eps, 40000
    times = torch.linspace(start, sde.T, n + 1, dtype=torch.float64)
    dt = (sde.T - start) / n
    growth = 1 + dt * sde.drift(times[:-1])
    added = dt * sde.diffusion_squared(times[:-1])
    mean, variance = sde.alpha(start), sde.sigma(start) ** 2
    for a, b in zip(growth.tolist(), added.tolist(), strict=True):
        mean, variance = a * mean, a * a * variance + b
    assert mean == pytest.approx(sde.alpha(sde.T), rel=2e-3)
    assert variance == pytest.approx(sde.sigma(sde.T) ** 2, rel=2e-3)


def test_marginal_of_random_paths() -> None:
    """A Monte Carlo path simulation of VP, with noise in the loop, against alpha and sigma."""
    sde, n, paths = ss.VP(), 400, 4000
    generator = torch.Generator().manual_seed(0)
    x = torch.full((paths,), 1.5, dtype=torch.float64)
    for i in range(n):
        t = i / n * 0.5
        z = torch.randn(paths, dtype=torch.float64, generator=generator)
        x = x + 0.5 / n * sde.drift(t) * x + math.sqrt(0.5 / n) * sde.diffusion(t) * z
    assert x.mean().item() == pytest.approx(1.5 * sde.alpha(0.5), abs=4 * sde.sigma(0.5) / math.sqrt(paths))
    assert x.std().item() == pytest.approx(sde.sigma(0.5), rel=0.05)


def test_discrete_nodes_are_the_table() -> None:
    table = ddpm_table(zero_snr=False)
    sde = ss.DiscreteVP(table)
    t = (torch.arange(1000, dtype=torch.float64) + 1) / 1000
    assert torch.allclose(sde.alpha(t) ** 2, torch.tensor(table, dtype=torch.float64), rtol=1e-13)
    zero = ss.DiscreteVP(ddpm_table(zero_snr=True))
    assert zero.alpha(1.0) == 0.0
    assert zero.sigma(1.0) == 1.0
    between = zero.alpha(0.9995)
    assert between == pytest.approx(zero.alpha(0.999) / 2, rel=1e-9)  # alpha itself is linear in the last cell


def test_from_betas() -> None:
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    assert ss.DiscreteVP.from_betas(betas) == ss.DiscreteVP(ddpm_table(zero_snr=False))


@each_process
def test_config_round_trip(sde: ss.SDE) -> None:
    assert sde_from_config(sde.config()) == sde
    assert sde.name in SDES


def test_marginal_mixes_per_sample_times() -> None:
    sde = ss.VP()
    x0, z = torch.ones(3, 2, 2), torch.full((3, 2, 2), 2.0)
    t = torch.tensor([0.1, 0.5, 1.0])
    mixed = sde.marginal(x0, t, z)
    for i in range(3):
        one = sde.marginal(x0[i : i + 1], float(t[i]), z[i : i + 1])
        assert torch.allclose(mixed[i : i + 1], one, rtol=1e-6)
    assert mixed.dtype == x0.dtype


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ss.VP(beta_min=-1.0), "beta_min must be positive"),
        (lambda: ss.VP(beta_min=3.0, beta_max=2.0), "beta_min must be below beta_max"),
        (lambda: ss.VP(eps=2.0), "eps must be below T"),
        (lambda: ss.CosineVP(T=1.0), "T must be below 1"),
        (lambda: ss.VE(sigma_min=5.0, sigma_max=1.0), "sigma_min must be below sigma_max"),
        (lambda: ss.EDM(sigma_max=math.inf), "sigma_max must be positive and finite"),
        (lambda: ss.RectifiedFlow(shift=0.0), "shift must be positive"),
        (lambda: ss.DiscreteVP([0.9]), "at least 2 entries"),
        (lambda: ss.DiscreteVP([0.9, 0.95]), "entry 1 is 0.95 after 0.9"),
        (lambda: ss.DiscreteVP([0.9, 0.0, 0.0]), "entry 1 is 0.0"),
        (lambda: ss.VP().point(1.5), r"outside \[0, 1.0\]"),
        (lambda: ss.VP().point(math.nan), "outside"),
        (lambda: sde_from_config({"name": "vpp"}), "nearest: .*vp"),
    ],
)
def test_bad_arguments(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
