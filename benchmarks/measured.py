"""What the measuring scripts share: questions on the command line, and their answers beside the docs."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

OUT = Path(__file__).resolve().parent.parent / "docs" / "measured"


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """A table, of which the first line is the head."""
    head, *body = lines
    return "".join(f"| {' | '.join(line)} |\n" for line in (head, ["---"] * len(head), *body))


def answer(
    script: str, about: str | None, questions: Mapping[str, Callable[[], Any]], table: Callable[[Any], str]
) -> None:
    """Run the questions that the command line asks, all unless it names some; the others' results stay.

    Each is a function whose result goes to docs/measured/SCRIPT-QUESTION.json and, as a table, to .md beside it.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("question", nargs="*", help=f"of {', '.join(questions)}; all unless given")
    asked = parser.parse_args().question or list(questions)
    if unknown := set(asked) - set(questions):
        parser.error(f"{sorted(unknown)[0]!r} is not one of {', '.join(questions)}")
    torch.set_num_threads(1)
    OUT.mkdir(exist_ok=True)
    for name in asked:
        rows = questions[name]()
        (OUT / f"{script}-{name}.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        (OUT / f"{script}-{name}.md").write_text(table(rows), encoding="utf-8")
        print(f"{questions[name].__doc__}\n{table(rows)}", flush=True)
