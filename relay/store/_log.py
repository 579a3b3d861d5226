"""The event log: one gapless sequence of what happened, and cursors on it.

Listeners are cursors, not queues: a slow one costs nothing but its own delay. The newest events stay in memory,
bounded in number and bytes; older ones are read from the table, as far back as it is kept. What a listener sees ends
at `last_id`, which moves when the events are published: the table may be ahead of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import trio

from ._types import LoggedEvent

__all__ = ["EventLog"]

TAIL_EVENTS = 10_000
TAIL_BYTES = 16 * 1024 * 1024
MOST_BYTES = (
    1024 * 1024
)  # of a read, but for a single larger event: a reader that is slow holds them for long
KEEP = 100_000
SLACK = 1_000  # events that are forgotten at a time, at least

T = TypeVar("T")
Rows = Callable[..., list[tuple[Any, ...]]]


class EventLog:
    """Reads are by id: whoever has seen `cursor` asks for what comes after it."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._tail: deque[LoggedEvent] = deque()
        self._bytes = 0
        self._readers = trio.lowlevel.ParkingLot()
        ((oldest, newest),) = rows("select min(id), max(id) from events")
        self.last_id: int = newest or 0
        self.oldest_id: int = oldest or self.last_id + 1

    async def read_after(self, cursor: int, limit: int = 1_000) -> list[LoggedEvent]:
        """Up to `limit` events newer than `cursor`, and of 1 MiB or a single one; waits until there is one.

        Events older than `oldest_id` are gone: a reader whose cursor is below `oldest_id - 1` has missed some.
        """
        await trio.lowlevel.checkpoint()
        while self.last_id <= cursor:
            await self._readers.park()
        return self.since(cursor, limit)

    def since(self, cursor: int, limit: int = 1_000) -> list[LoggedEvent]:
        """As `read_after`, without waiting."""
        tail = self._tail
        if tail and tail[0].id <= cursor + 1:
            start = cursor + 1 - tail[0].id
            there = (tail[index] for index in range(start, min(start + limit, len(tail))))
            return list(_bounded(there, lambda event: len(event.data)))
        query = "select {} from events where id > ? and id <= ? order by id limit ?"
        first = max(cursor, self.oldest_id - 1)
        sizes = self._rows(query.format("id, octet_length(data)"), first, self.last_id, limit)
        taken = list(_bounded(sizes, lambda row: int(row[1])))
        if not taken:
            return []
        columns = "id, at, type, source, subject, data"
        return [_logged(row) for row in self._rows(query.format(columns), first, taken[-1][0], limit)]

    def append(self, events: Sequence[LoggedEvent]) -> None:
        """The store has committed these."""
        for event in events:
            self._tail.append(event)
            self._bytes += len(event.data)
        while len(self._tail) > TAIL_EVENTS or self._bytes > TAIL_BYTES:
            self._bytes -= len(self._tail.popleft().data)
        if events:
            self.last_id = events[-1].id

    def wake(self) -> None:
        """Let the readers look."""
        self._readers.unpark_all()

    def forget(self, keep: int = KEEP) -> bool:
        """Give up all but the newest `keep` events, some at a time. True when their rows may now be deleted.

        No reader is shown a forgotten event, so none can meet a gap while the rows are going.
        """
        if self.last_id - self.oldest_id < keep + SLACK:
            return False
        self.forget_before(self.last_id - keep + 1)
        return True

    def forget_before(self, first: int) -> None:
        """Give up the events before that one, which is there. Their rows may now be deleted."""
        self.oldest_id = max(self.oldest_id, first)
        while self._tail and self._tail[0].id < self.oldest_id:
            self._bytes -= len(self._tail.popleft().data)


def _bounded(found: Iterable[T], size: Callable[[T], int]) -> Iterator[T]:
    room = MOST_BYTES
    for each in found:
        room -= size(each)
        if room < 0 and room + size(each) < MOST_BYTES:
            return
        yield each


def _logged(row: tuple[Any, ...]) -> LoggedEvent:
    number, at, kind, source, subject, data = row
    return LoggedEvent(number, at, kind, source, subject, data.encode())
