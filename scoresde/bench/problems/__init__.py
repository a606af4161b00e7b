"""What a benchmark is run on: a denoiser to sample with, real or exact data to compare with, and converged solutions.

To add a target: one :class:`Problem`, made by a function of the device and of the target's own options, and one line in
:data:`PROBLEMS`. Nothing else in the benchmark knows any target. Networks of users need no line: their names say where
they are (:mod:`scoresde.bench.problems.user`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from scoresde.bench.problems.base import Problem
from scoresde.bench.problems.exact import (
    ExactProblem,
    GaussianProblem,
    digits_empirical,
    digits_gaussian,
    mixture,
    mixture_64,
    natural_gaussian,
)
from scoresde.bench.problems.networks import DigitsProblem, NetworkProblem, PatchesProblem, ShippedProblem
from scoresde.bench.problems.target import UserTarget
from scoresde.bench.problems.user import check_user, is_user, user_problem
from scoresde.errors import choose

if TYPE_CHECKING:
    from scoresde.bench.suite import Choice

__all__ = [
    "PROBLEMS",
    "DigitsProblem",
    "ExactProblem",
    "GaussianProblem",
    "NetworkProblem",
    "PatchesProblem",
    "Problem",
    "ShippedProblem",
    "UserTarget",
    "check_target",
    "is_user",
    "make_problem",
]

PROBLEMS: dict[str, Callable[..., Problem]] = {
    "digits": DigitsProblem,
    "patches": PatchesProblem,
    "mixture": mixture,
    "mixture-64": mixture_64,
    "natural-gaussian": natural_gaussian,
    "digits-gaussian": digits_gaussian,
    "digits-empirical": digits_empirical,
}


def check_target(target: Choice) -> None:
    """Raise ValueError for an unknown name (the nearest are listed), an option that the target does not have, or a file
    or function of a user's network that is not there.
    """
    (check_user if is_user(target.name) else _bound)(target)


def make_problem(target: Choice, device: str = "cpu") -> Problem:
    """The problem of that name, sampling on that device. Raises ValueError as :func:`check_target` does."""
    return user_problem(target, device) if is_user(target.name) else _bound(target, device)()


def _bound(target: Choice, device: str = "cpu") -> Callable[[], Problem]:
    """The target's function with its arguments, checked but not called."""
    import inspect
    from functools import partial

    make = choose(target.name, PROBLEMS, "target")
    try:
        inspect.signature(make).bind(device=device, **target.keywords)
    except TypeError as error:
        known = [name for name in inspect.signature(make).parameters if name != "device"]
        has = f"its options are {', '.join(known)}" if known else "it has no options"
        raise ValueError(f"target {target.label!r}: {error}; {has}") from None
    return partial(make, device=device, **target.keywords)
