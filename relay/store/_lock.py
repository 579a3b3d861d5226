"""One process owns a database: a lock file that the kernel releases when the process dies, however it dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ._types import Locked

__all__ = ["owned"]


@contextmanager
def owned(database: Path) -> Iterator[None]:
    """Hold the lock of `database`; raises `Locked`, naming the holder."""
    database = database.resolve()  # whatever links lead to it, it is one file with one lock
    path = database.with_name(database.name + ".lock")
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(file, 200).decode(errors="replace").strip() or "another process"
            raise Locked(
                f"{database} is in use by {holder}. Stop that server, or give this one another --database."
            ) from None
        os.ftruncate(file, 0)
        os.pwrite(file, f"pid {os.getpid()}, started at tick {_start_tick()}\n".encode(), 0)
        yield
        os.ftruncate(file, 0)
    finally:
        os.close(file)


def _start_tick() -> str:
    """When this process started, in clock ticks since boot: tells it from a later one with the same pid."""
    try:
        return Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return "?"
