"""Exact targets that several tests share."""

import pytest
import torch
from torch import Tensor

from scoresde.sde import Point
from scoresde.targets import Empirical, Gaussian, GaussianMixture, Target
from tests.golden.store import golden

needs_golden = pytest.mark.skipif(
    not (golden().path / "manifest.json").exists(), reason=f"no golden data: {golden().path} has no manifest.json"
)

NOISE = Point(1.0, 0.0, 1.0)  # nothing but noise
DATA = Point(0.0, 1.0, 0.0)


def normals(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mixture(dim: int = 4, components: int = 3) -> GaussianMixture:
    roots = normals(components, dim, dim, seed=3)
    return GaussianMixture(
        torch.tensor([0.5, 0.2, 0.3]),
        2 * normals(components, dim, seed=4),
        roots @ roots.mT / dim + 0.01 * torch.eye(dim),
    )


SMOOTH = {
    "five": GaussianMixture.five(),
    "mixture": mixture(),
    "spectrum": Gaussian.log_spaced(6, 1e-2, 4.0),
    "images": Gaussian.natural_images((3, 4, 5)),
    "axes": Gaussian(normals(3), torch.tensor([0.1, 1.0, 2.0])),
}
EVERY = {**SMOOTH, "data": Empirical(normals(7, 2, 3, seed=5))}


def draws(target: Target, alpha: float, sigma: float, n: int = 5, seed: int = 1) -> Tensor:
    return alpha * target.sample(n, seed) + sigma * normals(n, *target.shape, seed=seed + 1)
