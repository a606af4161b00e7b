"""Suites as files: TOML text to a :class:`~scoresde.bench.suite.Suite`, with every mistake named by its line and field.

What a file may hold is in the models below; ``docs/suites.md`` shows it by example. A file is friendlier than the
classes: a choice without options is its bare name, its options may stand beside its name, an axis of one may be one
value, and a table ``[defaults]`` holds what all blocks share.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

try:
    from pydantic import (
        AfterValidator,
        BaseModel,
        BeforeValidator,
        ConfigDict,
        Field,
        PlainValidator,
        TypeAdapter,
        ValidationError,
        ValidationInfo,
    )
except ImportError as error:
    raise ImportError("reading suites from files needs the pydantic package: pip install 'scoresde[bench]'") from error

from scoresde.bench.suite import Block, Choice, Option, Suite
from scoresde.bench.toml_lines import KeyPath, key_lines
from scoresde.errors import Mistakes

Check = Callable[[str, Any, Sequence[str]], object]
"""``check(field, value, plugins)`` raises ValueError if the library has no such thing. ``value`` is a
:class:`~scoresde.bench.suite.Choice` (of target, sdes, grids, solvers, reference) or a name (of metrics, plugins)."""

T = TypeVar("T")


def read_suite(
    text: str, path: str | Path = "suite.toml", sets: Sequence[str] = (), check: Check | None = None
) -> Suite:
    """The suite that a TOML text describes.

    Args:
        text: what the file holds.
        path: its name, for messages; its stem is the suite's name where the text gives none.
        sets: changes as people type them: ``"nfes=5,10"`` for every block, ``"blocks.0.samples=500"`` for one.
        check: also refuses names that the library does not have; without it every name is taken.

    Raises:
        Mistakes: (a ValueError) with a line for each mistake, such as
            ``mine.toml:7: blocks[0].nfes[2]: must be at least 1, got 0``.
    """
    try:
        lines = key_lines(text)
    except tomllib.TOMLDecodeError as error:
        raise Mistakes(f"{path}:{_line_named(error, text)}: is not TOML: {error}") from error
    data = tomllib.loads(text)
    places = {key: _Place(f"{path}:{line}", key) for key, line in lines.items()}
    _give_defaults(data, places)
    for change in sets:
        _change(data, places, change)
    plugins = [name for name in _one_or_many(data.get("plugins", [])) if isinstance(name, str)]
    try:
        return _SUITE.validate_python({"name": Path(path).stem, **data}, context=(check, plugins))
    except ValidationError as error:
        raise Mistakes(*dict.fromkeys(_message(mistake, places) for mistake in error.errors())) from None


class _Place(NamedTuple):
    """Where something was written: the file's line or the --set, and its path there."""

    source: str
    path: KeyPath


def _line_named(error: tomllib.TOMLDecodeError, text: str) -> int:
    """The line that the message names; the last one, where it names the end of the document."""
    named = re.search(r"line (\d+)", str(error))
    return int(named[1]) if named else len(text.rstrip().splitlines()) or 1


def _give_defaults(data: dict[str, Any], places: dict[KeyPath, _Place]) -> None:
    """Put what [defaults] holds into every block that has not its own."""
    defaults, blocks = data.get("defaults"), data.get("blocks")
    if not isinstance(defaults, dict) or not isinstance(blocks, list):
        return
    del data["defaults"]
    for number, block in enumerate(blocks):
        for key in [key for key in defaults if isinstance(block, dict) and key not in block]:
            block[key] = deepcopy(defaults[key])
            for path in _paths(block[key], (key,)):
                places["blocks", number, *path] = places["defaults", *path]


# ---- changes: --set key=value ----------------------------------------------------------------------------------------


