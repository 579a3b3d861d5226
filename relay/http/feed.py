"""A listener's place in the event log, over whatever it is told: server-sent events or the bus.

A listener is a cursor, not a queue. It takes all that is new to it at once, within bounds, and when it is slow it only
falls behind; when the log no longer reaches back to its place it is told so, and goes on from now.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import trio

from relay.store import EventLog, LoggedEvent

__all__ = ["MOST_BYTES", "MOST_EVENTS", "Feed", "Matcher", "everything", "portions"]

T = TypeVar("T", bytes, str)

MOST_EVENTS = 512  # read at a time
MOST_BYTES = 256 * 1024  # in one write, but for a single larger event

Matcher = Callable[[LoggedEvent], bool]


def everything(_: LoggedEvent) -> bool:
    return True


class Feed:
    """Reads on from `after`, or from now; `cursor` is the last event that was looked at."""

    def __init__(self, log: EventLog, matches: Matcher, after: int | None = None) -> None:
        self._log = log
        self._matches = matches
        self.cursor = log.last_id if after is None else after

    @property
    def lost(self) -> bool:
        """There may have been events that can no longer be told, or the place is of another log."""
        return not self._log.oldest_id - 1 <= self.cursor <= self._log.last_id

    def start_over(self) -> dict[str, int]:
        """Goes on from now; returns what the listener is told about it."""
        self.cursor = self._log.last_id
        return {"oldest": self._log.oldest_id, "last": self._log.last_id}

    async def next(self, until: float) -> Sequence[LoggedEvent]:
        """What is new and concerns this listener; empty when there is no such thing by `until` (trio's clock), or in what
        was looked at."""
        with trio.move_on_at(until):
            new = await self._log.read_after(self.cursor, MOST_EVENTS)
            if new[0].id != self.cursor + 1:
                return ()  # what came between was given up since `lost` was asked: now it is so
            self.cursor = new[-1].id
            return [event for event in new if self._matches(event)]
        return ()


def portions(parts: Iterable[T]) -> Iterator[list[T]]:
    """The parts in order, as many at a time as may be written at once."""
    taken: list[T] = []
    size = 0
    for part in parts:
        if taken and size + len(part) > MOST_BYTES:
            yield taken
            taken, size = [], 0
        taken.append(part)
        size += len(part)
    if taken:
        yield taken
