"""Models that ship with the package: a score network of handwritten digits, and what measures its samples.

All were made by `scoresde train digits`, whose record lies beside the weights (`digits.provenance.json`). They are
safetensors files in half precision, computed with in single precision.

* `digits()`: class-conditional denoiser of 8x8 digits. `scoresde.sample(models.digits(), (10, 1, 8, 8), steps=10,
  cond={"class_labels": torch.arange(10)})`; without labels it draws digits of any class.
* `digit_features()`: images to the 64 standardised features in which Frechet distances are taken.
* `digit_reference()`: the features' statistics over real digits that no model was trained on, and the floor.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scoresde.denoiser import Denoiser, EDMPrecond
from scoresde.errors import choose
from scoresde.metrics import Estimate, FrechetStats
from scoresde.models.checkpoint import load_checkpoint, save_checkpoint
from scoresde.nn import DigitFeatures, UNet, UNetConfig
from scoresde.sde import EDM

__all__ = [
    "DigitReference",
    "digit_features",
    "digit_reference",
    "digits",
    "load",
    "names",
    "provenance",
    "save_digits",
]

_SHIPPED = Path(__file__).parent
_NET, _FEATURES, _REFERENCE = "digits.safetensors", "digit_features.safetensors", "digit_reference.safetensors"


@dataclass(frozen=True, eq=False)
class DigitReference:
    """What samples of digits are compared with.

    Args:
        stats: mean and covariance of the 64 features of the 898 held-out digits.
        floor: Frechet distance between the features of the training half and the held-out half, without its 1/n bias:
            what real data show against real data.
        floor_plain: the same with its bias, as the plain formula gives it.
    """

    stats: FrechetStats
    floor: Estimate
    floor_plain: float


def digits(folder: str | Path | None = None) -> Denoiser:
    """The score network of handwritten digits (1, 8, 8) in [-1, 1] as a denoiser over `EDM()`.

    Its preconditioning depends on sigma / alpha alone, so the same network serves any process:
    `Denoiser(d.net, VP(), precondition=d.precondition)`. Condition: `class_labels`, an integer tensor (B,) of 0 .. 9,
    or 10 for the null class; without it every sample is of the null class.

    Args:
        folder: what `scoresde train digits` wrote; the shipped model unless given.

    Raises:
        FileNotFoundError, ValueError: a folder without the model.
    """
    tensors, config = load_checkpoint(_folder(folder) / _NET)
    net = UNet(UNetConfig.from_dict(config["unet"]), seed=0)
    net.load_state_dict(tensors)  # single-precision parameters take half-precision values exactly
    return Denoiser(
        net.eval().requires_grad_(False), EDM(), time="c_noise", precondition=EDMPrecond(config["sigma_data"])
    )


def digit_features(folder: str | Path | None = None) -> DigitFeatures:
    """The feature network: images (B, 1, 8, 8) in [-1, 1] -> standardised features (B, 64); `.logits` classifies.

    Raises:
        FileNotFoundError, ValueError: a folder without it.
    """
    tensors, _ = load_checkpoint(_folder(folder) / _FEATURES)
    net = DigitFeatures(seed=0)
    net.load_state_dict(tensors)
    return net.eval().requires_grad_(False)


def digit_reference(folder: str | Path | None = None) -> DigitReference:
    """Feature statistics of held-out digits, and the real-against-real floor.

    Raises:
        FileNotFoundError, ValueError: a folder without them.
    """
    tensors, config = load_checkpoint(_folder(folder) / _REFERENCE)
    stats = FrechetStats(tensors["mean"], tensors["scatter"], config["n"])
    return DigitReference(stats, Estimate(**config["floor"]), config["floor_plain"])


def provenance(folder: str | Path | None = None) -> dict[str, Any]:
    """How the files came to be: command, seed, settings, versions, losses and measured quality."""
    path = _folder(folder) / "digits.provenance.json"
    if not path.is_file():
        raise FileNotFoundError(f"no record of training at {path}")
    return json.loads(path.read_text(encoding="utf-8"))


_LOADERS: Mapping[str, Callable[[], Any]] = {
    "digits": digits,
    "digit-features": digit_features,
    "digit-reference": digit_reference,
}


def names() -> tuple[str, ...]:
    """The names that `load` knows."""
    return tuple(_LOADERS)


def load(name: str) -> Any:
    """What ships under this name: "digits", "digit-features" or "digit-reference".

    Raises:
        ValueError: an unknown name; the message lists the nearest ones.
    """
    return choose(name, _LOADERS, "name")()


def save_digits(
    folder: str | Path, net: UNet, sigma_data: float, features: DigitFeatures, reference: DigitReference
) -> list[Path]:
    """Write the three files that the loaders read, networks in half precision; returns their paths."""
    folder = Path(folder)
    half = {name: tensor.half() for name, tensor in net.state_dict().items()}
    save_checkpoint(folder / _NET, half, {"unet": asdict(net.config), "sigma_data": sigma_data})
    # The standardisation stays in single precision, so that the features of the reference are reproduced.
    buffers = dict(features.named_buffers())
    mixed = {name: tensor if name in buffers else tensor.half() for name, tensor in features.state_dict().items()}
    save_checkpoint(folder / _FEATURES, mixed, {"features": features.width, "classes": features.classes})
    save_checkpoint(
        folder / _REFERENCE,
        {"mean": reference.stats.mean, "scatter": reference.stats.scatter},
        {"n": reference.stats.n, "floor": asdict(reference.floor), "floor_plain": reference.floor_plain},
    )
    return [folder / name for name in (_NET, _FEATURES, _REFERENCE)]


def _folder(folder: str | Path | None) -> Path:
    return _SHIPPED if folder is None else Path(folder)
