"""The ways in which a sampler calls its networks, so that each can be traced once, however many evaluations there are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from scoresde.export.program import Example
from scoresde.export.sampler import Sampler

OPEN = -1  # a dimension that changes with the batch


class UnlikeCallsError(Exception):
    """The networks are not called with tensors for one tensor in a way that only the batch changes."""


@dataclass(frozen=True, eq=False)
class Call:
    """One way in which a network is called.

    Attributes:
        number: of the network in ``sampler.nets``.
        leaves, structure: the flattened arguments, and how they were nested.
        larger: the sizes of the tensors among them for a larger batch.
        output: what the network gave.
        output_dims: for each of its dimensions a size, or which dimension of which tensor of the arguments it is.
    """

    number: int
    leaves: tuple[Any, ...]
    structure: Any
    larger: tuple[tuple[int, ...], ...]
    output: Tensor
    output_dims: tuple[int | tuple[int, int], ...]

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The tensors among the arguments."""
        return tuple(leaf for leaf in self.leaves if isinstance(leaf, Tensor))

    def output_shape(self, tensors: tuple[Tensor, ...]) -> list[Any]:
        """The shape of the output for these arguments."""
        return [dim if isinstance(dim, int) else tensors[dim[0]].shape[dim[1]] for dim in self.output_dims]


@dataclass(frozen=True)
class _Seen:
    number: int
    leaves: tuple[Any, ...]
    structure: Any
    output: Tensor

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        return tuple(tuple(leaf.shape) for leaf in self.leaves if isinstance(leaf, Tensor))


def calls_of(sampler: Sampler, example: Example) -> dict[Any, Call]:
    """Each way in which the sampler calls a network, by :func:`way`; a network runs once for each.

    Raises:
        UnlikeCallsError: a network gives something else than a tensor, or one whose shape does not follow from its arguments.
    """
    small = _watched(sampler, example)
    large = _watched(sampler, example.resized(example.x_T.shape[0] + 1)) if example.dynamic else small
    if len(small) != len(large):
        raise UnlikeCallsError
    calls: dict[Any, Call] = {}
    for a, b in zip(small, large, strict=True):
        shapes = tuple(
            tuple(n if n == m else OPEN for n, m in zip(s, t, strict=True))
            for s, t in zip(a.shapes, b.shapes, strict=True)
        )
        key = way(a.number, a.leaves, a.structure, shapes)
        if key != way(b.number, b.leaves, b.structure, shapes):
            raise UnlikeCallsError
        calls.setdefault(key, Call(a.number, a.leaves, a.structure, b.shapes, a.output, _output_dims(a, b)))
    return calls


def way(number: int, leaves: tuple[Any, ...], structure: Any, shapes: tuple[tuple[int, ...], ...]) -> Any:
    """What two calls of a network must share to be one function: everything but the numbers and the batch."""
    plain = tuple(leaf.dtype if isinstance(leaf, Tensor) else repr(leaf) for leaf in leaves)
    return number, str(structure), plain, shapes


@contextmanager
def replaced(sampler: Sampler, stand_in: Callable[[int, Callable[..., Any]], Callable[..., Any]]) -> Iterator[None]:
    """Each network computes what ``stand_in(number, its own forward)`` says, for a while."""
    before = [(net, vars(net).get("forward")) for net in sampler.nets]
    try:
        for number, net in enumerate(sampler.nets):
            net.forward = stand_in(number, net.forward)
        yield
    finally:
        for net, forward in before:
            del net.forward
            if forward is not None:
                net.forward = forward


class Network(nn.Module):
    """A network called in one way: tensors in, a tensor out."""

    def __init__(self, net: nn.Module, call: Call) -> None:
        super().__init__()
        self.net, self.call = net, call

    def forward(self, *tensors: Tensor) -> Tensor:
        """What the network gives for these tensors in the places of the call's."""
        rest = iter(tensors)
        leaves = [next(rest) if isinstance(leaf, Tensor) else leaf for leaf in self.call.leaves]
        args, kwargs = pytree.tree_unflatten(leaves, self.call.structure)
        return self.net.forward(*args, **kwargs)  # not net(...): hooks around it are traced with the sampler

    def shapes(self) -> dict[str, Any]:
        """What torch.export wants to know about dimensions that may change: those that change together are one."""
        dims: dict[tuple[int, int], Any] = {}
        shapes = []
        for tensor, larger in zip(self.call.tensors, self.call.larger, strict=True):
            sizes = enumerate(zip(tensor.shape, larger, strict=True))
            changing = {i: (n, m) for i, (n, m) in sizes if n != m}
            for pair in changing.values():
                dims.setdefault(pair, torch.export.Dim(f"batch{len(dims) or ''}"))
            shapes.append({i: dims[pair] for i, pair in changing.items()})
        return {"tensors": tuple(shapes)}


def _watched(sampler: Sampler, example: Example) -> list[_Seen]:
    """Every call of a network in one run, of which only those that differ are really made."""
    seen: list[_Seen] = []
    made: dict[Any, Any] = {}

    def watch(number: int, own: Callable[..., Any]) -> Callable[..., Any]:
        def forward(*args: Any, **kwargs: Any) -> Tensor:
            leaves, structure = pytree.tree_flatten((args, kwargs))
            shapes = tuple(tuple(leaf.shape) for leaf in leaves if isinstance(leaf, Tensor))
            key = way(number, tuple(leaves), structure, shapes)
            if key not in made:
                made[key] = own(*args, **kwargs)
            output = made[key]
            if not isinstance(output, Tensor):
                raise UnlikeCallsError
            seen.append(_Seen(number, tuple(leaves), structure, output))
            return torch.zeros_like(output)

        return forward

    args, kwargs = example.arguments()
    with replaced(sampler, watch):
        sampler(*args, **kwargs)
    return seen


def _output_dims(small: _Seen, large: _Seen) -> tuple[int | tuple[int, int], ...]:
    places = {
        pair: (i, j)
        for i, (s, t) in enumerate(zip(small.shapes, large.shapes, strict=True))
        for j, pair in enumerate(zip(s, t, strict=True))
    }
    dims: list[int | tuple[int, int]] = []
    for n, m in zip(small.output.shape, large.output.shape, strict=True):
        if n != m and (n, m) not in places:
            raise UnlikeCallsError
        dims.append(n if n == m else places[n, m])
    return tuple(dims)
