"""The tables of the page, as Markdown: one section for each suite's results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from benchmarks.measured import markdown
from benchmarks.publish.arenas import OURS, Arena, Call, Entrant, package_of
from benchmarks.publish.figures import stem
from scoresde.bench.charts import number
from scoresde.bench.measures import MEASURES
from scoresde.bench.paired import Summary
from scoresde.bench.results import Results


def section(name: str, results: Results, found: Sequence[Arena]) -> str:
    """Everything between the markers of one suite: how it was run, the score, the losses, each target, what failed."""
    parts = [_run(results), _score(found), _losses(found)]
    parts += [_arena(name, arena) for arena in found]
    return "\n".join([*parts, _failures(results)]).strip()


# ---- how it was run --------------------------------------------------------------------------------------------------


def _run(results: Results) -> str:
    rows = [row for row in results.rows if row["status"] == "ok"]
    facts = [row["environment"] for row in rows]
    machines = _kinds(
        f"{one['processor']}, {one['threads']} thread{'s' if one['threads'] != 1 else ''}" for one in facts
    )
    versions = _kinds(f"scoresde {one['scoresde']}, torch {one['torch']}, Python {one['python']}" for one in facts)
    packages = ", ".join(sorted({row["solver"]["package"] for row in rows if row["solver"].get("package")}))
    days = sorted({row["finished"][:10] for row in rows})
    entrants = Counter(package for package, _ in {(package_of(row), row["solver"]["label"]) for row in rows})
    many = ", ".join(f"{count} of {package}" for package, count in sorted(entrants.items()))
    lines = (
        ("Cells", f"{len(rows)} finished, {len(results.rows) - len(rows)} that could not be computed"),
        ("Samplers", many),
        ("Machine", machines),
        ("Versions", versions + (f"; {packages}" if packages else "")),
        ("Command", f"`{results.run.get('command') or 'unknown'}`"),
        ("Day", " to ".join(dict.fromkeys((days[0], days[-1])))),
    )
    return "".join(f"- {name}: {text}\n" for name, text in lines)


def _kinds(texts: Iterator[str]) -> str:
    return "; ".join(dict.fromkeys(texts))


def _failures(results: Results) -> str:
    """Cells that could not be computed, by what was said."""
    said = Counter(
        (package_of(row), row["error"].partition(": ")[2] or row["error"])
        for row in results.rows
        if row["status"] != "ok"
    )
    if not said:
        return ""
    lines = [
        ("package", "cells", "what was said"),
        *((one, str(n), _safe(text)) for (one, text), n in said.most_common()),
    ]
    return _folded(f"Cells that could not be computed ({sum(said.values())})", markdown(lines))


# ---- the score -------------------------------------------------------------------------------------------------------


def _others(arena: Arena) -> list[str]:
    return [package for package in arena.packages if package != OURS]


def _score(found: Sequence[Arena]) -> str:
    """For each target and metric: at how many budgets each package's best is worse than ours, equal, or better."""
    packages = sorted({package for arena in found for package in _others(arena)})
    if not packages:
        return ""
    lines = [("target", "metric", *packages)]
    for arena in found:
        for metric in arena.headlines:
            scores = (Counter(call.verdict for call in arena.calls(package, metric)) for package in packages)
            lines.append((arena.title, _label(metric), *map(_tally, scores)))
    about = (
        "Each package's best sampler beside the best of ours, at each number of calls: how often theirs is "
        "worse / not different / better.\n"
    )
    return f"{about}\n{markdown(lines)}"


def _tally(score: Counter[str]) -> str:
    numbers = [score[verdict] for verdict in ("worse", "no difference", "better")]
    text = " / ".join(map(str, numbers))
    return "" if not any(numbers) else f"**{text}**" if score["better"] else text


def _losses(found: Sequence[Arena]) -> str:
    """Where a package's best beats all of ours: a line for each target, metric and package."""
    lost = [
        f"- {arena.title}, {_label(metric).lower()}, {package}: "
        f"{'; '.join(_loss(arena, metric, call) for call in calls)}\n"
        for arena in found
        for metric in arena.headlines
        for package in _others(arena)
        if (calls := [call for call in arena.calls(package, metric) if call.verdict == "better"])
    ]
    if not lost:
        return "No package's best is better than the best of ours anywhere above.\n"
    return f"Where a package's best is better than all of ours:\n\n{''.join(lost)}"


