"""Backups, restoring, jobs and the audit from the command line."""

from __future__ import annotations

import os
import re
import signal
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import click.testing
import pytest
import trio
from shell import Run, Served, answer, invoke, relay, serving, started

from relay import wire
from relay.actors import open_system
from relay.fleet import agents, open_fleet
from relay.fleet.restoring import FURTHER
from relay.store import open_store


@pytest.fixture
def alone(nowhere: Path) -> Path:
    """A home of which no server is up any more; two agents registered there."""
    add(nowhere, "a1", "a2")
    return nowhere


def add(home: Path, *names: str) -> None:
    """What a server leaves behind where these register."""

    async def live() -> None:
        async with (
            open_system() as system,
            open_store(home / "relay.db", system) as store,
            open_fleet(system, store) as fleet,
        ):
            for name in names:
                await fleet.agents[name].ask(agents.Register(wire.RegisterAgent(id=name)))

    trio.run(live)


def rows(path: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(apsw.Connection(str(path))) as connection:
        return connection.execute(sql).fetchall()


def registered(path: Path) -> list[str]:
    return [name for (name,) in rows(path, "select id from agents where kind = 'provider' order by id")]


def test_a_backup_is_made_listed_and_restored(alone: Path) -> None:
    made = answer(invoke("backup", "--json"))
    assert (made["tables"]["activity"], Path(made["file"]).parent) == (2, alone / "backups")
    assert [each["file"] for each in answer(invoke("backup", "--list", "--json"))] == [made["file"]]
    assert made["file"] in invoke("backup", "--list").output
    add(alone, "a3")
    assert registered(alone / "relay.db") == ["a1", "a2", "a3"]
    restored = answer(invoke("restore", "--json"))
    assert registered(alone / "relay.db") == ["a1", "a2"]
    assert registered(Path(restored["aside"])) == ["a1", "a2", "a3"]
    with serving(alone) as served:
        served.register("a4")
    assert registered(alone / "relay.db") == ["a1", "a2", "a4"]
    verdict = answer(invoke("audit", "verify", "--database", str(alone / "relay.db"), "--json"))
    assert (verdict["ok"], verdict["records"]) == (True, 4)


def test_a_restored_database_gives_no_number_twice(alone: Path) -> None:
    add(alone, "a3")
    before = {
        name: rows(alone / "relay.db", sql)[0][0]
        for name, sql in (
            ("events", "select max(id) from events"),
            ("messages", "select coalesce(max(seq), 0) from sqlite_sequence where name = 'messages'"),
        )
    }
    answer(invoke("backup", "--json"))
    answer(invoke("restore", "--json"))
    events = rows(alone / "relay.db", "select id, type from events order by id")
    assert events == [
        (before["events"] + FURTHER, "system.restored"),
        (before["events"] + FURTHER + 1, "activity.created"),
    ]
    ((messages,),) = rows(alone / "relay.db", "select seq from sqlite_sequence where name = 'messages'")
    assert messages == before["messages"] + FURTHER
    assert rows(alone / "relay.db", "select value from meta where key = 'fences.floor'") == [(str(FURTHER),)]
    ((record,),) = rows(alone / "relay.db", "select client_id from activity order by id desc limit 1")
    assert record.startswith("server-system-restore-")


def test_a_server_that_is_up_is_in_the_way_and_named(run: Run, server: Served) -> None:
    path = str(server.home / "relay.db")
    for verb in ("backup", "restore"):
        if verb == "restore":
            assert answer(run("jobs", "run", "backup", "--json"))["ok"]
        result = run(verb, "--database", path, "--json")
        assert result.exit_code == 1
        assert re.search(r"is in use by process \d+", result.stderr), result.stderr
        assert "next" in result.stderr


def test_a_backup_to_a_file_of_ones_choice(alone: Path, tmp_path: Path) -> None:
    to = tmp_path / "elsewhere.db"
    assert "it was checked" in invoke("backup", "--to", str(to)).output
    assert registered(to) == ["a1", "a2"]
    again = invoke("backup", "--to", str(to))
    assert (again.exit_code, "is there already" in again.output) == (1, True)
    assert invoke("restore", "--from", str(to)).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("restore",), "there is no backup in"),
        (("restore", "--from", "/nowhere/at-all.db"), "there is no backup /nowhere/at-all.db"),
        (("backup", "--database", "/nowhere/at-all.db"), "there is no database"),
    ],
)
def test_what_is_not_there_is_said(alone: Path, arguments: tuple[str, ...], why: str) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 1
    assert why in result.output
    assert "next:" in result.output
    assert registered(alone / "relay.db") == ["a1", "a2"]


def test_jobs_are_listed_and_run(run: Run) -> None:
    assert "backup" in run("jobs").output
    found = {job["name"]: job for job in answer(run("jobs", "--json"))}
    assert found["backup"]["everyMs"] == 900_000
    assert "backup is done" in run("jobs", "run", "backup").output
    assert answer(run("jobs", "run", "trim-events", "--json"))["job"]["report"] == {"removed": 0}
    unknown = run("jobs", "run", "coffee")
    assert (unknown.exit_code, "no such job" in unknown.output) == (1, True)


def verify(*arguments: str) -> click.testing.Result:
    return invoke("audit", "verify", *arguments)


