"""Commands: life cycle, claims, expiry, and what the end of one settles."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio
from fleetlog import Log
from hypothesis import given, settings, strategies as st
from trio.testing import MockClock

from relay import wire
from relay.actors import System, open_system, virtual_wall
from relay.fleet import (
    Conflict,
    Fleet,
    Invalid,
    NotFound,
    agents,
    commands,
    maintenance,
    merges,
    open_fleet,
    orchestrators,
    workspaces,
)
from relay.store import Store, open_store

S = wire.CommandStatus
ENDS = [S.SUCCEEDED, S.FAILED, S.TIMED_OUT, S.REJECTED, S.CANCELED]


async def create(fleet: Fleet, **fields: Any) -> wire.Command:
    return await commands.create_command(
        fleet, wire.NewCommand(**{"type": "t", "source": "s", "target": "a1", **fields})
    )


async def patch(
    fleet: Fleet, key: str, status: wire.CommandStatus | None = None, **fields: Any
) -> wire.Command:
    change = wire.PatchCommand(status=status, **fields)
    return await fleet.commands[key].ask(commands.Patch(change))


def status(fleet: Fleet, key: str) -> wire.CommandStatus:
    return commands.get_command(fleet.store, key).status


@pytest.mark.spec("M-130", "CMD-1", "CMD-3")
async def test_a_new_command_is_pending_and_announced(fleet: Fleet, log: Log) -> None:
    command = await create(fleet)
    assert (command.status, command.params, command.expires_at) == (S.PENDING, {}, None)
    assert commands.get_command(fleet.store, command.id) == command
    (asked,) = log.events()
    assert (asked["type"], asked["source"], asked["subject"]) == ("command.requested", "s", command.id)
    assert asked["data"]["command"]["id"] == command.id


@pytest.mark.spec("M-134", "CMD-2", "CMD-8", "M-I15")
async def test_each_report_is_one_event_named_after_the_status(fleet: Fleet, log: Log) -> None:
    key = (await create(fleet)).id
    await patch(fleet, key, S.ACCEPTED)
    await patch(fleet, key, S.RUNNING)
    done = await patch(fleet, key, S.SUCCEEDED, result={"a": 1})
    assert (done.status, done.result) == (S.SUCCEEDED, {"a": 1})
    assert commands.get_command(fleet.store, key) == done
    assert log.types() == ["command.requested", "command.accepted", "command.running", "command.succeeded"]


@pytest.mark.spec("CMD-7")
async def test_a_report_without_a_status_keeps_it(fleet: Fleet, log: Log) -> None:
    key = (await create(fleet)).id
    assert (await patch(fleet, key, error="slow")).status is S.PENDING
    assert (await patch(fleet, key, S.RUNNING, result={"n": 1})).error == "slow"
    assert (await patch(fleet, key, S.RUNNING, result={"n": 2})).result == {"n": 2}
    assert log.types() == ["command.requested", "command.requested", "command.running", "command.running"]


@pytest.mark.spec("M-135")
async def test_an_unknown_command_is_not_found(fleet: Fleet) -> None:
    with pytest.raises(NotFound):
        await patch(fleet, "cmd_x", S.RUNNING)
    with pytest.raises(NotFound):
        await fleet.commands["cmd_x"].ask(commands.Cancel())
    with pytest.raises(NotFound):
        await fleet.commands["cmd_x"].ask(commands.Claim())
    with pytest.raises(NotFound):
        commands.get_command(fleet.store, "cmd_x")


@pytest.mark.spec("M-137", "M-138", "CMD-9")
async def test_a_command_is_canceled_once_and_before_its_end(fleet: Fleet, log: Log) -> None:
    key = (await create(fleet)).id
    await fleet.commands[key].ask(commands.Cancel())
    assert status(fleet, key) is S.CANCELED
    with pytest.raises(NotFound):
        await fleet.commands[key].ask(commands.Cancel())
    assert log.types() == ["command.requested", "command.canceled"]


@pytest.mark.spec("M-138", "CMD-10", "CMD-11", "O-40", "M-I29")
@pytest.mark.parametrize("end", ENDS)
async def test_an_end_is_final(fleet: Fleet, log: Log, end: wire.CommandStatus) -> None:
    key = (await create(fleet)).id
    done = await patch(fleet, key, end, error="first")
    before = log.events()
    assert await patch(fleet, key, end, error="second") == done
    assert await patch(fleet, key, error="third") == done
    for other in S:
        if other is not end:
            with pytest.raises(Conflict):
                await patch(fleet, key, other)
    with pytest.raises(NotFound):
        await fleet.commands[key].ask(commands.Cancel())
    assert log.events() == before
    assert commands.get_command(fleet.store, key) == done


@pytest.mark.spec("CMD-11", "O-40")
async def test_a_command_does_not_go_back(fleet: Fleet) -> None:
    key = (await create(fleet)).id
    await patch(fleet, key, S.RUNNING)
    for earlier in (S.PENDING, S.ACCEPTED):
        with pytest.raises(Conflict):
            await patch(fleet, key, earlier)


RANK = {S.PENDING: 0, S.ACCEPTED: 1, S.RUNNING: 2}
STEPS = st.lists(
    st.one_of(st.sampled_from(list(S)), st.sampled_from(["cancel", "claim", "wait"])), max_size=8
)


@pytest.mark.spec("M-I14", "M-I15", "M-I16")
@given(steps=STEPS)
@settings(max_examples=100, deadline=None)
def test_every_history_is_a_path_of_the_table(steps: list[Any]) -> None:
    async def scenario() -> None:
        async with open_system(wall=virtual_wall(), seed=1) as system, open_store(None, system) as store:
            async with open_fleet(system, store) as fleet:
                key = (await create(fleet, ttl_ms=1_000)).id
                async with trio.open_nursery() as nursery:
                    for step in steps:
                        nursery.start_soon(attempt, fleet, key, step)
            rows = store.rows("select type from events where type like 'command.%' order by id")
            check([kind.removeprefix("command.") for (kind,) in rows], store, key)

    trio.run(scenario, clock=MockClock(autojump_threshold=0))


async def attempt(fleet: Fleet, key: str, step: Any) -> None:
    try:
        if step == "wait":
            await trio.sleep(2)
        elif step == "claim":
            await fleet.commands[key].ask(commands.Claim())
        elif step == "cancel":
            await fleet.commands[key].ask(commands.Cancel())
        else:
            await patch(fleet, key, step)
    except (Conflict, NotFound):
        pass


def check(names: list[str], store: Store, key: str) -> None:
    history = [S.PENDING if name == "requested" else S(name) for name in names]
    ends = [s for s in history if s.final]
    assert len(ends) <= 1
    assert not ends or history[-1] is ends[0]
    ranks = [RANK.get(s, 3) for s in history]
    assert ranks == sorted(ranks)
    assert commands.get_command(store, key).status is history[-1]


@pytest.mark.spec("CMD-14", "H-18")
async def test_a_pending_command_is_claimed_by_one_of_many(fleet: Fleet, log: Log) -> None:
    key = (await create(fleet)).id
    told = []

    async def claim(claimant: str | None) -> None:
        told.append(await fleet.commands[key].ask(commands.Claim(claimant)))

    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(claim, f"h{number}" if number % 2 else None)
    assert [token for token in told if token is not None] == [1]
    assert log.types() == ["command.requested", "command.accepted"]


@pytest.mark.spec("CMD-14", "H-18")
async def test_only_the_newest_claim_may_report(fleet: Fleet) -> None:
    key = (await create(fleet)).id
    command = fleet.commands[key]
    assert await command.ask(commands.Claim("h1/a")) == 1
    assert await command.ask(commands.Claim("h1/b")) is None
    assert await command.ask(commands.Claim()) is None
    await patch(fleet, key, S.RUNNING, token=1)
    assert await command.ask(commands.Claim("h1/a")) == 2
    assert status(fleet, key) is S.RUNNING
    before = fleet.store.rows("select * from events")
    for late in ({}, {"token": 1}, {"token": 3}):
        for report in (S.ACCEPTED, S.RUNNING, S.SUCCEEDED, S.FAILED):
            with pytest.raises(Conflict):
                await patch(fleet, key, report, **late)
    assert fleet.store.rows("select * from events") == before
    ended = await patch(fleet, key, S.SUCCEEDED, token=2, result={"by": 2})
    assert (ended.status, ended.result, ended.claim_token) == (S.SUCCEEDED, {"by": 2}, 2)
    assert (await patch(fleet, key, S.SUCCEEDED, token=2)) == ended
    assert await command.ask(commands.Claim("h1/a")) is None


@pytest.mark.spec("CMD-14")
async def test_a_command_that_was_accepted_by_a_report_is_not_claimed(fleet: Fleet) -> None:
    key = (await create(fleet)).id
    await patch(fleet, key, S.ACCEPTED)
    assert await fleet.commands[key].ask(commands.Claim("h1/a")) is None
    with pytest.raises(Conflict):
        await patch(fleet, key, S.RUNNING, token=1)
    assert (await patch(fleet, key, S.SUCCEEDED)).status is S.SUCCEEDED


@pytest.mark.spec("CMD-9", "CMD-12")
@pytest.mark.parametrize("end", ["cancel", "expire"])
async def test_the_server_ends_a_claimed_command_and_its_claimant_is_late(fleet: Fleet, end: str) -> None:
    key = (await create(fleet, ttl_ms=1_000)).id
    await fleet.commands[key].ask(commands.Claim("h1/a"))
    if end == "cancel":
        await fleet.commands[key].ask(commands.Cancel())
    else:
        await trio.sleep(1.1)
        assert (await fleet.maintenance.ask(maintenance.Reap())).expired_command_ids == (key,)
    with pytest.raises(Conflict):
        await patch(fleet, key, S.SUCCEEDED, token=1)
    assert status(fleet, key) is (S.CANCELED if end == "cancel" else S.TIMED_OUT)


@pytest.mark.spec("CMD-14", "W-I49")
async def test_a_claim_is_there_after_a_restart(system: System, store: Store) -> None:
    async with open_fleet(system, store) as fleet:
        key = (await create(fleet)).id
        await fleet.commands[key].ask(commands.Claim("h1/a"))
    async with open_fleet(system, store) as fleet:
        assert await fleet.commands[key].ask(commands.Claim("h1/b")) is None
        assert await fleet.commands[key].ask(commands.Claim("h1/a")) == 2
        with pytest.raises(Conflict):
            await patch(fleet, key, S.SUCCEEDED, token=1)


@pytest.mark.spec("M-139", "CMD-12")
async def test_a_life_time_ends_a_command_and_only_one_that_has_it(
    fleet: Fleet, log: Log, autojump_clock: MockClock
) -> None:
    mortal, immortal = await create(fleet, ttl_ms=1_000), await create(fleet)
    await trio.sleep(0.9)
    assert (await fleet.maintenance.ask(maintenance.Reap())).expired_command_ids == ()
    assert status(fleet, mortal.id) is S.PENDING
    await trio.sleep(0.2)
    for expired in [(mortal.id,), ()]:
        assert (await fleet.maintenance.ask(maintenance.Reap())).expired_command_ids == expired
        assert status(fleet, mortal.id) is S.TIMED_OUT
    autojump_clock.jump(20 * 86_400)
    await fleet.maintenance.ask(maintenance.Reap())
    assert status(fleet, immortal.id) is S.PENDING
    assert log.types() == ["command.requested", "command.requested", "command.timed_out"]


@pytest.mark.spec("M-142", "M-I16")
async def test_expiry_and_completion_meet_at_one_end(fleet: Fleet, log: Log) -> None:
    keys = [(await create(fleet, ttl_ms=1_000)).id for _ in range(20)]

    async def finish(key: str, delay: float) -> None:
        await trio.sleep(delay)
        try:
            await patch(fleet, key, S.SUCCEEDED)
        except Conflict:
            pass

    async def reap() -> None:
        await trio.sleep(1)
        await fleet.maintenance.ask(maintenance.Reap())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(reap)
        for number, key in enumerate(keys):
            nursery.start_soon(finish, key, 0.995 + number / 2000)
    ended = [status(fleet, key) for key in keys]
    assert set(ended) == {S.SUCCEEDED, S.TIMED_OUT}
    assert len(log.events("command.succeeded", "command.timed_out")) == 20


async def test_a_life_time_goes_on_after_a_restart(system: System, store: Store) -> None:
    async with open_fleet(system, store) as fleet:
        long, short = await create(fleet, ttl_ms=300_000), await create(fleet, ttl_ms=1_000)
    await trio.sleep(100)
    async with open_fleet(system, store) as fleet:
        await trio.sleep(29)
        assert await patch(fleet, (await create(fleet)).id, S.RUNNING)
        await fleet.maintenance.ask(maintenance.Reap())
        assert status(fleet, short.id) is S.PENDING
        await trio.sleep(2)
        await fleet.maintenance.ask(maintenance.Reap())
        assert status(fleet, short.id) is S.TIMED_OUT
        await trio.sleep(160)
        assert status(fleet, long.id) is S.PENDING
        await trio.sleep(10 + maintenance.EVERY)
        assert status(fleet, long.id) is S.TIMED_OUT


@pytest.mark.spec("M-140", "M-141", "CMD-4", "O-24")
async def test_lists_are_filtered_and_oldest_first(fleet: Fleet) -> None:
    x1 = await create(fleet, target="x")
    await create(fleet, target="y")
    await trio.sleep(1)
    x2, x3 = await create(fleet, target="x", type="u"), await create(fleet, target="x")
    await patch(fleet, x3.id, S.RUNNING)
    listed = commands.list_commands(fleet.store, target="x", status=S.PENDING, limit=50)
    assert [command.id for command in listed] == [x1.id, x2.id]
    assert [c.id for c in commands.list_commands(fleet.store, limit=1)] == [x1.id]
    assert [c.id for c in commands.list_commands(fleet.store, type="u")] == [x2.id]
    assert x2.created_at is not None
    since = round(x2.created_at * 1000)
    assert [c.id for c in commands.list_commands(fleet.store, since=since)] == [x2.id, x3.id]


@pytest.mark.spec("M-143", "CMD-20")
async def test_restarts_and_shutdowns_are_audited_at_their_end(fleet: Fleet, log: Log) -> None:
    restart = await create(fleet, type="agent.restart", params={"agentId": "a7"})
    await patch(fleet, restart.id, S.RUNNING)
    assert log.audits() == []
    await patch(fleet, restart.id, S.SUCCEEDED)
    (record,) = log.audits()
    assert (record["agentId"], record["metadata"]["action"], record["icon"]) == (
        "a7",
        "restart",
        "ti-refresh",
    )
    assert log.types()[-1] == "command.succeeded"
    shutdown = await create(fleet, type="agent.shutdown", target="a8")
    await patch(fleet, shutdown.id, S.FAILED, error="no")
    assert log.audits()[1]["agentId"] == "a8"
    for kind, end in (("agent.spawn", S.SUCCEEDED), ("agent.restart", S.REJECTED)):
        await patch(fleet, (await create(fleet, type=kind)).id, end)
    assert len(log.audits()) == 2


async def host(fleet: Fleet) -> None:
    card = wire.RegisterOrchestrator(id="h1", hostname="h", base_dir="/base")
    await fleet.orchestrators["h1"].ask(orchestrators.Register(card))


async def host_and_workspace(fleet: Fleet) -> None:
    await host(fleet)
    report = wire.WorkspaceReport(
        id="w1", repo_root="/base/r", source_cwd="/base/r", worktree_path="/base/w1"
    )
    await fleet.workspaces["w1"].ask(workspaces.Report(report, "a1", "h1"))


async def merge(fleet: Fleet) -> wire.Command:
    action = wire.WorkspaceAction(action=wire.WorkspaceVerb.MERGE)
    command = (await fleet.workspaces["w1"].ask(workspaces.Act(action))).command
    assert command is not None
    return command


def leases(fleet: Fleet) -> list[wire.MergeLease]:
    return merges.list_leases(fleet.store, fleet.system.wall())


@pytest.mark.spec("CMD-21", "CMD-23", "12.2")
async def test_the_end_of_a_merge_settles_workspace_and_lease_before_it_is_told(
    fleet: Fleet, log: Log
) -> None:
    await host_and_workspace(fleet)
    command = await merge(fleet)
    assert len(leases(fleet)) == 1
    await patch(fleet, command.id, S.RUNNING)
    assert len(leases(fleet)) == 1
    result = {"workspaceId": "w1", "status": "merged", "merged": True}
    await patch(fleet, command.id, S.SUCCEEDED, result=result)
    assert leases(fleet) == []
    row = workspaces.get_workspace(fleet.store, "w1")
    assert row.status is wire.WorkspaceStatus.MERGED
    assert row.metadata["mergeResult"] == result
    assert log.types()[-2:] == ["workspace.changed", "command.succeeded"]
    before = log.events()
    await patch(fleet, command.id, S.SUCCEEDED, result=result)
    assert log.events() == before


@pytest.mark.spec("CMD-25", "H-07", "M-I29")
@pytest.mark.parametrize(
    "result",
    [
        {"workspaceId": 7, "status": "merged"},
        {"workspaceId": "w" * 161, "status": "merged"},
        {"workspaceId": "w1", "status": "no such"},
    ],
)
async def test_a_malformed_result_changes_nothing(fleet: Fleet, log: Log, result: dict[str, Any]) -> None:
    await host_and_workspace(fleet)
    command = await merge(fleet)
    before = log.events()
    with pytest.raises(Invalid):
        await patch(fleet, command.id, S.SUCCEEDED, result=result)
    assert log.events() == before
    assert commands.get_command(fleet.store, command.id) == command
    assert len(leases(fleet)) == 1
    await patch(fleet, command.id, S.SUCCEEDED, result={"workspaceId": "w1", "status": "merged"})
    assert leases(fleet) == []


async def test_a_result_about_another_workspace_counts_as_none(fleet: Fleet) -> None:
    await host_and_workspace(fleet)
    command = await merge(fleet)
    await patch(fleet, command.id, S.SUCCEEDED, result={"workspaceId": "w2", "status": "merged"})
    assert workspaces.get_workspace(fleet.store, "w1").status is wire.WorkspaceStatus.MERGE_PLANNED
    assert leases(fleet) == []


@pytest.mark.parametrize("how", ["failed", "canceled", "expired"])
async def test_a_merge_that_does_not_land_goes_to_review_and_frees_the_lease(fleet: Fleet, how: str) -> None:
    await host_and_workspace(fleet)
    command = await merge(fleet)
    if how == "failed":
        await patch(fleet, command.id, S.FAILED, error="dirty")
    elif how == "canceled":
        await fleet.commands[command.id].ask(commands.Cancel())
    else:
        assert command.ttl_ms is not None
        await patch(fleet, command.id, S.RUNNING)
        await trio.sleep(command.ttl_ms / 1000 + 1)
        await fleet.maintenance.ask(maintenance.Reap())
        assert status(fleet, command.id) is S.TIMED_OUT
        await host(fleet)
    assert workspaces.get_workspace(fleet.store, "w1").status is wire.WorkspaceStatus.REVIEW_REQUESTED
    assert leases(fleet) == []
    assert (await merge(fleet)).id != command.id


async def test_a_chain_that_broke_is_finished_by_the_repeated_report(system: System, store: Store) -> None:
    """The server died after the workspace settled and the lease was free, before the command ended."""
    async with open_fleet(system, store) as fleet:
        await host_and_workspace(fleet)
        command = await merge(fleet)
        result = {"workspaceId": "w1", "status": "active"}
        settled = attrs.evolve(command, status=S.SUCCEEDED, result=result)
        settle = workspaces.Settle(settled.id, settled.type, settled.status, settled.result, None)
        await fleet.workspaces["w1"].ask(settle)
        await fleet.leases["/base/r"].ask(merges.Release(command.id))
    async with open_fleet(system, store) as fleet:
        row = workspaces.get_workspace(store, "w1")
        other = await merge(fleet)
        await patch(fleet, command.id, S.SUCCEEDED, result=result)
        assert status(fleet, command.id) is S.SUCCEEDED
        assert [lease.command_id for lease in leases(fleet)] == [other.id]
        after = workspaces.get_workspace(store, "w1")
        assert row.status is wire.WorkspaceStatus.ACTIVE
        assert after.status is wire.WorkspaceStatus.MERGE_PLANNED


async def test_a_spawn_that_succeeded_reports_its_workspaces(fleet: Fleet) -> None:
    await host_and_workspace(fleet)
    spawn = orchestrators.Spawn(wire.SpawnAgent(provider=wire.Provider.CLAUDE))
    command = (await fleet.orchestrators["h1"].ask(spawn)).command
    entry = {"agentId": "a2", "workspace": {"id": "w2", "repoRoot": "/base/r"}}
    await patch(fleet, command.id, S.SUCCEEDED, result={"managedAgents": [entry]})
    row = workspaces.get_workspace(fleet.store, "w2")
    assert (row.agent_id, row.orchestrator_id) == ("a2", "h1")
    odd = (await fleet.orchestrators["h1"].ask(spawn)).command
    done = await patch(fleet, odd.id, S.SUCCEEDED, result={"managedAgents": [3]})
    assert done.status is S.SUCCEEDED


async def test_what_was_answered_is_there_after_a_restart(system: System, store: Store) -> None:
    async with open_fleet(system, store) as fleet:
        await fleet.agents["a1"].ask(agents.Register(wire.RegisterAgent(id="a1")))
        done = await patch(fleet, (await create(fleet)).id, S.ACCEPTED)
    async with open_fleet(system, store) as fleet:
        assert commands.get_command(store, done.id) == done
        assert (await patch(fleet, done.id, S.RUNNING)).status is S.RUNNING
