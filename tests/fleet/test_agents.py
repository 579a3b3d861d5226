"""Agents: registration, session guard, label and tags, liveness."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from fleetlog import Log
from hypothesis import given, settings, strategies as st
from trio.testing import MockClock

from relay import wire
from relay.actors import System, open_system, virtual_wall
from relay.fleet import Conflict, Fleet, Invalid, NotFound, agents, maintenance, open_fleet
from relay.store import Store, open_store
from relay.testing import Sim, simulate

A = wire.AgentStatus


async def register(fleet: Fleet, key: str = "a1", **card: Any) -> agents.Registered:
    return await fleet.agents[key].ask(agents.Register(wire.RegisterAgent(id=key, **card)))


@pytest.mark.spec("M-010", "M-011", "AGT-7", "AGT-8")
async def test_the_first_registration_is_audited_and_every_one_is_announced(fleet: Fleet, log: Log) -> None:
    first = await register(fleet, kind=wire.AgentKind.PROVIDER)
    assert first.new
    assert agents.get_agent(fleet.store, "a1") == first.agent
    assert log.types() == ["agent.status"]
    assert [record["kind"] for record in log.audits("server-agent-a1-registered-")] == ["state"]
    second = await register(fleet)
    assert not second.new
    assert log.types() == ["agent.status", "agent.status"]
    assert len(log.audits("server-agent-a1-registered-")) == 1


@pytest.mark.spec("AGT-2", "O-64")
async def test_a_registration_keeps_what_it_does_not_name(fleet: Fleet) -> None:
    created = (await register(fleet, label="build", tags=["t"], machine="m")).agent.created_at
    await trio.sleep(5)
    after = (await register(fleet, machine="n")).agent
    assert (after.label, after.tags, after.machine, after.created_at) == ("build", ["t"], "n", created)
    assert after.kind is wire.AgentKind.PROVIDER


@pytest.mark.spec("M-014", "M-017", "AGT-12", "AGT-14")
async def test_a_status_is_stored_and_audited_when_it_changes(fleet: Fleet, log: Log) -> None:
    await register(fleet)
    agent = fleet.agents["a1"]
    assert (await agent.ask(agents.SetStatus(A.STALE))).status is A.STALE
    assert agents.get_agent(fleet.store, "a1").status is A.STALE
    await agent.ask(agents.SetStatus(A.IDLE))
    await agent.ask(agents.SetStatus(A.IDLE))
    assert len(log.audits("server-agent-a1-status-")) == 2
    assert len(log.events("agent.status")) == 3


@pytest.mark.spec("AGT-15")
async def test_ready_is_a_flag_of_its_own(fleet: Fleet, log: Log) -> None:
    await register(fleet)
    for _ in range(2):
        assert (await fleet.agents["a1"].ask(agents.SetReady(ready=True))).ready
    assert len(log.events("agent.status")) == 2
    assert agents.get_agent(fleet.store, "a1").ready
    assert len(log.audits("server-agent-a1-status-")) == 1


@pytest.mark.spec("M-015", "M-022", "M-I29")
async def test_an_unknown_agent_is_not_found_and_nothing_happens(fleet: Fleet, log: Log) -> None:
    for message in (
        agents.SetStatus(A.IDLE),
        agents.SetReady(ready=True),
        agents.Heartbeat(),
        agents.SetLabel(None),
        agents.SetTags([]),
        agents.Remove(),
    ):
        with pytest.raises(NotFound):
            await fleet.agents["zz"].ask(message)  # type: ignore[misc]
    with pytest.raises(NotFound):
        agents.get_agent(fleet.store, "zz")
    assert log.events() == []


@pytest.mark.spec("M-016", "AGT-20", "M-I29")
async def test_another_session_is_refused(fleet: Fleet, log: Log) -> None:
    await register(fleet, instance_id="i2")
    before = log.events()
    for message in (agents.SetStatus(A.BUSY, "i1"), agents.SetReady(True, "i1"), agents.Heartbeat("i1")):
        with pytest.raises(Conflict):
            await fleet.agents["a1"].ask(message)  # type: ignore[misc]
    assert agents.get_agent(fleet.store, "a1").status is A.ONLINE
    assert log.events() == before
    assert (await fleet.agents["a1"].ask(agents.SetStatus(A.BUSY, "i2"))).status is A.BUSY
    assert (await fleet.agents["a1"].ask(agents.SetStatus(A.IDLE))).status is A.IDLE


@pytest.mark.spec("M-I41", "AGT-21")
async def test_a_new_session_shuts_the_old_one_out_whatever_is_under_way(fleet: Fleet) -> None:
    await register(fleet, instance_id="i1", status=A.BUSY, ready=True)
    refused = []

    async def write() -> None:
        try:
            await fleet.agents["a1"].ask(agents.SetStatus(A.BUSY, "i1"))
        except Conflict:
            refused.append(True)

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(write)
        nursery.start_soon(lambda: register(fleet, instance_id="i2"))
        for _ in range(5):
            nursery.start_soon(write)
    after = agents.get_agent(fleet.store, "a1")
    assert (after.instance_id, after.status, after.ready) == ("i2", A.ONLINE, False)
    with pytest.raises(Conflict):
        await fleet.agents["a1"].ask(agents.SetStatus(A.BUSY, "i1"))


@pytest.mark.spec("M-018", "M-019", "M-020", "AGT-24", "AGT-25")
async def test_a_label_is_audited_when_it_changes(fleet: Fleet, log: Log) -> None:
    await register(fleet)
    agent = fleet.agents["a1"]
    assert (await agent.ask(agents.SetLabel("build"))).label == "build"
    await agent.ask(agents.SetLabel("build"))
    await agent.ask(agents.SetLabel(None))
    first, second = log.audits("server-agent-a1-label-")
    assert first["metadata"] == {"field": "label", "previous": None, "next": "build"}
    assert (first["icon"], first["body"], first["view"], first["agentId"]) == (
        "ti-tag",
        "build",
        "chat",
        "a1",
    )
    assert (second["body"], second["metadata"]["next"]) == ("build", None)
    assert len(log.events("agent.status")) == 4
    assert fleet.store.row("select label from agents") == (None,)


@pytest.mark.spec("M-023", "M-024", "AGT-28")
async def test_tags_are_replaced_in_the_order_given(fleet: Fleet, log: Log) -> None:
    await register(fleet, tags=["x", "y"])
    agent = fleet.agents["a1"]
    assert (await agent.ask(agents.SetTags(["y", "x"]))).tags == ["y", "x"]
    assert (await agent.ask(agents.SetTags([]))).tags == []
    first, second = log.audits("server-agent-a1-tags-")
    assert (first["body"], second.get("body", "")) == ("y, x", "")
    assert first["metadata"] == {"field": "tags", "previous": ["x", "y"], "next": ["y", "x"]}


CHANGES = st.lists(st.one_of(st.sampled_from([None, "a", "b"]), st.lists(st.sampled_from("xy"), max_size=2)))


@pytest.mark.spec("M-I33", "M-I32")
@given(changes=CHANGES)
@settings(max_examples=50, deadline=None)
def test_changed_labels_and_tags_are_audited_exactly_once(changes: list[Any]) -> None:
    async def scenario() -> None:
        async with open_system(wall=virtual_wall(), seed=1) as system, open_store(None, system) as store:
            async with open_fleet(system, store) as fleet:
                card = (await register(fleet)).agent
                changed = 0
                for change in changes:
                    labels = change is None or isinstance(change, str)
                    message: Any = agents.SetLabel(change) if labels else agents.SetTags(change)
                    after = await fleet.agents["a1"].ask(message)
                    changed += (card.label, card.tags) != (after.label, after.tags)
                    card = after
                audits = store.rows("select client_id from activity where client_id not like '%registered%'")
                assert len(audits) == changed

    trio.run(scenario, clock=MockClock(autojump_threshold=0))


@pytest.mark.spec("AGT-18")
async def test_a_removed_agent_is_unknown_until_it_registers_again(fleet: Fleet, log: Log) -> None:
    await register(fleet)
    await fleet.agents["a1"].ask(agents.Remove())
    assert agents.list_agents(fleet.store) == []
    assert log.events("agent.removed")[0]["data"] == {"agentId": "a1"}
    with pytest.raises(NotFound):
        await fleet.agents["a1"].ask(agents.Remove())
    await trio.sleep(1000)
    assert log.types() == ["agent.status", "agent.removed"]
    assert (await register(fleet)).new


@pytest.mark.spec("M-231", "AGT-50", "AGT-51", "O-10")
async def test_silence_makes_an_agent_stale_and_then_offline(fleet: Fleet, log: Log) -> None:
    await register(fleet, status=A.BUSY)
    await trio.sleep(89)
    assert agents.get_agent(fleet.store, "a1").status is A.BUSY
    await trio.sleep(2)
    assert agents.get_agent(fleet.store, "a1").status is A.STALE
    await trio.sleep(88.5)
    assert (await fleet.maintenance.ask(maintenance.Reap())).reaped_agent_ids == ()
    assert agents.get_agent(fleet.store, "a1").status is A.STALE
    await trio.sleep(1)
    assert agents.get_agent(fleet.store, "a1").status is A.STALE
    assert (await fleet.maintenance.ask(maintenance.Reap())).reaped_agent_ids == ("a1",)
    assert agents.get_agent(fleet.store, "a1").status is A.OFFLINE
    assert (await fleet.maintenance.ask(maintenance.Reap())).reaped_agent_ids == ()
    await trio.sleep(10_000)
    assert [e["data"]["status"] for e in log.events("agent.status")] == ["busy", "stale", "offline"]
    (lost,) = log.audits("server-agent-a1-heartbeat-lost-")
    assert (lost["icon"], lost["view"], lost["agentId"]) == ("ti-heart-off", "chat", "a1")


@pytest.mark.parametrize("after", [0.0, 120.89, 134.3642, 255.069, 422.107, 939.1492])
@simulate(runs=2)
async def test_silence_is_noticed_at_every_instant(sim: Sim, after: float) -> None:
    async with (
        open_system() as system,
        open_store(None, system) as store,
        open_fleet(system, store) as fleet,
    ):
        await trio.sleep(after)
        await register(fleet)
        await trio.sleep(91)
        assert agents.get_agent(store, "a1").status is A.STALE
        await trio.sleep(88)
        assert agents.get_agent(store, "a1").status is A.STALE
        await trio.sleep(1 + maintenance.EVERY)
        assert agents.get_agent(store, "a1").status is A.OFFLINE


@pytest.mark.spec("M-I27", "AGT-16", "O-10")
async def test_a_heartbeat_keeps_an_agent_and_brings_it_back(fleet: Fleet, log: Log) -> None:
    await register(fleet, status=A.IDLE)
    agent = fleet.agents["a1"]
    for _ in range(20):
        await trio.sleep(80)
        await agent.ask(agents.Heartbeat())
    assert len(log.events("agent.status")) == 1
    await trio.sleep(100)
    assert agents.get_agent(fleet.store, "a1").status is A.STALE
    assert (await agent.ask(agents.Heartbeat())).status is A.IDLE
    await trio.sleep(500)
    assert agents.get_agent(fleet.store, "a1").status is A.OFFLINE
    assert (await fleet.agents["a1"].ask(agents.Heartbeat())).status is A.IDLE
    assert agents.get_agent(fleet.store, "a1").status is A.IDLE
    await trio.sleep(300)
    assert (await agent.ask(agents.Heartbeat(status=A.BUSY))).status is A.BUSY


async def test_a_heartbeat_is_stored_now_and_then_only(fleet: Fleet) -> None:
    await register(fleet)
    seen = set()
    for _ in range(30):
        await trio.sleep(10)
        await fleet.agents["a1"].ask(agents.Heartbeat(meta={"context": {"used": 1}}))
        row = fleet.store.row("select updated_at from agents")
        assert row is not None
        seen.add(row[0])
    assert 10 <= len(seen) <= 11
    assert agents.get_agent(fleet.store, "a1").meta == {"context": {"used": 1}}


@pytest.mark.spec("AGT-11", "AGT-15", "AGT-17")
async def test_an_idle_agent_is_silent_in_the_log_and_still_seen(fleet: Fleet, log: Log) -> None:
    agent = fleet.agents["a1"]
    await register(fleet, status=A.IDLE, ready=True, instance_id="i1", meta={"busyReasons": []})
    for _ in range(30):
        await trio.sleep(20)
        await agent.ask(agents.Heartbeat("i1", meta={"busyReasons": []}))
        await agent.ask(agents.SetStatus(A.IDLE, "i1"))
        await agent.ask(agents.SetReady(ready=True, instance="i1"))
    assert log.types() == ["agent.status"]
    seen = agents.get_agent(fleet.store, "a1").last_seen
    assert seen is not None
    assert fleet.system.wall() - seen <= 40


async def test_what_a_heartbeat_says_of_the_agent_is_stored_and_told_at_once(fleet: Fleet, log: Log) -> None:
    await register(fleet, status=A.BUSY)
    for used in (1, 1, 2):
        await fleet.agents["a1"].ask(agents.Heartbeat(meta={"used": used}))
        assert agents.get_agent(fleet.store, "a1").meta == {"used": used}
    told = [event["data"].get("meta") for event in log.events("agent.status")]
    assert told[1:] == [{"used": 1}, {"used": 2}]


@pytest.mark.spec("AGT-52")
async def test_reserved_participants_are_always_there(fleet: Fleet) -> None:
    await register(fleet, "user", kind=wire.AgentKind.USER)
    await register(fleet, "system", kind=wire.AgentKind.SYSTEM)
    await trio.sleep(10_000)
    assert {agent.status for agent in agents.list_agents(fleet.store)} == {A.ONLINE}


@pytest.mark.spec("O-10")
async def test_nobody_is_lost_because_the_server_was_away(
    fleet: Fleet, log: Log, autojump_clock: MockClock
) -> None:
    for number in range(5):
        await register(fleet, f"a{number}")
    autojump_clock.jump(10_000)
    await trio.sleep(1)
    assert {agent.status for agent in agents.list_agents(fleet.store)} == {A.ONLINE}
    await trio.sleep(95)
    assert {agent.status for agent in agents.list_agents(fleet.store)} == {A.STALE}


async def test_timers_run_from_zero_after_a_restart(system: System, store: Store) -> None:
    async with open_fleet(system, store) as fleet:
        await register(fleet)
        await trio.sleep(60)
    await trio.sleep(10_000)
    async with open_fleet(system, store) as fleet:
        await trio.sleep(80)
        assert agents.get_agent(store, "a1").status is A.ONLINE
        await trio.sleep(15)
        assert agents.get_agent(store, "a1").status is A.STALE


async def test_what_was_answered_is_there_after_a_restart(system: System, store: Store) -> None:
    async with open_fleet(system, store) as fleet:
        card = (await register(fleet, instance_id="i1", meta={"k": 1})).agent
    async with open_fleet(system, store) as fleet:
        assert (await fleet.agents["a1"].ask(agents.Heartbeat("i1"))).created_at == card.created_at
        with pytest.raises(Conflict):
            await fleet.agents["a1"].ask(agents.Heartbeat("i2"))


async def test_an_ended_session_takes_its_agent_offline_once(fleet: Fleet, log: Log) -> None:
    await register(fleet, meta={"spawnRequestId": "sp_1", "startedAt": 1_000})
    gone = wire.ExitedAgent(
        agent_id="a1", spawn_request_id="sp_1", signal="SIGKILL", detected_at=wire.Instant(2.0)
    )
    assert await fleet.agents["a1"].ask(agents.Exited(gone))
    assert agents.get_agent(fleet.store, "a1").status is A.OFFLINE
    (record,) = log.audits("server-agent-a1-exited-")
    assert "SIGKILL" in record["body"]
    await fleet.agents["a1"].ask(agents.Exited(gone))
    assert len(log.audits("server-agent-a1-exited-")) == 1


@pytest.mark.parametrize(
    "gone",
    [
        wire.ExitedAgent(agent_id="a1", spawn_request_id="sp_0"),
        wire.ExitedAgent(agent_id="a1", spawn_request_id="sp_1", detected_at=wire.Instant(0.5)),
    ],
)
async def test_the_end_of_an_earlier_session_is_noted_and_takes_nobody_offline(
    fleet: Fleet, log: Log, gone: wire.ExitedAgent
) -> None:
    await register(fleet, meta={"spawnRequestId": "sp_1", "startedAt": 1_000})
    assert await fleet.agents["a1"].ask(agents.Exited(gone))
    assert agents.get_agent(fleet.store, "a1").status is A.ONLINE
    assert len(log.audits("server-agent-a1-exited-")) == 1
    assert not await fleet.agents["nobody"].ask(agents.Exited(gone))


@pytest.mark.spec("M-I29", "O-04")
async def test_heartbeats_cannot_make_a_card_too_large(fleet: Fleet) -> None:
    await register(fleet, meta={"a": "x" * 40_000})
    with pytest.raises(Invalid):
        await fleet.agents["a1"].ask(agents.Heartbeat(meta={"b": "y" * 40_000}))
    assert (await fleet.agents["a1"].ask(agents.Heartbeat(meta={"a": "y"}))).meta == {"a": "y"}


async def test_lists_are_filtered_and_ordered(fleet: Fleet) -> None:
    for key, status in (("b", A.IDLE), ("a", A.BUSY), ("c", A.IDLE)):
        await register(fleet, key, status=status)
    assert [agent.id for agent in agents.list_agents(fleet.store)] == ["a", "b", "c"]
    assert [agent.id for agent in agents.list_agents(fleet.store, status=A.IDLE)] == ["b", "c"]
    assert agents.list_agents(fleet.store, kind=wire.AgentKind.CHANNEL) == []


async def test_a_very_long_id_can_be_audited(fleet: Fleet, log: Log) -> None:
    key = "😀" * 120
    assert (await register(fleet, key)).new
    (record,) = log.audits()
    wire.decode(wire.Activity, record)
    assert record["agentId"] == key
