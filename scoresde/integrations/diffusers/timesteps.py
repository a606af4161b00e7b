"""The ``timesteps`` of a solver that chooses its evaluations on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import overload

import torch
from torch import Tensor


class LazyTimesteps:
    """Stands where pipelines expect the tensor of all timesteps, and makes each one when it is asked for.

    A pipeline loops over it, calls the network and ``step``, and the next timestep is the one at which the solver wants
    to evaluate next; when the solver has arrived, the loop ends. Its length, and its places in a slice, are those of
    the number of steps that the pipeline asked for: progress bars and image-to-image strengths go by it.

    Args:
        places: the timestep at each place of the grid that the pipeline asked for: where ``timesteps[k:]`` begins.
        next_label: gives (evaluations made so far, the timestep of the next one or None at the end); called with the
            place to begin at.
        dtype, device: of the timesteps.
    """

    def __init__(
        self,
        places: list[float],
        next_label: Callable[[int], tuple[int, float | None]],
        *,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device | None = None,
        begin: int = 0,
    ) -> None:
        self._places, self._next, self._begin = places, next_label, begin
        self.dtype, self.device = dtype, torch.device("cpu" if device is None else device)

    def __len__(self) -> int:
        return len(self._places) - self._begin

    @property
    def shape(self) -> torch.Size:
        """That of the tensor which it stands for."""
        return torch.Size([len(self)])

    @property
    def ndim(self) -> int:
        """1, as of the tensor which it stands for."""
        return 1

    def to(self, device: str | torch.device | None = None, dtype: torch.dtype | None = None) -> LazyTimesteps:
        """The same on another device, or in another dtype; either may come first, as in ``Tensor.to``."""
        if isinstance(device, torch.dtype):
            device, dtype = None, device
        return LazyTimesteps(
            self._places, self._next, dtype=dtype or self.dtype, device=device or self.device, begin=self._begin
        )

    def __iter__(self) -> Iterator[Tensor]:
        before = -1
        while True:
            made, label = self._next(self._begin)
            if label is None:
                return
            if made == before:
                raise RuntimeError(
                    "the timesteps of an adaptive solver are made one after the other, each after a call of step(...): "
                    "they cannot be listed beforehand (as denoising_end= and denoising_start= do); take a fixed-step "
                    "solver for that"
                )
            before = made
            yield torch.tensor(label, dtype=self.dtype, device=self.device)

    @overload
    def __getitem__(self, place: int) -> Tensor: ...
    @overload
    def __getitem__(self, place: slice) -> Tensor | LazyTimesteps: ...
    def __getitem__(self, place: int | slice) -> Tensor | LazyTimesteps:
        """A place gives the timestep there; ``[k:]`` the rest from there, lazy again; other slices a tensor."""
        if isinstance(place, slice) and place.stop is None and place.step in (None, 1):
            begin = self._begin + range(len(self))[place].start
            return LazyTimesteps(self._places, self._next, dtype=self.dtype, device=self.device, begin=begin)
        return torch.tensor(self._places[self._begin :][place], dtype=self.dtype, device=self.device)

    def __repr__(self) -> str:
        return f"LazyTimesteps(asked for {len(self)}, from {self._places[self._begin]:.6g})"
