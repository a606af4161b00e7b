"""Standardised features of small images for quality metrics: of a classifier of digits, and of wavelets for patches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from einops import rearrange, reduce
from torch import Tensor, nn

__all__ = ["DigitFeatures", "ImageFeatures", "PatchFeatures"]


class ImageFeatures(nn.Module, ABC):
    """Features of images of one shape, with the mean and spread of real data taken out.

    These are the buffers `mean` and `std`, which `standardise_` sets. A kind of features is a subclass with
    `activations` and two attributes.

    Attributes:
        shape: channels, height and width of an image.
        width: number of features.
    """

    shape: ClassVar[tuple[int, int, int]]
    width: ClassVar[int]

    def __init__(self) -> None:
        super().__init__()
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.zeros(self.width))
        self.register_buffer("std", torch.ones(self.width))

    @abstractmethod
    def activations(self, x: Tensor) -> Tensor:
        """The features before standardisation: images (B, *shape) in [-1, 1] -> (B, width)."""

    @property
    def config(self) -> dict[str, int]:
        """Its sizes, for people who read a file of it."""
        return {"features": self.width}

    def forward(self, x: Tensor) -> Tensor:
        """Standardised features: images (B, *shape) in [-1, 1] -> (B, width)."""
        return (self.activations(x) - self.mean) / self.std

    @torch.no_grad()
    def standardise_(self, x: Tensor) -> None:
        """Set `mean` and `std` so that the features of the images `x` (B, *shape) have mean 0 and variance 1 each."""
        activations = self.activations(x).double()
        self.mean.copy_(activations.mean(dim=0))
        self.std.copy_(activations.std(dim=0).clamp_min(1e-6))

    def _check(self, x: Tensor) -> None:
        if x.dim() != 4 or tuple(x.shape[1:]) != self.shape:
            raise ValueError(f"x must have the shape (B, {', '.join(map(str, self.shape))}), got {tuple(x.shape)}")
        if not x.is_floating_point():
            raise TypeError(f"x must be floating point, got {x.dtype}")


class DigitFeatures(ImageFeatures):
    """Classifier of 8x8 grey images and the 64 features that a Frechet distance compares; 44,442 parameters.

    Three convolutions (8x8 with 24 channels, 4x4 with 48, 4x4 with 48), mean pooling to 2x2, a linear layer to 64
    features and a linear layer to ten classes. `logits` classifies.

    Args:
        seed: seed of the initial weights; the global random state is left as it was. None uses the global state.
    """

    shape = (1, 8, 8)
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

    @property
    def config(self) -> dict[str, int]:
        """Its sizes."""
        return {**super().config, "classes": self.classes}

    def activations(self, x: Tensor) -> Tensor:
        """The penultimate activations before standardisation: images (B, 1, 8, 8) in [-1, 1] -> (B, 64)."""
        self._check(x)
        hidden = x.to(self.head.weight.dtype)
        for conv in self.convs:
            hidden = nn.functional.silu(conv(hidden))
        pooled = reduce(hidden, "b c (h i) (w j) -> b c h w", "mean", i=2, j=2)
        return self.features(rearrange(pooled, "b c h w -> b (c h w)"))

    def logits(self, x: Tensor) -> Tensor:
        """Class logits: images (B, 1, 8, 8) in [-1, 1] -> (B, 10)."""
        return self.head(nn.functional.silu(self.activations(x)))


class PatchFeatures(ImageFeatures):
    """57 statistics of the Haar wavelets of a 32x32 colour patch, by a formula: nothing in them is learnt.

    A patch is split into a lightness and two colour differences, and each of these, level by level, into the means of
    squares of 2x2 pixels and three kinds of differences within them (sideways, up and down, crosswise). Of these come

    * 36 logarithms of the mean size of the differences, for each kind, colour and one of the four finest levels: how
      much detail there is at each scale, and which way it runs;
    * 9 logarithms of their root mean square over their mean size, for each colour and one of the three finest levels:
      natural images have few large differences among many small ones, Gaussian ones have not (Field 1987, J. Opt. Soc.
      Am. A 4(12)), so that these tell structure from noise of the same spectrum;
    * 9 differences of the coarsest level, signed: where the patch is light, and of which colour;
    * the 3 mean colours.

    Sizes are those of pixels in [-1, 1]; 1 in 100 of that range is added to them before the logarithm, about a step of
    eight-bit colours, so that flat patches do not stand out. Statistics of this kind define textures in Heeger & Bergen
    1995 (SIGGRAPH) and Portilla & Simoncelli 2000 (Int. J. Comput. Vis. 40(1)).
    """

    shape = (3, 32, 32)
    width = 57

    def __init__(self) -> None:
        super().__init__()
        self.colours: Tensor
        self.haar: Tensor
        axes = torch.tensor([[1.0, 1.0, 1.0], [1.0, -1.0, 0.0], [0.5, 0.5, -1.0]])
        signs = torch.tensor(
            [[1.0, 1.0, 1.0, 1.0], [1.0, -1.0, 1.0, -1.0], [1.0, 1.0, -1.0, -1.0], [1.0, -1.0, -1.0, 1.0]]
        )
        self.register_buffer("colours", axes / axes.norm(dim=1, keepdim=True), persistent=False)
        self.register_buffer("haar", signs / 4, persistent=False)

    def activations(self, x: Tensor) -> Tensor:
        """The statistics before standardisation: images (B, 3, 32, 32) in [-1, 1] -> (B, 57)."""
        self._check(x)
        means = torch.einsum("dc,bchw->bdhw", self.colours, x.to(self.colours.dtype))
        sizes, sparseness, details = [], [], means
        for level in range(5):
            squares = rearrange(means, "b c (h i) (w j) -> b c h w (i j)", i=2, j=2) @ self.haar.T
            means, details = squares[..., 0], squares[..., 1:]
            least = 0.01 / 2**level  # what is left of independent noise halves with each level
            if level < 4:
                sizes.append(reduce(details.abs(), "b c h w kind -> b (c kind)", "mean").add(least).log())
            if level < 3:
                spread = reduce(details.square(), "b c h w kind -> b c", "mean").sqrt()
                usual = reduce(details.abs(), "b c h w kind -> b c", "mean")
                sparseness.append(((spread + least) / (usual + least)).log())
        return torch.cat([*sizes, *sparseness, details.flatten(1), means.flatten(1)], dim=1)
