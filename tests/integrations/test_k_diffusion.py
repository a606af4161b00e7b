"""k-diffusion's functions: its signatures, callbacks, requests for noise and samples; models both ways."""

from __future__ import annotations

import importlib
import inspect
import math
import pickle
import sys
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

import scoresde as ss
from scoresde.integrations import k_diffusion as kd
from scoresde.plan import make_plan
from scoresde.solvers import DDIM, DPMppSDE, MultistepDPM
from scoresde.targets import Gaussian
from tests.golden.rules import reason_not_covered
from tests.golden.store import COMPACT, Case, Folder, golden

CASES = [case for case in golden().cases if case.source == "k_diffusion"]
FEW = {"kdiff-A-heun-karras-n12", "kdiff-A-euler-karras-n12-churn-s0", "kdiff-A-dpmpp_sde-karras-n12-s0"}
# k-diffusion's own signatures (crowsonkb/k-diffusion, k_diffusion/sampling.py and external.py, February 2026).
START = "model, x, sigmas, extra_args=None, callback=None, disable=None"
CHURN = f"{START}, s_churn=0.0, s_tmin=0.0, s_tmax=inf, s_noise=1.0"
NOISY = f"{START}, eta=1.0, s_noise=1.0, noise_sampler=None"
ENDS = "model, x, sigma_min, sigma_max, {}extra_args=None, callback=None, disable=None, "
SIGNATURES = {
    "sample_euler": CHURN,
    "sample_euler_ancestral": NOISY,
    "sample_heun": CHURN,
    "sample_dpm_2": CHURN,
    "sample_dpm_2_ancestral": NOISY,
    "sample_lms": f"{START}, order=4",
    "sample_dpm_fast": ENDS.format("n, ") + "eta=0.0, s_noise=1.0, noise_sampler=None",
    "sample_dpm_adaptive": ENDS.format("")
    + "order=3, rtol=0.05, atol=0.0078, h_init=0.05, pcoeff=0.0, icoeff=1.0, dcoeff=0.0, accept_safety=0.81, "
    "eta=0.0, s_noise=1.0, noise_sampler=None, return_info=False",
    "sample_dpmpp_2s_ancestral": NOISY,
    "sample_dpmpp_sde": f"{NOISY}, r=0.5",
    "sample_dpmpp_2m": START,
    "sample_dpmpp_2m_sde": f"{NOISY}, solver_type='midpoint'",
    "sample_dpmpp_3m_sde": NOISY,
    "get_sigmas_karras": "n, sigma_min, sigma_max, rho=7.0, device='cpu'",
    "get_sigmas_exponential": "n, sigma_min, sigma_max, device='cpu'",
    "get_sigmas_polyexponential": "n, sigma_min, sigma_max, rho=1.0, device='cpu'",
    "get_sigmas_vp": "n, beta_d=19.9, beta_min=0.1, eps_s=0.001, device='cpu'",
}
KEYS = ["x", "i", "sigma", "sigma_hat", "denoised"]
KEYS_FAST = ["sigma", "sigma_hat", "x", "i", "t", "t_up", "denoised"]
KEYS_ADAPTIVE = [*KEYS_FAST, "error", "h", "steps", "nfe", "n_accept", "n_reject"]
PROCESSES = {
    "vp": ss.VP(),
    "cosine": ss.CosineVP(),
    "sub-vp": ss.SubVP(),
    "ve": ss.VE(),
    "edm": ss.EDM(),
    "flow": ss.RectifiedFlow(),
    "shifted-flow": ss.RectifiedFlow(shift=3.0),
    "discrete": ss.DiscreteVP.from_betas(torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)),
}
SIGMAS = torch.tensor([20.0, 6.0, 1.5, 0.3, 0.0], dtype=torch.float64)
FLOW_SIGMAS = torch.linspace(1.0, 0.0, 9, dtype=torch.float64)


def target() -> Gaussian:
    """In three dimensions, correlated."""
    values, vectors = torch.linalg.eigh(torch.tensor([[1.0, 0.4, 0.0], [0.4, 0.6, 0.1], [0.0, 0.1, 0.3]]).double())
    return Gaussian(torch.tensor([0.5, -1.0, 0.2], dtype=torch.float64), values, vectors)


