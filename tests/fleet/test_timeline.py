"""Timelines: what agents report of themselves, and their statuses."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from relay import wire
from relay.actors import System
from relay.fleet import Conflict, Fleet, Invalid, agents, open_fleet, timeline
from relay.store import Store

A = wire.AgentStatus


async def register(fleet: Fleet, key: str = "a1", **card: Any) -> agents.Registered:
    return await fleet.agents[key].ask(agents.Register(wire.RegisterAgent(id=key, **card)))


async def report(fleet: Fleet, **event: Any) -> wire.Agent:
    return await fleet.agents["a1"].ask(agents.Heartbeat(meta={"timelineEvent": event}))


def entries(fleet: Fleet, key: str = "a1") -> list[str]:
    """The statuses, oldest first."""
    return [entry.status for entry in reversed(timeline.list_timeline(fleet.store, key))]


@pytest.mark.spec("R-I22")
async def test_a_report_is_an_entry_and_no_part_of_the_card(fleet: Fleet) -> None:
    await register(fleet, meta={"k": 1, "timelineEvent": {"status": "began"}})
    card = await report(
        fleet, status="session started", id="s1", timestamp=1_000, metadata={"provider": "claude"}
    )
    after = await fleet.agents["a1"].ask(
        agents.Update(meta={"timelineEvent": {"status": "compacted"}, "m": 2})
    )
    assert (card.meta, after.meta) == ({"k": 1}, {"k": 1, "m": 2})
    assert agents.get_agent(fleet.store, "a1").meta == {"k": 1, "m": 2}
    newest, told, *_ = timeline.list_timeline(fleet.store, "a1")
    assert (newest.status, newest.agent_id, newest.metadata) == ("compacted", "a1", None)
    assert (told.status, told.at, told.metadata) == ("session started", 1.0, {"provider": "claude"})
    assert entries(fleet) == ["began", "online", "session started", "compacted"]


@pytest.mark.spec("R-I22")
async def test_the_same_report_is_one_entry_however_often_it_comes(fleet: Fleet) -> None:
    await register(fleet)
    for _ in range(3):
        await report(fleet, status="renewed", id="jti1")
        await report(fleet, status="renewed", timestamp=5_000)
        await report(fleet, status="ended", id="jti1")
        await register(fleet, meta={"timelineEvent": {"status": "renewed", "id": "jti1"}})
    assert entries(fleet) == ["online", "renewed", "renewed", "ended"]


async def test_every_change_of_status_is_an_entry(fleet: Fleet) -> None:
    await register(fleet, status=A.IDLE)
    agent = fleet.agents["a1"]
    for status in (A.BUSY, A.BUSY, A.IDLE):
        await agent.ask(agents.SetStatus(status))
    await agent.ask(agents.SetReady(ready=True))
    await trio.sleep(215)
    await agent.ask(agents.Heartbeat())
    assert entries(fleet) == ["idle", "busy", "idle", "stale", "offline", "idle"]
    assert [entry.metadata for entry in timeline.list_timeline(fleet.store, "a1", limit=2)] == [
        {"previous": "offline"},
        {"previous": "stale"},
    ]


@pytest.mark.spec("M-I29")
@pytest.mark.parametrize("event", [{}, {"status": ""}, {"status": 7}, {"status": "x" * 241}, "began", [1]])
async def test_what_is_no_report_is_refused_with_the_rest(fleet: Fleet, event: Any) -> None:
    await register(fleet)
    before = agents.get_agent(fleet.store, "a1")
    with pytest.raises(Invalid, match=r"meta\.timelineEvent"):
        await fleet.agents["a1"].ask(agents.Heartbeat(meta={"timelineEvent": event, "k": 1}))
    assert agents.get_agent(fleet.store, "a1") == before
    assert entries(fleet) == ["online"]
    assert (await fleet.agents["a1"].ask(agents.Heartbeat(meta={"timelineEvent": None, "k": 1}))).meta == {
        "k": 1
    }


@pytest.mark.spec("M-I41")
async def test_the_report_of_a_former_session_is_refused(fleet: Fleet) -> None:
    await register(fleet, instance_id="i2")
    with pytest.raises(Conflict):
        await fleet.agents["a1"].ask(agents.Heartbeat("i1", meta={"timelineEvent": {"status": "late"}}))
    assert entries(fleet) == ["online"]


async def test_a_timeline_is_read_from_the_newest_back(fleet: Fleet) -> None:
    await register(fleet)
    for number in range(5):
        await report(fleet, status=f"n{number}", id="x")
    first = timeline.list_timeline(fleet.store, "a1", limit=2)
    assert [entry.status for entry in first] == ["n4", "n3"]
    rest = timeline.list_timeline(fleet.store, "a1", before=first[-1].id)
    assert [entry.status for entry in rest] == ["n2", "n1", "n0", "online"]


async def test_a_timeline_is_bounded_and_its_last_reports_are_kept(fleet: Fleet) -> None:
    await register(fleet, status=A.IDLE)
    for number in range(60):
        await report(fleet, status="reported", id=str(number))
    for _ in range(600):
        await fleet.agents["a1"].ask(agents.SetStatus(A.BUSY))
        await fleet.agents["a1"].ask(agents.SetStatus(A.IDLE))
    row = fleet.store.row("select count(*), sum(reported) from agent_timeline")
    assert row is not None
    assert timeline.KEPT <= row[0] <= timeline.KEPT + 200
    assert row[1] == 50


@pytest.mark.spec("AGT-18")
async def test_a_timeline_goes_with_its_agent_and_stays_over_a_restart(system: System, store: Store) -> None:
    async with open_fleet(system, store) as fleet:
        await register(fleet)
        await register(fleet, "a2")
        await report(fleet, status="began", id="1")
    async with open_fleet(system, store) as fleet:
        await report(fleet, status="began", id="1")
        assert entries(fleet) == ["online", "began"]
        await fleet.agents["a1"].ask(agents.Remove())
        assert (entries(fleet), entries(fleet, "a2")) == ([], ["online"])
