"""Song's score functions, models and processes, and denoisers as his score functions."""

from __future__ import annotations

import pytest
import torch

import scoresde as ss
from scoresde.integrations import score_sde
from scoresde.sde.schedule import Schedule
from tests.exact import draws, normals
from tests.integrations.networks import (
    IMAGES,
    VESDE,
    VPSDE,
    GaussianDiffusion,
    assert_close,
    check_exact,
    check_samples,
    song_score_fn,
    subVPSDE,
)

THEIRS = {"vp": VPSDE(0.2, 15.0), "subvp": subVPSDE(), "ve": VESDE(0.02, 40.0)}
OURS = {"vp": ss.VP(0.2, 15.0), "subvp": ss.SubVP(), "ve": ss.VE(0.02, 40.0)}
TIMES = (0.02, 0.4, 1.0)
each = pytest.mark.parametrize("name", THEIRS)


def exact_score(sde: ss.SDE):
    return lambda x, t: IMAGES.score(x, sde.alpha(t), sde.sigma(t))


def model_of(name: str, continuous: bool):
    """The raw network: what it gives at its labels is exact."""
    sde, theirs = OURS[name], THEIRS[name]

    def model(x, labels):
        if name == "ve":
            if continuous:
                return IMAGES.score(x, 1.0, labels)
            assert labels.dtype == torch.int64
            return IMAGES.score(x, 1.0, theirs.discrete_sigmas.double().flip(0)[labels])
        if continuous or name == "subvp":
            alpha, sigma = sde.alpha(labels / 999), sde.sigma(labels / 999)
        else:
            alpha = torch.cumprod(1 - theirs.discrete_betas.double(), 0)[labels.round().long()].sqrt()
            sigma = (1 - alpha**2).sqrt()
        shape = (-1, 1, 1, 1)
        return (x - alpha.reshape(shape) * IMAGES.x0(x, alpha, sigma)) / sigma.reshape(shape)

    return model


@each
def test_the_process_is_read_from_the_object(name: str) -> None:
    assert score_sde.process_of(THEIRS[name]) == OURS[name]
    assert score_sde.process_of(OURS[name]) is OURS[name]


@each
def test_x0_of_a_score_function_is_exact(name: str) -> None:
    check_exact(score_sde.from_score_sde(exact_score(OURS[name]), THEIRS[name]), IMAGES, TIMES)


@pytest.mark.slow
@each
def test_samples_end_where_the_exact_flow_does(name: str) -> None:
    check_samples(score_sde.from_score_sde(exact_score(OURS[name]), THEIRS[name]), IMAGES)
    check_samples(score_sde.from_model(model_of(name, True), THEIRS[name]), IMAGES)


@each
def test_a_model_of_continuous_time_is_wrapped_as_score_sde_does(name: str) -> None:
    model, theirs = model_of(name, True), THEIRS[name]
    denoiser = score_sde.from_model(model, theirs)
    check_exact(denoiser, IMAGES, TIMES, tol=1e-8)
    x, t = draws(IMAGES, 0.8, 0.6), torch.tensor([0.05, 0.2, 0.5, 0.9, 1.0], dtype=torch.float64)
    expected = song_score_fn(theirs, model, True)(x, t)
    assert_close(denoiser.predict(x, t, "score"), expected, rtol=1e-6, atol=1e-8)


@each
def test_a_discrete_model_is_wrapped_as_score_sde_does(name: str) -> None:
    """At the steps of its table. Entry i is t = (i + 1)/N here, as of any table, and i/(N - 1) in score_sde."""
    model, theirs = model_of(name, False), THEIRS[name]
    denoiser = score_sde.from_model(model, theirs, continuous=False)
    i = torch.tensor([0, 3, 500, 998, 999], dtype=torch.float64)
    in_their_time = i / (theirs.N - 1)
    t = (i + 1) / theirs.N if name == "vp" else in_their_time
    if name == "subvp":
        i, t, in_their_time = i[1:], t[1:], in_their_time[1:]
    x = draws(IMAGES, 0.8, 0.6)[: len(i)]
    expected = song_score_fn(theirs, model, False)(x, in_their_time)
    assert_close(denoiser.predict(x, t, "score"), expected, rtol=1e-4, atol=1e-6)


def test_discrete_models_on_times_between_their_steps() -> None:
    seen = []
    vp = score_sde.from_model(lambda x, i: seen.append(i) or x, THEIRS["vp"], continuous=False)
    ve = score_sde.from_model(lambda x, i: seen.append(i) or x, THEIRS["ve"], continuous=False)
    x = normals(2, 3)
    for denoiser, t, label in ((vp, 0.5004, 499.4), (vp, 1e-4, 0.0), (ve, 0.5004, 499), (ve, 1.0, 0), (ve, 1e-5, 999)):
        denoiser(x, t)
        assert seen[-1].tolist() == pytest.approx([label] * 2)
    assert isinstance(vp.sde, ss.DiscreteVP)
    table = ss.DiscreteVP.from_betas(torch.linspace(1e-4, 0.02, 100))
    assert score_sde.from_model(lambda x, i: x, table, continuous=False).sde is table


@each
def test_a_denoiser_as_a_score_function(name: str) -> None:
    denoiser = IMAGES.denoiser(OURS[name])
    score_fn = score_sde.to_score_fn(denoiser, THEIRS[name])
    x, t = draws(IMAGES, 0.8, 0.6), torch.full((5,), 0.3, dtype=torch.float64)
    assert_close(score_fn(x, t), exact_score(OURS[name])(x, t), rtol=1e-8, atol=1e-8)
    again = score_sde.from_score_sde(score_fn, THEIRS[name])
    assert_close(again(x, t), denoiser(x, t), rtol=1e-8, atol=1e-8)


def test_conditions_and_dtypes_pass_through() -> None:
    seen = []
    denoiser = score_sde.from_score_sde(lambda x, t, y: seen.append((x.dtype, t.dtype, y)) or -x, ss.VP())
    ss.sample(denoiser, (2, 3), steps=1, dtype=torch.float16, cond={"y": 4})
    assert seen == [(torch.float16, torch.float32, 4)]


class NotVP(VPSDE):
    def marginal_prob(self, x, t):
        return x, t


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: score_sde.from_score_sde(1, ss.VP()), TypeError, r"score_fn must be callable as"),  # type: ignore
        (lambda: score_sde.from_model(1, ss.VP()), TypeError, r"model must be callable as model\(x, labels\)"),  # type: ignore
        (lambda: score_sde.process_of(GaussianDiffusion([0.1, 0.2])), TypeError, "Pass a process of this package"),
        (lambda: score_sde.process_of(NotVP()), ValueError, "marginal_prob of NotVP is not that of VP or SubVP"),
        (lambda: score_sde.from_model(lambda x, t: x, ss.EDM()), ValueError, "belongs to VP, SubVP or VE"),
        (lambda: score_sde.from_model(lambda x, t: x, ss.VP(), continuous=False), ValueError, "needs the table"),
        (lambda: score_sde.to_score_fn(lambda x, t: x), TypeError, "scoresde.Denoiser"),  # type: ignore[arg-type]
        (lambda: score_sde.to_score_fn(IMAGES.denoiser(ss.VP()), subVPSDE()), ValueError, "sde is SubVP"),
        (
            lambda: score_sde.to_score_fn(IMAGES.denoiser(Schedule(lambda t: (1 - t, t))), VESDE()),
            ValueError,
            "and the denoiser's process",
        ),
    ],
)
def test_errors(call, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