def _change(data: dict[str, Any], places: dict[KeyPath, _Place], change: str) -> None:
    """Carry out one ``key=value``: in every block, unless the key begins with a field of the suite itself."""
    source = f"--set {' '.join(change.split())}"
    key, equals, text = change.partition("=")
    parts = tuple(int(part) if part.isdecimal() else part for part in re.findall(r"[^.\[\]\s]+", key))
    if not equals or not parts:
        raise Mistakes(f"{source}: must be key=value, such as samples=500 or blocks.0.nfes=5,10")
    value = _value(text.strip())
    blocks = data.get("blocks")
    everywhere: list[KeyPath] = [
        ("blocks", number) for number in range(len(blocks if isinstance(blocks, list) else ()))
    ]
    for start in [()] if parts[0] in _SuiteModel.model_fields else everywhere:
        path = (*start, *parts)
        try:
            _put(data, path, deepcopy(value))
        except LookupError as error:
            raise Mistakes(f"{source}: {error.args[0]}") from None
        for old in [old for old in places if old[: len(path)] == path]:
            del places[old]
        places.update({inner: _Place(source, inner) for inner in _paths(value, path)})


def _value(text: str) -> Any:
    """TOML, or a bare word, or several of either with commas between."""
    for form in (text, f"[{text}]"):
        try:
            (value,) = tomllib.loads(f"value = {form}").values()
            return value
        except ValueError:
            pass  # no TOML, or more than one line of it
    return [_value(part.strip()) for part in text.split(",")] if "," in text else text


def _put(data: Any, path: KeyPath, value: Any) -> None:
    """data[path] = value; LookupError where there is nothing to put it into."""
    *way, last = path
    for depth, key in enumerate(way, 1):
        if not _holds(data, key):
            raise LookupError(f"there is no {_spelled(path[:depth])} to set something in")
        data = data[key]
    if not _holds(data, last) and not (isinstance(data, dict) and isinstance(last, str)):
        raise LookupError(f"there is no {_spelled(path)} to set")
    data[last] = value


def _holds(data: Any, key: str | int) -> bool:
    return key in data if isinstance(data, dict) else isinstance(data, list) and key in range(len(data))


def _paths(value: Any, path: KeyPath) -> Iterator[KeyPath]:
    """The path of a value, and of everything in it."""
    yield path
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from _paths(item, (*path, key))


# ---- messages --------------------------------------------------------------------------------------------------------


_WORDS = {
    "missing": "is missing",
    "extra_forbidden": "is unknown; nearest: {near}",
    "int_type": "must be a whole number, got {input!r}",
    "string_type": "must be a text, got {input!r}",
    "string_too_short": "must not be empty",
    "greater_than_equal": "must be at least {ge}, got {input!r}",
    "tuple_type": "must be a list, got {input!r}",
    "model_type": "must be a table, got {input!r}",
    "value_error": "{error}",
}


def _message(mistake: Any, places: dict[KeyPath, _Place]) -> str:
    """One line: where it is written, what it is, and what would be right."""
    path: KeyPath = ()
    for key in mistake["loc"]:  # which also goes through what our models put around a value: a list around one
        path = (*path, key) if (*path, key) in places else path
    place, absent = places[path], mistake["type"] == "missing"
    shown = (*place.path, mistake["loc"][-1]) if absent else place.path
    words = _WORDS.get(mistake["type"], "{msg}, got {input!r}")
    known = list(_KEYS[len(mistake["loc"])].model_fields) if mistake["type"] == "extra_forbidden" else []
    near = ", ".join(get_close_matches(str(mistake["loc"][-1]), known, n=3, cutoff=0.5) or known)
    return f"{place.source}: {_spelled(shown)}: " + words.format(**mistake, **mistake.get("ctx", {}), near=near)


def _spelled(path: KeyPath) -> str:
    """blocks[0].nfes[2]"""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).removeprefix(".")


# ---- what a file may hold --------------------------------------------------------------------------------------------


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=True)

    def given(self) -> dict[str, Any]:
        """The fields that the file gives; the classes know the defaults of the others."""
        return {name: getattr(self, name) for name in type(self).model_fields if name in self.model_fields_set}


def _named(value: Any) -> Any:
    if isinstance(value, str):
        return {"name": value}
    if not isinstance(value, dict):
        raise ValueError(f'must be a name or a table such as {{name = "ddim", eta = 1.0}}, got {value!r}')
    return value


