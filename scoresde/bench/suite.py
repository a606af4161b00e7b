"""What a benchmark runs: suites, blocks and cells as frozen data, and their plain-dictionary form.

A :class:`Suite` is a tuple of :class:`Block`; a block is the product of its axes (SDE x grid x seed x NFE x solver) on
one target, and one element of the product is a :class:`Cell`. A cell is the whole recipe of one number: its canonical
JSON is hashed, and the hash names the file that holds its result. Everything here is plain data, without torch.

What people write is read by :mod:`scoresde.bench.files`; this file also has the plain form that results keep.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from scoresde.errors import choose

if TYPE_CHECKING:
    from scoresde.bench.files import Check

SCHEMA = 3  # part of every hash: raise it when the meaning of a cell's numbers changes, and old files are left alone
CHUNK = 1000  # samples drawn at once

Option = str | int | float | bool
Made = TypeVar("Made")


@dataclass(frozen=True)
class Choice:
    """A name from one of the library's catalogues with its options, e.g. ``Choice("ddim", (("eta", 1.0),))``.

    Options are kept sorted, so that two choices written in a different order are equal and hash alike.
    """

    name: str
    options: tuple[tuple[str, Option], ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise TypeError(f"name must be a non-empty string, got {self.name!r}")
        object.__setattr__(self, "options", tuple(sorted(self.options)))

    @property
    def keywords(self) -> dict[str, Option]:
        """The options as keyword arguments."""
        return dict(self.options)

    @property
    def label(self) -> str:
        """What people read: ``ddim`` or ``ddim(eta=1)``."""
        inside = ", ".join(
            f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}" for key, value in self.options
        )
        return f"{self.name}({inside})" if inside else self.name


def choice(name: str, **options: Option) -> Choice:
    """Shorthand: ``choice("ddim", eta=1.0)``. Every keyword is kept and later checked by the thing that is named."""
    return Choice(name, tuple(options.items()))


@dataclass(frozen=True)
class Cell:
    """One number of the benchmark: everything that decides it, and nothing else (threads decide only the time).

    ``nfe`` is the budget in network calls, ``samples`` the number of samples (indices 0 to samples - 1 of ``seed``),
    ``end`` the grid's last time ("zero", "eps" or a time), ``dtype`` a torch dtype's name and ``device`` a torch
    device's name. ``metrics`` are names of :data:`scoresde.bench.measures.MEASURES`, by default the target's own.
    ``reference`` is the solver of the converged solution with options ``nfe`` and ``grid``, by default the target's own
    solution. Samples are drawn ``chunk`` at once, always the same ones together, so that results do not depend on the
    number of workers. A solver whose name has a slash, such as "diffusers/DDIM", is another library's: of a plugin.
    """

    target: Choice
    sde: Choice
    solver: Choice
    grid: Choice
    nfe: int
    seed: int
    samples: int
    end: str | float = "zero"
    dtype: str = "float32"
    device: str = "cpu"
    metrics: tuple[str, ...] = ()
    reference: Choice | None = None
    chunk: int = CHUNK

    def __post_init__(self) -> None:
        for name, least in (("nfe", 1), ("seed", 0), ("samples", 1), ("chunk", 1)):
            _check_count(name, getattr(self, name), least)

    @property
    def config(self) -> dict[str, Any]:
        """The recipe as plain data; what is hashed and what the result file repeats."""
        return {"schema": SCHEMA, **_plain(self)}

    @cached_property
    def hash(self) -> str:
        """SHA-256 (hex) of the canonical JSON of :attr:`config`."""
        return config_hash(self.config)

    @property
    def stem(self) -> str:
        """The name of the cell's files without the suffix: readable first, then unique."""
        return _stem(self.target.name, self.solver.label, f"nfe{self.nfe}", f"seed{self.seed}", self.hash)

    @property
    def pooled_stem(self) -> str:
        """Likewise for all the cells that differ from this one in nothing but the seed."""
        shared = config_hash({key: value for key, value in self.config.items() if key != "seed"})
        return _stem(self.target.name, self.solver.label, f"nfe{self.nfe}", shared)

    @property
    def label(self) -> str:
        """One line for people."""
        names = (part.label for part in (self.target, self.sde, self.solver, self.grid))
        return " · ".join([*names, f"NFE {self.nfe}", f"seed {self.seed}"])

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Cell:
        """The cell that :attr:`config` describes; ValueError on unknown or missing keys."""
        return _build(cls, {key: value for key, value in config.items() if key != "schema"})


@dataclass(frozen=True)
class Block:
    """The product of its axes on one target. Every axis is a non-empty tuple; order is the order of the tables."""

    target: Choice
    sdes: tuple[Choice, ...]
    grids: tuple[Choice, ...]
    solvers: tuple[Choice, ...]
    nfes: tuple[int, ...]
    seeds: tuple[int, ...]
    samples: int
    end: str | float = "zero"
    dtype: str = "float32"
    device: str = "cpu"
    metrics: tuple[str, ...] = ()
    reference: Choice | None = None
    chunk: int = CHUNK

    def __post_init__(self) -> None:
        for axis in ("sdes", "grids", "solvers", "nfes", "seeds"):
            values = getattr(self, axis)
            if not isinstance(values, tuple) or not values:
                raise ValueError(f"{axis} must be a non-empty tuple, got {values!r}")
            if len(set(values)) != len(values):
                raise ValueError(f"{axis} holds something twice: {values!r}")
        for nfe in self.nfes:
            _check_count("nfes", nfe, 1)
        for seed in self.seeds:
            _check_count("seeds", seed, 0)
        _check_count("samples", self.samples, 2)
        _check_count("chunk", self.chunk, 1)

    def cells(self) -> Iterator[Cell]:
        """Every cell, seeds outermost."""
        for seed, sde, grid, solver, nfe in itertools.product(
            self.seeds, self.sdes, self.grids, self.solvers, self.nfes
        ):
            yield Cell(
                self.target, sde, solver, grid, nfe, seed, self.samples, self.end, self.dtype, self.device,
                self.metrics, self.reference, self.chunk,
            )  # fmt: skip