def _loss(arena: Arena, metric: str, call: Call) -> str:
    how = _times(call) or f"{number(call.summary.value)} against {_best(arena, metric, call.nfe)}"
    return f"{call.nfe} calls `{call.entrant.name}` {how}"


def _best(arena: Arena, metric: str, nfe: int) -> str:
    best = arena.best(OURS, metric, nfe)
    return "none" if best is None else f"{number(best[1].value)} of `{best[0].name}`"


# ---- one target ------------------------------------------------------------------------------------------------------


def _arena(name: str, arena: Arena) -> str:
    about = f"{arena.samples} samples × {arena.seeds} seeds, {arena.dtype}. {arena.note}"
    parts = [f"#### {arena.title}\n\n{about.strip()}\n"]
    for metric in arena.headlines:
        parts.append(
            f"**{_label(metric)}** ({MEASURES[metric].axis}), best of each package\n\n{_versus(arena, metric)}"
        )
        parts.append(_shown(name, arena, metric))
        parts.append(_folded(f"{_label(metric)}: all samplers", _everyone(arena, metric)))
    return "\n".join(parts)


def _versus(arena: Arena, metric: str) -> str:
    packages = _others(arena)
    calls = {package: {call.nfe: call for call in arena.calls(package, metric)} for package in packages}
    lines = [("NFE", OURS, *packages)]
    for nfe in arena.nfes:
        best = arena.best(OURS, metric, nfe)
        ours = "" if best is None else f"`{best[0].name}`<br>{_value(best[1])}"
        lines.append((str(nfe), ours, *(_against(calls[package].get(nfe)) for package in packages)))
    return markdown(lines)


def _against(call: Call | None) -> str:
    """Theirs: name, value, and how it stands to ours; what is better is bold."""
    if call is None:
        return ""
    words = ", ".join(filter(None, (_times(call), call.verdict))) + ("" if call.paired else " (unpaired)")
    shown = f"**{words}**" if call.verdict == "better" else words
    return f"`{call.entrant.name}`<br>{_value(call.summary)}<br>{shown}"


def _times(call: Call) -> str:
    """Their value over ours, with the digits that it takes to see a difference."""
    if call.ratio is None:
        return ""
    return f"{call.ratio:.{4 if 0.99 < call.ratio < 1.01 else 3}g}×"


def _shown(name: str, arena: Arena, metric: str) -> str:
    base = stem(name, arena, metric)
    pictures = (
        f'<img src="figures/{base}-{kind}.svg" alt="{_label(metric)} on {arena.title}, best of each package, against '
        f'{against}" width="49%">'
        for kind, against in (("calls", "network calls"), ("time", "sampling time"))
    )
    return "\n".join(pictures) + "\n"


def _everyone(arena: Arena, metric: str) -> str:
    """Every sampler at every budget, ours first and then by the geometric order of the tables: best first."""
    nfes = [nfe for nfe in arena.nfes if any(one.summary(metric, nfe) for one in arena.entrants)]
    lines = [("package", "sampler", "grid", *map(str, nfes))]
    for package in arena.packages:
        entrants = [one for one in arena.entrants if one.package == package and metric in one.numbers]
        for one in sorted(entrants, key=lambda one: _rank(one, metric, nfes)):
            values = (_value(one.summary(metric, nfe)) for nfe in nfes)
            lines.append((package, f"`{one.solver}`", one.grid, *values))
    return markdown(lines)


def _rank(entrant: Entrant, metric: str, nfes: Sequence[int]) -> tuple[float, ...]:
    """By the value at the middle budget, then the others."""
    middle = len(nfes) // 2
    order = [nfes[middle], *nfes[:middle], *nfes[middle + 1 :]]
    found = (entrant.summary(metric, nfe) for nfe in order)
    return tuple(float("inf") if one is None else one.value for one in found)


# ---- words -----------------------------------------------------------------------------------------------------------


def _label(metric: str) -> str:
    return MEASURES[metric].label


def _value(summary: Summary | None) -> str:
    if summary is None:
        return ""
    half = (summary.high - summary.low) / 2
    return number(summary.value) + (f" ± {number(half, 2)}" if half else "")


def _safe(text: str) -> str:
    """Text of a message inside a table's cell."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _folded(title: str, text: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{text}\n</details>\n"
