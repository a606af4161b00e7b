"""Networks: a small U-Net to learn a score with, and a classifier whose features measure samples. No SDE in here."""

from scoresde.nn.features import DigitFeatures
from scoresde.nn.unet import UNet, UNetConfig

__all__ = ["DigitFeatures", "UNet", "UNetConfig"]
