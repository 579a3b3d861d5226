"""One git-changing operation at a time per repository (2.25).

Within the daemon a first-in-first-out lock; between daemons of one host a lock on a file in the repository's own git
directory. The kernel releases it when the holder and every git that it started are gone, so nothing is ever stale;
what stands in the file (process and start) is for people.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from ._git import git, held
from ._processes import start_tick

__all__ = ["RepositoryLocks"]

RETRY = 0.05  # seconds between two tries for a lock that another daemon holds


class RepositoryLocks:
    """The locks of one daemon."""

    def __init__(self) -> None:
        self._locks: dict[str, trio.Lock] = {}

    @asynccontextmanager
    async def hold(self, repository: str | Path) -> AsyncGenerator[None]:
        """Hold the lock of the repository that `repository` is a checkout of. The caller limits the wait."""
        common = await git(repository, "rev-parse", "--path-format=absolute", "--git-common-dir")
        async with self._locks.setdefault(os.path.realpath(common), trio.Lock()):
            file = os.open(Path(common) / "relay.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            before = held.set((file,))
            try:
                while not _taken(file):
                    await trio.sleep(RETRY)
                yield
            finally:
                held.reset(before)
                os.close(file)


def _taken(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    os.ftruncate(file, 0)
    os.pwrite(file, f"{os.getpid()} {start_tick(os.getpid())}\n".encode(), 0)
    return True
