"""What k-diffusion's functions take and refuse; precision, progress bars."""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import scoresde as ss
from scoresde.integrations import k_diffusion as kd
from tests.integrations.k_diffusion_models import (
    SIGMAS,
    model,
    of_flow,
    start,
    target,
)


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
    with pytest.raises(ValueError, match="process='edm': the model is of process 'flow' already"):
        kd.wrap(kd.Model(never, "flow"), process="edm")
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


class Waits(TorchDispatchMode):
    """Counts what would wait for a device."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sample_heun", "sample_euler_ancestral", "sample_dpmpp_2m", "sample_unipc_3"])
def test_nothing_waits_for_the_device_in_the_loop(name: str) -> None:
    waits, counts = Waits(), []

    def counting(x: Tensor, sigma: Tensor) -> Tensor:
        counts.append(waits.count)
        return model(x, sigma)

    with waits:
        getattr(kd, name)(counting, start(), SIGMAS, callback=lambda d: None)
    assert counts[0] == counts[-1]
    assert len(counts) >= 4


def test_x_is_left_alone() -> None:
    x = start()
    kd.sample_heun(model, x, SIGMAS, s_churn=2.0)
    assert torch.equal(x, start())


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
