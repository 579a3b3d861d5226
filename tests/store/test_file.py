"""A database file: who may open it, what it is brought to, and that numbers outlive the process."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import apsw
import pytest
import trio
import trio.testing
from storekit import Outcomes, kept, put, transactions_counted, writer_held_up

from relay.actors import System
from relay.store import (
    Locked,
    NewerDatabase,
    Owner,
    StoreFailed,
    UnusableDatabase,
    Write,
    _opening,
    open_store,
    sqlite,
)

HOLDER = """
import sys, trio
from pathlib import Path
from relay.actors import open_system
from relay.store import open_store

async def main():
    async with open_system() as system, open_store(Path(sys.argv[1]), system):
        print("open", flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)

trio.run(main)
"""


async def test_commits_are_synced_and_readers_do_not_wait(tmp_path: Path, system: System) -> None:
    async with open_store(tmp_path / "relay.db", system) as store:
        writer = store._batch._connection
        assert writer.pragma("journal_mode") == "wal"
        assert writer.pragma("synchronous") == 2
        assert writer.pragma("foreign_keys") == 1
        with writer_held_up(tmp_path / "relay.db"):
            assert store.rows("select * from meta") == []


async def test_whatever_waits_for_the_disk_shares_the_next_sync(tmp_path: Path, system: System) -> None:
    async with open_store(tmp_path / "relay.db", system) as store:
        outcomes = Outcomes(store)
        with transactions_counted(store) as commits:
            with writer_held_up(tmp_path / "relay.db"):
                for number in range(400):
                    outcomes.stage(str(number), [put(str(number))])
            await outcomes.all()
        assert len(commits) <= 3


async def test_reads_cannot_write(tmp_path: Path, system: System) -> None:
    async with open_store(tmp_path / "relay.db", system) as store:
        with pytest.raises(apsw.ReadOnlyError):
            store.rows("insert into meta (key) values ('a')")


async def test_a_second_process_is_refused_and_told_who_holds_it(tmp_path: Path, system: System) -> None:
    path = tmp_path / "relay.db"
    link = tmp_path / "link.db"
    link.symlink_to(path)
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        for way in (path, link):
            with pytest.raises(Locked, match=f"process {holder.pid}$"):
                async with open_store(way, system):
                    pass
        holder.communicate("")
    assert holder.returncode == 0
    async with open_store(path, system):
        pass


async def test_a_holder_that_was_killed_holds_nothing(tmp_path: Path, system: System) -> None:
    path = tmp_path / "relay.db"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        holder.kill()
    async with open_store(path, system):
        with pytest.raises(Locked):
            async with open_store(path, system):
                pass


async def test_a_database_of_a_newer_relay_is_refused_and_left_alone(tmp_path: Path, system: System) -> None:
    path = tmp_path / "relay.db"
    async with open_store(path, system):
        pass
    connection = apsw.Connection(str(path))
    connection.pragma("user_version", 1_000)
    connection.close()
    with pytest.raises(NewerDatabase, match="schema 1000"):
        async with open_store(path, system):
            pass
    connection = apsw.Connection(str(path))
    assert connection.pragma("user_version") == 1_000
    connection.close()


async def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path, system: System) -> None:
    path = tmp_path / "relay.db"
    path.write_text("Dear diary, " * 1_000)
    with pytest.raises(UnusableDatabase, match=r"relay\.db cannot be used"):
        async with open_store(path, system):
            pass
    assert path.read_text() == "Dear diary, " * 1_000


async def test_a_place_where_no_file_can_be_is_refused(tmp_path: Path, system: System) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file" / "relay.db"):
        with pytest.raises(UnusableDatabase):
            async with open_store(path, system):
                pass


async def test_a_migration_that_fails_leaves_nothing_behind(tmp_path: Path, system: System) -> None:
    path = tmp_path / "relay.db"
    connection = apsw.Connection(str(path))
    connection.execute("create table meta (theirs)").fetchall()  # the last table of the first migration
    with pytest.raises(UnusableDatabase, match="already exists"):
        async with open_store(path, system):
            pass
    assert connection.execute("select name from sqlite_master").fetchall() == [("meta",)]
    assert connection.pragma("user_version") == 0
    connection.close()


async def test_numbers_go_on_after_a_restart_and_none_is_given_twice(tmp_path: Path, system: System) -> None:
    insert = (
        "insert into messages (id, sender, address, kind, thread_id, record, created_at)"
        " values (?, 'a', 'b', 'chat', 1, '{}', 0)"
    )
    given: list[int] = []
    for _ in range(3):
        async with open_store(tmp_path / "relay.db", system) as store:
            outcomes = Outcomes(store)
            given.append(store.next_id("messages"))
            outcomes.stage("insert", [Write(insert, (given[-1],))])
            outcomes.stage("delete", [Write("delete from messages where id = ?", (given[-1],))])
            assert await outcomes.all() == {"insert": None, "delete": None}
    assert given == [1, 2, 3]


async def test_closing_leaves_one_file_and_its_lock(tmp_path: Path, system: System) -> None:
    async with open_store(tmp_path / "relay.db", system) as store:
        outcomes = Outcomes(store)
        outcomes.stage("a", [put("a")])
        await outcomes.all()
    assert {file.name for file in tmp_path.iterdir()} == {"relay.db", "relay.db.lock"}
    async with open_store(tmp_path / "relay.db", system) as store:
        assert kept(store) == {"a"}


async def test_a_store_that_cannot_be_drained_says_so_and_keeps_its_lock(
    tmp_path: Path, system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "relay.db"
    told: list[BaseException | None] = []
    monkeypatch.setattr(sqlite, "CLOSE_WITHIN", 0.2)
    with ExitStack() as busy:
        with pytest.raises(StoreFailed, match="not written"):
            async with open_store(path, system) as store:
                thread = store._thread
                busy.enter_context(writer_held_up(path))
                store.stage((put("a"),), (), Owner(), told.append)
        assert [type(error) for error in told] == [StoreFailed]
        with pytest.raises(Locked):
            async with open_store(path, system):
                pass
    thread.join(10)
    sqlite.STUCK.pop().close()
    async with open_store(path, system) as store:
        assert kept(store) == {"a"}


@pytest.mark.parametrize("mask", [0o000, 0o022])
async def test_a_database_is_its_owners_alone(tmp_path: Path, system: System, mask: int) -> None:
    before = os.umask(mask)
    try:
        async with open_store(tmp_path / "relay.db", system) as store:
            outcomes = Outcomes(store)
            outcomes.stage("a", [put("a")])
            await outcomes.all()
            modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    finally:
        os.umask(before)
    names = ("relay.db", "relay.db-wal", "relay.db-shm", "relay.db.lock")
    assert modes == dict.fromkeys(names, 0o600)


async def test_a_database_has_never_been_readable(
    tmp_path: Path, system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def open_connection(path: str, *options: Any) -> apsw.Connection:
        seen.append(stat.S_IMODE(Path(path).stat().st_mode))  # SQLite finds it made
        return connect(path, *options)

    connect = _opening._connect
    monkeypatch.setattr(_opening, "_connect", open_connection)
    async with open_store(tmp_path / "relay.db", system):
        pass
    assert seen == [0o600, 0o600]


async def test_the_mode_of_a_database_that_is_there_is_its_owners_choice(
    tmp_path: Path, system: System
) -> None:
    path = tmp_path / "relay.db"
    async with open_store(path, system):
        pass
    path.chmod(0o640)
    async with open_store(path, system):
        assert stat.S_IMODE(path.stat().st_mode) == 0o640


async def test_a_link_to_a_database_that_is_not_there_leads_to_a_private_one(
    tmp_path: Path, system: System
) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "relay.db")
    async with open_store(tmp_path / "link.db", system):
        assert stat.S_IMODE((tmp_path / "relay.db").stat().st_mode) == 0o600


async def test_a_store_that_is_closed_leaves_no_task_and_no_thread(tmp_path: Path, system: System) -> None:
    def running() -> tuple[int, int]:
        return trio.lowlevel.current_statistics().tasks_living, threading.active_count()

    before = running()
    for number in range(3):
        async with open_store(tmp_path / "relay.db", system) as store:
            outcomes = Outcomes(store)
            outcomes.stage(str(number), [put(str(number))])
            await outcomes.all()
        async with open_store(tmp_path / "relay.db", system):
            pass  # closed before its tasks have run
    await trio.testing.wait_all_tasks_blocked()
    assert running() == before


async def test_what_is_staged_as_the_last_thing_is_kept(tmp_path: Path, system: System) -> None:
    told: list[BaseException | None] = []
    async with open_store(tmp_path / "relay.db", system) as store:
        store.stage((put("last"),), (), Owner(), told.append)
    assert told == [None]
    async with open_store(tmp_path / "relay.db", system) as store:
        assert kept(store) == {"last"}