def start(sigma: float = 20.0, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return (torch.randn(4, 3, generator=generator, dtype=torch.float64) * sigma).to(dtype)


def model(x: Tensor, sigma: Tensor) -> Tensor:
    """A smooth nonlinear denoiser of the EDM process."""
    s = sigma[:, None]
    return x / (1 + s**2) + 0.3 * torch.tanh(x / (1 + s))


def each(noises: list[Tensor]) -> Callable[[Any, Any], Tensor]:
    """A noise sampler that gives them one after the other."""
    given = iter(noises)
    return lambda sigma, sigma_next: next(given)


class Recorder:
    """A model that notes how it is called."""

    def __init__(self, inner: Callable[..., Tensor] = model) -> None:
        self.inner, self.sigmas, self.states, self.extra = inner, [], [], []

    def __call__(self, x: Tensor, sigma: Tensor, **extra: Any) -> Tensor:
        assert sigma.shape == x.shape[:1]
        assert sigma.dtype == x.dtype
        assert not torch.is_grad_enabled()
        self.sigmas.append(sigma[0].item())
        self.states.append(x)
        self.extra.append(extra)
        return self.inner(x, sigma)


# -- signatures and names ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures_are_k_diffusions(name: str) -> None:
    signature = inspect.signature(getattr(kd, name))
    bare = signature.replace(
        parameters=[p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()],
        return_annotation=inspect.Signature.empty,
    )
    assert str(bare) == f"({SIGNATURES[name]})"


def test_every_solver_of_the_catalogue_has_a_function() -> None:
    for name, solver in ss.solvers().items():
        function = getattr(kd, "sample_" + name.replace("-", "_"))
        assert function.__name__ == "sample_" + name.replace("-", "_")
        assert function.__name__ in dir(kd)
        assert kd.sampler(name) is function
        assert pickle.loads(pickle.dumps(function)) is function
        if function.__name__ in SIGNATURES:
            continue
        assert inspect.getdoc(function)
        parameters = inspect.signature(function).parameters
        assert list(parameters)[:7] == ["model", "x", "sigmas", "extra_args", "callback", "disable", "noise_sampler"]
        for option in list(parameters)[7:]:
            assert parameters[option].kind is inspect.Parameter.KEYWORD_ONLY
            assert parameters[option].default == getattr(solver, option)


def test_names_as_people_write_them() -> None:
    assert kd.sampler("dpmpp_2m") is kd.sampler("DPM++ 2M") is kd.sampler("sample_dpmpp_2m") is kd.sample_dpmpp_2m
    assert kd.sampler("uni_pc_bh2") is kd.sample_unipc_3 is kd.sample_uni_pc_bh2
    assert set(kd.names()) >= {name for name in SIGNATURES if name.startswith("sample")}


@pytest.mark.parametrize(
    ("name", "error", "match"),
    [
        ("dpmp_2m", ValueError, "unknown; nearest: .*dpmpp-2m"),
        ("DPM++ 3M Karras", ValueError, "names the grid 'karras' too"),
        (3, TypeError, "name must be"),
    ],
)
def test_unknown_names(name: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        kd.sampler(name)
    with pytest.raises(AttributeError, match="has no attribute"):
        getattr(kd, f"sample_{name}")


def test_an_unknown_option_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="'etaa' is not an option of solver 'ddim'; its options: eta"):
        kd.sample_ddim(model, start(), SIGMAS, etaa=1.0)


# -- the samples of k-diffusion ---------------------------------------------------------------------------------------


def bank(case: Case, requests: list[list[float]]) -> Callable[[Any, Any], Tensor]:
    """The recorded noise sampler; it notes its arguments."""
    recorded, path = case.noise, "noise_coupling" in case.options
    assert recorded is not None
    draws = iter(range(case.info["noise"]["draws_used"]))
    last: list[Tensor] = []

    def sampler(sigma: Tensor, sigma_next: Tensor) -> Tensor:
        assert sigma.shape == sigma_next.shape == ()
        requests.append([sigma.item(), sigma_next.item()])
        z = recorded(next(draws))
        if not path or len(requests) % 2:
            last[:] = [z]
            return z
        s, u, t = requests[-1][0], requests[-2][1], requests[-1][1]
        return (math.sqrt(s - u) * last[0] + math.sqrt(u - t) * z) / math.sqrt(s - t)

    return sampler


@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=[] if str(c) in FEW else [pytest.mark.slow]) for c in CASES], ids=str
)
def test_golden(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    if reason := reason_not_covered(case):
        pytest.skip(reason)
    function = getattr(kd, f"sample_{case.solver}")
    known = inspect.signature(function).parameters
    options = {name: value for name, value in case.options.items() if name in known and name != "sigmas"}
    levels = [sigma for *_, sigma in case.grid]
    if "sigmas" in known:
        options["sigmas"] = torch.tensor(levels, dtype=torch.float64)
    requests: list[list[float]] = []
    if case.noise is not None and "noise_sampler" in known:
        options["noise_sampler"] = bank(case, requests)
    elif case.noise is not None:  # drawn once in each step
        draws, recorded = iter(range(case.info["noise"]["draws_used"])), case.noise
        monkeypatch.setattr(torch, "randn_like", lambda x: recorded(next(draws)))
    if case.solver == "dpm_adaptive":
        options["return_info"] = True
    denoiser = case.target.denoiser(ss.EDM(1e-4, 200.0))
    told, seen = Recorder(kd.wrap_denoiser(denoiser)), []

    out = function(told, case.x_init, callback=seen.append, **options)
    if case.solver == "dpm_adaptive":
        out, info = out
        assert info == case.options["info"]
        steps = torch.tensor([[d["error"].item(), d["h"], d["nfe"], d["n_accept"]] for d in seen], dtype=torch.float64)
        torch.testing.assert_close(steps, torch.from_numpy(case.array("step_info")), rtol=1e-6, atol=1e-9)

    assert (out - case.x_end).abs().max().item() <= case.info["suggested_atol"]
    rtol = 1e-9 if case.solver == "dpm_adaptive" else 1e-12
    torch.testing.assert_close(
        torch.tensor(told.sigmas).double(), torch.tensor([s for _, s in case.evals]).double(), rtol=rtol, atol=0.0
    )
    assert len(seen) == len(case.grid) - 1
    if "sigmas" in known:
        assert [d["sigma"].item() for d in seen] == levels[:-1]
    if case.has("noise_calls"):
        torch.testing.assert_close(
            torch.tensor(requests).double(), torch.from_numpy(case.array("noise_calls")).double()
        )
    if case.has("traj") and case.solver != "dpm_adaptive" and "s_churn" not in case.options:
        for dict_, state in zip(seen, torch.from_numpy(case.array("traj")), strict=False):
            assert (dict_["x"][: len(state)] - state).abs().max() <= 1e-10 * max(1.0, state.abs().max())


@pytest.mark.slow
def test_golden_covers_k_diffusion() -> None:
    """Every function has cases in the compact copy, and each of them is run."""
    cases = [case for case in Folder(COMPACT).cases if case.source == "k_diffusion"]
    assert {f"sample_{case.solver}" for case in cases} == {name for name in SIGNATURES if name.startswith("sample")}
    assert all(reason_not_covered(case) is None for case in cases)


@pytest.mark.parametrize("name", ["karras", "exponential", "polyexponential", "vp"])
def test_schedules(name: str) -> None:
    """Against their formulas in the time or noise level at i/(n - 1)."""
    function, n, low, high = getattr(kd, f"get_sigmas_{name}"), 7, 0.03, 14.0
    u = torch.linspace(0, 1, n, dtype=torch.float64)
    t = 1 + u * (1e-3 - 1)
    formulas = {
        "karras": lambda: (high ** (1 / 5) + u * (low ** (1 / 5) - high ** (1 / 5))) ** 5,
        "exponential": lambda: high * (low / high) ** u,
        "polyexponential": lambda: low * (high / low) ** ((1 - u) ** 5),
        "vp": lambda: torch.expm1(19.9 * t**2 / 2 + 0.1 * t).sqrt(),
    }
    ends = () if name == "vp" else (low, high)
    rho = {"rho": 5.0} if name in ("karras", "polyexponential") else {}
    sigmas = function(n, *ends, **rho)
    assert sigmas.dtype == torch.get_default_dtype()
    assert sigmas[-1] == 0.0
    torch.testing.assert_close(sigmas[:-1].double(), formulas[name](), rtol=1e-6, atol=0.0)
    assert function(1, *ends).tolist() == [pytest.approx(formulas[name]()[0].item()), 0.0]
    with pytest.raises(ValueError, match="n must be at least 1"):
        function(0, *ends)


# -- callbacks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in SIGNATURES if name.startswith("sample")])
def test_callback_dicts(name: str) -> None:
    function, seen, told = getattr(kd, name), [], Recorder()
    if "sigmas" in SIGNATURES[name]:
        function(told, start(), SIGMAS, {"scale": 2}, seen.append, True)
        assert [list(d) for d in seen] == [KEYS] * 4
        assert [d["i"] for d in seen] == [0, 1, 2, 3]
        assert [d["sigma"].item() for d in seen] == SIGMAS[:-1].tolist()
        assert [d["sigma_hat"].item() for d in seen] == SIGMAS[:-1].tolist()
    elif name == "sample_dpm_fast":
        function(told, start(), 0.1, 20.0, 8, {"scale": 2}, seen.append, True)
        assert [list(d) for d in seen] == [KEYS_FAST] * 3
        assert [d["i"] for d in seen] == [0, 1, 2]
        torch.testing.assert_close(-torch.stack([d["t"] for d in seen]), torch.stack([d["sigma"] for d in seen]).log())
    else:
        function(told, start(), 0.1, 20.0, {"scale": 2}, seen.append, True)
        assert [list(d) for d in seen] == [KEYS_ADAPTIVE] * len(seen)
        assert [d["steps"] for d in seen] == [d["n_accept"] + d["n_reject"] for d in seen]
        assert seen[-1]["nfe"] == len(told.sigmas)
        assert seen[-1]["sigma"] == pytest.approx(0.1)
    assert told.extra == [{"scale": 2}] * len(told.extra)
    if name != "sample_dpm_adaptive":  # whose x is the state after the step
        for d in seen:
            assert any(d["x"] is x for x in told.states)
            torch.testing.assert_close(
                d["denoised"], model(d["x"], d["sigma_hat"].double().expand(4)), rtol=1e-4, atol=1e-4
            )


def test_callback_sees_churn() -> None:
    seen: list[dict] = []
    kd.sample_heun(model, start(), SIGMAS, callback=seen.append, s_churn=2.0, s_tmin=1.0, s_tmax=10.0)
    raised = [d["sigma_hat"].item() / d["sigma"].item() for d in seen]
    assert raised == pytest.approx([1.0, math.sqrt(2.0), math.sqrt(2.0), 1.0])


def test_a_callback_may_change_the_state_in_place() -> None:
    """As with k-diffusion: what it writes into x is what the step starts from."""

    def clear(d: dict) -> None:
        if d["i"] == 2:
            d["x"].zero_()
            d["denoised"].zero_()

    out = kd.sample_euler(model, start(), SIGMAS, callback=clear)
    rest = kd.sample_euler(model, torch.zeros(4, 3).double(), SIGMAS[3:])
    torch.testing.assert_close(out, rest)


# -- noise ------------------------------------------------------------------------------------------------------------


def requested(name: str, sigmas: Tensor = SIGMAS, of: Any = model, **options: Any) -> list[tuple[float, float]]:
    requests: list[tuple[float, float]] = []

    def sampler(sigma: Tensor, sigma_next: Tensor) -> Tensor:
        requests.append((sigma.item(), sigma_next.item()))
        return torch.zeros(4, 3)

    getattr(kd, name)(of, start(sigmas[0].item()), sigmas, noise_sampler=sampler, **options)
    return requests


STEPS = [(20.0, 6.0), (6.0, 1.5), (1.5, 0.3)]


@pytest.mark.parametrize(
    "name", ["sample_euler_ancestral", "sample_dpm_2_ancestral", "sample_dpmpp_2s_ancestral", "sample_dpmpp_2m_sde",
             "sample_dpmpp_3m_sde", "sample_ddpm", "sample_er_sde_3", "sample_lcm"]
)  # fmt: skip
def test_noise_is_asked_for_each_step(name: str) -> None:
    assert requested(name) == STEPS


def test_noise_of_stages() -> None:
    halves = [(s, math.sqrt(s * t)) for s, t in STEPS]
    theirs = [pair for (s, u), (_, t) in zip(halves, STEPS, strict=True) for pair in ((s, u), (s, t))]
    assert requested("sample_dpmpp_sde") == [pytest.approx(pair) for pair in theirs]
    parts = [pair for (s, u), (_, t) in zip(halves, STEPS, strict=True) for pair in ((s, u), (u, t))]
    assert requested("sample_seeds_2") == [pytest.approx(pair) for pair in parts]


def test_noise_of_functions_without_sigmas() -> None:
    """No step aims below sigma_min, so the last one adds no noise; the steps before it join up."""
    requests: list[tuple[float, float]] = []
    told = Recorder()

    def sampler(sigma: Tensor, sigma_next: Tensor) -> Tensor:
        requests.append((sigma.item(), sigma_next.item()))
        return torch.ones(4, 3)

    kd.sample_dpm_fast(told, start(), 0.02, 20.0, 7, eta=1.0, noise_sampler=sampler)
    assert requests == [pytest.approx((20.0, 2.0)), pytest.approx((2.0, 0.2))]
    assert len(told.sigmas) == 7
    assert min(told.sigmas) > 0.02
    requests.clear()
    _, info = kd.sample_dpm_adaptive(told, start(), 0.02, 20.0, eta=0.7, noise_sampler=sampler, return_info=True)
    assert len(requests) == info["n_accept"] - 1
    assert requests[0][0] == 20.0
    assert [t for _, t in requests[:-1]] == [s for s, _ in requests[1:]]
    assert min(told.sigmas) > 0.02


def test_noise_that_counts_for_nothing_is_not_drawn() -> None:
    assert requested("sample_euler_ancestral", eta=0.0) == []
    assert requested("sample_dpmpp_sde", s_noise=0.0) == []


def test_default_noise_is_torchs_own() -> None:
    torch.manual_seed(4)
    out = kd.sample_euler_ancestral(model, start(), SIGMAS)
    torch.manual_seed(4)
    same = kd.sample_euler_ancestral(model, start(), SIGMAS, noise_sampler=lambda a, b: torch.randn_like(start()))
    assert torch.equal(out, same)


def test_churn_draws_in_every_step() -> None:
    """k-diffusion draws in steps without churn too; the noise of the later ones must be the same."""
    torch.manual_seed(4)
    out = kd.sample_euler(model, start(), SIGMAS, s_churn=1.0, s_tmax=2.0)
    torch.manual_seed(4)
    _, _, z2, z3 = (torch.randn_like(start()) for _ in range(4))
    x = start()
    for i, z in enumerate((0 * z2, 0 * z2, z2, z3)):
        s, t = SIGMAS[i], SIGMAS[i + 1]
        hat = s * 1.25 if i >= 2 else s
        x = x + z * (hat**2 - s**2).sqrt()
        x = x + (x - model(x, hat.expand(4))) / hat * (t - hat)
    torch.testing.assert_close(out, x)


@pytest.mark.slow
def test_stochastic_default_is_one_path() -> None:
    """dpmpp_sde's two noises of a step belong to one Brownian path, seeded from torch's generator."""
    torch.manual_seed(4)
    out = kd.sample_dpmpp_sde(model, start(), SIGMAS)
    torch.manual_seed(4)
    sampler = kd.BrownianNoiseSampler(start())
    assert torch.equal(out, kd.sample_dpmpp_sde(model, start(), SIGMAS, noise_sampler=sampler))
    torch.manual_seed(4)
    seed = int(torch.randint(0, 2**63 - 1, []))
    sde = ss.EDM(0.3, 20.0)
    noise = ss.BrownianPath((4, 3), seed, clock="sigma", dtype=torch.float64)
    run = make_plan(DPMppSDE(), sde, SIGMAS.tolist()).start(start(), noise=noise)
    while not run.done:
        run.tell(model(run.x, torch.full((4,), run.t, dtype=torch.float64)))
    torch.testing.assert_close(out, run.sample)
    for function in (kd.sample_dpmpp_2m_sde, kd.sample_dpmpp_3m_sde):
        torch.manual_seed(4)
        out = function(model, start(), SIGMAS)
        torch.manual_seed(4)
        assert torch.equal(out, function(model, start(), SIGMAS, noise_sampler=kd.BrownianNoiseSampler(start())))


@pytest.mark.slow
def test_a_seeded_path_is_shared_by_batches_and_step_counts() -> None:
    """Sample 2 is the same in another batch; half the steps end near it on the same path, and on another do not."""
    sigmas = kd.get_sigmas_exponential(33, 0.05, 20.0).double()[:-1]

    def sample(every: int, seed: int, first: int = 0) -> Tensor:
        noise = kd.BrownianNoiseSampler(start()[first:], seed=seed, index=first)
        return kd.sample_dpmpp_2m_sde(model, start()[first:], sigmas[::every].clone(), noise_sampler=noise)

    fine = sample(1, 3)
    torch.testing.assert_close(sample(1, 3, first=2), fine[2:])
    assert (sample(2, 3) - fine).abs().max() < 0.3 * (sample(1, 4) - fine).abs().max()


# -- flow -------------------------------------------------------------------------------------------------------------


def of_flow(function: Callable[..., Tensor] | None = None) -> kd.Model:
    return kd.Model(function or kd.wrap_denoiser(target().denoiser(ss.RectifiedFlow()), "flow"), process="flow")


def test_flow_euler_ancestral_is_comfyuis() -> None:
    """Its formula on x = (1 - s) x0 + s noise, in which eta shortens the way to a colder point."""
    torch.manual_seed(2)
    flow, eta = of_flow(), 0.7
    out = kd.sample_euler_ancestral(flow, start(1.0), FLOW_SIGMAS, eta=eta)
    torch.manual_seed(2)
    x = start(1.0)
    for s, t in pairwise(FLOW_SIGMAS):
        denoised = flow(x, s.expand(4))
        if t == 0:
            x = denoised
            continue
        down = t * (1 + (t / s - 1) * eta)
        x = down / s * x + (1 - down / s) * denoised
        kept = (1 - t) / (1 - down)
        x = kept * x + torch.randn_like(x) * (t**2 - (down * kept) ** 2).sqrt()
    torch.testing.assert_close(out, x)


@pytest.mark.parametrize("name", ["sample_euler", "sample_heun", "sample_dpm_2", "sample_lms", "sample_dpmpp_2m"])
def test_deterministic_functions_carry_over_unchanged(name: str) -> None:
    flow = of_flow()
    plain = getattr(kd, name)(lambda x, s: flow(x, s), start(1.0), FLOW_SIGMAS)
    assert torch.equal(getattr(kd, name)(flow, start(1.0), FLOW_SIGMAS), plain)


def test_stochastic_functions_run_on_rectified_flow() -> None:
    """The same plan on RectifiedFlow; taken for EDM, the sample is another."""
    flow, sde = of_flow(), ss.RectifiedFlow()
    denoiser = target().denoiser(sde)
    for name, solver in (
        ("sample_dpmpp_2m_sde", MultistepDPM(2, eta=1.0)),
        ("sample_dpmpp_sde", DPMppSDE(coupling="independent")),
        ("sample_ddpm", DDIM(1.0)),
    ):
        torch.manual_seed(2)
        noises = [torch.randn(4, 3, dtype=torch.float64) for _ in range(20)]
        out = getattr(kd, name)(flow, start(1.0), FLOW_SIGMAS, noise_sampler=each(noises))
        run = make_plan(solver, sde, FLOW_SIGMAS.tolist()).start(start(1.0), noise=noises.__getitem__)
        while not run.done:
            run.tell(denoiser(run.x, run.t))
        torch.testing.assert_close(out, run.sample)


@pytest.mark.slow
def test_flow_law_of_stochastic_functions() -> None:
    """On a Gaussian the deviation of many samples is the target's; with EDM's rule on a flow it is far from it."""
    flat = Gaussian(torch.zeros(1).double(), torch.tensor([0.25]).double())
    flow = of_flow(kd.wrap_denoiser(flat.denoiser(ss.RectifiedFlow()), "flow"))
    sigmas, x = torch.linspace(1, 0, 41).double(), torch.randn(20000, 1, dtype=torch.float64)
    for name in ("sample_dpm_2_ancestral", "sample_dpmpp_2s_ancestral", "sample_dpmpp_2m_sde"):
        sample = partial(getattr(kd, name), noise_sampler=lambda a, b: torch.randn_like(x))
        assert sample(flow, x, sigmas).std().item() == pytest.approx(0.5, rel=0.03)
        assert sample(lambda x, s: flow(x, s), x, sigmas).std().item() > 0.6


def test_churn_on_a_flow() -> None:
    seen: list[dict] = []
    flow = of_flow()
    kd.sample_heun(flow, start(1.0), FLOW_SIGMAS, callback=seen.append, s_churn=4.0, s_tmin=0.25, s_tmax=0.5)
    for d in seen:
        s, hat = d["sigma"].item(), d["sigma_hat"].item()
        raised = hat / (1 - hat) / (s / (1 - s)) if s < 1.0 else 1.0
        assert raised == pytest.approx(math.sqrt(2.0) if 0.25 <= s <= 0.5 else 1.0)
        assert hat <= 1.0


# -- the whole catalogue ----------------------------------------------------------------------------------------------


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


# -- both ways --------------------------------------------------------------------------------------------------------


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


# -- arguments --------------------------------------------------------------------------------------------------------


def never(x: Tensor, sigma: Tensor) -> Tensor:
    raise AssertionError("the model was called before the arguments were checked")


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"model": 3}, TypeError, r"model must be callable as model\(x, sigma"),
        (
            {"x": torch.zeros(4, 3, dtype=torch.int64)},
            TypeError,
            "x must be .* floating-point numbers, got torch.int64",
        ),
        ({"x": torch.zeros(0, 3)}, ValueError, "x must have shape"),
        ({"sigmas": torch.ones(2, 2)}, ValueError, r"sigmas must be noise levels in one dimension"),
        ({"sigmas": torch.tensor([1.0, 2.0, 0.0])}, ValueError, r"sigmas\[1\]=2.0 increases from sigmas\[0\]=1.0"),
        ({"sigmas": torch.tensor([1.0, 1.0, 0.0])}, ValueError, r"sigmas\[1\]=1.0 repeats sigmas\[0\]=1.0"),
        ({"sigmas": torch.tensor([1.0, 0.0, 0.0])}, ValueError, r"sigmas\[2\]=0.0 repeats"),
        ({"sigmas": torch.tensor([1.0, math.nan, 0.0])}, ValueError, r"finite and at least 0, got sigmas\[1\]=nan"),
        ({"sigmas": torch.tensor([1.0, -0.5])}, ValueError, r"finite and at least 0, got sigmas\[1\]=-0.5"),
        ({"sigmas": 3.0}, TypeError, "sigmas must be a tensor"),
        ({"sigmas": torch.zeros(0)}, ValueError, "sigmas must be"),
        ({"extra_args": 3}, TypeError, "extra_args must be a dict"),
        ({"callback": 3}, TypeError, "callback must be callable"),
        ({"noise_sampler": 3}, TypeError, r"noise_sampler must be callable as noise_sampler\(sigma, sigma_next\)"),
        ({"eta": 1.5}, ValueError, r"eta must be within \[0, 1\]"),
    ],
)
def test_bad_arguments(change: dict[str, Any], error: type[Exception], match: str) -> None:
    arguments = {"model": never, "x": start(), "sigmas": SIGMAS, **change}
    with pytest.raises(error, match=match):
        kd.sample_euler_ancestral(**arguments)


