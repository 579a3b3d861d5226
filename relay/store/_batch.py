"""One transaction of many parts.

The parts of a batch are written in staging order into one transaction, so one sync of the disk serves them all. If a
part fails, the batch is written again with a savepoint around each part: the failing one is undone alone. Event ids
are drawn here, in commit order, and rewound with what is undone, so the log has no gap.
"""

from __future__ import annotations

from collections.abc import Sequence

import apsw
import attrs
import orjson

from ._types import Conflict, Done, Event, LoggedEvent, Owner, StoreFailed, Superseded, Write

__all__ = ["Batch", "Part"]

EVENT = "insert into events (id, at, type, source, subject, data) values (?, ?, ?, ?, ?, ?)"
KEEP_EVENTS = 100_000
PRUNE_EVERY = 10_000


@attrs.define(eq=False)
class Part:
    """What one `stage` call brought. `size` is a rough number of bytes."""

    writes: Sequence[Write]
    events: Sequence[Event]
    owner: Owner
    done: Done
    at: int
    size: int
    error: BaseException | None = None


class Batch:
    """Writes batches on one connection; knows the last event id."""

    def __init__(self, connection: apsw.Connection, last_event: int) -> None:
        self._connection = connection
        self._last = last_event
        self._since_pruned = 0

    def write(self, parts: Sequence[Part]) -> list[LoggedEvent]:
        """Commit `parts`; afterwards each one's `error` says how it went. Returns the events to publish."""
        first = self._last
        try:
            return self._commit(parts, isolate=False)
        except apsw.Error:
            pass
        except StoreFailed as error:
            self._undo(first)
            return self._fail(parts, error)
        except Conflict:
            pass
        self._undo(first)
        try:
            return self._commit(parts, isolate=True)
        except (apsw.Error, StoreFailed) as error:
            self._undo(first)
            failed = StoreFailed(f"the transaction could not be committed: {error}")
            failed.__cause__ = error
            return self._fail(parts, failed)

    def _commit(self, parts: Sequence[Part], *, isolate: bool) -> list[LoggedEvent]:
        execute = self._connection.execute
        logged: list[LoggedEvent] = []
        execute("begin immediate")
        for part in parts:
            part.error = None
            if part.owner.failed is not None:
                part.error = Superseded("an earlier decision of the same actor failed")
            elif isolate:
                logged += self._isolated(part)
            else:
                logged += self._apply(part)
        self._prune(len(logged))
        execute("commit")
        return logged

    def _isolated(self, part: Part) -> list[LoggedEvent]:
        execute = self._connection.execute
        first = self._last
        execute("savepoint part")
        try:
            events = self._apply(part)
        except (apsw.Error, Conflict) as error:
            if self._connection.get_autocommit():
                raise StoreFailed("the whole transaction was rolled back") from error
            execute("rollback to part; release part").fetchall()
            self._last = first
            part.error = part.owner.failed = error
            return []
        execute("release part")
        return events

    def _apply(self, part: Part) -> list[LoggedEvent]:
        connection = self._connection
        for write in part.writes:
            connection.execute(write.sql, write.params)
            if write.rows is not None and connection.changes() != write.rows:
                raise Conflict(f"expected {write.rows} changed rows, not {connection.changes()}: {write.sql}")
        logged = []
        for event in part.events:
            self._last += 1
            data = orjson.dumps(event.data)
            row = (self._last, part.at, event.type, event.source, event.subject, data.decode())
            connection.execute(EVENT, row)
            logged.append(LoggedEvent(*row[:5], data))
        return logged

    def _prune(self, added: int) -> None:
        self._since_pruned += added
        if self._since_pruned >= PRUNE_EVERY:
            self._since_pruned = 0
            self._connection.execute("delete from events where id <= ?", (self._last - KEEP_EVENTS,))

    def _undo(self, first: int) -> None:
        self._last = first
        if not self._connection.get_autocommit():
            self._connection.execute("rollback")

    def _fail(self, parts: Sequence[Part], error: StoreFailed) -> list[LoggedEvent]:
        for part in parts:
            part.error = part.owner.failed = error
        return []
