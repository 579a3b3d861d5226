"""Maintenance jobs: when they run, what they remove, and what is known of them."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from fleetlog import Log
from trio.testing import MockClock

from relay import wire
from relay.actors import open_system, virtual_wall
from relay.fleet import Fleet, NotFound, config, jobs, open_fleet
from relay.fleet._workspace_rows import stored
from relay.store import Owner, Store, Write, open_store

DAY = 86_400.0
Outcome = wire.JobOutcome


async def run(fleet: Fleet, name: str) -> wire.Job:
    return await jobs.run_job(fleet, name, None)


def job(fleet: Fleet, name: str) -> wire.Job:
    return jobs.find_job(fleet, name)


def put(store: Store, *writes: Write) -> None:
    store.stage(writes, (), Owner(), lambda error: None)


@pytest.mark.spec("SYS-15")
async def test_every_job_is_listed_with_its_interval_and_its_next_run(fleet: Fleet) -> None:
    await trio.sleep(1)
    found = jobs.list_jobs(fleet)
    assert [each.name for each in found] == list(jobs.JOBS)
    for each in found:
        assert each.about
        assert each.next_run_at is not None
        assert (each.every_ms, each.last_run_at, each.running) == (
            jobs.JOBS[each.name].every * 1000,
            None,
            False,
        )


async def test_a_job_runs_by_the_clock_and_is_not_on_record_when_it_found_nothing(
    fleet: Fleet, log: Log
) -> None:
    await trio.sleep(31)
    first = job(fleet, "trim-events")
    assert (first.last_outcome, first.report, first.last_error) == (Outcome.DONE, {"removed": 0}, None)
    await trio.sleep(3_600)
    second = job(fleet, "trim-events")
    assert first.last_run_at is not None
    assert second.last_run_at == pytest.approx(first.last_run_at + 3_600, abs=1)
    assert second.next_run_at == pytest.approx(first.last_run_at + 7_200, abs=1)
    assert log.audits("server-maintenance-") == []


@pytest.mark.spec("SYS-15", "M-230")
async def test_the_legacy_run_is_the_job_reaper(fleet: Fleet, log: Log) -> None:
    ran = await run(fleet, "reaper")
    assert (ran.last_outcome, ran.every_ms) == (Outcome.DONE, 30_000)
    assert ran.report == {
        "reapedAgentIds": 0,
        "reapedOrchestratorIds": 0,
        "releasedMessageIds": 0,
        "releasedTaskIds": 0,
        "releasedOrphanedTaskIds": 0,
        "expiredQueuedMessageIds": 0,
        "expiredCommandIds": 0,
    }
    assert len(log.audits("server-system-reap-")) == 1


async def test_a_run_that_somebody_asked_for_is_on_record(fleet: Fleet, log: Log) -> None:
    await run(fleet, "purge-tokens")
    (record,) = log.audits("server-maintenance-purge-tokens-")
    assert (record["kind"], record["icon"], record["meta"]) == ("state", "ti-broom", "purge-tokens")
    assert record["metadata"] == {"job": "purge-tokens", "outcome": "done", "removed": 0}


async def test_a_job_that_there_is_not_is_refused(fleet: Fleet) -> None:
    with pytest.raises(NotFound, match="no such job; there are reaper, backup"):
        await run(fleet, "coffee")


async def test_a_store_in_memory_is_not_backed_up(fleet: Fleet) -> None:
    assert (await run(fleet, "backup")).last_outcome is Outcome.SKIPPED
    assert jobs.backed_up_at(fleet) is None


async def test_a_job_that_does_not_come_round_is_an_alarm(fleet: Fleet, autojump_clock: MockClock) -> None:
    await trio.sleep(40)
    assert fleet.jobs.alarms() == []
    autojump_clock.jump(3 * 900 + 31)
    assert "the maintenance job backup has not run for long" in fleet.jobs.alarms()


def workspace(name: str, status: wire.WorkspaceStatus, at: float) -> Write:
    return stored(wire.Workspace(id=name, status=status, updated_at=wire.Instant(at)))


@pytest.mark.spec("W-I27")
async def test_workspaces_are_forgotten_a_day_after_they_were_cleaned_up(fleet: Fleet, log: Log) -> None:
    now = fleet.system.wall()
    put(
        fleet.store,
        workspace("old", wire.WorkspaceStatus.CLEANED, now - DAY - 1),
        workspace("young", wire.WorkspaceStatus.CLEANED, now - DAY + 60),
        workspace("merged", wire.WorkspaceStatus.MERGED, now - 9 * DAY),
    )
    await trio.sleep(1)
    ran = await run(fleet, "purge-workspaces")
    assert ran.report == {"removed": 1, "workspaceIds": ["old"]}
    assert [key for (key,) in fleet.store.rows("select id from workspaces order by id")] == [
        "merged",
        "young",
    ]
    assert log.events("workspace.changed")[-1]["data"] == {"id": "old", "deleted": True}


async def test_nothing_is_removed_because_the_wall_clock_was_set_forward(
    autojump_clock: MockClock,
) -> None:
    ahead = 0.0
    wall = virtual_wall()
    async with (
        open_system(wall=lambda: wall() + ahead, seed=1) as system,
        open_store(None, system) as store,
        open_fleet(system, store) as fleet,
    ):
        put(store, workspace("w", wire.WorkspaceStatus.CLEANED, system.wall()))
        await trio.sleep(60)
        ahead = 9_999 * DAY
        for name in ("purge-workspaces", "trim-events", "trim-audit", "purge-automation-runs"):
            ran = await run(fleet, name)
            assert ran.report == {"removed": 0}, name
        autojump_clock.jump(DAY + 60)
        assert (await run(fleet, "purge-workspaces")).last_outcome is Outcome.DONE
        assert store.rows("select id from workspaces") == []


async def test_old_events_go_and_no_listener_meets_a_gap(fleet: Fleet, autojump_clock: MockClock) -> None:
    store = fleet.store
    await config.set_value(fleet, "maintenance", "retention", {"eventDays": 2}, None)
    for number in range(1_500):
        put(store, workspace(f"w{number}", wire.WorkspaceStatus.ACTIVE, 0.0))
        store.stage((), (_event(number),), Owner(), lambda error: None)
    await trio.sleep(1)
    autojump_clock.jump(3 * DAY)
    store.stage((), (_event(0),), Owner(), lambda error: None)
    await trio.sleep(1)
    last = store.events.last_id
    await run(fleet, "trim-events")
    assert job(fleet, "trim-events").last_outcome is Outcome.DONE
    ids = [number for (number,) in store.rows("select id from events order by id")]
    assert ids == list(range(store.events.oldest_id, store.events.last_id + 1))
    assert store.events.oldest_id <= last
    assert len(ids) < 50
    assert store.check() == []
    assert store.events.since(0)[0].id == store.events.oldest_id


def _event(number: int) -> Any:
    from relay.store import Event

    return Event("counted", "test", None, {"number": number})


async def test_old_records_of_the_audit_go_and_the_chain_stays_whole(
    fleet: Fleet, log: Log, autojump_clock: MockClock
) -> None:
    await config.set_value(fleet, "maintenance", "retention", {"auditDays": 1}, None)
    for _ in range(5):
        await run(fleet, "reaper")
    before = await jobs.verify(fleet)
    autojump_clock.jump(2 * DAY)
    await run(fleet, "trim-audit")
    await run(fleet, "reaper")
    after = await jobs.verify(fleet, before.head)
    assert after.ok
    assert int(after.anchor.partition(":")[0]) >= before.records
    notes = log.audits("server-audit-trim-")
    assert {note["view"] for note in notes} == {"security"}
    assert len(log.audits("server-system-reap-")) <= 2
    assert len(log.audits()) == after.records


async def test_runs_of_automations_that_ended_long_ago_are_forgotten(fleet: Fleet) -> None:
    now = round(fleet.system.wall() * 1000)
    insert = "insert into automation_runs (id, seq, automation_id, status, record, started_at) values (?, ?, 'a', ?, '{}', ?)"
    old = now - round(91 * DAY * 1000)
    put(
        fleet.store,
        Write(insert, ("r1", 1, "succeeded", old)),
        Write(insert, ("r2", 2, "running", old)),
        Write(insert, ("r3", 3, "failed", now)),
    )
    await trio.sleep(1)
    assert (await run(fleet, "purge-automation-runs")).report == {"removed": 1}
    assert fleet.store.rows("select id from automation_runs order by id") == [("r2",), ("r3",)]


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("other", {}, "maintenance has one entry, 'retention'"),
        ("retention", {"eventDays": 0}, "eventDays: expected an integer from 1 to 3650"),
        ("retention", {"days": 3}, "days: unknown; expected one of eventDays"),
        ("retention", [], "must be an object"),
    ],
)
async def test_settings_that_make_no_sense_are_refused(fleet: Fleet, key: str, value: Any, why: str) -> None:
    with pytest.raises(wire.Invalid, match=why):
        await config.set_value(fleet, "maintenance", key, value, None)
    assert config.find_entry(fleet.store, "maintenance", key) is None