def test_bad_arguments_of_single_functions() -> None:
    with pytest.raises(ValueError, match=r"0 < sigma_min < sigma_max, got 0.0 and 20.0"):
        kd.sample_dpm_fast(never, start(), 0.0, 20.0, 5)
    with pytest.raises(ValueError, match=r"0 < sigma_min < sigma_max, got 20.0 and 1.0"):
        kd.sample_dpm_adaptive(never, start(), 20.0, 1.0)
    with pytest.raises(ValueError, match="n must be at least 1"):
        kd.sample_dpm_fast(never, start(), 0.1, 20.0, 0)
    with pytest.raises(ValueError, match="solver_type='mid'"):
        kd.sample_dpmpp_2m_sde(never, start(), SIGMAS, solver_type="mid")
    with pytest.raises(ValueError, match=r"within \[0, 1\], got 20"):
        kd.sample_euler(kd.Model(never, "flow"), start(), SIGMAS)
    with pytest.raises(ValueError, match="process='const' is unknown; nearest: "):
        kd.Model(never, "const")
    with pytest.raises(ValueError, match="sigma_min: pass the range"):
        kd.wrap(never)
    with pytest.raises(ValueError, match="leave them out"):
        kd.wrap(target().denoiser(ss.EDM()), 0.1, 2.0)
    with pytest.raises(TypeError, match=r"denoiser must be a scoresde.Denoiser"):
        kd.wrap_denoiser(never)  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [lambda x, s: x[:, :1], lambda x, s: None], ids=["shape", "none"])
