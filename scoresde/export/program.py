"""A plan with its network as a program of torch.export."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from scoresde.denoiser import BaseDenoiser
from scoresde.errors import check_positive_int
from scoresde.export.sampler import Sampler
from scoresde.plan import Plan


def export_plan(
    plan: Plan,
    denoiser: BaseDenoiser,
    shape: Sequence[int],
    *,
    cond: Mapping[str, Tensor] | None = None,
    dtype: torch.dtype | None = None,
    device: str | torch.device | None = None,
    dynamic_batch: bool = True,
    largest_batch: int | None = None,
) -> ExportedProgram:
    """A plan with its network as a program that runs without this package.

    ``program.module()(x_T, cond={...})`` is ``Sampler(plan, denoiser)(x_T, cond={...})``: inputs and numbers are those
    of :class:`Sampler`. ``torch.export.save(program, path)`` writes it and ``torch.export.load(path)`` reads it: a
    graph of torch's operators and tensors, no code of anybody's. Networks are traced as for inference (``eval``), on
    the device of the inputs.

    The network is traced once for each evaluation, so time and nodes grow with ``plan.nfe`` (its weights are stored
    once); for a network with thousands of nodes that takes minutes, and :func:`scoresde.export.to_onnx`, which traces
    it once in all, is quicker.

    Args:
        plan, denoiser: as of :class:`Sampler`.
        shape: (batch, ...) of the samples.
        cond: example conditions of the network, tensors; one whose first dimension is the batch goes with its sample.
        dtype, device: of x_T; float32 on the CPU by default.
        dynamic_batch: whether the program takes any batch (of at least 1), or only the one of ``shape``.
        largest_batch: of a dynamic batch. Some networks take another way for large ones (U-Nets of diffusers from 64),
            of which a program can hold only one; torch.export then says which.

    Raises:
        TypeError: not a plan of fixed steps, not a denoiser, or a condition that is not a tensor.
        ValueError: a wrong shape, or a largest batch that is less than that of the shape.
    """
    sampler = Sampler(plan, denoiser)
    example = example_of(sampler, shape, cond, dtype, device, dynamic_batch, largest_batch)
    return traced(sampler, example)


class Example(NamedTuple):
    """Inputs to trace a sampler with, and which of their dimensions are the batch.

    Attributes:
        x_T, noises: zeros of the shapes (no noises for a deterministic plan).
        cond: the conditions.
        batched: names of the conditions that have a row a sample.
        dynamic: whether the batch is left open.
        largest: the largest batch, if there is one.
    """

    x_T: Tensor
    noises: Tensor | None
    cond: dict[str, Tensor]
    batched: frozenset[str]
    dynamic: bool
    largest: int | None

    @property
    def names(self) -> list[str]:
        """The names of the inputs, in their order."""
        return ["x_T", *(["noises"] if self.noises is not None else []), *self.cond]

    def arguments(self) -> tuple[tuple[Tensor, ...], dict[str, Any]]:
        """The positional and the keyword arguments of the sampler."""
        args = (self.x_T,) if self.noises is None else (self.x_T, self.noises)
        return args, {"cond": dict(self.cond)} if self.cond else {}

    def shapes(self) -> dict[str, Any] | None:
        """What torch.export wants to know about dimensions that may change."""
        if not self.dynamic:
            return None
        batch = Dim("batch", max=self.largest)
        shapes: dict[str, Any] = {"x_T": {0: batch}}
        if self.noises is not None:
            shapes["noises"] = {1: batch}
        if self.cond:
            shapes["cond"] = {name: {0: batch} if name in self.batched else None for name in self.cond}
        return shapes

    def resized(self, batch: int) -> Example:
        """The same for another batch."""
        rows = torch.arange(batch, device=self.x_T.device) % self.x_T.shape[0]
        own = {name: self.cond[name][rows.to(self.cond[name].device)] for name in self.batched}
        noises = None if self.noises is None else self.noises[:, rows]
        return self._replace(x_T=self.x_T[rows], noises=noises, cond={**self.cond, **own})


def example_of(
    sampler: Sampler,
    shape: Sequence[int],
    cond: Mapping[str, Tensor] | None,
    dtype: torch.dtype | None,
    device: str | torch.device | None,
    dynamic: bool,
    largest: int | None,
) -> Example:
    """Checked inputs for tracing."""
    shape = tuple(shape)
    if len(shape) < 2 or not all(isinstance(n, int) and not isinstance(n, bool) and n >= 1 for n in shape):
        raise ValueError(f"shape must be (batch, ...) of positive ints with at least two dimensions, got {shape}")
    if largest is not None and check_positive_int(largest, "largest_batch") < max(2, shape[0]):
        raise ValueError(f"largest_batch must be at least 2 and the batch of shape={shape}, got {largest}")
    cond = dict(cond or {})
    for name, value in cond.items():
        if not isinstance(value, Tensor):
            raise TypeError(
                f"cond[{name!r}] must be a tensor, got {type(value).__name__}; bind what is no tensor to the network "
                f"beforehand, as functools.partial(net, {name}=...) does"
            )
    x_T = torch.zeros(shape, dtype=dtype or torch.float32, device=device)
    if not x_T.is_floating_point():
        raise TypeError(f"dtype must be a floating-point dtype, got {dtype}")
    count = sampler.plan.noises
    noises = torch.zeros((count, *shape), dtype=torch.promote_types(x_T.dtype, torch.float32), device=device)
    batched = frozenset(name for name, value in cond.items() if value.ndim and value.shape[0] == shape[0])
    example = Example(x_T, noises if count else None, cond, batched, dynamic, largest)
    # Tracing takes a dimension of 1 for a constant.
    return example.resized(2) if dynamic and shape[0] == 1 else example


def traced(sampler: Sampler, example: Example) -> ExportedProgram:
    """The sampler as a program."""
    args, kwargs = example.arguments()
    with torch.no_grad(), inference(sampler):
        try:
            return torch.export.export(sampler, args, kwargs, dynamic_shapes=example.shapes())
        except Exception as error:
            if example.dynamic:
                error.add_note(
                    "scoresde: the network may only work for the batch that it is traced with (len(x) and int(...) of "
                    "a shape give plain numbers; x.shape[0] does not): change it, or pass dynamic_batch=False. If "
                    "torch suggests a max, pass that as largest_batch"
                )
            raise


@contextmanager
def inference(module: nn.Module) -> Iterator[None]:
    """All of a module in evaluation mode for a while."""
    training = [part for part in module.modules() if part.training]
    for part in training:
        part.training = False
    try:
        yield
    finally:
        for part in training:
            part.training = True
