"""Upgrades of hosts: what is asked, what contact makes of it, and that each comes out once."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio
from fleetlog import Log
from trio.testing import wait_all_tasks_blocked

from relay import __version__, wire
from relay.actors import System
from relay.fleet import Caller, Conflict, Fleet, Invalid, NotFound, commands, open_fleet, orchestrators
from relay.store import Owner, Store, Write

U, C = wire.UpgradeStatus, wire.CommandStatus
ME = Caller("root", "root")


async def register(fleet: Fleet, version: str | None = "0.12.0", key: str = "o1") -> wire.Orchestrator:
    card = wire.RegisterOrchestrator(id=key, hostname="h", base_dir="/home/u", version=version)
    return (await fleet.orchestrators[key].ask(orchestrators.Register(card))).orchestrator


async def upgrade(fleet: Fleet, to: str | None = "0.13.0", **asked: Any) -> wire.Command:
    new = wire.UpgradeOrchestrator(action="upgrade", target_version=to, **asked)
    return (await fleet.orchestrators["o1"].ask(orchestrators.Upgrade(new, ME))).command


async def beat(fleet: Fleet, version: str | None = None) -> wire.Orchestrator:
    told = wire.OrchestratorHeartbeat(version=version)
    return await fleet.orchestrators["o1"].ask(orchestrators.Heartbeat(told))


def record(fleet: Fleet) -> wire.Upgrade:
    found = orchestrators.get_orchestrator(fleet.store, "o1").upgrade
    assert found is not None
    return found


def command(fleet: Fleet, made: wire.Command) -> wire.Command:
    return commands.get_command(fleet.store, made.id)


@pytest.mark.spec("W-36", "ORC-42", "W-I33")
async def test_an_upgrade_is_a_command_and_a_record_with_the_same_instant(fleet: Fleet, log: Log) -> None:
    await register(fleet)
    place = len(log.events())
    made = await upgrade(fleet)
    assert (made.type, made.target, made.source) == ("orchestrator.upgrade", "orchestrator-o1", "system")
    assert made.ttl_ms == 600_000
    assert made.params["providers"] == ["orchestrator"]
    assert made.params["force"] is False
    assert made.params["orchestratorId"] == "o1"
    known = wire.to_json(record(fleet))
    assert known == {
        "desiredVersion": "0.13.0",
        "status": "pending",
        "commandId": made.id,
        "providers": ["orchestrator"],
        "fromVersion": "0.12.0",
        "requestedBy": "dashboard",
        "requestedAt": made.params["requestedAt"],
    }
    types = [event["type"] for event in log.events()[place:]]
    assert types == ["command.requested", "orchestrator.status", "activity.created"]
    [audit] = log.audits(f"server-orchestrator-upgrade-o1-{made.id}")
    assert (audit["body"], audit["icon"], audit["view"]) == (
        "0.12.0 → 0.13.0",
        "ti-arrow-up-circle",
        "orchestrators",
    )
    assert audit["metadata"] == {
        "orchestratorId": "o1",
        "targetVersion": "0.13.0",
        "providers": ["orchestrator"],
        "commandId": made.id,
        "authSub": "root",
        "authRole": "root",
    }


@pytest.mark.spec("M-167", "W-37", "W-38", "W-40", "W-41", "W-42", "ORC-40", "ORC-41")
@pytest.mark.parametrize(
    ("version", "asked", "refused"),
    [
        ("0.12.0", {"to": "0.11.9"}, Conflict),
        ("0.12.0", {"to": "0.11.9", "force": "true"}, Conflict),
        ("0.12.0", {"to": "0.11.9", "force": 1}, Conflict),
        ("0.12.0", {"to": "0.11.9", "force": True}, None),
        ("0.12.0", {"to": "0.12.0"}, None),
        ("0.12.0", {"to": "0.12.0-rc.1"}, None),
        ("0.9.0", {"to": "0.10.0"}, None),
        (None, {"to": "0.0.1"}, None),
        ("dev", {"to": "0.0.1"}, None),
        ("0.12.0", {"providers": ["bogus"]}, Invalid),
        ("0.12.0", {"providers": []}, Invalid),
        ("0.12.0", {"providers": ["codex", "bogus"]}, None),
        (None, {"to": None}, None),
    ],
)
async def test_what_may_be_asked_for(
    fleet: Fleet, log: Log, version: str | None, asked: Any, refused: type[Exception] | None
) -> None:
    await register(fleet, version)
    place = len(log.events())
    if refused is None:
        made = await upgrade(fleet, **asked)
        assert made.params["targetVersion"] == (asked.get("to", "0.13.0") or __version__)
        assert "bogus" not in made.params["providers"]
        assert ("fromVersion" in wire.to_json(record(fleet))) == (version is not None)
        return
    with pytest.raises(refused):
        await upgrade(fleet, **asked)
    assert orchestrators.get_orchestrator(fleet.store, "o1").upgrade is None
    assert commands.list_commands(fleet.store) == []
    assert len(log.events()) == place


async def test_an_unknown_host_is_not_upgraded(fleet: Fleet) -> None:
    with pytest.raises(NotFound):
        await upgrade(fleet)


@pytest.mark.spec("M-168", "W-44", "ORC-44", "ORC-45", "H-08", "M-I45", "W-I31")
async def test_the_wanted_version_settles_it_once(fleet: Fleet, log: Log) -> None:
    await register(fleet)
    made = await upgrade(fleet)
    place = len(log.events())
    await beat(fleet, "0.13.0")
    settled = record(fleet)
    assert settled.status is U.SUCCEEDED
    assert settled.settled_at is not None
    assert (settled.from_version, settled.error) == ("0.12.0", None)
    done = command(fleet, made)
    assert (done.status, done.result) == (C.SUCCEEDED, {"version": "0.13.0", "fromVersion": "0.12.0"})
    types = [event["type"] for event in log.events()[place:]]
    assert types == ["command.succeeded", "orchestrator.status", "activity.created"]
    [audit] = log.audits("server-orchestrator-upgraded-o1-")
    assert audit["metadata"] == {"orchestratorId": "o1", "version": "0.13.0", "commandId": made.id}
    assert audit["body"] == "0.12.0 → 0.13.0"
    place = len(log.events())
    for version in ("0.13.0", "0.12.0", None):
        await beat(fleet, version)
    await register(fleet, "0.12.0")
    assert record(fleet) == settled
    assert not log.audits("server-orchestrator-upgrade-failed-o1-")
    told = [event["type"] for event in log.events()[place:]]
    assert not [each for each in told if each.startswith("command.")]


@pytest.mark.spec("M-169", "W-45", "W-47")
async def test_the_old_version_fails_it_after_five_minutes_and_not_at_five(
    fleet: Fleet, log: Log, system: System
) -> None:
    await register(fleet)
    made = await upgrade(fleet)
    requested = record(fleet).requested_at
    assert requested is not None
    for _ in range(4):
        await trio.sleep(60)
        await beat(fleet, "0.12.0")
    await trio.sleep(requested + 300 - system.wall())
    await beat(fleet, "0.12.0")
    assert record(fleet).status is U.PENDING
    await trio.sleep(0.001)
    await beat(fleet, "0.12.0")
    failed = record(fleet)
    assert failed.status is U.FAILED
    assert failed.error is not None
    assert "0.12.0" in failed.error
    assert "0.13.0" in failed.error
    assert (command(fleet, made).status, command(fleet, made).error) == (C.FAILED, failed.error)
    [audit] = log.audits("server-orchestrator-upgrade-failed-o1-")
    assert (audit["body"], audit["icon"]) == (failed.error, "ti-alert-triangle")
    await beat(fleet, "0.13.0")
    assert record(fleet) == failed
    assert not log.audits("server-orchestrator-upgraded-o1-")


@pytest.mark.spec("W-46", "W-I30")
async def test_who_comes_back_late_with_the_wanted_version_has_arrived(fleet: Fleet) -> None:
    await register(fleet)
    made = await upgrade(fleet)
    await trio.sleep(360)
    assert (await register(fleet, "0.13.0")).upgrade == record(fleet)
    assert record(fleet).status is U.SUCCEEDED
    assert command(fleet, made).status is C.SUCCEEDED


@pytest.mark.spec("W-46")
async def test_a_command_that_has_timed_out_stays_so_and_the_record_is_settled(
    fleet: Fleet, log: Log
) -> None:
    await register(fleet)
    made = await upgrade(fleet)
    await trio.sleep(700)
    assert command(fleet, made).status is C.TIMED_OUT
    assert record(fleet).status is U.PENDING, "no timer settles it"
    await register(fleet, "0.13.0")
    assert record(fleet).status is U.SUCCEEDED
    assert command(fleet, made).status is C.TIMED_OUT
    assert len(log.audits("server-orchestrator-upgraded-o1-")) == 1


@pytest.mark.spec("W-48", "W-I29")
async def test_registration_and_heartbeats_at_once_settle_it_once(fleet: Fleet, log: Log) -> None:
    await register(fleet)
    await upgrade(fleet)
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(register, fleet, "0.13.0")
            nursery.start_soon(beat, fleet, "0.13.0")
    assert len(log.audits("server-orchestrator-upgraded-o1-")) == 1
    assert record(fleet).status is U.SUCCEEDED


@pytest.mark.spec("W-50")
async def test_the_version_it_has_arrives_with_the_next_contact(fleet: Fleet) -> None:
    await register(fleet)
    await upgrade(fleet, "0.12.0")
    assert record(fleet).status is U.PENDING
    await beat(fleet)
    assert record(fleet).status is U.SUCCEEDED


async def test_versions_must_be_the_same_text(fleet: Fleet) -> None:
    await register(fleet, "0.12.0-rc.1")
    await upgrade(fleet, "0.12.0")
    await beat(fleet, "0.12.0-rc.1")
    assert record(fleet).status is U.PENDING


@pytest.mark.spec("ORC-46", "P15")
async def test_a_second_upgrade_replaces_the_first_and_cancels_its_command(fleet: Fleet, log: Log) -> None:
    await register(fleet)
    first = await upgrade(fleet)
    second = await upgrade(fleet, "0.14.0")
    assert command(fleet, first).status is C.CANCELED
    assert command(fleet, second).status is C.PENDING
    await wait_all_tasks_blocked()
    assert (record(fleet).command_id, record(fleet).status) == (second.id, U.PENDING)
    assert not log.audits("server-orchestrator-upgrade-failed-o1-")
    await beat(fleet, "0.13.0")
    assert record(fleet).status is U.PENDING
    await beat(fleet, "0.14.0")
    assert record(fleet).status is U.SUCCEEDED
    assert len(log.audits("server-orchestrator-upgraded-o1-")) == 1


@pytest.mark.spec("W-I29")
@pytest.mark.parametrize("status", [C.FAILED, C.REJECTED])
async def test_an_executor_that_gives_up_fails_the_record_at_once(
    fleet: Fleet, log: Log, status: wire.CommandStatus
) -> None:
    await register(fleet)
    made = await upgrade(fleet)
    change = wire.PatchCommand(status=status, error="no room on the disk")
    await fleet.commands[made.id].ask(commands.Patch(change))
    await wait_all_tasks_blocked()
    assert (record(fleet).status, record(fleet).error) == (U.FAILED, "no room on the disk")
    assert len(log.audits("server-orchestrator-upgrade-failed-o1-")) == 1
    await beat(fleet, "0.13.0")
    assert record(fleet).status is U.FAILED


async def test_a_person_who_cancels_the_command_gives_up_the_upgrade(fleet: Fleet) -> None:
    await register(fleet)
    made = await upgrade(fleet)
    await fleet.commands[made.id].ask(commands.Cancel())
    await wait_all_tasks_blocked()
    assert record(fleet).status is U.FAILED
    again = await upgrade(fleet)
    assert (record(fleet).command_id, record(fleet).status) == (again.id, U.PENDING)


async def test_an_executor_that_reports_success_does_not_settle_the_record(fleet: Fleet) -> None:
    await register(fleet)
    made = await upgrade(fleet)
    await fleet.commands[made.id].ask(commands.Patch(wire.PatchCommand(status=C.SUCCEEDED)))
    await wait_all_tasks_blocked()
    assert record(fleet).status is U.PENDING
    await beat(fleet, "0.13.0")
    assert record(fleet).status is U.SUCCEEDED


@pytest.mark.spec("W-I32", "W-I49")
async def test_the_record_survives_a_restart_of_the_server(system: System, store: Store) -> None:
    async with open_fleet(system, store) as fleet:
        await register(fleet)
        made = await upgrade(fleet)
    async with open_fleet(system, store) as fleet:
        assert record(fleet).status is U.PENDING
        await beat(fleet, "0.13.0")
        assert record(fleet).status is U.SUCCEEDED
        assert command(fleet, made).status is C.SUCCEEDED


async def test_the_host_keeps_its_record_when_it_registers_again(fleet: Fleet) -> None:
    await register(fleet)
    await upgrade(fleet)
    assert (await register(fleet)).upgrade == record(fleet)


async def test_an_upgrade_that_broke_off_between_command_and_record_is_finished(
    system: System, store: Store
) -> None:
    async with open_fleet(system, store) as fleet:
        await register(fleet)
        made = await upgrade(fleet)
    ended = attrs.evolve(commands.get_command(store, made.id), status=C.FAILED, error="no room")
    write = Write(
        "update commands set status = 'failed', record = ? where id = ?",
        (wire.encode(ended).decode(), made.id),
        1,
    )
    done = trio.Event()
    store.stage([write], [], Owner(), lambda failure: done.set())
    await done.wait()
    async with open_fleet(system, store) as fleet:
        await wait_all_tasks_blocked()
        assert record(fleet).status is U.FAILED


async def test_a_jump_of_the_wall_clock_does_not_fail_it(fleet: Fleet, system: System) -> None:
    await register(fleet)
    await upgrade(fleet)
    before = system.wall
    system.wall = lambda: before() + 3_600.0  # type: ignore[method-assign]
    await beat(fleet, "0.12.0")
    assert record(fleet).status is U.PENDING


async def test_a_jump_before_it_was_asked_for_gives_it_no_more_time(fleet: Fleet, system: System) -> None:
    await register(fleet)
    await beat(fleet, "0.12.0")
    before = system.wall
    system.wall = lambda: before() + 3_600.0  # type: ignore[method-assign]
    await upgrade(fleet)
    for _ in range(6):
        await trio.sleep(50.1)
        await beat(fleet, "0.12.0")
    assert record(fleet).status is U.FAILED
