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
            raise Locked(f"{database} is in use by {holder}") from None
        os.ftruncate(file, 0)
        os.pwrite(file, f"pid {os.getpid()}\n".encode(), 0)
        yield
        os.ftruncate(file, 0)
    finally:
        os.close(file)
