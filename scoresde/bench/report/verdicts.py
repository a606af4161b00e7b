"""The top of the page: who is best at each budget, by how much, and whether that is more than chance, in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scoresde.bench.analysis import Behind, Family, Winner, winners
from scoresde.bench.charts import number
from scoresde.bench.measures import MEASURES
from scoresde.bench.report.text import listed, reach, shortened


def verdict_view(family: Family, anchor: tuple[str, str]) -> dict[str, Any]:
    """One family: for each of its metrics a sentence, and a line a budget."""
    first, (ident, title) = family.panels[0], anchor
    deterministic = sum(not series.stochastic for panel in family.panels for series in panel.series)
    every = sum(len(panel.series) for panel in family.panels)
    views = []
    for name in family.headline:
        measure, ranked = MEASURES[name], winners(family, name)
        among = f"{deterministic} deterministic" if measure.same_seed else str(every)
        views.append(
            {
                "title": measure.label,
                "axis": measure.axis,
                "among": f"{among} {'solvers' if len(family.panels) == 1 else 'pairs of solver and grid'}",
                "sentence": sentence(ranked),
                "rows": [_line(winner) for winner in ranked],
            }
        )
    return {"id": ident, "title": family.title if len(family.panels) > 1 else title, "note": first.note, "views": views}


def sentence(ranked: Sequence[Winner]) -> str:
    """The verdict of one metric.

    Budgets at which the same solver is told apart from all others are told together; then those at which none is.
    """
    clear: dict[str, list[Winner]] = {}
    shared = [winner for winner in ranked if winner.tied]
    for winner in ranked:
        if not winner.tied and winner.behind is not None:
            clear.setdefault(winner.best, []).append(winner)
    said = [f"{label} is best at {_budgets(won, len(ranked))}{_by(won)}" for label, won in clear.items()]
    if shared and not clear:
        said.append(f"no single solver is best at {_budgets(shared, len(ranked), 'any budget')}")
    elif shared:
        said.append(f"at {_budgets(shared, len(ranked))} several are tied")
    if not said:
        return f"Only {ranked[0].best} was measured." if ranked else "Nothing was measured."
    text = "; ".join(said) + "."
    return text if clear else text[0].upper() + text[1:]  # a solver's name stays as it is written


def _budgets(won: Sequence[Winner], every: int, each: str = "every budget") -> str:
    if len(won) == every > 1:
        return f"{each} from {won[0].nfe} to {won[-1].nfe} calls"
    return f"{listed([str(winner.nfe) for winner in won])} calls"


def _by(won: Sequence[Winner]) -> str:
    """How far ahead of the next solver."""
    ratios = [winner.behind.ratio for winner in won if winner.behind is not None and winner.behind.ratio is not None]
    if len(ratios) < len(won):
        return ""
    low, high = number(min(ratios)), number(max(ratios))
    return f" ({low}× closer than the next)" if low == high else f" ({low} to {high}× closer than the next)"


def _line(winner: Winner) -> dict[str, Any]:
    return {
        "nfe": winner.nfe,
        "best": winner.best,
        "value": number(winner.summary.value),
        "reach": reach(winner.summary),
        "tied": _tied(winner),
        "ahead": "" if winner.behind is None else _ahead(winner.behind),
        "difference": "" if winner.behind is None else _difference(winner.behind),
    }


def _tied(winner: Winner) -> str:
    if not winner.tied:
        return "" if winner.behind is not None else "nothing to compare with"
    alone = winner.behind is None and len(winner.tied) > 1
    return "tied with all others" if alone else f"tied with {shortened(winner.tied, 3)}"


def _ahead(behind: Behind) -> str:
    if behind.ratio is None:
        return f"ahead of {behind.label}"
    return f"{number(behind.ratio)}× closer than {behind.label}"


def _difference(behind: Behind) -> str:
    """The paired difference; empty for two formulas."""
    if behind.difference is None or behind.difference.se == 0:
        return ""
    return f"by {number(behind.difference.value)} {reach(behind.difference)}"
