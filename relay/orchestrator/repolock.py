"""One git-changing operation at a time per repository.

Within the daemon a first-in-first-out lock; between daemons of one host a lock on a file in the repository's own git
directory, which the kernel releases when its holder dies.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from ._git import git

__all__ = ["RepositoryLocks"]

RETRY = 0.05  # seconds between two tries for a lock that another daemon holds


class RepositoryLocks:
    """The locks of one daemon."""

    def __init__(self) -> None:
        self._locks: dict[str, trio.Lock] = {}

    @asynccontextmanager
    async def hold(self, repository: str | Path) -> AsyncGenerator[None]:
        """Hold the lock of the repository that `repository` is a checkout of."""
        common = await git(repository, "rev-parse", "--path-format=absolute", "--git-common-dir")
        async with self._locks.setdefault(common, trio.Lock()):
            file = os.open(Path(common) / "relay.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                while not _taken(file):
                    await trio.sleep(RETRY)
                yield
            finally:
                os.close(file)


def _taken(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
