"""The maintenance run: its order, its report, who is left alone, and what happens when the server was away."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from fleetlog import Log
from trio.testing import MockClock

from relay import wire
from relay.actors import System, open_system, virtual_wall
from relay.fleet import (
    Conflict,
    Fleet,
    agents,
    channels,
    commands,
    deliveries,
    maintenance,
    messages,
    open_fleet,
    orchestrators,
    tasks,
)
from relay.fleet._agent_rules import row_of
from relay.store import Owner, Store, open_store

A = wire.AgentStatus
TERM = messages.CLAIM_TERM
EMPTY = wire.Reaped()


async def reap(fleet: Fleet) -> wire.Reaped:
    return await fleet.maintenance.ask(maintenance.Reap())


async def register(fleet: Fleet, name: str, **card: Any) -> None:
    await fleet.agents[name].ask(agents.Register(wire.RegisterAgent(id=name, **card)))


async def host(fleet: Fleet, name: str) -> None:
    card = wire.RegisterOrchestrator(id=name, hostname=name, base_dir="/base")
    await fleet.orchestrators[name].ask(orchestrators.Register(card))


async def send(fleet: Fleet, to: str, **message: Any) -> int:
    asked = wire.SendMessage(from_="user", to=to, body="x", **message)
    return (await fleet.post_office.ask(messages.Send(asked))).message.id


async def claim(fleet: Fleet, number: int, agent: str = "a2") -> None:
    await fleet.post_office.ask(messages.Claim(number, agent))


async def ingest(fleet: Fleet, target: str) -> wire.Task:
    event = wire.IntegrationEvent(title="broken", target=target)
    return (await fleet.post_office.ask(tasks.Ingest("ci", event))).task


async def until(fleet: Fleet, moment: float, *alive: str, hosts: tuple[str, ...] = ()) -> None:
    """Let time pass; these are heard of all the while."""
    while (left := moment - fleet.system.now()) > 0:
        await trio.sleep(min(left, 20.0))
        for name in alive:
            await fleet.agents[name].ask(agents.Heartbeat())
        for name in hosts:
            await fleet.orchestrators[name].ask(orchestrators.Heartbeat(wire.OrchestratorHeartbeat()))


def status(fleet: Fleet, name: str) -> A:
    return agents.get_agent(fleet.store, name).status


@pytest.mark.spec("M-230", "SYS-11", "M-I25")
async def test_a_run_that_finds_nothing_is_audited_and_does_nothing_else(fleet: Fleet, log: Log) -> None:
    await register(fleet, "a1")
    await host(fleet, "h1")
    await send(fleet, "policy:p", max_age_seconds=60)
    before = log.types()
    for number in range(2):
        assert await reap(fleet) == EMPTY
        assert len(log.audits("server-system-reap-")) == number + 1
    assert log.types() == before


@pytest.mark.spec("SYS-15")
async def test_a_run_happens_every_half_minute_and_is_told_of_when_it_found_something(
    fleet: Fleet, log: Log
) -> None:
    command = await commands.create_command(
        fleet, wire.NewCommand(type="t", source="s", target="x", ttl_ms=100_000)
    )
    await trio.sleep(99)
    assert log.audits("server-system-reap-") == []
    await trio.sleep(1 + maintenance.EVERY)
    assert commands.get_command(fleet.store, command.id).status is wire.CommandStatus.TIMED_OUT
    (record,) = log.audits("server-system-reap-")
    assert (record["kind"], record["icon"], record["view"]) == ("state", "ti-broom", "activity")
    assert record["body"].endswith("1 commands")


async def everything_at_once(fleet: Fleet) -> dict[str, Any]:
    """One thing of each class becomes due within the last half minute, and no run has seen it."""
    await register(fleet, "a1")
    await register(fleet, "a2", tags=["t"])
    await register(fleet, "c", kind=wire.AgentKind.CHANNEL)
    await host(fleet, "h1")
    target = wire.target_at("pool:p")
    await fleet.switchboard.ask(channels.Bind(wire.NewBinding(channel_id="c", target=target)))
    message = await send(fleet, "tag:t", claimable=True)
    await claim(fleet, message)
    task, left = await ingest(fleet, "a2"), await ingest(fleet, "a3")
    await fleet.post_office.ask(tasks.ClaimTask(task.id, "a2"))
    await until(fleet, 500, "a1", "a2", "c", hosts=("h1",))
    await register(fleet, "a3")
    await fleet.post_office.ask(tasks.ClaimTask(left.id, "a3"))
    await until(fleet, 605, "a1", "a2", "a3", "c", hosts=("h1",))
    await fleet.agents["a3"].ask(agents.Remove())
    await until(fleet, 730, "a1", "a2", "c", hosts=("h1",))
    await until(fleet, 820, "a2", "c", hosts=("h1",))
    await until(fleet, 850, "a2", "c")
    queued = await send(fleet, "policy:p", max_age_seconds=60)
    asked = wire.NewCommand(type="t", source="s", target="x", ttl_ms=60_000)
    command = await commands.create_command(fleet, asked)
    await until(fleet, 890, "a2", "c")
    assert await reap(fleet) == EMPTY
    # Of this agent nobody has told the switchboard: what a crash of the server leaves behind.
    lost = wire.Agent(id="a9", tags=["p"], status=A.IDLE)
    fleet.store.stage([row_of(lost)], [], Owner(), lambda error: None)
    await until(fleet, 915, "a2", "c")
    assert task.message_id is not None
    return {
        "agents": ("a1",),
        "orchestrators": ("h1",),
        "messages": (message, task.message_id),
        "tasks": (task.id,),
        "orphans": (left.id,),
        "queued": (queued,),
        "commands": (command.id,),
    }


@pytest.mark.spec("M-233", "M-234", "M-I25", "SYS-11", "SYS-12")
async def test_everything_that_is_due_ends_in_one_order(fleet: Fleet, log: Log) -> None:
    due = await everything_at_once(fleet)
    before = len(log.types(audits=True))
    assert await reap(fleet) == wire.Reaped(
        reaped_agent_ids=due["agents"],
        reaped_orchestrator_ids=due["orchestrators"],
        released_message_ids=due["messages"],
        released_task_ids=due["tasks"],
        released_orphaned_task_ids=due["orphans"],
        expired_queued_message_ids=due["queued"],
        expired_command_ids=due["commands"],
    )
    assert log.types(audits=True)[before:] == [
        *["message.claim.released"] * 2,
        "task.updated",
        *[
            "message.claim.released",
            "task.updated",
        ],  # the claim on the message of an orphaned task goes with it
        "message.expired",
        "command.timed_out",
        "agent.status",
        "activity.created",
        "orchestrator.status",
        "agent.status",
        "activity.created",
        "pool.binding.changed",
        "activity.created",
    ]
    audit = log.audits("server-system-reap-")[-1]
    assert audit["body"] == (
        "1 agents, 1 orchestrators, 2 message claims, 1 task claims, 1 queued messages, 1 commands"
    )
    assert await reap(fleet) == EMPTY


@pytest.mark.spec("M-231", "SYS-11", "M-I26")
async def test_of_two_who_ask_at_the_same_time_one_is_told_of_each(fleet: Fleet) -> None:
    await trio.sleep(5)
    for number in range(5):
        await register(fleet, f"a{number}")
    await trio.sleep(181)
    found: list[str] = []

    async def ask() -> None:
        found.extend((await reap(fleet)).reaped_agent_ids)

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(ask)
    assert sorted(found) == [f"a{number}" for number in range(5)]


@pytest.mark.spec("M-232", "SYS-13", "M-I40", "M-I39")
async def test_what_a_run_orphans_is_left_to_a_later_one(fleet: Fleet) -> None:
    await trio.sleep(5)
    await register(fleet, "a1")
    task = await ingest(fleet, "a1")
    asked = wire.SetTaskStatus(status=wire.TaskStatus.IN_PROGRESS, agent_id="a1")
    await fleet.post_office.ask(tasks.SetTaskStatus(task.id, asked))
    await trio.sleep(181)
    found = await reap(fleet)
    assert found.reaped_agent_ids == ("a1",)
    assert found.released_orphaned_task_ids == ()
    await fleet.post_office.ask(messages.SendMany(()))
    assert tasks.get_task(fleet.store, task.id).status is wire.TaskStatus.ORPHANED
    assert (await reap(fleet)).released_orphaned_task_ids == ()
    assert tasks.get_task(fleet.store, task.id).status is wire.TaskStatus.ORPHANED


@pytest.mark.spec("M-I27")
async def test_whoever_was_heard_of_before_the_decision_is_not_lost(fleet: Fleet) -> None:
    await trio.sleep(5)
    await register(fleet, "a1", status=A.BUSY)
    await trio.sleep(181)
    assert status(fleet, "a1") is A.STALE
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fleet.agents["a1"].ask, agents.Heartbeat())
        await trio.lowlevel.checkpoint()
        assert await reap(fleet) == EMPTY
    assert status(fleet, "a1") is A.BUSY


@pytest.mark.spec("M-I25", "M-I13")
async def test_nothing_expires_because_the_wall_clock_was_set_forward(store: Store, system: System) -> None:
    ahead = 0.0
    wall = virtual_wall()
    async with open_system(wall=lambda: wall() + ahead, seed=1) as system, open_store(None, system) as store:
        async with open_fleet(system, store) as fleet:
            held, task, queued, command = await things_held(fleet)
            await trio.sleep(31)
            ahead = 10_000.0
            assert await reap(fleet) == EMPTY
            await until(fleet, TERM - 60, "a1")
            assert await reap(fleet) == EMPTY
            await until(fleet, TERM + 60, "a1")
            assert messages.get_message(store, held).claimed_by is None
            assert tasks.get_task(store, task).status is wire.TaskStatus.OPEN
            assert messages.get_message(store, queued).delivery_status is wire.DeliveryStatus.EXPIRED
            assert commands.get_command(store, command).status is wire.CommandStatus.TIMED_OUT


@pytest.mark.spec("M-I25", "M-I3", "M-I6")
@pytest.mark.parametrize("held_up", [False, True])
async def test_nobody_takes_what_is_held_before_maintenance_has_seen_what_was_missed(
    held_up: bool, autojump_clock: MockClock
) -> None:
    ahead = 0.0
    wall = virtual_wall()
    async with open_system(wall=lambda: wall() + ahead, seed=1) as system, open_store(None, system) as store:
        async with open_fleet(system, store) as fleet:
            await register(fleet, "a1", tags=["t"], instance_id="s1")
            await register(fleet, "a2", tags=["t"])
            task = await ingest(fleet, "tag:t")
            held = await send(fleet, "tag:t", claimable=True)
            handed = await fleet.deliveries["a1"].ask(deliveries.Take(instance="s1"))
            assert [each.message_id for each in handed.deliveries] == [task.message_id, held]
            await trio.sleep(10)
            if held_up:
                autojump_clock.jump(10_000)
            else:
                ahead = 10_000.0
            assert (await fleet.deliveries["a2"].ask(deliveries.Take())).deliveries == ()
            begins = wire.SetTaskStatus(status=wire.TaskStatus.IN_PROGRESS, agent_id="a2")
            for rival in (
                messages.Claim(held, "a2"),
                messages.Claim(task.message_id or 0, "a2"),
                tasks.ClaimTask(task.id, "a2"),
                tasks.SetTaskStatus(task.id, begins),
            ):
                with pytest.raises(Conflict):
                    await fleet.post_office.ask(rival)


@pytest.mark.spec("M-I25", "O-10")
async def test_nothing_expires_because_the_server_was_held_up(
    fleet: Fleet, autojump_clock: MockClock
) -> None:
    held, task, queued, command = await things_held(fleet)
    await host(fleet, "h1")
    await trio.sleep(100)
    assert status(fleet, "a1") is A.STALE
    autojump_clock.jump(10_000)
    for _ in range(2):
        assert await reap(fleet) == EMPTY
    assert status(fleet, "a1") is A.STALE
    await trio.sleep(211)
    assert status(fleet, "a1") is A.OFFLINE
    await trio.sleep(TERM - 100 - 211 - 31)
    assert commands.get_command(fleet.store, command).status is wire.CommandStatus.PENDING
    assert messages.get_message(fleet.store, held).claimed_by == "a1"
    await trio.sleep(62)
    assert commands.get_command(fleet.store, command).status is wire.CommandStatus.TIMED_OUT
    assert messages.get_message(fleet.store, held).claimed_by is None
    assert messages.get_message(fleet.store, queued).delivery_status is wire.DeliveryStatus.EXPIRED
    assert tasks.get_task(fleet.store, task).status is wire.TaskStatus.OPEN


async def things_held(fleet: Fleet) -> tuple[int, int, int, str]:
    """Each for as long as a claim is."""
    await register(fleet, "a1")
    held = await send(fleet, "a1", claimable=True)
    await claim(fleet, held, "a1")
    task = await ingest(fleet, "a1")
    await fleet.post_office.ask(tasks.ClaimTask(task.id, "a1"))
    queued = await send(fleet, "policy:p", max_age_seconds=round(TERM))
    asked = wire.NewCommand(type="t", source="s", target="x", ttl_ms=round(TERM * 1000))
    command = await commands.create_command(fleet, asked)
    return held, task.id, queued, command.id
