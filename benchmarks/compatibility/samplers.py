"""Samplers for the cases: ours in place of a pipeline's own, and diffusers' with its arithmetic in float64."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch

from .cases import Case, Peer, difference, run_case
from .parts import named

MAXIMUM = {"rounding": "grid", "textbook": True, "count": "steps"}  # of what a peer's arithmetic may agree with


def ours(solver: str, **options: Any) -> Callable[[Any], Any]:
    """Makes our scheduler from a pipeline's own, as the README does."""
    from scoresde.integrations.diffusers import Scheduler

    def make(own: Any) -> Any:
        config = {**own.config, "_class_name": type(own).__name__}  # as it has when a pipeline is loaded
        return Scheduler.from_config(config, solver=solver, **options)

    return make


def theirs(name: str, config: Mapping[str, Any]) -> Callable[[Any], Any]:
    """Makes a scheduler of diffusers from a pipeline's own, with what is stated of the latter and these changes.

    Unlike diffusers' own ``from_config`` it does not put a class's defaults in place of what the pipeline's own
    scheduler has by default: betas and spacing stay.
    """

    def make(own: Any) -> Any:
        stated = {key: value for key, value in own.config.items() if not key.startswith("_")}
        return named(name).from_config({**stated, **config})

    return make


def quiet() -> None:
    """No advice of diffusers and transformers on stderr."""
    for library in ("diffusers", "transformers"):
        importlib.import_module(f"{library}.utils.logging").set_verbosity_error()


class _Wide:
    """A module whose float32 is float64."""

    def __init__(self, module: ModuleType) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, "float64" if name == "float32" else name)


@contextmanager
def in_float64(name: str) -> Iterator[None]:
    """Let a scheduler of diffusers compute its tables and its steps in float64, where it says float32."""
    module = importlib.import_module(named(name).__module__)
    before = {key: vars(module)[key] for key in ("np", "torch") if key in vars(module)}
    for key, value in before.items():
        setattr(module, key, _Wide(value))
    try:
        yield
    finally:
        for key, value in before.items():
            setattr(module, key, value)


def compare(case: Case, peer: Peer, dtype: torch.dtype = torch.float64) -> float:
    """Relative difference of the last states of a run with our solver and of one with diffusers'."""

    def mine(own: Any) -> Any:
        return ours(peer.solver, **{**MAXIMUM, **peer.options})(make(own))

    make = theirs(peer.scheduler, peer.config)
    with in_float64(peer.scheduler):  # for both: pipelines have other schedulers of the same class
        expected, got = (run_case(case, it, peer.steps, dtype, **peer.arguments) for it in (make, mine))
    return difference(got.state, expected.state)