@dataclass(frozen=True)
class Suite:
    """A named benchmark. ``plugins`` are modules that offer samplers of other libraries, such as "benchmarks.peers"."""

    name: str
    description: str
    blocks: tuple[Block, ...]
    plugins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.blocks, tuple) or not self.blocks:
            raise ValueError(f"blocks must be a non-empty tuple of Block, got {self.blocks!r}")

    def cells(self) -> tuple[Cell, ...]:
        """Every cell once, in running order: the first seed of every block, then the next.

        So a run that is stopped early has whole tables, and the time that is left can be told after the first seed.
        """
        seeds = dict.fromkeys(seed for block in self.blocks for seed in block.seeds)
        every = [cell for block in self.blocks for cell in block.cells()]
        return tuple(dict.fromkeys(cell for seed in seeds for cell in every if cell.seed == seed))

    def with_seeds(self, count: int) -> Suite:
        """The same suite with seeds 0 to ``count`` - 1."""
        _check_count("seeds", count, 1)
        return replace(self, blocks=tuple(replace(block, seeds=tuple(range(count))) for block in self.blocks))

    def with_samples(self, samples: int) -> Suite:
        """The same suite with ``samples`` samples in every cell."""
        return replace(self, blocks=tuple(replace(block, samples=samples) for block in self.blocks))

    def on(self, device: str) -> Suite:
        """The same suite on another torch device."""
        return replace(self, blocks=tuple(replace(block, device=device) for block in self.blocks))


def suites() -> dict[str, Path]:
    """The suites that come with the library: the name of each and its file."""
    return {path.stem: path for path in sorted((Path(__file__).parent / "suites").glob("*.toml"))}


def load_suite(name: str, sets: Sequence[str] = (), check: Check | None = None) -> Suite:
    """The suite of that name, or of that TOML file (anything that ends in ``.toml``).

    Args:
        name: one of :func:`suites`, or a file.
        sets: changes to it, such as ``"nfes=5,10"``.
        check: also refuses names that the library does not have; see :func:`scoresde.bench.files.read_suite`.

    Raises:
        ValueError: an unknown name (the nearest are listed), a file that cannot be read, or one that does not describe
            a suite: then there is a line for each mistake, with the file's line.
    """
    from scoresde.bench.files import read_suite

    ours = not name.endswith(".toml")
    path = choose(name, suites(), "suite") if ours else Path(name)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"suite file {name!r} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"suite file {name!r} is not text in UTF-8: {error}") from error
    return read_suite(text, path.name if ours else name, sets, check)


# ---- plain data <-> classes ------------------------------------------------------------------------------------------


def suite_to_dict(suite: Suite) -> dict[str, Any]:
    """The suite as plain data (str, numbers, lists, dicts) that JSON and TOML both hold."""
    return _plain(suite)


def suite_from_dict(data: Mapping[str, Any]) -> Suite:
    """The inverse of :func:`suite_to_dict`, also for the data of older versions. (For what people write by hand, with
    its shorter forms, there is :mod:`scoresde.bench.files`.)

    Raises ValueError for anything else.
    """
    try:
        blocks = tuple(_build(Block, block) for block in data["blocks"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"these are no data of a suite: {error}") from error
    return _build(Suite, {**data, "blocks": blocks})


def canonical_json(data: Any) -> str:
    """One text for one meaning: sorted keys, no spaces, no NaN."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def config_hash(data: Any) -> str:
    """SHA-256 (hex) of the canonical JSON, with whole floats as integers (``eta=1`` and ``eta=1.0`` are one recipe)."""
    return hashlib.sha256(canonical_json(_whole(data)).encode()).hexdigest()


def _whole(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _whole(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_whole(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _plain(value: Any) -> Any:
    if isinstance(value, Choice):
        return {"name": value.name, "options": value.keywords}
    if isinstance(value, (Suite, Block, Cell)):
        plain = {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
        return {name: item for name, item in plain.items() if item is not None}  # TOML has no null
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _build(cls: type[Made], data: Mapping[str, Any]) -> Made:
    """``cls`` from the plain data of its fields."""
    try:
        return cls(**{key: _field(value) for key, value in data.items()})
    except (TypeError, AttributeError, KeyError) as error:
        raise ValueError(f"these are no data of a {cls.__name__.lower()}: {error}") from error


def _field(value: Any) -> Any:
    """The inverse of :func:`_plain` for one field."""
    if isinstance(value, Mapping):
        return Choice(value["name"], tuple(value["options"].items()))
    return tuple(map(_field, value)) if isinstance(value, (list, tuple)) else value


def file_name(words: str) -> str:
    """The words as a part of a file's name: lower case, what file systems or shells mind as dashes, the last 60
    characters.
    """
    return re.sub(r"[^a-z0-9.=+]+", "-", words.lower())[-60:].strip("-")


def _stem(*words: str) -> str:
    *readable, digest = words
    return "--".join([*map(file_name, readable), digest[:16]])


def _check_count(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")
