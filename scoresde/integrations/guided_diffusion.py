"""Networks of guided-diffusion, improved-diffusion and DiT: ``model(x, timesteps, y=...)``, with learned variances.

Dhariwal & Nichol 2021 (arXiv:2105.05233), Nichol & Dhariwal 2021 (arXiv:2102.09672), Peebles & Xie 2023
(arXiv:2212.09748).

>>> import torch, scoresde as ss
>>> from scoresde.integrations import guided_diffusion
>>> model = lambda x, timesteps, y=None: torch.cat([x, x], 1)  # yours: the noise, and a variance
>>> denoiser = guided_diffusion.from_guided_diffusion(model, betas=torch.linspace(1e-4, 0.02, 1000))
>>> ss.sample(denoiser, (2, 3, 8, 8), solver="dpmpp-2m", nfe=10, cond={"y": torch.tensor([1, 2])}).shape
torch.Size([2, 3, 8, 8])
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from scoresde.denoiser import Denoiser
from scoresde.errors import choose
from scoresde.integrations.common import callable_as, table_index
from scoresde.sde import SDE, DiscreteVP

__all__ = ["from_guided_diffusion"]

# ModelMeanType of the object, by its name, and what it is called here.
MEANS = {"EPSILON": "epsilon", "START_X": "x0", "VELOCITY": "v"}
LEARNED = ("LEARNED", "LEARNED_RANGE")  # of ModelVarType: the output has twice the channels
ROUNDINGS = {"none": False, "label": True}
_FULL_SCALE = 1000.0  # of rescale_timesteps: timesteps are as if there were this many


def from_guided_diffusion(
    model: Callable[..., Tensor],
    diffusion: Any = None,
    *,
    betas: Sequence[float] | Tensor | None = None,
    prediction: str | None = None,
    learn_sigma: bool | None = None,
    rescale_timesteps: bool | None = None,
    rounding: str = "none",
) -> Denoiser:
    """A network that was trained on a table of steps, and what it was trained with: an object, or its options.

    Conditions go to the model by name: ``cond={"y": labels}``. guided-diffusion clips x0 to [-1, 1] by default; for
    that, wrap the result in :class:`scoresde.guidance.Threshold`.

    Args:
        model: called as ``model(x, timesteps, **cond)``, timesteps (B,); gives C channels for x of C, or 2C, of
            which the second half is a variance, which no solver here needs.
        diffusion: a GaussianDiffusion, whose betas, model_mean_type, model_var_type and rescale_timesteps are read.
            Of a SpacedDiffusion with fewer steps than training had, the betas of training are needed as well.
        betas: of training, all of them, in place of the object's.
        prediction: "epsilon" (the default), "x0" or "v", in place of model_mean_type.
        learn_sigma: whether the output has 2C channels; by default model_var_type says it, else the output.
        rescale_timesteps: whether the model is told 1000/N times the index; by default as in the object, else not.
        rounding: "none" tells the model real-valued indices, which the networks named above take; "label" rounds them.

    Raises:
        TypeError: model cannot be called, or diffusion lacks an attribute.
        ValueError: neither diffusion nor betas, a respaced diffusion without betas, betas that are not those of the
            diffusion, a network that predicts the previous x, or an unknown prediction or rounding.
    """
    model = callable_as(model, "model(x, timesteps, **cond)")
    rounded = choose(rounding, ROUNDINGS, "rounding")
    sde = _process(diffusion, betas)
    if learn_sigma is None and hasattr(diffusion, "model_var_type"):
        learn_sigma = diffusion.model_var_type.name in LEARNED
    if rescale_timesteps is None:
        rescale_timesteps = bool(getattr(diffusion, "rescale_timesteps", False))
    scale = _FULL_SCALE / sde.n if rescale_timesteps else 1.0

    def time(_: SDE, t: Any) -> Any:
        return scale * table_index(sde, t, rounded=rounded)

    return Denoiser(_means(model, learn_sigma), sde, _prediction(diffusion, prediction), time)


def _process(diffusion: Any, betas: Any) -> DiscreteVP:
    """The process of training. A respaced diffusion keeps the levels of its own steps only."""
    if diffusion is None:
        if betas is None:
            raise ValueError("pass diffusion, the GaussianDiffusion of training, or betas, its table")
        return DiscreteVP.from_betas(betas)
    if not hasattr(diffusion, "betas"):
        raise TypeError(
            f"diffusion must have betas, as a GaussianDiffusion has; got {type(diffusion).__name__}. Pass betas=... in "
            "its place"
        )
    own = DiscreteVP.from_betas(diffusion.betas)
    used = list(getattr(diffusion, "timestep_map", range(own.n)))
    steps = int(getattr(diffusion, "original_num_steps", own.n))
    if betas is None:
        if own.n < steps:
            raise ValueError(
                f"diffusion is respaced to {own.n} of {steps} steps, and has forgotten the others; make it with "
                "timestep_respacing='', or pass betas=, the table of training"
            )
        return own
    whole = DiscreteVP.from_betas(betas)
    theirs = torch.tensor(own.alphas_cumprod, dtype=torch.float64)
    ours = torch.tensor([whole.alphas_cumprod[i] for i in used if i < whole.n], dtype=torch.float64)
    if whole.n != steps or not torch.allclose(ours, theirs, rtol=1e-6, atol=1e-12):
        raise ValueError(
            f"betas are {whole.n} of another table than the diffusion's, which was made of {steps}; pass those, or "
            "leave diffusion out"
        )
    return whole


def _prediction(diffusion: Any, given: str | None) -> str:
    kinds = {kind: kind for kind in MEANS.values()}
    if given is not None:
        return choose(given, kinds, "prediction")
    mean = getattr(diffusion, "model_mean_type", None)
    if mean is None:
        return "epsilon"
    if mean.name not in MEANS:
        raise ValueError(
            f"diffusion: its model_mean_type is {mean.name}, from which x0 follows at whole steps only; "
            f"{', '.join(MEANS)} can be used. If that is what it is, pass prediction="
        )
    return MEANS[mean.name]


def _means(model: Callable[..., Tensor], learn_sigma: bool | None) -> Callable[..., Tensor]:
    """The model without the channels of its variance."""
    allowed = {None: (1, 2), False: (1,), True: (2,)}[learn_sigma]

    def call(x: Tensor, timesteps: Tensor, **cond: Any) -> Tensor:
        out, channels = model(x, timesteps, **cond), x.shape[1]
        if out.ndim != x.ndim or out.shape[1] not in [k * channels for k in allowed]:
            wanted = " or ".join(str(k * channels) for k in allowed)
            raise ValueError(
                f"model must give {wanted} channels (learn_sigma={learn_sigma}) for x of shape {tuple(x.shape)}, got "
                f"{tuple(out.shape)}"
            )
        return out[:, :channels]

    return call
