"""What the fleet asks of whoever runs the programs of connectors: it finds and starts none itself."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

import attrs

__all__ = ["Ended", "NoPrograms", "ProgramGone", "Programs"]


class ProgramGone(Exception):
    """The program was found a moment ago, and is not there any more."""


@attrs.frozen
class Ended:
    """How a run ended. `trouble` is why it was not left to end by itself; then there may be no exit code."""

    output: bytes = b""
    errors: str = ""
    exit_code: int | None = None
    trouble: str | None = None


class Programs(Protocol):
    """The programs of connectors, by the ids of those."""

    def find(self, connector: str) -> str | None:
        """The path of its program; None when there is none."""

    def all(self) -> Mapping[str, str]:
        """The paths of all programs."""

    def run(self, connector: str, path: str, action: str, given: bytes) -> AbstractAsyncContextManager[Ended]:
        """Entered, the action is over: the program has ended, or its time is. Left, nothing of the run is alive.

        `given` is what it reads on standard input. Raises `ProgramGone` when entered.
        """


class NoPrograms:
    """There are none."""

    def find(self, connector: str) -> str | None:
        return None

    def all(self) -> Mapping[str, str]:
        return {}

    @asynccontextmanager
    async def run(self, connector: str, path: str, action: str, given: bytes) -> AsyncGenerator[Ended]:
        raise ProgramGone(path)
        yield Ended()
