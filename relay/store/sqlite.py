"""The store on SQLite: one file, one writer, group commit.

    stage -> queue -> [writer thread] one transaction, one sync -> [loop] events published, `done` called, in order

The writer takes whatever is queued as soon as the previous commit has ended, so batches grow with the load and
nothing waits for a timer. Reads use a connection of their own on the event loop: they are short, and a thread would
cost more than the query. Without a path the same SQL runs in memory and in process, with no thread, at scheduling
points of trio: for tests that must be repeatable.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import apsw
import trio

from relay.actors import Gate

from ._batch import Batch, Part
from ._lock import owned
from ._log import EventLog
from ._migrations import migrate
from ._types import Done, Event, LoggedEvent, Owner, Store, StoreFailed, Write

__all__ = ["open_store"]

MOST_PARTS = 2_000
MOST_BYTES = 16 * 1024 * 1024
BATCH_PARTS = 512
CLOSE_WITHIN = 10.0  # seconds

SEQUENCES = {
    "messages": "select max(id) from messages",
    "commands": "select max(seq) from commands",
    "activity": "select max(id) from activity",
}


class Clock(Protocol):
    """Where the store takes the time of events from."""

    def wall(self) -> float: ...


class SQLiteStore:
    """See `Store`. Made by `open_store`."""

    def __init__(self, clock: Clock, writer: apsw.Connection, reader: apsw.Connection) -> None:
        self.gate = Gate()
        self.events = EventLog(self.rows_of(reader))
        self._clock = clock
        self._reader = reader
        self._batch = Batch(writer, self.events.last_id)
        self._staged = 0
        self._bytes = 0
        self._sequences: dict[str, int] = {}
        self._failed: StoreFailed | None = None
        self._drained = trio.Event()

    @staticmethod
    def rows_of(connection: apsw.Connection) -> Any:
        return lambda sql, *params: connection.execute(sql, params).fetchall()

    def stage(self, writes: Sequence[Write], events: Sequence[Event], owner: Owner, done: Done) -> None:
        size = sum(_size(write) for write in writes) + 256 * len(events)
        part = Part(writes, events, owner, done, round(self._clock.wall() * 1000), size)
        self._staged += 1
        self._bytes += size
        if self._staged > MOST_PARTS or self._bytes > MOST_BYTES:
            self.gate.close()
        self._submit(part)

    def rows(self, sql: str, *params: Any) -> list[tuple[Any, ...]]:
        return self._reader.execute(sql, params).fetchall()

    def row(self, sql: str, *params: Any) -> tuple[Any, ...] | None:
        return self._reader.execute(sql, params).fetchone()

    def next_id(self, sequence: str) -> int:
        if sequence not in self._sequences:
            row = self.row(SEQUENCES[sequence])
            assert row is not None
            self._sequences[sequence] = row[0] or 0
        self._sequences[sequence] += 1
        return self._sequences[sequence]

    def check(self) -> list[str]:
        found = [str(row[0]) for row in self.rows("pragma quick_check(10)")]
        return [] if found == ["ok"] else found

    def _submit(self, part: Part) -> None:
        raise NotImplementedError

    def _landed(self, parts: Sequence[Part], events: Sequence[LoggedEvent]) -> None:
        """A batch is settled: publish its events, then tell its owners, then wake the listeners."""
        self.events.append(events)
        for part in parts:
            self._staged -= 1
            self._bytes -= part.size
            part.done(part.error)
        if events:
            self.events.wake()
        if self.gate.closed and self._staged <= MOST_PARTS // 2 and self._bytes <= MOST_BYTES // 2:
            self.gate.open()
        if not self._staged:
            self._drained.set()
            self._drained = trio.Event()

    async def drain(self) -> None:
        """Wait until everything staged is settled."""
        while self._staged:
            await self._drained.wait()


class ThreadedStore(SQLiteStore):
    """Writes in a thread of its own."""

    def __init__(self, clock: Clock, writer: apsw.Connection, reader: apsw.Connection) -> None:
        super().__init__(clock, writer, reader)
        self._queue: queue.SimpleQueue[Part | None] = queue.SimpleQueue()
        self._token = trio.lowlevel.current_trio_token()
        self._broken = trio.Event()
        self._thread = threading.Thread(target=self._write, name="relay store", daemon=True)
        self._thread.start()

    def _submit(self, part: Part) -> None:
        self._queue.put(part)

    def _write(self) -> None:
        try:
            while (first := self._queue.get()) is not None:
                parts = self._collect(first)
                events = self._batch.write(parts)
                self._token.run_sync_soon(self._landed, parts, events)
        except trio.RunFinishedError:
            return
        except BaseException as error:
            self._token.run_sync_soon(self._break, error)
            raise

    def _collect(self, first: Part) -> list[Part]:
        parts, size = [first], first.size
        while len(parts) < BATCH_PARTS and size < MOST_BYTES:
            try:
                part = self._queue.get_nowait()
            except queue.Empty:
                break
            if part is None:
                self._queue.put(None)
                break
            parts.append(part)
            size += part.size
        return parts

    def _break(self, error: BaseException) -> None:
        self._failed = StoreFailed(f"the writer thread died: {error!r}")
        self._failed.__cause__ = error
        self._broken.set()

    async def watch(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Raise if the writer dies: without it nothing can go on."""
        task_status.started()
        await self._broken.wait()
        assert self._failed is not None
        raise self._failed

    def close(self) -> None:
        """End the writer."""
        self._queue.put(None)
        self._thread.join(CLOSE_WITHIN)


