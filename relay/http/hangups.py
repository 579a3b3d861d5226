"""SIGHUP: read the configuration again. But it also comes when the terminal that a server was started in goes away."""

import os
import signal
from collections.abc import AsyncIterator

__all__ = ["Hangups"]


class Hangups:
    """An async iterator over `signals` that asked to read again.

    A process that had a terminal and has none any more would be left over, so it is asked to end instead; unless it was
    `ignored` before, as `nohup` does for those who want just that.
    """

    def __init__(self, signals: AsyncIterator[int], *, ignored: bool) -> None:
        self._signals = signals
        self._needs_terminal = not ignored and _has_terminal()

    def __aiter__(self) -> "Hangups":
        return self

    async def __anext__(self) -> int:
        while True:
            signum = await self._signals.__anext__()
            if not self._needs_terminal or _has_terminal():
                return signum
            signal.raise_signal(signal.SIGTERM)


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
