"""A progress bar, if there is a library for one."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

NONE: tuple[str, Any] = ("", None)


@contextmanager
def bar(total: int | None, disable: bool | None) -> Iterator[Callable[[], None]]:
    """A progress bar of tqdm, or else of rich, or else none; what it gives advances it by one.

    Args:
        total: of how many, or None where nobody knows.
        disable: True for none; None for one on a terminal only, as in tqdm.
    """
    show = sys.stderr.isatty() if disable is None else not disable
    library, module = _find() if show else NONE
    if library == "tqdm":
        with module.tqdm(total=total) as shown:
            yield lambda: shown.update(1)
    elif library == "rich":
        with module.Progress() as shown:
            task = shown.add_task("sampling", total=total)
            yield lambda: shown.advance(task)
    else:
        yield lambda: None


def _find() -> tuple[str, Any]:
    for library, name in (("tqdm", "tqdm.auto"), ("rich", "rich.progress")):
        try:
            return library, importlib.import_module(name)
        except ImportError:
            continue
    return NONE
