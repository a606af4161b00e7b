"""The ways in which a sampler calls its networks: each is traced once, however many evaluations there are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from scoresde.export.program import Example
from scoresde.export.sampler import Sampler

OPEN = -1  # a dimension that changes with the batch
Shapes = tuple[tuple[int, ...], ...]


class UnlikeCallsError(Exception):
    """What a network gives does not follow from how it is called, in a way that only the batch changes."""


class Tree(NamedTuple):
    """Nested arguments or results: the leaves, and how they were nested."""

    leaves: tuple[Any, ...]
    structure: Any

    @classmethod
    def of(cls, nested: Any) -> Tree:
        """Flattened."""
        leaves, structure = pytree.tree_flatten(nested)
        return cls(tuple(leaves), structure)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The leaves that are tensors."""
        return tuple(leaf for leaf in self.leaves if isinstance(leaf, Tensor))

    @property
    def shapes(self) -> Shapes:
        """Those of the tensors."""
        return tuple(tuple(tensor.shape) for tensor in self.tensors)

    def nested(self, tensors: Sequence[Tensor]) -> Any:
        """Nested again, with other tensors in the places of these."""
        rest = iter(tensors)
        return pytree.tree_unflatten(
            [next(rest) if isinstance(leaf, Tensor) else leaf for leaf in self.leaves], self.structure
        )

    def like(self, shapes: Shapes) -> Any:
        """What two calls of a network must share to be one function: everything but the numbers and the batch."""
        plain = tuple(leaf.dtype if isinstance(leaf, Tensor) else repr(leaf) for leaf in self.leaves)
        return str(self.structure), plain, shapes


@dataclass(frozen=True, eq=False)
class Call:
    """One way in which a network is called.

    Attributes:
        number: of the network in ``sampler.nets``.
        given: the arguments, as (args, kwargs).
        larger: the shapes of the tensors among them for a larger batch.
        made: what the network gave.
        dims: for each tensor of it and each dimension the size, or which dimension of which tensor among the arguments
            has the same.
    """

    number: int
    given: Tree
    larger: Shapes
    made: Tree
    dims: tuple[tuple[int | tuple[int, int], ...], ...]

    @property
    def dtypes(self) -> list[torch.dtype]:
        """Of the tensors that the network gives."""
        return [tensor.dtype for tensor in self.made.tensors]

    def shapes(self, tensors: Sequence[Tensor]) -> list[list[Any]]:
        """Shapes of the tensors that the network gives for these arguments."""
        return [[n if isinstance(n, int) else tensors[n[0]].shape[n[1]] for n in dims] for dims in self.dims]


class Network(nn.Module):
    """A network called in one way: tensors in, tensors out."""

    def __init__(self, net: nn.Module, call: Call) -> None:
        super().__init__()
        self.net, self.call = net, call

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """What the network gives for these tensors in the places of the call's."""
        args, kwargs = self.call.given.nested(tensors)
        return Tree.of(self.net.forward(*args, **kwargs)).tensors  # not net(...): its hooks are traced with the sampler

    def dynamic_shapes(self, example: Example) -> dict[str, Any]:
        """What torch.export wants to know about dimensions that may change: those that change alike are one."""
        dims: dict[tuple[int, int], Any] = {}
        further = None if example.largest is None else example.largest - example.x_T.shape[0]
        found = []
        for shape, larger in zip(self.call.given.shapes, self.call.larger, strict=True):
            changing = {i: pair for i, pair in enumerate(zip(shape, larger, strict=True)) if pair[0] != pair[1]}
            for n, m in changing.values():
                most = None if further is None else n + further * (m - n)
                dims.setdefault((n, m), torch.export.Dim(f"batch{len(dims) or ''}", max=most))
            found.append({i: dims[pair] for i, pair in changing.items()})
        return {"tensors": tuple(found)}


@contextmanager
def replaced(sampler: Sampler, stand_in: Callable[[int, Callable[..., Any]], Callable[..., Any]]) -> Iterator[None]:
    """Each network computes what ``stand_in(number, its own forward)`` says, for a while."""
    before = [vars(net).get("forward") for net in sampler.nets]
    try:
        for number, net in enumerate(sampler.nets):
            net.forward = stand_in(number, net.forward)
        yield
    finally:
        for net, forward in zip(sampler.nets, before, strict=True):
            if forward is None:
                vars(net).pop("forward", None)
            else:
                net.forward = forward


def calls_of(sampler: Sampler, example: Example) -> dict[Any, Call]:
    """Each way in which the sampler calls a network; a network runs once for each, and for a batch of one more.

    Raises:
        UnlikeCallsError: the shape of what a network gives does not follow from those of its arguments.
    """
    small = _watched(sampler, example)
    large = _watched(sampler, example.resized(example.x_T.shape[0] + 1)) if example.dynamic else small
    if [seen.number for seen in small] != [seen.number for seen in large]:
        raise UnlikeCallsError
    calls: dict[Any, Call] = {}
    for a, b in zip(small, large, strict=True):
        shapes = _open(a.given, b.given)
        key = (a.number, a.given.like(shapes))
        if b.given.like(shapes) != key[1] or a.made.like(()) != b.made.like(()):
            raise UnlikeCallsError
        calls.setdefault(key, Call(a.number, a.given, b.given.shapes, a.made, _dims(a, b)))
    return calls


def key_of(number: int, given: Tree) -> Any:
    """Under which :func:`calls_of` has this call, whose open dimensions are symbols."""
    return number, given.like(tuple(tuple(n if isinstance(n, int) else OPEN for n in shape) for shape in given.shapes))


class _Seen(NamedTuple):
    number: int
    given: Tree
    made: Tree


def _watched(sampler: Sampler, example: Example) -> list[_Seen]:
    """Every call of a network in one run, of which only those that differ are really made."""
    seen: list[_Seen] = []
    known: dict[Any, Tree] = {}

    def watch(number: int, own: Callable[..., Any]) -> Callable[..., Any]:
        def forward(*args: Any, **kwargs: Any) -> Any:
            given = Tree.of((args, kwargs))
            key = (number, given.like(given.shapes))
            if key not in known:
                known[key] = Tree.of(own(*args, **kwargs))
            seen.append(_Seen(number, given, known[key]))
            return known[key].nested([torch.zeros_like(tensor) for tensor in known[key].tensors])

        return forward

    args, kwargs = example.arguments()
    with replaced(sampler, watch):
        sampler(*args, **kwargs)
    return seen


def _open(a: Tree, b: Tree) -> Shapes:
    if [len(shape) for shape in a.shapes] != [len(shape) for shape in b.shapes]:
        raise UnlikeCallsError
    pairs = (zip(s, t, strict=True) for s, t in zip(a.shapes, b.shapes, strict=True))
    return tuple(tuple(n if n == m else OPEN for n, m in pair) for pair in pairs)


def _dims(a: _Seen, b: _Seen) -> tuple[tuple[int | tuple[int, int], ...], ...]:
    places = {
        sizes: (i, j)
        for i, (s, t) in enumerate(zip(a.given.shapes, b.given.shapes, strict=True))
        for j, sizes in enumerate(zip(s, t, strict=True))
    }
    _open(a.made, b.made)
    found = []
    for s, t in zip(a.made.shapes, b.made.shapes, strict=True):
        pairs = list(zip(s, t, strict=True))
        if any(n != m and (n, m) not in places for n, m in pairs):
            raise UnlikeCallsError
        found.append(tuple(n if n == m else places[n, m] for n, m in pairs))
    return tuple(found)
