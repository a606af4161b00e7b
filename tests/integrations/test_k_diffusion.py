"""k-diffusion's functions: signatures, names, recorded samples, callbacks."""

from __future__ import annotations

import inspect
import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import scoresde as ss
from scoresde.integrations import k_diffusion as kd
from tests.golden.rules import reason_not_covered
from tests.golden.store import COMPACT, Case, Folder, golden
from tests.integrations.k_diffusion_models import (
    SIGMAS,
    Recorder,
    model,
    start,
)

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
    assert kd.sampler("DPM++ 2M SDE") is kd.sample_dpmpp_2m_sde
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