def test_bad_answers(bad: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match=r"model must return .* of the shape of x, \(4, 3\); got"):
        kd.sample_euler(bad, start(), SIGMAS)
    with pytest.raises(ValueError, match=r"noise_sampler must return a tensor of the shape of x, \(4, 3\); got"):
        kd.sample_ddpm(model, start(), SIGMAS, noise_sampler=lambda s, t: bad(start(), None))


def test_non_finite_answers_are_an_error() -> None:
    with pytest.raises(ValueError, match="not finite"):
        kd.sample_euler(lambda x, s: x * math.nan, start(), SIGMAS)


def test_sigmas_may_be_anything_that_decreases() -> None:
    half = kd.sample_dpmpp_2m(model, start(), SIGMAS[:3])
    assert half.shape == (4, 3)
    assert kd.sample_dpmpp_2m(never, start(), SIGMAS[:1]) is not None  # no step to take
    lists = kd.sample_dpmpp_2m(model, start(), SIGMAS.tolist())  # type: ignore[arg-type]
    torch.testing.assert_close(lists, kd.sample_dpmpp_2m(model, start(), SIGMAS))
    torch.testing.assert_close(kd.sample_lms(model, start(), SIGMAS[3:]), model(start(), SIGMAS[3].expand(4)))
    shifted = torch.tensor([1.0000001, 0.5, 0.0])  # float32 arithmetic of a shift
    assert torch.isfinite(kd.sample_ddpm(of_flow(), start(1.0), shifted)).all()


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_accumulated_in_float32(dtype: torch.dtype) -> None:
    """The model sees x's dtype; rounding the state after each of 300 small steps would cost far more."""
    sigmas = kd.get_sigmas_exponential(300, 0.05, 20.0)

    def small(x: Tensor, sigma: Tensor) -> Tensor:
        assert x.dtype == sigma.dtype == dtype
        return model(x.float(), sigma.float()).to(dtype)

    exact = kd.sample_euler(model, start(20.0, dtype).double(), sigmas)
    out = kd.sample_euler(small, start(20.0, dtype), sigmas)
    assert out.dtype == dtype
    x = start(20.0, dtype)
    for s, t in zip(sigmas[:-1].tolist(), sigmas[1:].tolist(), strict=True):
        x = x + (x - small(x, torch.full((4,), s, dtype=dtype))) * ((t - s) / s)
    assert (out - exact).abs().max() < 0.5 * (x - exact).abs().max()


