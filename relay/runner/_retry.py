"""Calls that are repeated until relay answers, and complaints that are not."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from random import random
from typing import TypeVar

import trio

from relay.client import Overloaded, Refused, RelayError, ServerFailed

__all__ = ["Complaints", "answered"]

T = TypeVar("T")

FIRST_PAUSE = 0.25  # seconds
LONGEST_PAUSE = 10.0
SAME_AGAIN = 300.0  # seconds


class Complaints:
    """Errors for the log, each kind at most once in five minutes (1.20-6)."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._last: dict[str, float] = {}

    def __call__(self, error: RelayError) -> None:
        kind = f"status:{error.status}" if isinstance(error, (Refused, ServerFailed)) else str(error)
        now = trio.current_time()
        self._last = {known: at for known, at in self._last.items() if at > now - SAME_AGAIN}
        if kind not in self._last:
            self._last[kind] = now
            self._log.warning("relay: %s", error)


async def answered(call: Callable[[], Awaitable[T]], complain: Callable[[RelayError], None]) -> T:
    """What relay answers, however long that takes. Raises `Refused` when the answer is no."""
    pause = FIRST_PAUSE
    while True:
        try:
            return await call()
        except Overloaded as error:
            complain(error)
        except Refused:
            raise
        except RelayError as error:
            complain(error)
        await trio.sleep(pause * (0.75 + random() / 2))
        pause = min(LONGEST_PAUSE, pause * 2)
