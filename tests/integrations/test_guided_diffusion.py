"""guided-diffusion's networks: learned variances, tables, respacing, time labels."""

from __future__ import annotations

import pytest
import torch

import scoresde as ss
from scoresde.guidance import ClassifierFree
from scoresde.integrations.guided_diffusion import from_guided_diffusion
from tests.exact import normals
from tests.integrations.networks import (
    IMAGES,
    GaussianDiffusion,
    ModelMeanType,
    SpacedDiffusion,
    betas_of,
    check_exact,
    check_samples,
)

# Entry i of the table is t = (i + 1)/1000.
TIMES = (0.001, 0.2, 0.7, 1.0)


def model_of(steps: int = 1000, mean: str = "EPSILON", learned: bool = True, scale: float = 1.0):
    """The exact network of the table, between its entries too, told scale * index."""
    sde = ss.DiscreteVP.from_betas(betas_of(steps))

    def model(x, timesteps, y=None):
        model.seen.append((timesteps, y))
        t = (timesteps.double() / scale + 1) / steps
        x0 = IMAGES.x0(x, sde.alpha(t), sde.sigma(t))
        alpha, sigma = (f(t).reshape(-1, 1, 1, 1) for f in (sde.alpha, sde.sigma))
        out = x0 if mean == "START_X" else (x - alpha * x0) / sigma
        return torch.cat([out, torch.full_like(out, 99.0)], 1) if learned else out

    model.seen = []
    return model


@pytest.mark.parametrize("mean", ["EPSILON", "START_X"])
@pytest.mark.parametrize("learned", [True, False])
def test_x0_is_exact(mean: str, learned: bool) -> None:
    diffusion = GaussianDiffusion(betas_of(), mean, "LEARNED_RANGE" if learned else "FIXED_SMALL")
    check_exact(from_guided_diffusion(model_of(mean=mean, learned=learned), diffusion), IMAGES, TIMES)


def test_the_table_alone_and_rescaled_timesteps() -> None:
    check_exact(from_guided_diffusion(model_of(), betas=betas_of()), IMAGES, TIMES)
    rescaled = GaussianDiffusion(betas_of(400), rescale_timesteps=True)
    times = (1 / 400, 0.2, 0.7, 1.0)
    check_exact(from_guided_diffusion(model_of(400, scale=2.5), rescaled), IMAGES, times)
    plain = from_guided_diffusion(model_of(400), rescaled, rescale_timesteps=False)
    check_exact(plain, IMAGES, times)


@pytest.mark.slow
def test_samples_end_where_the_exact_flow_does() -> None:
    check_samples(from_guided_diffusion(model_of(), GaussianDiffusion(betas_of())), IMAGES)


def test_a_respaced_diffusion_needs_the_table_of_training() -> None:
    spaced = SpacedDiffusion(range(0, 1000, 40), betas_of())
    with pytest.raises(ValueError, match="respaced to 25 of 1000 steps"):
        from_guided_diffusion(model_of(), spaced)
    denoiser = from_guided_diffusion(model_of(), spaced, betas=betas_of())
    assert denoiser.sde == ss.DiscreteVP.from_betas(betas_of())
    check_exact(denoiser, IMAGES, TIMES)
    whole = SpacedDiffusion(range(1000), betas_of())
    check_exact(from_guided_diffusion(model_of(), whole), IMAGES, TIMES)


def test_labels_of_time() -> None:
    model = model_of()
    real = from_guided_diffusion(model, betas=betas_of())
    rounded = from_guided_diffusion(model, betas=betas_of(), rounding="label")
    x = normals(2, 2, 2, 3)
    both = torch.tensor([0.5003, 0.0001], dtype=torch.float64)
    for denoiser, t, told in (
        (real, 0.5003, [499.3, 499.3]),
        (rounded, 0.5003, [499.0, 499.0]),
        (real, 0.0001, [0.0, 0.0]),
        (real, both, [499.3, 0.0]),
        (rounded, both, [499.0, 0.0]),
    ):
        denoiser(x, t)
        assert model.seen[-1][0].tolist() == pytest.approx(told)


def test_classes_guidance_and_half_precision() -> None:
    model = model_of()
    denoiser = from_guided_diffusion(model, betas=betas_of())
    y = torch.tensor([3, 5])
    guided = ClassifierFree(denoiser, 1.5, {"y": 1000})
    out = ss.sample(guided, (2, 2, 2, 3), steps=2, dtype=torch.float16, cond={"y": y})
    assert out.dtype == torch.float16
    timesteps, told = model.seen[0]
    assert told.tolist() == [3, 5, 1000, 1000]
    assert timesteps.dtype == torch.float32
    assert timesteps.tolist() == [999.0] * 4


class Previous:
    betas = betas_of().numpy()
    model_mean_type = ModelMeanType.PREVIOUS_X


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: from_guided_diffusion(3, betas=betas_of()), TypeError, r"model must be callable as"),  # type: ignore
        (lambda: from_guided_diffusion(model_of()), ValueError, "pass diffusion, .* or betas"),
        (lambda: from_guided_diffusion(model_of(), object()), TypeError, r"diffusion must have betas.*Pass betas="),
        (lambda: from_guided_diffusion(model_of(), Previous()), ValueError, "PREVIOUS_X.*EPSILON, START_X, VELOCITY"),
        (
            lambda: from_guided_diffusion(model_of(), GaussianDiffusion(betas_of()), betas=betas_of(500)),
            ValueError,
            "betas are 500 of another table",
        ),
        (
            lambda: from_guided_diffusion(model_of(), GaussianDiffusion(betas_of()), betas=0.5 * betas_of()),
            ValueError,
            "another table",
        ),
        (lambda: from_guided_diffusion(model_of(), betas=betas_of(), prediction="eps"), ValueError, "nearest: epsilon"),
        (lambda: from_guided_diffusion(model_of(), betas=betas_of(), rounding="grid"), ValueError, "rounding='grid'"),
        (
            lambda: from_guided_diffusion(model_of(), betas=betas_of(), learn_sigma=False)(
                torch.zeros(2, 2, 2, 3), 0.5
            ),
            ValueError,
            r"must give 2 channels \(learn_sigma=False\)",
        ),
        (
            lambda: from_guided_diffusion(lambda x, t: x[:, :1], betas=betas_of())(torch.zeros(2, 2, 2, 3), 0.5),
            ValueError,
            r"2 or 4 channels .* got \(2, 1, 2, 3\)",
        ),
        (
            lambda: from_guided_diffusion(lambda x, t: x, GaussianDiffusion(betas_of()))(torch.zeros(2, 2, 2, 3), 0.5),
            ValueError,
            r"must give 4 channels \(learn_sigma=True\)",
        ),
    ],
)
def test_errors(call, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
