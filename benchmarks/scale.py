"""Memory and time of one cell as its samples grow: does a large cell need more memory than a small one?

    python -m benchmarks.scale             # writes docs/measured/scale-memory.json and .md

The digits network with five calls a sample, drawn in chunks of 1000; each size in a process of its own, whose largest
resident memory the system tells. About seven minutes on one core.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.measured import answer, markdown
from scoresde.bench.runner import Runner
from scoresde.bench.store import Store
from scoresde.bench.suite import Block, Suite, choice

SIZES = (1_000, 10_000, 50_000)
METRICS = ("frechet_data", "kid_data", "accuracy")
MIB = 1 << 20


def one(samples: int, folder: Path) -> dict[str, Any]:
    """One cell of so many samples, and what this process has needed at most."""
    import resource

    import torch

    torch.set_num_threads(1)
    names = (choice("digits"), (choice("edm"),), (choice("karras"),), (choice("dpmpp-2m"),))
    suite = Suite("scale", "", (Block(*names, nfes=(5,), seeds=(0,), samples=samples, metrics=METRICS),))
    (step,) = Runner(Store(folder), suite, suite.cells()).run()
    if step.row["status"] != "ok":
        raise RuntimeError(step.row["error"])
    (pooled,) = Store(folder).pooled().values() or ({},)  # where a small cell has its Fréchet distance
    found = {**step.row["metrics"], **pooled}
    metrics = {name: {key: found[name][key] for key in ("value", "low", "high", "n")} for name in METRICS}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {"samples": samples, "peak": peak, "seconds": step.row["seconds"], "metrics": metrics}


def memory() -> list[dict[str, Any]]:
    """The largest resident memory of a process that runs one cell of the digits network."""
    rows = []
    for samples in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            code = "import json; from pathlib import Path; from benchmarks.scale import one; "
            code += f"print(json.dumps(one({samples}, Path({folder!r}))))"
            done = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True)
        rows.append(json.loads(done.stdout))
    return rows


QUESTIONS: dict[str, Callable[[], list[dict[str, Any]]]] = {"memory": memory}


def table(rows: list[dict[str, Any]]) -> str:
    """A Markdown table."""
    lines = [["samples", "largest memory, MiB", "seconds in all", "of these in the network", "Fréchet to data"]]
    for row in rows:
        frechet, seconds = row["metrics"]["frechet_data"], row["seconds"]
        value = f"{frechet['value']:.4f} ({frechet['low']:.4f} to {frechet['high']:.4f})"
        cost = [f"{row['peak'] / MIB:.0f}", f"{seconds['cell']:.0f}", f"{seconds['network']:.0f}"]
        lines.append([f"{row['samples']:,}", *cost, value])
    return markdown(lines)


if __name__ == "__main__":
    answer("scale", __doc__, QUESTIONS, table)
