"""What a user gives to have a network benchmarked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor, nn

from scoresde.denoiser import BaseDenoiser
from scoresde.errors import check_positive_int
from scoresde.metrics import FrechetStats

if TYPE_CHECKING:
    from scoresde.sde import SDE

__all__ = ["UserTarget"]


@dataclass(frozen=True, eq=False)
class UserTarget:
    """A network to benchmark, and what belongs to it: what the function behind "python:module:function" returns.

    Args:
        denoiser: the network as a :class:`scoresde.Denoiser` over the process that it was trained on (the benchmark
            asks it under others too, up to its own noisiest level); or a function from a process to such a denoiser.
        shape: of one sample, (C, H, W) of images.
        labels: number of classes, 0 without; sample i is of class i modulo this.
        label_key: the keyword by which the network takes the classes, an integer tensor (B,).
        cond: other keyword arguments of the network: a function from (first, count) to tensors whose rows are for the
            samples of index first to first + count - 1. A row may depend on its index alone.
        data: real samples (N, *shape) to compare with, in the network's units; half of them against the other half
            give the floor.
        reference: mean and covariance of the features of real data, in place of those of ``data``.
        features: from samples (N, *shape), float32, to rows (N, d), in which distributions are compared; by default
            the components themselves, or for images the means of a coarse grid.
        note: one sentence for the report.
        reference_nfe: network calls of the converged solution.
        fingerprint: what else decides the results, as text: cells are computed anew when it changes. The weights that
            the denoiser holds, the data and the function's source file need not be in it.

    Raises:
        TypeError, ValueError: an argument of another kind.
    """

    denoiser: BaseDenoiser | Callable[[SDE], BaseDenoiser]
    shape: tuple[int, ...]
    labels: int = 0
    label_key: str = "class_labels"
    cond: Callable[[int, int], Mapping[str, Tensor]] | None = None
    data: Tensor | None = None
    reference: FrechetStats | None = None
    features: Callable[[Tensor], Tensor] | None = None
    note: str = ""
    reference_nfe: int = 64
    fingerprint: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(self.shape))
        for size in self.shape:
            check_positive_int(size, "shape")
        if not self.shape:
            raise ValueError("shape must be that of one sample, such as (3, 32, 32); got ()")
        if isinstance(self.denoiser, nn.Module):
            raise TypeError(
                "denoiser must be a scoresde.Denoiser; wrap the network: Denoiser(net, process, prediction=...)"
            )
        for name in ("denoiser", "cond", "features"):
            value = getattr(self, name)
            if not callable(value) and (value is not None or name == "denoiser"):
                raise TypeError(f"{name} must be callable, got {type(value).__name__}")
        for name, kind in (("data", Tensor), ("reference", FrechetStats)):
            value = getattr(self, name)
            if not isinstance(value, kind | None):
                raise TypeError(f"{name} must be a {kind.__name__}, got {type(value).__name__}")
        if self.labels != 0:
            check_positive_int(self.labels, "labels")
        check_positive_int(self.reference_nfe, "reference_nfe")
