"""What goes in and out of a step besides the network's output: its result, and its noise."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor


class StepOutput:
    """What :meth:`Scheduler.step` gives: ``output.prev_sample``, ``output[0]`` or ``output["prev_sample"]``.

    The denoised image is computed when it is asked for: ``output.pred_original_sample`` or ``output[1]``.

    Attributes:
        prev_sample: the state to evaluate the network at next, or the sample.
    """

    __slots__ = ("_denoised", "prev_sample")

    def __init__(self, prev_sample: Tensor, denoised: Callable[[], Tensor]) -> None:
        self.prev_sample, self._denoised = prev_sample, denoised

    @property
    def pred_original_sample(self) -> Tensor:
        """E[x0 | x] at the evaluation that this step was told, of the shape of the sample."""
        return self._denoised()

    def __getitem__(self, key: int | str) -> Tensor:
        names = ("prev_sample", "pred_original_sample")
        return getattr(self, key if isinstance(key, str) and key in names else names[operator.index(key)])  # type: ignore[arg-type]

    def __len__(self) -> int:
        return 2

    def __iter__(self) -> Iterator[Tensor]:
        yield self.prev_sample
        yield self.pred_original_sample


class Draws:
    """The noises of a run: from the generator of the step that needs them.

    Attributes:
        like: a tensor of their shape, dtype and device.
        generator: of this step; one for all samples or one for each; None for torch's own.
        given: what the pipeline passes in place of noise to be drawn.
    """

    like: Tensor
    generator: torch.Generator | list[torch.Generator] | None = None
    given: Tensor | None = None

    def __call__(self, k: int) -> Tensor:
        """Noise number k of a run."""
        if self.given is not None:
            return self.given
        return randn_tensor(
            tuple(self.like.shape), generator=self.generator, device=self.like.device, dtype=self.like.dtype
        )


def version(x: Tensor) -> int:
    """Counts changes in place; tensors made in inference mode do not say."""
    return 0 if x.is_inference() else x._version
