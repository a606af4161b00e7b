"""Made-up benchmark results with known answers, for the tests of what shows them.

The error of a solver is scale / NFE^order, larger on the second grid and a little larger for each further seed, with a
standard error of two per cent.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from scoresde.bench.store import Store
from scoresde.bench.suite import Block, Cell, Choice, Suite, choice, suite_to_dict
from tests.bench.made_up_rows import BLOCKS, row

Known = Mapping[Choice, tuple[float, int, bool]]  # scale, order, stochastic

SOLVERS: Known = {
    choice("ddim"): (3.0, 1, False),
    choice("dpmpp-2m"): (9.0, 2, False),
    choice("dpmpp-3m"): (60.0, 3, False),
    choice("peers/DPMSolverMultistepScheduler", eta=1.0): (6.0, 1, True),
}
NFES = (5, 10, 20)
FAILED = "ValueError: <b>not finite</b> & so on"


def made_up_suite() -> Suite:
    """Digits on one grid, a mixture on two: 72 cells."""

    def block(target: str, samples: int, *grids: str) -> Block:
        chosen = tuple(choice(grid) for grid in grids)
        return Block(choice(target), (choice("vp"),), chosen, tuple(SOLVERS), NFES, (0, 1), samples)

    blocks = block("digits", 10, "log-snr"), block("mixture", 200, "log-snr", "uniform")
    return Suite("made-up", "For the tests", blocks)


def made_up_row(cell: Cell, solvers: Known = SOLVERS, *, left: bool = True, shared: bool = False) -> dict:
    """The row of a cell; its jackknife values vary alike for all solvers (``shared``) or not, or are missing."""
    scale, order, stochastic = solvers[cell.solver]
    error = scale / cell.nfe**order * (1 + 0.01 * cell.seed) * (1.5 if cell.grid.name == "uniform" else 1)
    key = f"{cell.seed} {'' if shared else cell.label}"
    pattern = np.random.default_rng(zlib.crc32(key.encode())).normal(size=BLOCKS)
    pattern = (pattern - pattern.mean()) / pattern.std() * 0.02 / np.sqrt(BLOCKS - 1)

    def estimate(value: float) -> dict:
        ends = {"low": value - 0.04 * abs(value), "high": value + 0.04 * abs(value)}
        blocks = {"left": [value + abs(value) * part for part in pattern.tolist()]} if left else {}
        return {"value": value, **ends, "se": 0.02 * abs(value), "n": cell.samples, **blocks}

    metrics = {"frechet_data": estimate(0.1 + error), "energy_data": estimate(error - 0.02)}
    if not stochastic:
        metrics["rmse_reference"] = estimate(error)
    made = row(cell, metrics)
    made["solver"] |= {"stochastic": stochastic, "order": order}
    made["floors"] = {"frechet_data": {"value": 0.15, "low": 0.1, "high": 0.2, "se": 0.025, "n": 100}}
    if cell.target.name == "digits":
        made["classes"] = {name: {"energy_data": estimate(error)} for name in ("six", "seven")}
    return made


def made_up_folder(folder: Path) -> Path:
    """A results folder as a run of the suite would leave it; its first cell has failed."""
    store, suite, generator = Store(folder), made_up_suite(), np.random.default_rng(0)
    for cell in suite.cells():
        store.write_json(store.cell_path(cell.stem), made_up_row(cell))
        if cell.seed == 0 and cell.target.name == "digits":
            images = generator.integers(0, 256, (10, 8, 8)).astype(np.uint8)
            store.write_array(store.samples_path(cell.stem), images)
        elif cell.seed == 0:
            points = generator.normal(size=(200, 2)).astype(np.float32)
            store.write_array(store.samples_path(cell.stem), points)
            if cell.grid.name == "log-snr":
                store.write_array(store.paths_path(cell.stem), np.linspace(0, points[:8], cell.nfe, dtype=np.float32))
    failed = suite.cells()[0]
    bad = {**made_up_row(failed), "status": "failed", "error": FAILED, "metrics": {}}
    store.write_json(store.cell_path(failed.stem), bad)
    run = {"suite": suite_to_dict(suite), "command": "scoresde bench made-up", "seconds": 12.5, "computed": 72}
    store.write_json(store.run_path, run)
    return folder