def test_the_audit_is_verified_by_the_server_and_without_one(run: Run, server: Served, alone: Path) -> None:
    served = verify("--url", server.url, "--token-file", str(server.home / "token"))
    assert served.exit_code == 0, served.output
    assert f"{server.url}: " in served.output
    read = verify()
    assert read.exit_code == 0, read.output
    assert f"{alone / 'relay.db'}: 2 records, all as they were written" in read.output
    head = read.output.rpartition("head ")[2].strip()
    assert verify("--head", head).exit_code == 0
    assert verify("--head", head.replace("2:", "9:")).exit_code == 1
    assert "the head is none" in verify("--head", "nonsense").output


def test_damage_to_the_audit_is_named_and_the_doctor_sees_it(alone: Path) -> None:
    path = alone / "relay.db"
    assert "✓ audit        2 records" in invoke("doctor").output
    with closing(apsw.Connection(str(path))) as connection:
        connection.execute("drop trigger activity_never_changes")
        connection.execute("update activity set record = '{}' where id = 2")
    result = verify()
    assert result.exit_code == 1
    assert "changed    record 2 of link 2" in result.output
    assert "NOT as they were written" in result.output
    assert "✗ audit        changed: record 2 of link 2" in invoke("doctor").output


def test_the_doctor_knows_how_old_the_backups_are(alone: Path) -> None:
    assert "✓ backup       none in" in invoke("doctor").output
    invoke("backup")
    assert "✓ backup       1 in" in invoke("doctor").output
    (manifest,) = (alone / "backups").glob("*.json")
    manifest.write_text(re.sub(r'"at": \d+', '"at": 1000', manifest.read_text()))
    os.utime(alone / "relay.db.lock", (1, 1))
    assert "✗ backup       1 in" in invoke("doctor").output


def test_a_restore_that_is_killed_leaves_a_database_that_serves(alone: Path) -> None:
    """Whenever that is: at the first file that it makes, and at the last."""
    answer(invoke("backup", "--json"))
    add(alone, "a3")
    for wanted in ("relay.db.restoring", "relay.db.before-restore-*"):
        with started("restore", RELAY_HOME=str(alone)) as process:
            until = time.monotonic() + 20
            while not list(alone.glob(wanted)) and process.poll() is None and time.monotonic() < until:
                pass
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert registered(alone / "relay.db") in (["a1", "a2", "a3"], ["a1", "a2"])
        add(alone)
    assert relay("restore", RELAY_HOME=str(alone)).returncode == 0
    assert registered(alone / "relay.db") == ["a1", "a2"]


def overwrite(path: Path, table: str) -> None:
    """One page of the table is another."""
    ((root,),) = rows(path, f"select rootpage from sqlite_schema where name = '{table}'")
    ((size,),) = rows(path, "pragma page_size")
    with path.open("r+b") as file:
        file.seek((root - 1) * size)
        file.write(b"\x77" * 64)


def test_a_damaged_database_is_not_served_and_what_helps_is_named(alone: Path) -> None:
    answer(invoke("backup", "--json"))
    path = alone / "relay.db"
    overwrite(path, "messages")
    damaged = path.read_bytes()
    start = invoke("serve", "--port", "0")
    assert start.exit_code == 1
    assert f"{path} is damaged" in start.output
    assert "next: relay restore puts a backup in its place" in start.output
    refused = invoke("backup")
    assert (refused.exit_code, "relay restore" in refused.output) == (1, True), refused.output
    assert len(answer(invoke("backup", "--list", "--json"))) == 1
    restored = answer(invoke("restore", "--json"))
    assert Path(restored["aside"]).read_bytes()[100:] == damaged[100:]
    with serving(alone) as served:
        served.register("a4")
    assert registered(path) == ["a1", "a2", "a4"]


def test_a_backup_of_a_newer_relay_and_a_damaged_one_are_refused(alone: Path) -> None:
    (alone / "backups").mkdir()
    before = (alone / "relay.db").read_bytes()
    made = answer(invoke("backup", "--to", str(alone / "newer.db"), "--json"))
    newer, damaged = Path(made["file"]), alone / "damaged.db"
    damaged.write_bytes(newer.read_bytes())
    overwrite(damaged, "messages")
    newer.with_suffix(".json").unlink()
    with closing(apsw.Connection(str(newer))) as connection:
        connection.execute("pragma user_version = 999").fetchall()
    for backup, why in ((newer, "has schema 999"), (damaged, "is damaged")):
        result = invoke("restore", "--from", str(backup))
        assert result.exit_code == 1
        assert "nothing was restored" in result.output
        assert why in result.output
        assert "next: relay backup --list" in result.output
    assert (alone / "relay.db").read_bytes() == before
    assert not list(alone.glob("relay.db.*restor*"))


def test_an_older_backup_is_no_tampering(alone: Path) -> None:
    """Backups made since have noted what is not there any more, and the audit says why."""
    old = answer(invoke("backup", "--json"))["file"]
    add(alone, "a3")
    answer(invoke("backup", "--json"))
    answer(invoke("restore", "--from", old, "--json"))
    add(alone, "a4", "a5")
    verdict = answer(invoke("audit", "verify", "--json"))
    assert (verdict["ok"], verdict["damages"]) == (True, [])
    with closing(apsw.Connection(str(alone / "relay.db"))) as connection:
        connection.execute("drop trigger activity_never_changes")
        connection.execute("update activity set record = '{}' where id = 2")
    assert invoke("audit", "verify").exit_code == 1
