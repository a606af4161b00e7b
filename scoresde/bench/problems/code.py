"""Functions that suites name, and digests of what decides a result: weights, data and source files."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor, nn

from scoresde.errors import choose

__all__ = ["digest", "function_of", "holdings", "source_of", "working_directory"]


def function_of(name: str, where: str) -> Callable[..., Any]:
    """The function that "module:function" names; modules in the working directory are found too.

    Importing runs the module: name only code that you would run yourself.

    Args:
        name: the module with its packages, a colon, and a function or a class in it.
        where: whose value the name is, for messages.

    Raises:
        ValueError: not such a name, a module that cannot be imported (with the reason), or no such function in it (the
            nearest are listed).
    """
    module_name, _, function_name = name.partition(":")
    if not (module_name and function_name.isidentifier()):
        raise ValueError(f"{where} must be module:function, such as mynets.cifar:load; got {name!r}")
    try:
        with working_directory():
            module = importlib.import_module(module_name)
    except Exception as error:  # whatever a module does when it is run
        raise ValueError(
            f"{where}: module {module_name!r} cannot be imported from here or {os.getcwd()} "
            f"({type(error).__name__}: {error})"
        ) from error
    found = choose(function_name, vars(module), f"{where}: function of {module_name}")
    if not callable(found):
        raise ValueError(f"{where}: {name} is a {type(found).__name__}, not a function")
    return found


@contextmanager
def working_directory() -> Iterator[None]:
    """Modules in the working directory are found meanwhile, after those that are installed."""
    here = os.getcwd()
    sys.path.append(here)
    try:
        yield
    finally:
        sys.path.remove(here)


def source_of(function: Callable[..., Any]) -> bytes:
    """The text of the file that defines a function; empty where there is none."""
    try:
        file = inspect.getsourcefile(inspect.unwrap(function))
    except TypeError:  # built into Python, or an object
        return b""
    return Path(file).read_bytes() if file and os.path.isfile(file) else b""


def holdings(thing: Any) -> tuple[nn.Module | Tensor, ...]:
    """The networks and tensors that a denoiser or a function holds: in attributes, containers, closures and arguments
    of partial functions, each once, in a fixed order.
    """
    seen: set[int] = set()

    def walk(thing: Any) -> Iterator[nn.Module | Tensor]:
        if id(thing) in seen:
            return
        seen.add(id(thing))
        if isinstance(thing, (nn.Module, Tensor)):
            yield thing
            return
        for inside in _inside(thing):
            yield from walk(inside)

    return tuple(walk(thing))


def _inside(thing: Any) -> list[Any]:
    if isinstance(thing, (list, tuple)):
        return list(thing)
    if isinstance(thing, Mapping):
        return list(thing.values())
    if isinstance(thing, partial):
        return [thing.func, *thing.args, *thing.keywords.values()]
    if isinstance(thing, MethodType):
        return [thing.__self__]
    if isinstance(thing, FunctionType):
        return [cell.cell_contents for cell in thing.__closure__ or () if _is_set(cell)]
    return list(vars(thing).values()) if hasattr(thing, "__dict__") and not isinstance(thing, type) else []


def _is_set(cell: Any) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:  # a variable without a value yet
        return False


def digest(*things: nn.Module | Tensor | bytes) -> str:
    """SHA-256 (hex) of weights (with their names), tensors and bytes, in this order."""
    found = hashlib.sha256()
    for thing in things:
        if isinstance(thing, bytes):
            found.update(thing)
            continue
        named = thing.state_dict() if isinstance(thing, nn.Module) else {"": thing}
        for name, value in sorted(named.items()):
            found.update(name.encode())
            if isinstance(value, Tensor):
                found.update(f"{value.dtype} {tuple(value.shape)}".encode() + _bytes(value))
    return found.hexdigest()


def _bytes(tensor: Tensor) -> bytes:
    """Of any dtype, also those that NumPy does not know."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
