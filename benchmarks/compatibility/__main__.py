"""Samplers of this package in pipelines of diffusers: do they run, and are they equal to diffusers' own?

    python -m benchmarks.compatibility                         # all, to docs/measured/compatibility-*.json and .md
    python -m benchmarks.compatibility pipelines schedulers    # some

The pipelines have tiny random weights (see the other files of this folder), so nothing is downloaded.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from benchmarks.measured import answer, markdown

from .cases import SHAPES, Peer, all_cases, run_case
from .hardwired import HARDWIRED
from .samplers import compare, ours, quiet

STEPS = 6
Rows = dict[str, Any]


def versions() -> dict[str, str]:
    """Of what this was measured with."""
    return {name: importlib.metadata.version(name) for name in ("scoresde", "diffusers", "transformers", "torch")}


def pipelines() -> Rows:
    """Every pipeline with one solver of each shape, asked for 6 calls of its network, in float32."""
    rows = []
    for case in all_cases():
        solvers = {}
        for shape, solver in SHAPES.items():
            if shape == "adaptive" and case.not_adaptive:
                solvers[shape] = {"solver": solver, "not": case.not_adaptive}
                continue
            outcome = run_case(case, ours(solver), STEPS)
            solvers[shape] = {
                "solver": solver,
                "finite": outcome.finite,
                "expected": outcome.expected,
                "made": outcome.made,
            }
        rows.append({"pipeline": case.name, "family": case.family, "solvers": solvers, "note": case.note})
    return {"versions": versions(), "asked": STEPS, "rows": rows}


def _calls(cell: dict[str, Any]) -> str:
    if "not" in cell:
        return "–"
    return f"{cell['made']:g}" if cell["finite"] and cell["made"] == cell["expected"] else "fails"


def schedulers() -> Rows:
    """Solvers that diffusers also has, in the same pipelines: relative difference in float64."""
    rows = []
    for case in all_cases():
        for peer in case.peers:
            found = compare(case, peer)
            rows.append(
                {
                    "pipeline": case.name,
                    "solver": peer.solver,
                    "scheduler": peer.scheduler,
                    "config": _plain(peer.config),
                    "options": _plain(peer.options),
                    "arguments": dict(peer.arguments),
                    "steps": peer.steps,
                    "difference": float(f"{found:.2g}"),
                    "tolerance": peer.tolerance,
                    "equal": found <= peer.tolerance,
                    "differs": peer.differs,
                }
            )
    return {"versions": versions(), "rows": rows}


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """Functions by what they give."""
    return {key: value(0.0) if callable(value) else value for key, value in options.items()}


def hardwired() -> Rows:
    """Pipelines that are written for one class of scheduler."""
    rows = [{"pipelines": it.pipelines, "does": it.does, "instead": it.instead} for it in HARDWIRED]
    return {"versions": versions(), "rows": rows}


def _with(name: str, options: Mapping[str, Any]) -> str:
    """A name with its options, as code."""
    inner = {**options, **options.get("solver_options", {})}
    inner.pop("solver_options", None)
    return f"`{name}`" + (f" {', '.join(f'{key}={value!r}' for key, value in inner.items())}" if inner else "")


def _grouped(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """One line for all the pipelines in which the same pair was compared."""
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        theirs = _with(row["scheduler"].removesuffix("Scheduler"), row["config"] | row["arguments"])
        rounds = "the pipeline rounds to float32" if row["tolerance"] > Peer.tolerance else ""
        key = (_with(row["solver"], row["options"]), theirs, str(row["steps"]), row["differs"] or rounds)
        groups.setdefault(key, []).append(row)
    lines = []
    for (solver, theirs, steps, why), found in groups.items():
        off = f"{max(row['difference'] for row in found):.0e}"
        # The JSON file beside the table has every pipeline.
        in_which = "; ".join(row["pipeline"] for row in found) if len(found) < 3 else f"{len(found)} pipelines"
        said = f"equal: {off}" if found[0]["equal"] else off
        lines.append([solver, theirs, steps, f"{said}; {why}" if why else said, in_which])
    return lines


def table(found: Rows) -> str:
    """The results of any of the three."""
    rows = found["rows"]
    head = f"diffusers {found['versions']['diffusers']}, torch {found['versions']['torch']}\n\n"
    if "solvers" in rows[0]:
        solvers = [f"{shape}: `{solver}`" for shape, solver in SHAPES.items()]
        body = [[row["pipeline"], *map(_calls, row["solvers"].values())] for row in rows]
        return head + markdown([["pipeline", *solvers], *body])
    if "does" in rows[0]:
        body = [[row["pipelines"], row["does"], row["instead"]] for row in rows]
        return head + markdown([["pipelines", "what they do", "with samplers of this package"], *body])
    return head + markdown([["solver", "diffusers", "steps", "difference, and why", "in"], *_grouped(rows)])


if __name__ == "__main__":
    quiet()
    torch.set_grad_enabled(False)
    answer("compatibility", __doc__, {"pipelines": pipelines, "schedulers": schedulers, "hardwired": hardwired}, table)
