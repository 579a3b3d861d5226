"""Maintenance jobs on a database that is a file: backups, and the chain of the audit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import orjson
import pytest
import trio
from trio.testing import MockClock

from relay import wire
from relay.actors import System, open_system, virtual_wall
from relay.fleet import Fleet, config, jobs, open_fleet
from relay.store import Owner, Write, open_store
from relay.store.backups import backups_of, check, list_backups

DAY = 86_400.0
Outcome = wire.JobOutcome


async def run(fleet: Fleet, name: str) -> wire.Job:
    return await jobs.run_job(fleet, name, None)


def job(fleet: Fleet, name: str) -> wire.Job:
    return jobs.find_job(fleet, name)


def audits(fleet: Fleet, prefix: str) -> list[dict[str, Any]]:
    sql = "select record from activity where client_id glob ? order by id"
    return [orjson.loads(record) for (record,) in fleet.store.rows(sql, f"{prefix}*")]


def tamper(path: Path, *statements: str) -> None:
    with closing(apsw.Connection(str(path))) as other:
        other.execute("drop trigger activity_never_changes")
        for statement in statements:
            other.execute(statement)


@pytest.fixture
async def system(mock_clock: MockClock) -> AsyncIterator[System]:
    """Its time stands still until a test moves it on."""
    async with open_system(wall=virtual_wall(), seed=1) as system:
        yield system


@pytest.fixture
async def fleet(tmp_path: Path, system: System) -> AsyncIterator[Fleet]:
    async with open_store(tmp_path / "relay.db", system) as store, open_fleet(system, store) as fleet:
        yield fleet


async def comes_round(fleet: Fleet, name: str, clock: MockClock, seconds: float) -> wire.Job:
    """That much later the job has run once more."""
    before = job(fleet, name)
    clock.jump(seconds)
    while (now := job(fleet, name)).running or now.last_run_at == before.last_run_at:
        await trio.lowlevel.checkpoint()
    return now


async def test_a_backup_is_made_every_quarter_of_an_hour(
    fleet: Fleet, tmp_path: Path, mock_clock: MockClock
) -> None:
    folder = backups_of(tmp_path / "relay.db")
    for number, seconds in enumerate((30, 900, 900), 1):
        ran = await comes_round(fleet, "backup", mock_clock, seconds)
        assert (ran.last_outcome, len(list_backups(folder))) == (Outcome.DONE, number)
    for backup in list_backups(folder):
        check(backup.path)
    assert jobs.backed_up_at(fleet) == fleet.system.wall()


async def test_of_two_runs_of_one_job_the_second_comes_after_the_first(fleet: Fleet, tmp_path: Path) -> None:
    going_on = 0

    async def ask() -> None:
        nonlocal going_on
        await run(fleet, "verify-audit")
        going_on += job(fleet, "verify-audit").running

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(ask)
    assert len(audits(fleet, "server-maintenance-verify-audit-")) == 3


async def test_what_is_known_of_a_job_outlives_the_server(tmp_path: Path, mock_clock: MockClock) -> None:
    async def live(*names: str) -> wire.Job:
        async with (
            open_system(wall=virtual_wall(), seed=1) as system,
            open_store(tmp_path / "relay.db", system) as store,
            open_fleet(system, store) as fleet,
        ):
            await system.idle()
            known = job(fleet, "backup")
            for name in names:
                await run(fleet, name)
            return known

    assert (await live("backup")).last_run_at is None
    began = trio.current_time() + 1_700_000_000.0
    mock_clock.jump(300)
    again = await live()
    assert (again.last_outcome, again.last_run_at, again.next_run_at) == (Outcome.DONE, began, began + 900)
    mock_clock.jump(DAY)
    assert (await live()).next_run_at == began + 300 + DAY + 30


async def test_a_job_that_fails_is_known_to_have_and_tries_again(
    fleet: Fleet, tmp_path: Path, mock_clock: MockClock
) -> None:
    """The folder for the backups is a file."""
    folder = backups_of(tmp_path / "relay.db")
    folder.write_text("in the way")
    failed = await run(fleet, "backup")
    assert failed.last_outcome is Outcome.FAILED
    assert "no backup could be made" in (failed.last_error or "")
    assert fleet.jobs.alarms() == ["the maintenance job backup failed"]
    (record,) = audits(fleet, "server-maintenance-backup-")
    assert (record["title"], record["icon"]) == ("maintenance job backup failed", "ti-alert-triangle")
    assert (await comes_round(fleet, "backup", mock_clock, 900)).last_outcome is Outcome.FAILED
    folder.unlink()
    assert (await comes_round(fleet, "backup", mock_clock, 900)).last_outcome is Outcome.DONE
    await run(fleet, "backup")
    titles = [record["title"] for record in audits(fleet, "server-maintenance-backup-")]
    assert titles == [f"maintenance job backup {news}" for news in ("failed", "works again", "ran")]
    assert "the maintenance job backup failed" not in fleet.jobs.alarms()


async def test_a_chain_that_was_tampered_with_is_an_alarm_and_is_not_trimmed(
    fleet: Fleet, tmp_path: Path, mock_clock: MockClock
) -> None:
    await config.set_value(fleet, "maintenance", "retention", {"auditDays": 1}, None)
    await run(fleet, "reaper")
    await run(fleet, "reaper")
    tamper(tmp_path / "relay.db", "update activity set record = '{}' where id = 1")
    verdict = await jobs.verify(fleet)
    assert [(each.kind, each.record) for each in verdict.damages] == [("changed", 1)]
    mock_clock.jump(2 * DAY)
    ran = await run(fleet, "verify-audit")
    assert ran.last_outcome is Outcome.FAILED
    assert "changed: record 1 of link 1" in (ran.last_error or "")
    assert (await run(fleet, "trim-audit")).last_outcome is Outcome.FAILED
    assert fleet.store.row("select count(*) from activity where id = 1") == (1,)
    assert "the maintenance job verify-audit failed" in fleet.jobs.alarms()


async def test_a_backup_is_a_witness_of_the_audit(fleet: Fleet, tmp_path: Path) -> None:
    await run(fleet, "reaper")
    await run(fleet, "backup")
    everything = ("activity", "audit_chain", "sqlite_sequence")
    tamper(tmp_path / "relay.db", *(f"delete from {table}" for table in everything))
    verdict = await jobs.verify(fleet)
    assert [each.kind for each in verdict.damages] == ["truncated"]


async def test_a_server_that_stops_does_not_wait_for_a_backup(tmp_path: Path) -> None:
    """It is given up between two steps, and leaves nothing of itself."""
    path = tmp_path / "relay.db"
    async with open_system() as system, open_store(path, system) as store, open_fleet(system, store) as fleet:
        rows = tuple(Write("insert into meta values (?, ?)", (f"k{n}", "x" * 4_000)) for n in range(5_000))
        store.stage(rows, (), Owner(), lambda error: None)
        while store.row("select count(*) from meta where key like 'k%'") != (5_000,):
            await trio.sleep(0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, fleet, "backup")
            while not job(fleet, "backup").running:
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        with trio.fail_after(60):
            await fleet.keepers.stop()
    assert list(backups_of(path).glob("*.partial*")) == []
    for backup in list_backups(backups_of(path)):
        check(backup.path)
