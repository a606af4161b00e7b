"""Clear errors for bad arguments: what was given, and what would be right."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import TypeVar

T = TypeVar("T")


class Mistakes(ValueError):
    """Several mistakes of the user's at once: ``args`` says each in one line."""

    def __str__(self) -> str:
        return "\n".join(self.args)


def choose(name: str, table: Mapping[str, T], argument: str) -> T:
    """Return ``table[name]``, or raise a ValueError that lists the nearest names.

    Args:
        name: the key that the user gave.
        table: what can be chosen.
        argument: the name of the user's argument, for the message.

    Raises:
        ValueError: the table has no such name; the message lists the nearest ones.
    """
    if isinstance(name, str) and name in table:
        return table[name]
    near = get_close_matches(str(name), list(table), n=3, cutoff=0.5) or sorted(table)
    raise ValueError(f"{argument}={name!r} is unknown; nearest: {', '.join(near)}")


def check_positive_int(value: object, argument: str) -> int:
    """Return ``value`` if it is an integer of at least 1, else raise naming ``argument``.

    Raises:
        TypeError: not an integer.
        ValueError: zero or negative.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{argument} must be an int of at least 1, got {value!r}")
    if value < 1:
        raise ValueError(f"{argument} must be at least 1, got {value}")
    return value
