"""A plugin whose samplers end their process: what a crash or the system's memory killer does to a worker."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from scoresde.bench.samplers import Prepared, prepare
from scoresde.bench.suite import Cell, choice
from scoresde.denoiser import BaseDenoiser
from scoresde.sde import SDE


def deadly(cell: Cell, sde: SDE) -> Prepared:
    """DDIM that is killed in the middle of drawing, unless its option ``unless`` names a file that exists; it makes
    that file.
    """
    known = Path(str(cell.solver.keywords["unless"]))
    ours = prepare(replace(cell, solver=choice("ddim")), sde)

    def draw(denoiser: BaseDenoiser, x_T: Tensor, seed: int, first: int, cond: Mapping[str, Tensor]) -> Tensor:
        if not known.exists():
            if known.parent.exists():
                known.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return ours.draw(denoiser, x_T, seed, first, cond)

    return replace(ours, draw=draw)


SAMPLERS = {"deadly/ddim": deadly}
