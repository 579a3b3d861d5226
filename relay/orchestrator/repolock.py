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
from ._problems import Refused
from ._processes import start_tick

__all__ = ["RepositoryLocks"]

WAIT_WITHIN = 2_700.0  # seconds: more than the longest merge takes
LOOK_WITHIN = 30.0
RETRY = 0.05  # seconds between two tries for a lock that another daemon holds


class RepositoryLocks:
    """The locks of one daemon."""

    def __init__(self) -> None:
        self._locks: dict[str, trio.Lock] = {}

    @asynccontextmanager
    async def hold(self, repository: str | Path) -> AsyncGenerator[None]:
        """Hold the lock of the repository that `repository` is a checkout of. Raises `Refused` after a long wait."""
        common = await _common(repository)
        lock = self._locks.setdefault(os.path.realpath(common), trio.Lock())
        file = os.open(Path(common) / "relay.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            with trio.move_on_after(WAIT_WITHIN) as wait:
                await lock.acquire()
            if wait.cancelled_caught:
                raise Refused(f"{repository} is busy: another operation has had it for {WAIT_WITHIN:.0f} s")
            try:
                await _take(file, repository)
                before = held.set((file,))
                try:
                    yield
                finally:
                    held.reset(before)
            finally:
                lock.release()
        finally:
            os.close(file)


async def _common(repository: str | Path) -> str:
    """The git directory that all worktrees of the repository share."""
    with trio.move_on_after(LOOK_WITHIN):
        return await git(repository, "rev-parse", "--path-format=absolute", "--git-common-dir")
    raise Refused(
        f"git took longer than {LOOK_WITHIN:.0f} s to look at {repository}: see what holds it up, then ask again"
    )


async def _take(file: int, repository: str | Path) -> None:
    with trio.move_on_after(WAIT_WITHIN):
        while not _taken(file):
            await trio.sleep(RETRY)
        return
    raise Refused(f"{repository} is busy: another daemon of this host has had it for {WAIT_WITHIN:.0f} s")


def _taken(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    os.ftruncate(file, 0)
    os.pwrite(file, f"{os.getpid()} {start_tick(os.getpid())}\n".encode(), 0)
    return True
