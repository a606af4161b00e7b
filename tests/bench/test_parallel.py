"""Many processes give the numbers of one: workers, jobs of a cluster, and teams that draw a cell together."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from scoresde import cli
from scoresde.bench import problems
from scoresde.bench.disk import RunError
from scoresde.bench.parallel import Group, Slurm, Team, TeamError, Workers, choose_crew, references_first
from scoresde.bench.problems import ExactProblem
from scoresde.bench.runner import Runner
from scoresde.bench.store import Store
from scoresde.bench.suite import Suite, choice
from scoresde.denoiser import BaseDenoiser
from scoresde.targets import GaussianMixture
from tests.tiny_bench import TINY, results, run
from tests.tiny_bench import tiny as every_metric

ROOT = Path(__file__).resolve().parents[2]
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def tiny(**changes: Any) -> Suite:
    """The tiny suite with one quick metric, in chunks of which the last is not full."""
    return every_metric(**{"metrics": ("rmse_reference",), "chunk": 20, **changes})


def runner(folder: Path, suite: Suite, **options: Any) -> Runner:
    return Runner(Store(folder), suite, suite.cells(), **options)


def exhaust(runner: Runner) -> int:
    """Run it; how many cells it computed."""
    return sum(step.computed for step in runner.run())


# ---- teams -----------------------------------------------------------------------------------------------------------


def team(size: int, act: Callable[[Team], None], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """``act`` in each process of a team of that size, as torchrun would start it but as forks; their exit codes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    children = []
    for rank in range(size):
        child = os.fork()
        if child == 0:  # pragma: no cover - another process
            status = 1
            try:
                os.environ.update(RANK=str(rank), WORLD_SIZE=str(size), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
                joined = Team.joined()
                assert joined is not None
                with joined:
                    act(joined)
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def work_on(folder: Path, suite: Suite) -> Callable[[Team], None]:
    def act(team: Team) -> None:
        torch.set_num_threads(1)
        here = runner(folder, suite, crew=team)
        if team.rank == 0:
            exhaust(here)
        else:
            team.follow(here.desk())

    return act


@needs_fork
@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 3])
def test_a_team_gives_the_numbers_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int):
    suite = tiny(nfes=(4,), metrics=("rmse_reference", "frechet_data"))
    alone = run(tmp_path / "alone", suite)
    assert len(alone.cells[0].config["chunk"] * range(3)) if False else alone.cells[0].samples == 48
    assert team(size, work_on(tmp_path / "team", suite), monkeypatch) == [0] * size
    together = runner(tmp_path / "team", suite)
    assert results(together) == results(alone)
    for path in (tmp_path / "alone" / "references").glob("*.npz"):
        mine, theirs = (
            Store(tmp_path).read_arrays(tmp_path / name / "references" / path.name) for name in ("alone", "team")
        )
        assert mine is not None
        assert theirs is not None
        assert all((mine[key] == theirs[key]).all() for key in mine)
