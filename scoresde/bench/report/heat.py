"""Tables whose cells are coloured by their numbers, one for each budget: solver by grid, solver by class."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from scoresde.bench.charts import number
from scoresde.bench.paired import Summary
from scoresde.bench.report.text import interval

LEVELS = 10  # colours that the page defines, h0 (smallest) to h9


def heat_view(
    rows: Sequence[str],
    columns: Sequence[str],
    budgets: Sequence[int],
    at: Callable[[int, str, str], Summary | None],
    marks: Mapping[int, Mapping[tuple[str, str], str]],
    loss: Callable[[float], float],
) -> dict[str, Any]:
    """Rows by columns for each budget, to be shown one at a time.

    Args:
        rows, columns: their names.
        budgets: numbers of network calls.
        at: the number at (budget, row, column), or None.
        marks: "best" or "tied" by budget and (row, column).
        loss: of a number, what the colour shows: the smaller the better.
    """
    tables = []
    for nfe in budgets:
        found = {(row, column): at(nfe, row, column) for row in rows for column in columns}
        level = _scale([summary for summary in found.values() if summary is not None], loss)
        tables.append(
            {
                "nfe": nfe,
                "rows": [
                    {
                        "label": row,
                        "cells": [
                            None
                            if (summary := found[row, column]) is None
                            else {
                                "value": number(summary.value),
                                "interval": interval(summary),
                                "level": level(summary.value),
                                "mark": marks.get(nfe, {}).get((row, column), ""),
                            }
                            for column in columns
                        ],
                    }
                    for row in rows
                ],
            }
        )
    return {"columns": list(columns), "tables": tables, "shown": usual(budgets)}


def usual(budgets: Sequence[int]) -> int:
    """The budget to show first: the nearest to ten."""
    return min(budgets, key=lambda nfe: abs(math.log(nfe / 10)))


def _scale(summaries: Sequence[Summary], loss: Callable[[float], float]) -> Callable[[float], int]:
    """From a number to its colour: even steps of the logarithm of its loss.

    They start at the smallest, but not below half of the smallest standard error: less than that is nothing.
    """
    positive = [value for summary in summaries if (value := loss(summary.value)) > 0]
    noise = min((summary.se for summary in summaries if summary.se > 0), default=0.0) / 2
    if not positive:
        return lambda value: 0
    high = max(positive)
    low = min(max(min(positive), noise), high)
    width = math.log(high / low) or 1.0
    return lambda value: min(int(LEVELS * math.log(max(loss(value), low) / low) / width), LEVELS - 1)