class InlineStore(SQLiteStore):
    """Writes on the event loop, whenever trio gets round to it."""

    def __init__(self, clock: Clock, connection: apsw.Connection) -> None:
        super().__init__(clock, connection, connection)
        self._waiting: deque[Part] = deque()
        self._work = trio.Event()

    def _submit(self, part: Part) -> None:
        self._waiting.append(part)
        self._work.set()

    async def watch(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Commit what is staged, for ever. Goes on until it is drained when its surroundings are cancelled."""
        with trio.CancelScope(shield=True) as self._scope:
            task_status.started()
            while True:
                await self._work.wait()
                self._work = trio.Event()
                while self._waiting:
                    parts = [self._waiting.popleft() for _ in range(min(BATCH_PARTS, len(self._waiting)))]
                    self._landed(parts, self._batch.write(parts))
                    await trio.lowlevel.checkpoint()

    def close(self) -> None:
        self._scope.cancel()


def _size(write: Write) -> int:
    return 64 + sum(len(param) for param in write.params if isinstance(param, str | bytes))


def _connect(path: str) -> apsw.Connection:
    connection = apsw.Connection(path, statementcachesize=200)
    connection.set_busy_timeout(5_000)
    for pragma in ("journal_mode = wal", "synchronous = full", "foreign_keys = on", "temp_store = memory"):
        connection.execute(f"pragma {pragma}").fetchall()
    return connection


@asynccontextmanager
async def open_store(path: Path | None, clock: Clock) -> AsyncGenerator[Store]:
    """Open the database at `path`, or one in memory for None, and own it until the block is left.

    Raises `Locked` when another process owns it, `NewerDatabase` when a newer relay wrote it. What is staged when the
    block is left is still committed.
    """
    with ExitStack() as stack:
        store: ThreadedStore | InlineStore
        if path is None:
            connection = _connect(":memory:")
            stack.callback(connection.close)
            migrate(connection)
            store = InlineStore(clock, connection)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(owned(path))
            writer, reader = _connect(str(path)), _connect(str(path))
            stack.callback(writer.close)
            stack.callback(reader.close)
            migrate(writer)
            store = ThreadedStore(clock, writer, reader)
        async with trio.open_nursery() as nursery:
            await nursery.start(store.watch)
            try:
                yield store
            finally:
                with trio.move_on_after(CLOSE_WITHIN, shield=True):
                    await store.drain()
                store.close()
                nursery.cancel_scope.cancel()
