"""Denoisers around a denoiser."""

import math

import numpy as np
import pytest
import torch

import scoresde as ss
from scoresde.guidance import ClassifierFree, DynamicThreshold, Threshold
from scoresde.targets import GaussianMixture

VP = ss.VP()


def saying(x0: torch.Tensor, sde: ss.SDE = VP) -> ss.Denoiser:
    """A denoiser that predicts this, whatever it sees."""
    return ss.Denoiser(lambda x, t: x0.to(x.dtype), sde, prediction="x0")


def picture(dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return 3 * torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("bound", [1.0, 0.5, 4.0])
def test_static(bound: float) -> None:
    x = picture()
    assert torch.equal(Threshold(saying(x), bound)(x, 0.5), x.clamp(-bound, bound))


@pytest.mark.parametrize(
    ("ratio", "bound", "maximum"), [(0.995, 1.0, math.inf), (0.5, 0.5, 1.2), (0.9, 50.0, math.inf)]
)
def test_dynamic(ratio: float, bound: float, maximum: float) -> None:
    x = picture()
    got = DynamicThreshold(saying(x), ratio, bound, maximum)(x, 0.5)
    for sample, before in zip(got.numpy(), x.numpy(), strict=True):
        s = np.clip(np.quantile(np.abs(before), ratio), bound, maximum)
        np.testing.assert_allclose(sample, np.clip(before, -s, s) / s * bound, rtol=1e-12)
    assert got.abs().max() <= bound * (1 + 1e-12)


def test_a_least_threshold_is_the_bound() -> None:
    """diffusers' default, sample_max_value = 1, is static thresholding."""
    x = picture()
    assert torch.allclose(DynamicThreshold(saying(x), maximum=1.0)(x, 0.5), Threshold(saying(x))(x, 0.5), rtol=1e-15)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_dtypes(dtype: torch.dtype) -> None:
    x = picture(dtype)
    for wrap in (Threshold, DynamicThreshold):
        got = wrap(saying(x))(x, 0.5)
        assert got.dtype == dtype
        assert got.abs().max() <= 1.0


def test_within_the_range_nothing_changes() -> None:
    sde = ss.EDM()
    denoiser = GaussianMixture.five().denoiser(sde)
    plain = ss.sample(denoiser, (4, 2), steps=6)
    for wrapped in (Threshold(denoiser, 100.0), DynamicThreshold(denoiser, bound=100.0)):
        assert torch.equal(ss.sample(wrapped, (4, 2), steps=6), plain)
        assert wrapped.sde is sde


def test_other_predictions_follow() -> None:
    x = picture()
    wrapped = DynamicThreshold(saying(x))
    alpha, sigma = VP.alpha(0.5), VP.sigma(0.5)
    assert torch.allclose(wrapped.predict(x, 0.5, "epsilon"), (x - alpha * wrapped(x, 0.5)) / sigma)
    prediction, kind, _ = wrapped.evaluate(x, 0.5)
    assert kind == "x0"
    assert torch.equal(prediction, wrapped(x, 0.5))


def test_a_sample_stays_in_range_by_itself() -> None:
    """Each sample has its own threshold, conditions reach the network, and wrappers nest."""
    seen = []

    def net(x: torch.Tensor, t: torch.Tensor, shift: float) -> torch.Tensor:
        seen.append(shift)
        return 5 * torch.tanh(x) + shift

    denoiser = DynamicThreshold(Threshold(ss.Denoiser(net, VP, prediction="x0"), 4.0), ratio=0.9)
    whole = ss.sample(denoiser, (5, 12), steps=4, cond={"shift": 2.0})
    assert set(seen) == {2.0}
    assert whole.abs().max() <= 1.0 + 1e-6
    assert torch.allclose(ss.sample(denoiser, (2, 12), steps=4, index=3, cond={"shift": 2.0}), whole[3:], atol=1e-6)
    assert repr(denoiser).startswith("DynamicThreshold(Threshold(Denoiser(function")


def labelled(calls: list[int]) -> ss.Denoiser:
    """Noise prediction that depends on labels (B,), linearly in x so that its guided form is known."""

    def net(x: torch.Tensor, t: torch.Tensor, labels: torch.Tensor, gain: float = 1.0) -> torch.Tensor:
        calls.append(len(x))
        return gain * x * (0.1 + 0.2 * labels.to(x).reshape(-1, 1)) + t.to(x).reshape(-1, 1)

    return ss.Denoiser(net, VP, prediction="epsilon")


@pytest.mark.parametrize("t", [0.5, torch.tensor([0.2, 0.5, 0.9])], ids=["one-time", "time-each"])
@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0])
def test_classifier_free(scale: float, t: float | torch.Tensor) -> None:
    calls: list[int] = []
    plain, x = labelled(calls), torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels, null = torch.tensor([1, 2, 3]), torch.tensor([0, 0, 0])
    guided = ClassifierFree(plain, scale, null={"labels": 0})
    got = guided(x, t, labels=labels, gain=0.5)
    assert calls == [6]  # both in one call
    c, u = plain(x, t, labels=labels, gain=0.5), plain(x, t, labels=null, gain=0.5)
    assert torch.allclose(got, u + scale * (c - u), atol=1e-12)
    prediction, kind, unconditional = guided.evaluate(x, t, labels=labels, gain=0.5)
    assert kind == "epsilon"
    assert unconditional is not None
    assert torch.allclose(guided.converted(x, t, prediction, kind, "x0"), got, atol=1e-12)
    assert torch.allclose(guided.converted(x, t, unconditional, kind, "x0"), u, atol=1e-12)


def test_cfgpp_needs_nothing_else() -> None:
    """At scale 1 the noise is still the unconditional one: CFG++ is not the inner solver, thresholded or not."""
    guided = ClassifierFree(labelled([]), 1.0, null={"labels": 0})
    cond = {"labels": torch.tensor([1, 2])}
    for denoiser in (guided, Threshold(guided, 50.0)):
        a, b = (ss.sample(denoiser, (2, 4), solver=name, steps=4, cond=cond) for name in ("ddim-cfgpp", "ddim"))
        assert (a - b).abs().max() > 1e-2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda d: ClassifierFree(d, math.nan, null={"labels": 0}), "scale must be finite, got nan"),
        (lambda d: ClassifierFree(d, 2.0, null={}), "null must name at least one condition"),
        (lambda d: ClassifierFree(d, 2.0, null={"labels": 0})(picture(), 0.5), "cond lacks labels"),
        (lambda d: ClassifierFree(d, 2.0, null={"labels": 0})(picture(), 0.5, labels=3), "one row a sample, got 3"),
        (lambda d: Threshold(lambda x, t: x), "denoiser must be a scoresde.Denoiser .*, got function"),  # type: ignore[arg-type]
        (lambda d: Threshold(d, 0.0), "bound must be positive and finite, got 0.0"),
        (lambda d: DynamicThreshold(d, 1.5), r"ratio must be within \(0, 1\), got 1.5"),
        (lambda d: DynamicThreshold(d, bound=math.inf), "bound must be positive and finite"),
        (lambda d: DynamicThreshold(d, bound=2.0, maximum=1.0), "maximum must be at least bound=2.0, got 1.0"),
    ],
)
def test_bad_options(make, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        make(saying(picture()))
