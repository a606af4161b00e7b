"""wl-zhao/UniPC."""

from __future__ import annotations

from tests.golden.reading import Rule

SHOWN = ("steps", "skip_type", "t_start", "t_end")
RULES: dict[str, Rule] = {}
