"""Networks: a small U-Net to learn a score with, and classifiers whose features measure samples. No SDE in here."""

from scoresde.nn.features import DigitFeatures, ImageFeatures, PatchFeatures
from scoresde.nn.unet import UNet, UNetConfig

__all__ = ["DigitFeatures", "ImageFeatures", "PatchFeatures", "UNet", "UNetConfig"]
