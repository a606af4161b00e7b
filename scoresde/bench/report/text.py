"""Words and numbers that several parts of the page share."""

from __future__ import annotations

from collections.abc import Sequence

from scoresde.bench.charts import number
from scoresde.bench.paired import Summary


def interval(summary: Summary) -> str:
    """The interval as "0.5 to 0.7"; empty for a number without error."""
    return "" if summary.low == summary.high else f"{number(summary.low)} to {number(summary.high)}"


def reach(summary: Summary) -> str:
    """Half the interval as "± 0.1"; empty for a number without error."""
    return "" if summary.low == summary.high else f"± {number((summary.high - summary.low) / 2, 2)}"


def listed(words: Sequence[str]) -> str:
    """The words as "a", "a and b" or "a, b and c"."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def shortened(words: Sequence[str], most: int = 4) -> str:
    """As :func:`listed`, but of very many only the first few and how many more there are."""
    return listed(words if len(words) <= most + 1 else [*words[:most], f"{len(words) - most} more"])
