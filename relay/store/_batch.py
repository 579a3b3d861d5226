"""One transaction of many parts.

The parts of a batch are written in staging order into one transaction, so one sync of the disk serves them all. If a
part fails, the batch is written again with a savepoint around each part: the failing one is undone alone. Event ids
are drawn here, in commit order, and rewound with what is undone, so the log has no gap.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import apsw
import attrs
import orjson

from ._types import Conflict, Done, Event, LoggedEvent, Owner, StoreFailed, Superseded, Write

__all__ = ["Batch", "Part", "part_of", "refuse"]

EVENT = "insert into events (id, at, type, source, subject, data) values (?, ?, ?, ?, ?, ?)"

MACHINE = (
    apsw.FullError,
    apsw.IOError,
    apsw.ReadOnlyError,
    apsw.CantOpenError,
    apsw.BusyError,
    apsw.NoMemError,
)
"""Errors that say something of the machine, not of what was to be written."""

Undated = tuple[str, str, str | None, int | None, bytes]
"""An event without its id and moment: type, source, subject, the place of the write that it is of, JSON."""


@attrs.define(eq=False)
class Part:
    """What one `stage` call brought. `size` is a rough number of bytes. `error` says how it went.

    `unfit` is why it cannot be written at all; it fails in its turn, like any other.
    """

    writes: Sequence[Write]
    events: Sequence[Undated]
    owner: Owner
    done: Done
    at: int
    size: int
    unfit: Exception | None = None
    error: BaseException | None = None


class Batch:
    """Writes batches on one connection; knows the last event id."""

    def __init__(self, connection: apsw.Connection, last_event: int) -> None:
        self._connection = connection
        self._last = last_event

    def write(self, parts: Sequence[Part]) -> list[LoggedEvent]:
        """Commit `parts`; afterwards each one's `error` says how it went. Returns the events to publish."""
        first = self._last
        try:
            return self._commit(parts, isolate=False)
        except Exception:  # noqa: BLE001 - whatever it was, the second run pins it on a part
            self._undo(first)
        try:
            return self._commit(parts, isolate=True)
        except Exception as error:  # noqa: BLE001 - it is reported to every owner
            self._undo(first)
            return refuse(parts, error)

    def _commit(self, parts: Sequence[Part], *, isolate: bool) -> list[LoggedEvent]:
        execute = self._connection.execute
        logged: list[LoggedEvent] = []
        execute("begin immediate")
        for part in parts:
            if part.owner.failed is not None:
                part.error = Superseded("an earlier decision of the same actor failed")
            elif isolate:
                logged += self._isolated(part)
            else:
                logged += self._apply(part)
        execute("commit")
        return logged

    def _isolated(self, part: Part) -> list[LoggedEvent]:
        connection = self._connection
        first = self._last
        connection.execute("savepoint part")
        try:
            events = self._apply(part)
        except Exception as error:
            if connection.get_autocommit():
                raise  # it took the whole transaction with it
            connection.execute("rollback to part")
            self._last = first
            part.error = part.owner.failed = _told(error)
            events = []
        connection.execute("release part")
        return events

    def _apply(self, part: Part) -> list[LoggedEvent]:
        if part.unfit is not None:
            raise part.unfit
        connection = self._connection
        idle: set[int | None] = set()
        for place, write in enumerate(part.writes):
            connection.execute(write.sql, write.params)
            changes = connection.changes()
            if write.rows is not None and changes != write.rows:
                raise Conflict(f"expected {write.rows} changed rows, not {changes}: {write.sql}")
            if not changes:
                idle.add(place)
        logged = []
        for kind, source, subject, of, data in part.events:
            if of in idle:
                continue
            self._last += 1
            text = data.decode()
            connection.execute(EVENT, (self._last, part.at, kind, source, subject, text))
            own = (
                text.encode()
            )  # orjson leaves room behind a text, often many times its length, and this is kept
            logged.append(LoggedEvent(self._last, part.at, kind, source, subject, own))
        return logged

    def _undo(self, first: int) -> None:
        self._last = first
        if not self._connection.get_autocommit():
            self._connection.execute("rollback")


def refuse(parts: Sequence[Part], error: Exception) -> list[LoggedEvent]:
    """None of them could be committed. Returns the events to publish, which are none."""
    failed = _failed(error)
    for part in parts:
        part.error = part.owner.failed = failed
    return []


def _told(error: Exception) -> Exception:
    return _failed(error) if isinstance(error, MACHINE) else error


def _failed(error: Exception) -> StoreFailed:
    failed = StoreFailed(f"the transaction could not be committed: {error}")
    failed.__cause__ = error
    return failed


def part_of(writes: Sequence[Write], events: Sequence[Event], owner: Owner, done: Done, at: int) -> Part:
    """What is staged, as a snapshot: what the caller does to its events afterwards changes nothing."""
    undated: list[Undated] = []
    unfit: Exception | None = None
    try:
        for event in events:
            of = _place(event.of, writes) if event.of is not None else None
            undated.append((event.type, event.source, event.subject, of, _text(event.data)))
    except (TypeError, ValueError) as error:
        unfit = error
    size = sum(_size(write) for write in writes) + sum(128 + len(data) for *_, data in undated)
    return Part(writes, undated, owner, done, at, size, unfit)


def _place(wanted: Write, writes: Sequence[Write]) -> int:
    for place, write in enumerate(writes):
        if write is wanted:
            return place
    raise ValueError(f"an event is of a write that is not staged with it: {wanted.sql}")


def _text(data: Mapping[str, Any] | bytes) -> bytes:
    return data if isinstance(data, bytes) else orjson.dumps(data)


def _size(write: Write) -> int:
    return 64 + sum(len(param) for param in write.params if isinstance(param, str | bytes))