def _option(value: Any) -> Any:
    if isinstance(value, (str, int)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise ValueError(f"must be a finite number, a text, true or false, got {value!r}")


def _end(value: Any) -> Any:
    if value in ("zero", "eps") or (type(value) in (int, float) and math.isfinite(value)):
        return value
    raise ValueError(f'must be "zero", "eps" or a time, got {value!r}')


def _exists(value: T, info: ValidationInfo[Any]) -> T:
    """The value, if the reader's check knows it."""
    check, plugins = info.context
    if check is not None:
        check(info.field_name, value, plugins)
    return value


def _one_or_many(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


def _some(values: tuple[T, ...]) -> tuple[T, ...]:
    if not values:
        raise ValueError("must hold at least one")
    return values


def _distinct(values: tuple[T, ...]) -> tuple[T, ...]:
    for number, value in enumerate(values):
        if value in values[:number]:
            raise ValueError(f"holds {getattr(value, 'label', value)} twice")
    return values


class _ChoiceModel(_Model):
    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Annotated[Option, PlainValidator(_option)]]

    name: Annotated[str, Field(min_length=1)]
    options: dict[str, Annotated[Option, PlainValidator(_option)]] = {}

    def made(self) -> Choice:
        """The choice, with the options that stand beside the name and those in a table of their own."""
        beside = self.model_extra or {}
        for key in beside:
            if key in self.options:
                raise ValueError(f"gives {key} twice, beside the name and in options")
        return Choice(self.name, tuple({**beside, **self.options}.items()))


class _SeedsModel(_Model):
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(strict=False), AfterValidator(_some)] = ()
    count: Annotated[int, Field(ge=1)] = 1
    first: Annotated[int, Field(ge=0)] = 0

    def made(self) -> tuple[int, ...]:
        """The seeds themselves."""
        return self.seeds or tuple(range(self.first, self.first + self.count))


def _seeds(value: Any) -> Any:
    if isinstance(value, list):
        return {"seeds": value}
    return value if isinstance(value, dict) else {"count": value}


_Text = Annotated[str, Field(min_length=1)]
_Name = Annotated[_Text, AfterValidator(_exists)]
_Count = Annotated[int, Field(ge=1)]
_Choice = Annotated[_ChoiceModel, BeforeValidator(_named), AfterValidator(_ChoiceModel.made), AfterValidator(_exists)]
_Seeds = Annotated[_SeedsModel, BeforeValidator(_seeds), AfterValidator(_SeedsModel.made), AfterValidator(_distinct)]
_MANY = (Field(strict=False), BeforeValidator(_one_or_many), AfterValidator(_distinct))
_AXIS = (*_MANY, AfterValidator(_some))


class _BlockModel(_Model):
    target: _Choice
    sdes: Annotated[tuple[_Choice, ...], *_AXIS]
    grids: Annotated[tuple[_Choice, ...], *_AXIS]
    solvers: Annotated[tuple[_Choice, ...], *_AXIS]
    nfes: Annotated[tuple[_Count, ...], *_AXIS]
    seeds: _Seeds
    samples: Annotated[int, Field(ge=2)]
    end: Annotated[str | float, PlainValidator(_end)] = "zero"
    dtype: _Name = ""
    device: _Name = ""
    metrics: Annotated[tuple[_Name, ...], *_MANY] = ()
    reference: _Choice | None = None
    chunk: _Count = 1

    def made(self) -> Block:
        """The block."""
        return Block(**self.given())


_Block = Annotated[_BlockModel, AfterValidator(_BlockModel.made)]


class _SuiteModel(_Model):
    name: _Text
    description: str = ""
    plugins: Annotated[tuple[_Name, ...], *_MANY] = ()
    blocks: Annotated[tuple[_Block, ...], Field(strict=False), AfterValidator(_some)]

    def made(self) -> Suite:
        """The suite."""
        return Suite(**{"description": "", **self.given()})


_SUITE: TypeAdapter[Any] = TypeAdapter(Annotated[_SuiteModel, AfterValidator(_SuiteModel.made)])
_KEYS: dict[int, type[_Model]] = {1: _SuiteModel, 3: _BlockModel, 4: _SeedsModel}  # by the depth of a key in the file
