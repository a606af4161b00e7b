"""The facts that a result depends on besides its recipe: versions, machine, threads, commit."""

from __future__ import annotations

import os
import platform
import subprocess
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from scoresde import __version__

PACKAGES = ("torch", "numpy", "scipy")


def environment(threads: int) -> dict[str, Any]:
    """Plain data; None where something cannot be known."""
    return {
        "python": platform.python_version(),
        "scoresde": __version__,  # of this code: the metadata of an editable installation may be older
        **{package: _version(package) for package in PACKAGES},
        "commit": git_commit(),
        "system": platform.platform(terse=True),
        "processor": _processor(),
        "cores": _cores(),
        "threads": threads,
    }


def device_name(device: str) -> str:
    """The device as a row records it: cpu, or cuda with the card's name."""
    if not device.startswith("cuda"):
        return device
    import torch

    return f"{device} ({torch.cuda.get_device_name(device)})"


class PeakMemory:
    """The most memory in use since it was made, in bytes: on a CUDA device what torch has allocated there, else what
    the process holds (Linux only).
    """

    def __init__(self, device: str) -> None:
        self._cuda = device if device.startswith("cuda") else None
        if self._cuda is not None:
            import torch

            torch.cuda.reset_peak_memory_stats(self._cuda)
        else:
            with suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins anew

    def peak(self) -> int | None:
        """Bytes; None where it cannot be known."""
        if self._cuda is not None:
            import torch

            return int(torch.cuda.max_memory_allocated(self._cuda))
        try:
            lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        except OSError:
            return None
        return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), None)


def git_commit() -> str | None:
    """The commit that this package's own files are checked out at, with "+changes" if they were edited; None outside
    git.

    An installation inside somebody else's repository (a virtual environment there) is not ours to name: the commit
    counts only if git tracks this very file.
    """
    here = Path(__file__).resolve()
    if _git(here.parent, "ls-files", "--error-unmatch", here.name) is None:
        return None
    commit = _git(here.parent, "rev-parse", "HEAD")
    if commit is None:
        return None
    changed = _git(here.parent, "status", "--porcelain", "--untracked-files=no", "--", str(here.parent.parent))
    return commit + ("+changes" if changed else "")


def _git(folder: Path, *arguments: str) -> str | None:
    quiet = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=10, env=quiet)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cores() -> int | None:
    """Cores that this process may use, where the system says so."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
