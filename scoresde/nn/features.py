"""A small convolutional classifier whose standardised penultimate activations are features for quality metrics."""

from __future__ import annotations

import torch
from einops import rearrange, reduce
from torch import Tensor, nn

__all__ = ["DigitFeatures"]


class DigitFeatures(nn.Module):
    """Classifier of 8x8 grey images and the 64 features that a Frechet distance compares; 44,442 parameters.

    Three convolutions (8x8 with 24 channels, 4x4 with 48, 4x4 with 48), mean pooling to 2x2, a linear layer to 64
    features and a linear layer to ten classes. `forward` returns features with the mean and spread of real data taken
    out (buffers `mean` and `std`, set by `standardise_`); `logits` classifies.

    Args:
        seed: seed of the initial weights; the global random state is left as it was. None uses the global state.
    """

    width = 64
    classes = 10

    def __init__(self, *, seed: int | None = None) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[], enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            self.convs = nn.ModuleList(
                [
                    nn.Conv2d(1, 24, 3, padding=1),
                    nn.Conv2d(24, 48, 3, padding=1, stride=2),
                    nn.Conv2d(48, 48, 3, padding=1),
                ]
            )
            self.features = nn.Linear(48 * 4, self.width)
            self.head = nn.Linear(self.width, self.classes)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.zeros(self.width))
        self.register_buffer("std", torch.ones(self.width))

    def activations(self, x: Tensor) -> Tensor:
        """The penultimate activations before standardisation: images (B, 1, 8, 8) in [-1, 1] -> (B, 64)."""
        if x.dim() != 4 or tuple(x.shape[1:]) != (1, 8, 8):
            raise ValueError(f"x must have the shape (B, 1, 8, 8), got {tuple(x.shape)}")
        if not x.is_floating_point():
            raise TypeError(f"x must be floating point, got {x.dtype}")
        hidden = x.to(self.head.weight.dtype)
        for conv in self.convs:
            hidden = nn.functional.silu(conv(hidden))
        pooled = reduce(hidden, "b c (h i) (w j) -> b c h w", "mean", i=2, j=2)
        return self.features(rearrange(pooled, "b c h w -> b (c h w)"))

    def forward(self, x: Tensor) -> Tensor:
        """Standardised features: images (B, 1, 8, 8) in [-1, 1] -> (B, 64)."""
        return (self.activations(x) - self.mean) / self.std

    def logits(self, x: Tensor) -> Tensor:
        """Class logits: images (B, 1, 8, 8) in [-1, 1] -> (B, 10)."""
        return self.head(nn.functional.silu(self.activations(x)))

    @torch.no_grad()
    def standardise_(self, x: Tensor) -> None:
        """Set `mean` and `std` so that the features of the images `x` (B, 1, 8, 8) have mean 0 and variance 1 each."""
        activations = self.activations(x).double()
        self.mean.copy_(activations.mean(dim=0))
        self.std.copy_(activations.std(dim=0).clamp_min(1e-6))
