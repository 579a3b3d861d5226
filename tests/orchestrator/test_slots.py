"""A policy has one agent on a host, whatever comes late, twice or out of order."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hosts import Host, until

from relay import wire
from relay.orchestrator._problems import Refused
from relay.orchestrator._processes import start_tick
from relay.orchestrator.slots import Fences, Slot, Slots

C = wire.CommandStatus


def alive(pid: int | None) -> bool:
    return start_tick(pid or 0) is not None


async def begun(host: Host, name: str, epoch: int) -> wire.ManagedAgent:
    return await host.spawned(name, policyName="P", policyEpoch=epoch)


@pytest.mark.spec("M-I19", "M-197")
async def test_the_agent_before_has_ended_when_the_next_one_starts(host: Host):
    async with host.running():
        first = await begun(host, "one", 1)
        second = await begun(host, "two", 2)
        assert not alive(first.pid)
        assert alive(second.pid)
        assert [entry.agent_id for entry in await host.roster()] == ["two"]
        assert await host.exits("one") == []


@pytest.mark.spec("M-197")
async def test_an_older_start_or_stop_does_nothing_also_after_a_restart_of_the_host(host: Host):
    async with host.running():
        running = await begun(host, "two", 2)
    async with host.running():
        late = await host.done("agent.spawn", **host.wish("one", policyName="P", policyEpoch=1))
        assert late.status is C.FAILED
        assert "policy P was started or stopped again since (epoch 1, now 2)" in (late.error or "")
        same = await host.done("agent.spawn", **host.wish("three", policyName="P", policyEpoch=2))
        assert same.status is C.FAILED
        stop = await host.done("agent.shutdown", policyName="P", policyEpoch=1, spawnRequestId="sp_one")
        assert (stop.status, stop.result) == (
            C.SUCCEEDED,
            {"stopped": True, "wasRunning": False, "superseded": True},
        )
        again = await host.done("agent.restart", policyName="P", policyEpoch=1, spawnRequestId="sp_two")
        assert again.status is C.FAILED
        assert [entry.pid for entry in await host.roster()] == [running.pid]


@pytest.mark.spec("POL-14")
async def test_what_was_stopped_is_not_started_by_what_was_asked_before(host: Host):
    async with host.running():
        first = await begun(host, "one", 1)
        stop = await host.done("agent.shutdown", policyName="P", policyEpoch=2, spawnRequestId="sp_one")
        assert stop.status is C.SUCCEEDED
        assert (stop.result or {})["stopped"] is True
        assert not alive(first.pid)
        late = await host.done("agent.spawn", **host.wish("one", policyName="P", policyEpoch=1))
        assert late.status is C.FAILED
        empty = await host.done("agent.shutdown", policyName="P", policyEpoch=3)
        assert (empty.status, empty.result) == (C.SUCCEEDED, {"stopped": True, "wasRunning": False})


@pytest.mark.spec("POL-16", "M-194")
async def test_a_restart_starts_what_is_not_there_any_more(host: Host):
    async with host.running():
        await begun(host, "one", 1)
        await host.done("agent.shutdown", policyName="P", policyEpoch=2, spawnRequestId="sp_one")
        wish = host.wish("one", policyName="P", policyEpoch=3)
        again = await host.done(
            "agent.restart", policyName="P", policyEpoch=3, spawnRequestId="sp_one", restartSpawn=wish
        )
        assert again.status is C.SUCCEEDED, again.error
        first = await host.rostered("one")
        wish = host.wish("one", policyName="P", policyEpoch=4)
        await host.done(
            "agent.restart", policyName="P", policyEpoch=4, spawnRequestId="sp_one", restartSpawn=wish
        )
        second = await host.rostered("one", after=first.pid)
        assert not alive(first.pid)
        assert alive(second.pid)


async def test_a_spawn_by_hand_does_not_take_the_place_of_the_policys_agent(host: Host):
    async with host.running():
        await begun(host, "one", 1)
        by_hand = await host.done("agent.spawn", **host.wish("other", policyName="P"))
        assert "policy P has its agent here: POST /api/spawn-policy/P/restart" in (by_hand.error or "")
        beside = await host.done("agent.spawn", **host.wish("other"))
        assert beside.status is C.SUCCEEDED


async def test_a_killed_agent_that_waits_for_its_restart_makes_way(host: Host):
    async with host.running(watch=3600.0):
        first = await begun(host, "one", 1)
        os.kill(first.pid or 0, 9)
        await until(lambda: not alive(first.pid))
        await begun(host, "two", 2)
        assert [entry.agent_id for entry in await host.roster()] == ["two"]


async def test_a_fence_that_cannot_be_read_lets_nothing_in(host: Host):
    async with host.running() as config:
        await begun(host, "one", 1)
        (fence,) = (config.state / "slots").iterdir()
        fence.write_text("{")
        refused = await host.done("agent.spawn", **host.wish("two", policyName="P", policyEpoch=2))
        assert f"{fence} cannot be read: end the sessions of policy P on this host" in (refused.error or "")


class NobodyEnds:
    """A host whose sessions cannot be ended."""

    def __init__(self, **sessions: object) -> None:
        self.live = sessions

    async def stop(self, session: object, grace: float) -> bool:
        return False

    async def vacated(self, session: object) -> bool:
        return False


async def test_nothing_is_started_beside_what_cannot_be_proven_dead(host: Host, tmp_path: Path):
    from relay.orchestrator.session import Launch

    class Kept:
        launch = Launch(
            name="s1", agent_id="one", provider="command", cwd="/", label=None, approval_mode="guarded",
            spawn_request_id="sp_1", policy_name="P", workspace={}, environment={},
        )  # fmt: skip

    slots: Slots[object] = Slots(Fences(tmp_path), NobodyEnds(s1=Kept()))  # type: ignore[type-var, arg-type]
    with pytest.raises(Refused, match="session s1 of policy P could not be ended"):
        await slots.enter(Slot("P", 2, "sp_2"))
    with pytest.raises(Refused, match="another session of policy P is here: s1"):
        slots.check(Slot("P", 2, "sp_2"))


@pytest.mark.parametrize(
    ("params", "slot"),
    [
        ({}, None),
        ({"policyName": ""}, None),
        ({"policyName": 7, "policyEpoch": 1}, None),
        ({"policyName": "P"}, Slot("P", None, None)),
        ({"policyName": "P", "policyEpoch": True}, Slot("P", None, None)),
        ({"policyName": "P", "policyEpoch": 3, "spawnRequestId": "sp"}, Slot("P", 3, "sp")),
    ],
)
def test_what_a_command_says_of_a_slot(params: dict[str, object], slot: Slot | None):
    assert Slot.read(params) == slot
