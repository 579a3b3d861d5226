"""The store on SQLite: one file, one writer, group commit.

    stage -> queue -> [writer thread] one transaction, one sync -> [loop] events published, `done` called, in order

The writer takes whatever is queued as soon as the previous commit has ended, so batches grow with the load and
nothing waits for a timer. Reads use a connection of their own on the event loop: they are short, and a thread would
cost more than the query. Without a path the same SQL runs in memory and in process, with no thread, at scheduling
points of trio: for tests that must be repeatable.

A transaction that fails is its owners' matter. A store that cannot go on fails everything staged, cancels its block
and raises `StoreFailed` from it; nobody is left waiting.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import apsw
import trio

from relay.actors import Gate

from ._batch import Batch, Part, part_of, refuse
from ._beside import Beside
from ._log import KEEP, EventLog
from ._opening import open_file, open_memory
from ._types import Done, Event, LoggedEvent, Owner, Store, StoreFailed, Write
from .backups import Backup, backups_of
from .chain import Head, Verdict, verify

__all__ = ["open_store"]

MOST_PARTS = 2_000
MOST_BYTES = 16 * 1024 * 1024
BATCH_PARTS = 512
CLOSE_WITHIN = 10.0  # seconds

SEQUENCES = {
    "messages": "select max(seq) from sqlite_sequence where name = 'messages'",
    "commands": "select max(seq) from commands",
    "activity": "select max(id) from activity",
    "tasks": "select max(seq) from sqlite_sequence where name = 'tasks'",
    "task_events": "select max(id) from task_events",
    "agent_timeline": "select max(id) from agent_timeline",
    "bindings": "select max(seq) from channel_bindings",
    "callbacks": "select max(seq) from sqlite_sequence where name = 'callbacks'",
    "recipe_instances": "select max(seq) from recipe_instances",
    "automations": "select max(seq) from automations",
    "automation_runs": "select max(seq) from automation_runs",
}
STUCK: list[ExitStack] = []
"""What a writer holds that is stuck in a write. It may yet succeed, so its lock stays until the process ends."""

FORGET = "delete from events where id < ?"
EVENTS_GAPLESS = "select count(*) = coalesce(max(id) - min(id) + 1, 0) from events"


class Surroundings(Protocol):
    """What the store has from the system: the time of events, and whether a simulation wants a commit to fail."""

    def wall(self) -> float: ...

    def fault(self, name: str) -> bool: ...


class SQLiteStore:
    """See `Store`. Made by `open_store`."""

    def __init__(
        self,
        system: Surroundings,
        writer: apsw.Connection,
        reader: apsw.Connection,
        keep: int,
        crash: Callable[[], None],
    ) -> None:
        self.gate = Gate()
        self.events = EventLog(lambda sql, *params: reader.execute(sql, params).fetchall())
        self._system = system
        self._keep = keep
        self._crash = crash
        self._reader = reader
        self._batch = Batch(writer, self.events.last_id)
        self._token = trio.lowlevel.current_trio_token()
        self._staged: deque[Part] = deque()
        self._bytes = 0
        self._sequences: dict[str, int] = {}
        self._failed: StoreFailed | None = None
        self._draining = trio.lowlevel.ParkingLot()

    def stage(self, writes: Sequence[Write], events: Sequence[Event], owner: Owner, done: Done) -> None:
        part = part_of(writes, events, owner, done, at=round(self._system.wall() * 1000))
        if self._failed is not None:
            self._token.run_sync_soon(part.done, self._failed)
            return
        self._staged.append(part)
        self._bytes += part.size
        if len(self._staged) > MOST_PARTS or self._bytes > MOST_BYTES:
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
        found = [str(row[0]) for row in self.rows("pragma quick_check(10)") if row != ("ok",)]
        if self.row(EVENTS_GAPLESS) != (1,):
            found.append("the event log has a gap")
        return found

    async def back_up(self) -> Backup | None:
        return None

    async def verify_audit(self, noted: Sequence[Head] = ()) -> Verdict:
        return verify(self.rows, noted)

    async def drain(self) -> None:
        """Wait until everything staged is settled."""
        while self._staged:
            await self._draining.park()

    def close(self) -> None:
        """Take nothing more. Raises `StoreFailed` when the store broke, or could not be drained."""
        if self._staged:
            self._break(
                TimeoutError(f"{len(self._staged)} decisions were not written within {CLOSE_WITHIN:g} s")
            )
        if self._failed is not None:
            raise self._failed
        self._failed = StoreFailed("the store is closed")

    def end_writer(self) -> bool:
        """Whether nothing is being written any more, and never will be."""
        return True

    def _submit(self, part: Part) -> None:
        """Have `part` written soon, after all that was submitted before, and `_landed` called."""
        raise NotImplementedError

    def _landed(self, parts: Sequence[Part], events: Sequence[LoggedEvent]) -> None:
        """A batch is settled: publish its events, then tell its owners, then wake the listeners."""
        if self._failed is not None:
            return
        self.events.append(events)
        errors = [error for part in parts if (error := self._settle(part)) is not None]
        if events:
            self.events.wake()
        if errors:
            self._break(errors[0])
        if self.gate.closed and len(self._staged) <= MOST_PARTS // 2 and self._bytes <= MOST_BYTES // 2:
            self.gate.open()
        if self.events.forget(self._keep):
            self.stage((Write(FORGET, (self.events.oldest_id,)),), (), Owner(), _ignore)
        if not self._staged:
            self._draining.unpark_all()

    def _settle(self, part: Part) -> Exception | None:
        """Tell the owner of the oldest staged part. Returns what its callback raised."""
        self._staged.popleft()
        self._bytes -= part.size
        try:
            part.done(part.error)
        except Exception as error:  # noqa: BLE001 - a broken promise; the others must hear of theirs all the same
            return error
        return None

    def _break(self, error: BaseException) -> None:
        """The store cannot go on."""
        if self._failed is not None:
            return
        self._failed = StoreFailed(f"the store broke: {error!r}")
        self._failed.__cause__ = error
        while self._staged:
            self._staged[0].error = self._failed
            self._settle(self._staged[0])
        self._draining.unpark_all()
        self.gate.open()
        self._crash()


class ThreadedStore(SQLiteStore):
    """Writes in a thread of its own."""

    def __init__(
        self,
        system: Surroundings,
        writer: apsw.Connection,
        reader: apsw.Connection,
        keep: int,
        crash: Callable[[], None],
        beside: Beside,
    ) -> None:
        super().__init__(system, writer, reader, keep, crash)
        self._beside = beside
        self._queue: queue.SimpleQueue[Part | None] = queue.SimpleQueue()
        self._submitted: list[Part] = []
        self._carrier = trio.lowlevel.ParkingLot()
        self._carrying = trio.CancelScope()
        self._thread = threading.Thread(target=self._write, name="relay store", daemon=True)
        self._thread.start()
        trio.lowlevel.spawn_system_task(self._carry, name="relay store")

    async def back_up(self) -> Backup | None:
        return await self._beside.back_up(self._system.wall())

    async def verify_audit(self, noted: Sequence[Head] = ()) -> Verdict:
        return await self._beside.verify_audit(noted)

    def _submit(self, part: Part) -> None:
        if not self._submitted:
            self._carrier.unpark()
        self._submitted.append(part)

    async def _carry(self) -> None:
        """Bring the writer what was submitted in one pass of the loop, after it. A writer woken by the first part would
        take that one alone into a transaction, and the interpreter from whoever is about to stage the next."""
        with self._carrying:
            while True:
                if not self._submitted:
                    await self._carrier.park()
                parts, self._submitted = self._submitted, []
                for part in parts:
                    self._queue.put(part)

    def _write(self) -> None:
        with suppress(trio.RunFinishedError):
            try:
                while (first := self._queue.get()) is not None:
                    parts = self._collect(first)
                    events = self._batch.write(parts)
                    self._token.run_sync_soon(self._landed, parts, events)
            except Exception as error:  # noqa: BLE001 - raised from the block of the store
                self._token.run_sync_soon(self._break, error)

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

    def end_writer(self) -> bool:
        self._carrying.cancel()
        self._queue.put(None)
        self._thread.join(0.0 if self._staged else 1.0)
        return not self._thread.is_alive()


class InlineStore(SQLiteStore):
    """Writes on the event loop, whenever trio gets round to it. A simulation may want a commit to fail: the fault is
    named `store.commit`."""

    def _submit(self, part: Part) -> None:
        self._token.run_sync_soon(self._write, idempotent=True)

    def _write(self) -> None:
        parts = list(islice(self._staged, BATCH_PARTS))
        if not parts:
            return
        try:
            events = self._refuse(parts) if self._system.fault("store.commit") else self._batch.write(parts)
        except Exception as error:  # noqa: BLE001 - raised from the block of the store
            self._break(error)
            return
        self._landed(parts, events)
        if self._staged:
            self._token.run_sync_soon(self._write, idempotent=True)

    def _refuse(self, parts: Sequence[Part]) -> list[LoggedEvent]:
        return refuse(parts, apsw.FullError("the disk is full, says the simulation"))


def _ignore(_: BaseException | None) -> None:
    """Rows that could not be deleted go with the next ones."""


@asynccontextmanager
async def open_store(
    path: Path | None,
    system: Surroundings,
    *,
    keep_events: int = KEEP,
    vfs: str | None = None,
    backups: Path | None = None,
) -> AsyncGenerator[Store]:
    """Open the database at `path`, or one in memory for None, and own it until the block is left.

    Raises `Locked` when another process owns it, `NewerDatabase` when a newer relay wrote it, `DamagedDatabase`
    when it is not whole, `UnusableDatabase` when it is none. What is staged when the block is left is still committed.
    The log keeps the newest `keep_events`; who rebuilds state from events needs them all.
    `vfs` names the VFS through which SQLite reaches the file, if it is not to be the system's. `backups` is the folder for
    them, if it is not to be one beside the database.
    """
    with ExitStack() as stack, trio.CancelScope() as block:
        store: SQLiteStore
        if path is None:
            connection = open_memory(stack)
            store = InlineStore(system, connection, connection, keep_events, block.cancel)
        else:
            beside = Beside(path.resolve(), backups_of(path, backups), vfs)
            connections = open_file(path, beside.backups, system.wall(), vfs, stack)
            store = ThreadedStore(system, *connections, keep_events, block.cancel, beside)
        try:
            yield store
        finally:
            with trio.move_on_after(CLOSE_WITHIN, shield=True):
                await store.drain()
            if not store.end_writer():
                STUCK.append(stack.pop_all())
            store.close()