def test_x_is_left_alone() -> None:
    x = start()
    kd.sample_heun(model, x, SIGMAS, s_churn=2.0)
    assert torch.equal(x, start())


# -- progress ---------------------------------------------------------------------------------------------------------


class Bar:
    shown: ClassVar[list[tuple[str, Any]]] = []

    def __init__(self, total: int | None = None) -> None:
        self.shown.append(("total", total))

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, n: int) -> None:
        self.shown.append(("update", n))


@pytest.mark.parametrize(
    ("disable", "terminal", "steps"), [(False, False, 4), (None, True, 4), (None, False, 0), (True, True, 0)]
)
def test_progress_bar(disable: bool | None, terminal: bool, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    Bar.shown.clear()
    monkeypatch.setitem(sys.modules, "tqdm.auto", SimpleNamespace(tqdm=Bar))
    monkeypatch.setattr(sys, "stderr", SimpleNamespace(isatty=lambda: terminal))
    kd.sample_heun(model, start(), SIGMAS, disable=disable)
    assert Bar.shown == ([("total", 4), *[("update", 1)] * 4] if steps else [])


def test_no_library_for_a_bar_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.import_module

    def missing(name: str, *arguments: Any) -> Any:
        if name.partition(".")[0] in ("tqdm", "rich"):
            raise ImportError(name)
        return real(name, *arguments)

    monkeypatch.setattr(importlib, "import_module", missing)
    kd.sample_euler(model, start(), SIGMAS, disable=False)
