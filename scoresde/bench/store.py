"""Results on disk that survive anything: a file is either whole or absent.

A file is written under a temporary name in its own folder, flushed to the disk, and renamed over its final name, which
is atomic. So a run killed at any moment leaves finished cells, and perhaps one temporary file that nothing reads and
the next run removes.

Layout of a results folder::

    run.json                what was asked for last: the suite, the command, the environment
    cells/<stem>.json       one finished cell, or one failed cell as a row
    samples/<stem>.npy      a few samples of it, for the pictures (first seed only)
    paths/<stem>.npy        where some samples in the plane were at every evaluation (first seed only)
    features/<stem>.npy     features of all its samples, where a metric needs the samples of all seeds together
    pooled/<stem>.json      those metrics: what the cells that differ in nothing but their seed say together
    references/<key>.npz    converged solutions, computed once per target, SDE, seed and size; floor bands as .json
"""

from __future__ import annotations

import io
import json
import os
import re
import socket
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

FOLDERS = ("cells", "samples", "paths", "features", "pooled", "references")
_TEMPORARY = ".tmp"
_HOST = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())


def write_atomically(path: Path, content: bytes) -> None:
    """``content`` at ``path``: all of it or none of it, whatever happens to the process or the machine. Makes the
    folder.

    The temporary name carries the host and process, so that several runs may share a folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{_HOST}.{os.getpid()}{_TEMPORARY}"
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)  # after a failed write; a no-op after the rename
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable; not every system lets a folder be opened, and the file is whole either way."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)


@dataclass(frozen=True)
class Store:
    """A results folder. Holds only the path: every question is answered by the disk."""

    folder: Path

    @property
    def run_path(self) -> Path:
        """What was asked for last: suite, command, environment."""
        return self.folder / "run.json"

    def cell_path(self, stem: str) -> Path:
        """Where the result of the cell of that stem is, or will be."""
        return self.folder / "cells" / f"{stem}.json"

    def samples_path(self, stem: str) -> Path:
        """Where a few samples of the cell of that stem are, or will be."""
        return self.folder / "samples" / f"{stem}.npy"

    def paths_path(self, stem: str) -> Path:
        """Where the trajectories of the cell of that stem are, or will be."""
        return self.folder / "paths" / f"{stem}.npy"

    def features_path(self, stem: str) -> Path:
        """Where the features of all samples of the cell of that stem are, or will be."""
        return self.folder / "features" / f"{stem}.npy"

    def pooled_path(self, stem: str) -> Path:
        """Where the metrics over all seeds of the group of that stem are, or will be."""
        return self.folder / "pooled" / f"{stem}.json"

    def reference_path(self, key: str) -> Path:
        """Where the reference of that key is, or will be."""
        return self.folder / "references" / f"{key}.npz"

    def write_json(self, path: Path, data: Any) -> None:
        """Strict JSON (a NaN is an error, not a file that other programs cannot read), written atomically."""
        write_atomically(path, (json.dumps(data, indent=1, allow_nan=False) + "\n").encode())

    def read_json(self, path: Path) -> dict[str, Any] | None:
        """The object in that file; None where there is no whole file of ours (absent, empty or damaged by a third
        party).
        """
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return data if isinstance(data, dict) else None

    def write_arrays(self, path: Path, **arrays: np.ndarray) -> None:
        """Named arrays as one .npz (no pickle), written atomically."""
        import numpy as np

        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **arrays)
        write_atomically(path, buffer.getvalue())

    def write_array(self, path: Path, array: np.ndarray) -> None:
        """One array as .npy (no pickle), written atomically."""
        import numpy as np

        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        write_atomically(path, buffer.getvalue())

    def read_arrays(self, path: Path) -> dict[str, np.ndarray] | None:
        """The arrays of an .npz, or an .npy under the name "array"; None where there is no whole file."""
        import numpy as np

        try:
            with open(path, "rb") as file:
                loaded = np.load(file, allow_pickle=False)
                return (
                    {"array": loaded}
                    if isinstance(loaded, np.ndarray)
                    else {name: loaded[name] for name in loaded.files}
                )
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
            return None

    def rows(self) -> list[dict[str, Any]]:
        """Every whole cell in the folder, of this suite or of earlier ones, in a fixed order (by file name)."""
        found = (self.read_json(path) for path in sorted((self.folder / "cells").glob("*.json")))
        return [row for row in found if row is not None and "config" in row and "status" in row]

    def pooled(self) -> dict[tuple[str, ...], dict[str, Any]]:
        """The metrics over all seeds, by the sorted hashes of the cells that they were computed from."""
        found = (self.read_json(path) for path in sorted((self.folder / "pooled").glob("*.json")))
        return {tuple(data["cells"]): data["metrics"] for data in found if data is not None and "cells" in data}

    def clean(self) -> int:
        """Remove what killed runs of this host left half-written; the number removed. Files of live processes are left
        alone.
        """
        removed = 0
        for path in self._temporaries():
            host, process = path.name.removesuffix(_TEMPORARY).rsplit(".", 2)[-2:]
            if host == _HOST and not _alive(process):
                path.unlink(missing_ok=True)
                removed += 1
        return removed

    def _temporaries(self) -> Iterator[Path]:
        for folder in (self.folder, *(self.folder / name for name in FOLDERS)):
            yield from folder.glob(f".*{_TEMPORARY}")


def _alive(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except (ValueError, OverflowError, PermissionError):
        return True  # not ours to judge
    return True
