"""Reads a folder of golden samples: a ``manifest.json`` and ``.npz`` arrays, in the format "scoresde-golden/1".

The environment variable SCORESDE_GOLDEN names the folder; without it the compact copy in ``data`` beside this file is
read, which ``make_data.py`` wrote.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scoresde.targets import Gaussian, GaussianMixture, Target

FORMAT = "scoresde-golden/1"
COMPACT = Path(__file__).with_name("data")


@dataclass(frozen=True)
class Folder:
    """One folder of cases."""

    path: Path

    @cached_property
    def manifest(self) -> dict[str, Any]:
        manifest = json.loads((self.path / "manifest.json").read_text(encoding="utf-8"))
        if manifest.get("format") != FORMAT:
            raise ValueError(f"{self.path}: format is {manifest.get('format')!r}, not {FORMAT!r}")
        return manifest

    @cached_property
    def cases(self) -> tuple[Case, ...]:
        return tuple(Case(self, info) for info in self.manifest["cases"])

    def array(self, where: str) -> np.ndarray:
        """An array by its address "file.npz:key"."""
        file, key = where.split(":", 1)
        return _arrays(self.path / file)[key]

    def has(self, where: str) -> bool:
        file, key = where.split(":", 1)
        return key in _arrays(self.path / file)

    def target(self, name: str) -> Target:
        """The exact target: a mixture where the folder has weights, a Gaussian where it has eigenvalues."""
        return _target(self, name)

    @property
    def targets(self) -> list[str]:
        return list(self.manifest["targets"])


@cache
def _arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return dict(file)


@lru_cache
def _target(folder: Folder, name: str) -> Target:
    def get(key: str) -> Tensor:
        return torch.from_numpy(folder.array(f"targets.npz:{name}/{key}"))

    if folder.has(f"targets.npz:{name}/weights"):
        return GaussianMixture(get("weights"), get("means"), get("covariances"))
    return Gaussian(get("mean"), get("eigenvalues"), get("eigenvectors"))


@dataclass(frozen=True)
class Case:
    """One recorded sample of one public sampler."""

    folder: Folder
    info: dict[str, Any]

    def __str__(self) -> str:
        return self.info["id"]

    @property
    def source(self) -> str:
        return self.info["source"]

    @property
    def solver(self) -> str:
        return self.info["solver"]

    @property
    def schedule(self) -> str:
        return self.info["schedule"]

    @property
    def options(self) -> dict[str, Any]:
        return self.info["options"]

    @property
    def target(self) -> Target:
        return self.folder.target(self.info["target"])

    def has(self, name: str) -> bool:
        return name in self.info["arrays"] and self.folder.has(self._where(name))

    def array(self, name: str) -> np.ndarray:
        return self.folder.array(self._where(name))

    def _where(self, name: str) -> str:
        return f"{self.info['file']}:{self.info['id']}/{name}"

    @cached_property
    def grid(self) -> list[list[float]]:
        """Rows (t, alpha, sigma) of the states, in the source's own units of time."""
        return self.array("grid").tolist()

    @cached_property
    def evals(self) -> list[list[float]]:
        """Rows (alpha, sigma) of the calls of the model."""
        return self.array("evals").tolist()

    @cached_property
    def x_end(self) -> Tensor:
        return torch.from_numpy(self.array("x_end"))

    @cached_property
    def x_init(self) -> Tensor:
        """The initial state, of as many points as the folder keeps of the sample."""
        return torch.from_numpy(self.folder.array(self.info["x_init"]))[: len(self.x_end)]

    @property
    def noise(self) -> Callable[[int], Tensor] | None:
        """The recorded draws, by number of the request."""
        if self.info["noise"] is None:
            return None
        bank = torch.from_numpy(self.folder.array(self.info["noise"]["bank"]))[:, : len(self.x_end)]
        return lambda k: bank[k]


@lru_cache
def golden() -> Folder:
    """The folder that the tests read."""
    return Folder(Path(os.environ.get("SCORESDE_GOLDEN") or COMPACT))
