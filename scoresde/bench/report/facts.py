"""What is needed to repeat the results: machines, versions, and the suite as a file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any


def environment(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Each fact of the rows with every value that occurs: a folder may hold runs of several machines."""
    facts: dict[str, dict[str, None]] = {}
    for row in rows:
        for key, value in {**row.get("environment", {}), "schema": row.get("schema")}.items():
            facts.setdefault(key, {})[_text(value)] = None
        package = row.get("solver", {}).get("package")
        if package:
            facts.setdefault("samplers of", {})[package] = None
    return [(key.replace("_", " "), ", ".join(values)) for key, values in facts.items()]


def _text(value: Any) -> str:
    return "unknown" if value is None else str(value)


def suite_toml(suite: Mapping[str, Any]) -> str:
    """The suite, given as plain data, as a file that ``scoresde bench`` reads."""
    top = [_entry(key, value) for key, value in suite.items() if key != "blocks" and value is not None]
    blocks = [
        "\n".join(["[[blocks]]", *(_entry(key, value) for key, value in block.items() if value is not None)])
        for block in suite.get("blocks", ())
    ]
    return "\n\n".join(["\n".join(top), *blocks]) + "\n"


def _entry(key: str, value: Any) -> str:
    name = key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key)
    return f"{name} = {_value(value)}"


def _value(value: Any) -> str:
    """Numbers, names and truth values are written alike in JSON and TOML; a choice without options is its name."""
    if isinstance(value, Mapping):
        if value.keys() == {"name", "options"} and not value["options"]:
            return _value(value["name"])
        return "{ " + ", ".join(_entry(key, item) for key, item in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False)
