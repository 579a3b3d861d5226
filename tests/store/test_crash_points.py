"""The power is lost at every write and sync of the store: all it acknowledged is found, and nothing by halves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import apsw
import pytest
from storekit import Outcomes, event, kept, lost_fence, put

from relay.actors import System
from relay.store import (
    Event,
    LoggedEvent,
    Owner,
    Store,
    UnusableDatabase,
    _opening,
    open_store,
)
from relay.store._batch import Batch, Part
from relay.store._migrations import SCRIPTS
from relay.testing.crashes import Crash, Disk, recorded

BATCHES = (1, 4, 2)
"""How many parts are staged at once. Behind each batch comes a part that fails."""


async def write(store: Store, disk: Disk) -> None:
    """Stage parts of two rows and an event each, numbered like the events, and tell the disk what is acknowledged."""
    for batch in BATCHES:
        first = store.events.last_id + 1
        for number in range(first, first + batch):
            rows = (put(f"{number}", "x" * 3_000), put(f"{number}-twin"))
            done = partial(acknowledge, disk, number)
            store.stage(rows, (Event("put", "test", f"{number}", {}),), Owner(), done)
        fails = Outcomes(store)
        fails.stage("fails", [put("never"), lost_fence()], [event(0)])
        assert (await fails.all())["fails"] is not None


def acknowledge(disk: Disk, number: int, error: BaseException | None) -> None:
    assert error is None
    disk.acknowledge(number)


def checkpoint(path: Path, vfs: str) -> None:
    with closing(apsw.Connection(str(path), vfs=vfs)) as connection:
        busy, *_ = connection.execute("pragma wal_checkpoint(restart)").fetchone()
        assert not busy


async def live(disk: Disk, system: System) -> None:
    """A database is made, written, checkpointed, written from the begin of its log again, closed, opened, written."""
    path = disk.directory / "relay.db"
    async with open_store(path, system, vfs=disk.vfs) as store:
        await write(store, disk)
        checkpoint(path, disk.vfs)
        await write(store, disk)
    async with open_store(path, system, vfs=disk.vfs) as store:
        await write(store, disk)


async def verify(crash: Crash, system: System, within: Path) -> int:
    """Open the store on what is found. Returns how many parts there are."""
    with crash.restored(within) as directory:
        async with open_store(directory / "relay.db", system) as store:
            assert store.rows("pragma integrity_check") == [("ok",)]
            assert store.check() == []
            count = store.events.last_id
            numbers = {f"{number}" for number in range(1, count + 1)}
            subjects = {subject for (subject,) in store.rows("select subject from events")}
            assert subjects == numbers, "a part is missing, and a later one is there"
            assert kept(store) == {*numbers, *(f"{number}-twin" for number in numbers)}, (
                "half a part is there"
            )
            assert max(crash.acknowledged, default=0) <= count, "an acknowledged part is lost"
            return count


async def test_whenever_the_power_is_lost_all_that_was_acknowledged_is_found(
    tmp_path: Path, system: System
) -> None:
    with recorded(tmp_path) as disk:
        await live(disk, system)
    found = [await verify(crash, system, tmp_path) for crash in disk.crashes(samples=2)]
    assert (min(found), max(found)) == (0, 3 * sum(BATCHES))
    print(f"{disk.boundaries} boundaries, {len(found)} crashes")
    assert disk.boundaries > 250
    assert len(found) > 1_000


async def test_power_that_is_lost_again_during_recovery_changes_nothing(
    tmp_path: Path, system: System
) -> None:
    with recorded(tmp_path) as disk:
        await live(disk, system)
    interesting = [crash for crash in disk.crashes() if crash.acknowledged and "relay.db-wal" in crash.files]
    boundaries = 0
    for crash in interesting[:: len(interesting) // 6]:
        with crash.restored(tmp_path) as directory, recorded(directory) as again:
            for number in crash.acknowledged:
                again.acknowledge(number)
            async with open_store(directory / "relay.db", system, vfs=again.vfs):
                pass
        boundaries += again.boundaries
        for second in again.crashes(samples=1):
            await verify(second, system, tmp_path)
    assert boundaries > 100


def not_synced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_opening, "PRAGMAS", (*_opening.PRAGMAS, "synchronous = off"))


def synced_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_opening, "PRAGMAS", (*_opening.PRAGMAS, "synchronous = normal"))


def a_transaction_for_each_statement(monkeypatch: pytest.MonkeyPatch) -> None:
    def write(batch: Batch, parts: Sequence[Part]) -> list[LoggedEvent]:
        logged = []
        for part in parts:
            try:
                logged += batch._apply(part)
            except Exception as error:
                part.error = error
        return logged

    monkeypatch.setattr(Batch, "write", write)


def migrations_without_transaction(monkeypatch: pytest.MonkeyPatch) -> None:
    def migrate(connection: apsw.Connection) -> None:
        if connection.pragma("user_version") == 0:
            for number, script in SCRIPTS:
                connection.execute(script).fetchall()
                connection.pragma("user_version", number)

    monkeypatch.setattr(_opening, "migrate", migrate)


@pytest.mark.parametrize(
    ("mutation", "complaint"),
    [
        (not_synced, "an acknowledged part is lost"),
        (synced_now_and_then, "an acknowledged part is lost"),
        (a_transaction_for_each_statement, "half a part is there"),
        (migrations_without_transaction, "already exists"),
    ],
)
async def test_a_store_that_takes_less_care_is_found_out(
    tmp_path: Path,
    system: System,
    monkeypatch: pytest.MonkeyPatch,
    mutation: Callable[[pytest.MonkeyPatch], None],
    complaint: str,
) -> None:
    with recorded(tmp_path) as disk, monkeypatch.context() as context:
        mutation(context)
        await live(disk, system)
    with pytest.raises((AssertionError, UnusableDatabase), match=complaint):
        for crash in disk.crashes(samples=0):
            await verify(crash, system, tmp_path)


async def test_a_disk_that_lies_is_found_out(tmp_path: Path, system: System) -> None:
    with recorded(tmp_path) as disk:
        await live(disk, system)
    with pytest.raises((AssertionError, UnusableDatabase)):
        for crash in disk.crashes(samples=0, honest=False):
            await verify(crash, system, tmp_path)
