"""What happens in a system, for whoever wants to log, count or test it.

Every failure and every dead letter is published here, whoever dealt with it. Without listeners that costs nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import final

import attrs
import trio

from ._ctrl_c import exposed

__all__ = [
    "DeadLetter",
    "Failed",
    "Listener",
    "Overflowed",
    "Quarantined",
    "Started",
    "Stopped",
    "Stream",
    "SystemEvent",
]


@attrs.frozen
class Started:
    """An incarnation runs. The first is number 1; a later one is a restart."""

    address: str
    incarnation: int


@attrs.frozen
class Failed:
    """An incarnation ended by `error`, or did not end in time; its supervisor decides what follows."""

    address: str
    error: BaseException


@attrs.frozen
class Stopped:
    """An actor has stopped for good, because of `error` if there is one."""

    address: str
    error: BaseException | None


@attrs.frozen
class Quarantined:
    """An actor has used up its own budget of restarts, and nobody else pays for it: it has stopped, and its neighbours
    live. A family member is tried again after `within` seconds, a supervisor's child when its supervisor starts again."""

    address: str
    error: BaseException


@attrs.frozen
class Overflowed:
    """A mailbox had no room for one more message. Told once until the mailbox has been empty."""

    address: str
    capacity: int


@attrs.frozen
class DeadLetter:
    """A message that was accepted, or addressed, and never handled; or told, and refused."""

    message: object
    address: str
    reason: str


SystemEvent = Started | Failed | Stopped | Quarantined | Overflowed | DeadLetter


@final
class Listener:
    """An async iterator over what happens from now on. Of more than `limit` unread events the oldest are dropped."""

    def __init__(self, limit: int) -> None:
        self.dropped = 0
        self._events: deque[SystemEvent] = deque(maxlen=limit)
        self._news = trio.Event()

    def __aiter__(self) -> Listener:
        return self

    async def __anext__(self) -> SystemEvent:
        await trio.lowlevel.checkpoint()
        while not self._events:
            await self._news.wait()
        return self.take()

    def take(self) -> SystemEvent:
        """The next event; raises `IndexError` when there is none."""
        event = self._events.popleft()
        if not self._events:
            self._news = trio.Event()
        return event

    def put(self, event: SystemEvent) -> None:
        if len(self._events) == self._events.maxlen:
            self.dropped += 1
        self._events.append(event)
        self._news.set()


class Stream:
    """The events of one system. A listener that raises is gone, and what it raised is given to `fail`."""

    def __init__(self, fail: Callable[[BaseException], None]) -> None:
        self._fail = fail
        self.listeners: list[Callable[[SystemEvent], None]] = []

    def publish(self, event: SystemEvent) -> None:
        for listener in list(self.listeners):
            try:
                exposed(listener, event)
            except BaseException as error:  # noqa: BLE001 - it must not be the end of whoever is told of
                self.listeners.remove(listener)
                self._fail(error)

    @contextmanager
    def call(self, listener: Callable[[SystemEvent], None]) -> Iterator[None]:
        self.listeners.append(listener)
        try:
            yield
        finally:
            if listener in self.listeners:
                self.listeners.remove(listener)

    @contextmanager
    def listen(self, limit: int) -> Iterator[Listener]:
        listener = Listener(limit)
        with self.call(listener.put):
            yield listener
