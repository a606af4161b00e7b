"""Whether the library has what a suite names: asked field by field while a file is read, so that each answer has its
line.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from scoresde.bench.evaluate import DTYPES
from scoresde.bench.measures import MEASURES
from scoresde.bench.problems import check_target
from scoresde.bench.samplers import make_grid, make_process, samplers
from scoresde.bench.suite import Choice
from scoresde.catalogue import get_solver
from scoresde.errors import choose


def check_name(field: str, value: Any, plugins: Sequence[str] = ()) -> None:
    """Refuse what the library does not have; see :data:`scoresde.bench.files.Check`.

    Args:
        field: a field of a block or suite.
        value: what it says: a :class:`~scoresde.bench.suite.Choice` or a name.
        plugins: the suite's modules with samplers of other libraries.

    Raises:
        ValueError: an unknown name (the nearest are listed) or option.
    """
    check = CHECKS.get(field)
    if check is not None:
        check(value, plugins)


def _solver(value: Choice, plugins: Sequence[str]) -> None:
    if "/" not in value.name:
        get_solver(value.name, **value.keywords)
        return
    try:
        known = samplers(plugins)
    except (ImportError, AttributeError):
        return  # that is a mistake of the line that names the plugin
    choose(value.name, known, "solver")


def _reference(value: Choice, plugins: Sequence[str]) -> None:
    get_solver(value.name, **{key: option for key, option in value.options if key not in ("nfe", "grid")})


def _grid(value: Choice, plugins: Sequence[str]) -> None:
    if not (plugins and value == Choice("own")):  # of other libraries' samplers
        make_grid(value)


def _plugin(value: str, plugins: Sequence[str]) -> None:
    try:
        samplers([value])
    except (ImportError, AttributeError) as error:
        raise ValueError(f"plugin {value!r} cannot be used: {error}") from error


CHECKS: dict[str, Callable[[Any, Sequence[str]], object]] = {
    "target": lambda value, plugins: check_target(value),
    "sdes": lambda value, plugins: make_process(value),
    "grids": _grid,
    "solvers": _solver,
    "reference": _reference,
    "metrics": lambda value, plugins: choose(value, MEASURES, "metric"),
    "dtype": lambda value, plugins: choose(value, DTYPES, "dtype"),
    "plugins": _plugin,
}
