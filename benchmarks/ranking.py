"""Is a ranking the same with other seeds, wherever its intervals say that it should be?

    python -m benchmarks.ranking           # both targets; writes docs/measured/ranking-*.json and .md
    python -m benchmarks.ranking mixture   # one of them

Ten repeats of one small benchmark, each with seeds of its own. In every repeat each pair of solvers is compared at each
number of calls by the paired 95 % interval, and called better, worse or neither; once by the interval alone, and once
with the p-values of all the comparisons of the repeat adjusted by Holm's method.

Two repeats contradict each other if one calls A better and the other calls B better. Intervals that hold the truth
nineteen times of twenty allow that for at most 2 × 2.5 % × 2.5 % = 0.125 % of the pairs of repeats, namely where A and
B are equal; and at most one comparison in forty may be called against the truth, for which all repeats together stand.
Public API only; about five minutes on one core.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.measured import answer, markdown
from scoresde.bench.environment import environment
from scoresde.bench.measures import MEASURES
from scoresde.bench.paired import holm, over_seeds, paired
from scoresde.bench.results import Row, load
from scoresde.bench.runner import Runner
from scoresde.bench.store import Store
from scoresde.bench.suite import Block, Suite, choice

REPEATS = 10
LEVEL = 0.05
CONTRADICTIONS = 2 * (LEVEL / 2) ** 2  # the largest share of pairs of repeats that right intervals allow
WRONG = LEVEL / 2  # likewise of comparisons that are called against the truth
NAMES = ("ddim", "heun", "dpmpp-2m", "dpmpp-3m", "unipc-3", "deis-tab3")
SOLVERS = (*map(choice, NAMES), choice("ddim", eta=1.0))

DIGITS = Block(
    target=choice("digits"),
    sdes=(choice("edm"),),
    grids=(choice("karras"),),
    solvers=SOLVERS,
    nfes=(5, 8, 10, 20),
    seeds=(0, 1),
    samples=200,
    metrics=("rmse_reference", "frechet_reference"),
)
MIXTURE = Block(
    target=choice("mixture"),
    sdes=(choice("vp"),),
    grids=(choice("log-snr"),),
    solvers=SOLVERS,
    nfes=(5, 6, 8, 10, 15, 20, 50),
    seeds=(0, 1, 2),
    samples=400,
    dtype="float64",
    metrics=("rmse_reference", "frechet_data"),
)

Table = Mapping[str, Sequence[Row]]  # rows by solver, of one budget


@dataclass(frozen=True)
class Call:
    """What one repeat says of a pair of solvers at one budget: -1 the first is better, 1 the second, 0 neither."""

    sign: int  # of the difference, never 0
    alone: int  # by the interval
    family: int  # by the p-value that is adjusted for all the comparisons of the repeat


def repeated(block: Block, repeats: int = REPEATS) -> list[list[Row]]:
    """The rows of each repeat, each run with the next seeds in a folder of its own that is thrown away."""
    return [_run(block, repeat) for repeat in range(repeats)]


def _run(block: Block, repeat: int) -> list[Row]:
    count = len(block.seeds)
    seeds = tuple(range(repeat * count, (repeat + 1) * count))
    suite = Suite("ranking", "One repeat", (replace(block, seeds=seeds),))
    with TemporaryDirectory() as folder:
        for _ in Runner(Store(Path(folder)), suite, suite.cells()).run():
            pass
        return [row for row in load(Path(folder)).rows if row["status"] == "ok"]


Key = tuple[int, str, str]  # budget and two solvers
Calls = Mapping[Key, Call]


def compared(rows: Sequence[Row], metric: str) -> dict[Key, Call]:
    """Every pair of solvers at every budget, as these rows call it."""
    found = {
        (nfe, a, b): difference
        for nfe, table in _by_budget(rows, metric).items()
        for a, b in combinations(sorted(table), 2)
        if (difference := paired(table[a], table[b], metric)) is not None
    }
    adjusted = holm([difference.p for difference in found.values()])
    calls = {}
    for (key, difference), p in zip(found.items(), adjusted, strict=True):
        sign = -1 if difference.value < 0 else 1
        alone = sign if difference.low > 0 or difference.high < 0 else 0
        calls[key] = Call(sign, alone, sign if p < LEVEL else 0)
    return calls


def _by_budget(rows: Sequence[Row], metric: str) -> dict[int, dict[str, list[Row]]]:
    tables: dict[int, dict[str, list[Row]]] = {}
    for row in rows:
        if metric in row["metrics"]:
            tables.setdefault(row["config"]["nfe"], {}).setdefault(row["solver"]["label"], []).append(row)
    return tables


def winners(rows: Sequence[Row], metric: str) -> dict[int, str]:
    """The solver with the smallest mean at each budget."""
    return {nfe: min(table, key=partial(_mean, table, metric)) for nfe, table in _by_budget(rows, metric).items()}


def _mean(table: Table, metric: str, solver: str) -> float:
    return over_seeds(row["metrics"][metric] for row in table[solver]).value


def stability(repeats: Sequence[Sequence[Row]], metric: str) -> list[dict[str, Any]]:
    """For each budget, over all pairs of solvers: what the repeats call, and where they contradict each other.

    Counts, by the interval "alone" and with the p-values of the "family" adjusted. ``comparisons``: pairs of solvers in
    all repeats; of these ``calls`` are called, ``wrong`` of them against the sign of all repeats together.
    ``contradictions`` are among the ``pairs`` of repeats of all pairs of solvers. ``winners`` says in how many repeats
    each solver was first, ``overturned`` in how many pairs of repeats each calls its own winner better than the
    other's.
    """
    each = [compared(rows, metric) for rows in repeats]
    whole = compared([row for rows in repeats for row in rows], metric)
    first = [winners(rows, metric) for rows in repeats]
    lines = []
    for nfe in sorted(first[0]):
        keys = [key for key in whole if key[0] == nfe]
        lines.append(
            {
                "metric": metric,
                "nfe": nfe,
                "comparisons": len(keys) * len(repeats),
                "pairs": len(keys) * len(repeats) * (len(repeats) - 1) // 2,
                **{kind: _counts(kind, keys, each, whole) for kind in ("alone", "family")},
                "winners": dict(Counter(winner[nfe] for winner in first).most_common()),
                "overturned": sum(_overturned(nfe, *two) for two in combinations(zip(first, each, strict=True), 2)),
            }
        )
    return lines


def _counts(kind: str, keys: Sequence[Key], each: Sequence[Calls], whole: Calls) -> dict[str, int]:
    signs = {key: [getattr(calls[key], kind) for calls in each] for key in keys}
    return {
        "calls": sum(sign != 0 for row in signs.values() for sign in row),
        "wrong": sum(sign * whole[key].sign < 0 for key, row in signs.items() for sign in row),
        "contradictions": sum(a * b < 0 for row in signs.values() for a, b in combinations(row, 2)),
    }


def _overturned(nfe: int, one: tuple[Mapping[int, str], Calls], other: tuple[Mapping[int, str], Calls]) -> bool:
    (first, calls), (second, others) = one, other
    ours, theirs = first[nfe], second[nfe]
    if ours == theirs:
        return False
    key = nfe, min(ours, theirs), max(ours, theirs)
    return key in calls and calls[key].alone * others[key].alone < 0


# ---- the questions ---------------------------------------------------------------------------------------------------


def digits() -> dict[str, Any]:
    """The network of digits: ten repeats of two seeds."""
    return _asked(DIGITS)


def mixture() -> dict[str, Any]:
    """The mixture of five Gaussians: ten repeats of three seeds."""
    return _asked(MIXTURE)


def _asked(block: Block) -> dict[str, Any]:
    repeats = repeated(block)
    rows = [line for metric in block.metrics for line in stability(repeats, metric)]
    facts = {"repeats": len(repeats), "seeds": len(block.seeds), "samples": block.samples}
    return {**facts, "environment": environment(1), "rows": rows}


def table(found: Mapping[str, Any]) -> str:
    """One line for each metric and budget, a line of sums for each metric, and what intervals allow."""
    head = ("metric", "NFE", "called", "wrong", "contradictions", "called (Holm)", "contradictions (Holm)")
    lines = [(*head, "first in how many repeats", "overturned")]
    for metric in dict.fromkeys(row["metric"] for row in found["rows"]):
        rows = [row for row in found["rows"] if row["metric"] == metric]
        label = MEASURES[metric].label
        lines += [_line(label, str(row["nfe"]), [row], _names(row["winners"])) for row in rows]
        lines.append(_line(f"**{label}**", "all", rows, ""))
    about = (
        f"{found['repeats']} repeats of {found['seeds']} seeds × {found['samples']} samples. Called: comparisons of "
        "two solvers whose paired 95 % interval leaves zero out. Wrong: those called against the mean of all repeats; "
        f"right intervals allow {100 * WRONG:.1f} % of the comparisons. Contradictions: pairs of repeats that call a "
        f"comparison either way; at most {100 * CONTRADICTIONS:.3f} % are allowed. Overturned: pairs of repeats with "
        "different winners, each of which calls its own the better.\n"
    )
    return f"{markdown(lines)}\n{about}"


def _line(metric: str, nfe: str, rows: Sequence[Mapping[str, Any]], names: str) -> tuple[str, ...]:
    def share(kind: str, name: str, of: str) -> str:
        some, whole = sum(row[kind][name] for row in rows), sum(row[of] for row in rows)
        percent = 100 * some / whole
        return f"{some} of {whole} ({f'{percent:.0f}' if percent >= 10 else f'{percent:.2g}'} %)"

    alone = [
        share("alone", *of) for of in (("calls", "comparisons"), ("wrong", "comparisons"), ("contradictions", "pairs"))
    ]
    family = [share("family", *of) for of in (("calls", "comparisons"), ("contradictions", "pairs"))]
    return (metric, nfe, *alone, *family, names, str(sum(row["overturned"] for row in rows)))


def _names(winners: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in winners.items())


if __name__ == "__main__":
    answer("ranking", __doc__, {"digits": digits, "mixture": mixture}, table)
