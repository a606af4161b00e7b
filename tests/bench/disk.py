"""A small disk of one's own, for tests of full and read-only ones: really mounted, where Linux lets a user do so."""

from __future__ import annotations

import ctypes
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

NEW_USER, NEW_MOUNTS = 0x10000000, 0x00020000  # flags of unshare(2)
READ_ONLY, REMOUNT = 1, 32  # flags of mount(2)


def mount(folder: Path, size: str = "", flags: int = 0) -> None:
    """A disk in memory of that size at ``folder``; or a change of the one that is there."""
    options = f"size={size}".encode() if size else None
    if ctypes.CDLL(None, use_errno=True).mount(b"none", bytes(folder), b"tmpfs", flags, options):
        raise OSError(ctypes.get_errno(), "mount")


def on_a_disk(folder: Path, size: str, act: Callable[[], Any]) -> Any:
    """What ``act()`` gives in a child that has a disk of that size at ``folder``, which nobody else sees; the test is
    skipped where that is not allowed.
    """
    if not hasattr(os, "fork") or not Path("/proc/self/uid_map").exists():
        pytest.skip("needs Linux")
    user, group = os.getuid(), os.getgid()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover - another process
        answer: Any = "skip"
        try:
            if ctypes.CDLL(None).unshare(NEW_USER | NEW_MOUNTS) == 0:
                Path("/proc/self/setgroups").write_text("deny")
                Path("/proc/self/uid_map").write_text(f"0 {user} 1")
                Path("/proc/self/gid_map").write_text(f"0 {group} 1")
                mount(folder, size)
                answer = act()
        except BaseException as error:
            answer = error
        finally:
            with open(write, "wb") as pipe:
                pickle.dump(answer, pipe)
            os._exit(0)
    os.close(write)
    with open(read, "rb") as pipe:
        answer = pickle.load(pipe)
    os.waitpid(child, 0)
    if answer == "skip":
        pytest.skip("no user namespaces here")
    if isinstance(answer, BaseException):
        raise answer
    return answer
