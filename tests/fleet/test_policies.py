"""Policies: starts and stops, what becomes of their agents, and what relay does about it by itself."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from fleetlog import Log
from policykit import add_host, caught_up, ended, put_policy, state

from relay import wire
from relay.actors import System
from relay.fleet import (
    Conflict,
    Fleet,
    NotFound,
    agents,
    commands,
    config,
    open_fleet,
    orchestrators,
    policies,
)
from relay.fleet._moment import Moment
from relay.fleet._policy_commands import next_epoch
from relay.fleet._policy_rules import MOVES, find_last, retry_delay
from relay.fleet.policies import Delete, Exited, Restart, Start, Stop
from relay.store import Store

S = wire.PolicyStatus
C = wire.CommandStatus


@pytest.fixture
async def ready(fleet: Fleet) -> Fleet:
    """A fleet with the host h1, and the policy P that is to run there."""
    await add_host(fleet)
    await put_policy(fleet, restart={"mode": "on-failure"})
    return fleet


async def ask(fleet: Fleet, message: Any, name: str = "P") -> wire.Command:
    command = await fleet.policies[name].ask(message)
    assert isinstance(command, wire.Command)
    return command


async def register(fleet: Fleet, request: str | None = None, name: str = "w") -> None:
    meta = {"policyName": "P", "spawnRequestId": request or state(fleet).spawn_request_id}
    await fleet.agents[name].ask(agents.Register(wire.RegisterAgent(id=name, meta=meta)))


async def settle(fleet: Fleet, command: wire.Command, status: C, **report: Any) -> None:
    """The host reports how it ended."""
    await fleet.commands[command.id].ask(commands.Patch(wire.PatchCommand(status=status, **report)))
    await caught_up(fleet)


async def beat(fleet: Fleet, host: str = "h1") -> None:
    await fleet.orchestrators[host].ask(orchestrators.Heartbeat(wire.OrchestratorHeartbeat()))


async def wait_until(fleet: Fleet, status: S, within: float = 700) -> float:
    """Seconds until the policy's agent is so; its host is there all the time."""
    began = trio.current_time()
    with trio.fail_after(within):
        while state(fleet).status is not status:
            await beat(fleet)
            await trio.sleep(0.5)
    return trio.current_time() - began


def started(fleet: Fleet) -> list[wire.Command]:
    return commands.list_commands(fleet.store, type="agent.spawn")


def last(fleet: Fleet) -> wire.Command:
    known = find_last(fleet.store, "P")
    assert known.command_id is not None
    return commands.get_command(fleet.store, known.command_id)


async def fail(fleet: Fleet) -> None:
    """Start it if need be, and have the host report that this came to nothing."""
    await settle(fleet, last(fleet), C.FAILED, error="no such program")


# -- asked for


@pytest.mark.spec("POL-9", "POL-10", "POL-12", "POL-18", "POL-19", "M-190", "M-I18", "M-I19")
async def test_a_start_is_a_state_with_a_command(ready: Fleet, log: Log) -> None:
    await put_policy(ready, cwd="/base/x", tags=["t"], permissionMode="open", prompt="begin", model="m")
    seen, audits = len(log.events()), len(log.audits())
    command = await ask(ready, Start())
    now = state(ready)
    request = now.spawn_request_id
    assert now == wire.PolicyState(
        policy_name="P", status=S.STARTING, orchestrator_id="h1", provider=wire.Provider.CLAUDE,
        spawn_request_id=request, last_spawn_at=now.last_spawn_at, updated_at=now.updated_at,
    )  # fmt: skip
    changed, requested = log.events()[seen:]
    assert (changed["type"], changed["source"], changed["subject"]) == ("policy.state.changed", "server", "P")
    assert changed["data"] == wire.to_json(now)
    assert (requested["type"], requested["data"]["command"]) == ("command.requested", wire.to_json(command))
    assert (command.type, command.source, command.target) == ("agent.spawn", "system", "orchestrator-h1")
    assert command.correlation_id == request
    epoch = command.params["policyEpoch"]
    assert command.params == {
        "action": "spawn", "provider": "claude", "cwd": "/base/x", "tags": ["t"], "capabilities": [],
        "approvalMode": "open", "permissionMode": "open", "providerArgs": [], "prompt": "begin", "model": "m",
        "headless": True, "policyName": "P", "policyEpoch": epoch, "spawnRequestId": request,
        "requestedBy": "managed-agent", "requestedAt": command.params["requestedAt"],
        "reason": "manual-start", "orchestratorId": "h1",
    }  # fmt: skip
    assert len(log.audits()) == audits


@pytest.mark.spec("POL-13", "POL-14", "M-193")
async def test_a_stop_keeps_what_is_known_and_asks_for_a_shutdown(ready: Fleet) -> None:
    await ask(ready, Start())
    await register(ready)
    before = state(ready)
    command = await ask(ready, Stop())
    now = state(ready)
    assert (now.status, now.agent_id, now.spawn_request_id) == (S.STOPPING, "w", before.spawn_request_id)
    assert (now.last_spawn_at, now.healthy_since) == (before.last_spawn_at, None)
    assert now.last_stop_at is not None
    assert (command.type, command.correlation_id) == ("agent.shutdown", before.spawn_request_id)
    params = {key: command.params[key] for key in ("graceful", "timeoutMs", "reason", "agentId", "action")}
    assert params == {
        "graceful": True, "timeoutMs": 10_000, "reason": "manual-stop", "agentId": "w", "action": "shutdown",
    }  # fmt: skip
    await settle(ready, command, C.SUCCEEDED)
    now = state(ready)
    assert (now.status, now.agent_id, now.tmux_session) == (S.STOPPED, None, None)


@pytest.mark.spec("POL-15")
async def test_a_stop_works_also_when_nothing_is_known(ready: Fleet) -> None:
    command = await ask(ready, Stop())
    assert (state(ready).status, command.correlation_id) == (S.STOPPING, None)
    await settle(ready, command, C.FAILED, result={"targetNotFound": True}, error="no session fits")
    assert state(ready).status is S.STOPPED


@pytest.mark.spec("POL-16", "M-194")
async def test_a_restart_keeps_the_request(ready: Fleet) -> None:
    await ask(ready, Start())
    await register(ready)
    request = state(ready).spawn_request_id
    command = await ask(ready, Restart())
    assert (state(ready).status, state(ready).spawn_request_id) == (S.STARTING, request)
    assert (command.type, command.params["reason"]) == ("agent.restart", "manual-restart")
    assert command.params["restartSpawn"]["spawnRequestId"] == request
    assert command.params["restartSpawn"]["policyEpoch"] == command.params["policyEpoch"]
    await register(ready)
    assert state(ready).status is S.RUNNING


@pytest.mark.spec("POL-16", "H-11", "O-47")
async def test_a_restart_of_what_was_never_started_is_a_start(ready: Fleet) -> None:
    command = await ask(ready, Restart())
    assert (command.type, command.params["reason"]) == ("agent.spawn", "manual-restart")
    assert command.correlation_id == state(ready).spawn_request_id


@pytest.mark.spec("POL-11", "H-10", "O-47")
async def test_what_is_started_or_runs_cannot_be_started(ready: Fleet, log: Log) -> None:
    await ask(ready, Start())
    seen = len(log.events())
    with pytest.raises(Conflict, match="policy P is starting: stop or restart it"):
        await ask(ready, Start())
    await register(ready)
    with pytest.raises(Conflict, match=r"policy P is running \(agent w\)"):
        await ask(ready, Start())
    assert len(log.events("command.requested", "policy.state.changed")) == 3
    assert seen


@pytest.mark.spec("POL-8", "M-191", "M-I29")
async def test_a_start_needs_the_host_to_be_there(ready: Fleet, log: Log) -> None:
    await ready.agents["orchestrator-h1"].ask(agents.SetStatus(wire.AgentStatus.OFFLINE))
    await caught_up(ready)
    seen = len(log.events())
    with pytest.raises(Conflict, match="host h1 is offline: start its orchestrator, then start the policy"):
        await ask(ready, Start())
    assert len(log.events()) == seen
    assert policies.find_policy_state(ready.store, "P") is None
    assert (await ask(ready, Stop())).status is C.PENDING


@pytest.mark.spec("POL-8", "M-192", "M-196", "M-I20", "M-I29")
@pytest.mark.parametrize("message", [Start(), Stop(), Restart(), Delete()])
async def test_nothing_comes_of_a_policy_or_host_that_is_not_there(
    fleet: Fleet, log: Log, message: Any
) -> None:
    with pytest.raises(NotFound):
        await ask(fleet, message)
    await put_policy(fleet)
    seen = len(log.events())
    with pytest.raises(NotFound, match="h1"):
        await ask(fleet, message)
    assert policies.find_policy(fleet.store, "P") is not None
    assert len(log.events()) == seen


@pytest.mark.spec("POL-6", "POL-7", "M-195", "M-I20")
@pytest.mark.parametrize("generic", [False, True])
async def test_a_deletion_stops_the_agent(ready: Fleet, log: Log, generic: bool) -> None:
    await ask(ready, Start())
    await register(ready)
    if generic:
        await config.delete_value(ready, "spawn-policy", "P", None)
    else:
        await ask(ready, Delete("me"))
    command = last(ready)
    assert (command.type, command.params["reason"]) == ("agent.shutdown", "policy-deleted")
    assert policies.find_policy(ready.store, "P") is None
    assert log.events("config.changed")[-1]["data"] == {"namespace": "spawn-policy", "key": "P", "version": 2}
    assert state(ready).status is S.STOPPING
    await settle(ready, command, C.SUCCEEDED)
    assert state(ready).status is S.STOPPED


@pytest.mark.spec("POL-5")
async def test_to_write_a_policy_starts_and_stops_nothing(ready: Fleet, log: Log) -> None:
    await ask(ready, Start())
    before, seen = state(ready), len(log.events())
    await put_policy(ready, model="other")
    assert state(ready) == before
    assert [event["type"] for event in log.events()[seen:]] == ["config.changed"]


@pytest.mark.spec("M-197", "M-I12")
async def test_of_two_starts_at_once_one_is_refused(ready: Fleet) -> None:
    outcomes: list[str] = []

    async def start() -> None:
        try:
            outcomes.append((await ask(ready, Start())).correlation_id or "")
        except Conflict:
            outcomes.append("refused")

    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(start)
    assert sorted(outcomes)[-1] == state(ready).spawn_request_id
    assert sorted(outcomes)[0] == "refused"


@pytest.mark.spec("M-I19")
async def test_a_start_that_is_still_open_is_canceled_by_the_next_order(ready: Fleet) -> None:
    first = await ask(ready, Start())
    stop = await ask(ready, Stop())
    assert commands.get_command(ready.store, first.id).status is C.CANCELED
    assert state(ready).status is S.STOPPING
    second = await ask(ready, Start())
    assert commands.get_command(ready.store, stop.id).status is C.PENDING
    epochs = [each.params["policyEpoch"] for each in (first, stop, second)]
    assert epochs == sorted(set(epochs))
    await settle(ready, stop, C.SUCCEEDED)
    assert state(ready).status is S.STARTING


# -- it fails


@pytest.mark.spec("POL-21", "H-06")
@pytest.mark.parametrize("status", [C.FAILED, C.REJECTED, C.TIMED_OUT, C.CANCELED])
async def test_a_start_that_came_to_nothing_has_failed(ready: Fleet, status: C) -> None:
    command = await ask(ready, Start())
    await ready.policies["P"].send(ended(command, status, "no such program" if status is C.FAILED else None))
    await caught_up(ready)
    now = state(ready)
    assert (now.status, now.consecutive_failures) == (S.FAILED, 1)
    told = "no such program" if status is C.FAILED else f"was {status.value.replace('_', ' ')}"
    assert told in (now.last_error or "")
    assert now.retry_at is not None


@pytest.mark.spec("POL-21", "M-I12")
async def test_what_came_of_earlier_commands_does_not_count(ready: Fleet) -> None:
    first = await ask(ready, Start())
    await ask(ready, Stop())
    await ask(ready, Start())
    before = state(ready)
    await ready.policies["P"].send(ended(first, C.FAILED))
    await ready.policies["P"].ask(policies.Exited(first.correlation_id or "", "killed"))
    await register(ready, first.correlation_id)
    assert state(ready) == before


@pytest.mark.spec("POL-21")
async def test_an_agent_that_went_offline_has_failed_and_runs_again_when_it_is_back(ready: Fleet) -> None:
    await ask(ready, Start())
    await register(ready)
    await ready.agents["w"].ask(agents.SetStatus(wire.AgentStatus.OFFLINE))
    await caught_up(ready)
    assert (state(ready).status, state(ready).consecutive_failures) == (S.FAILED, 1)
    assert "heartbeat" in (state(ready).last_error or "")
    await ready.agents["w"].ask(agents.Heartbeat())
    await caught_up(ready)
    now = state(ready)
    assert (now.status, now.retry_at, now.last_error) == (S.RUNNING, None, None)
    await ready.agents["w"].ask(agents.Remove())
    await caught_up(ready)
    assert "was deleted" in (state(ready).last_error or "")


@pytest.mark.spec("POL-21")
@pytest.mark.parametrize("end", [agents.SetStatus(wire.AgentStatus.OFFLINE), agents.Remove()])
async def test_an_agent_that_named_another_policy_since_has_failed_too_when_it_goes(
    ready: Fleet, end: agents.SetStatus | agents.Remove
) -> None:
    await ask(ready, Start())
    await register(ready)
    meta = {"policyName": "Q", "spawnRequestId": "sp_earlier"}
    await ready.agents["w"].ask(agents.Register(wire.RegisterAgent(id="w", meta=meta)))
    assert (state(ready).status, state(ready).agent_id) == (S.RUNNING, "w")
    await ready.agents["w"].ask(end)
    await caught_up(ready)
    assert (state(ready).status, state(ready).consecutive_failures) == (S.FAILED, 1)


async def report(
    fleet: Fleet, *listed: wire.ManagedAgent, exits: list[wire.ExitedAgent] | None = None
) -> None:
    roster = wire.Roster(agents=list(listed), exited_agents=exits or [])
    await fleet.orchestrators["h1"].ask(orchestrators.ReportRoster(roster))
    await caught_up(fleet)


@pytest.mark.spec("ORC-12", "O-25")
async def test_a_host_tells_of_the_session_and_of_its_end(ready: Fleet) -> None:
    await ask(ready, Start())
    request = state(ready).spawn_request_id
    entry = wire.ManagedAgent(
        agent_id="w", policy_name="P", spawn_request_id=request, tmux_session="relay-w", provider="claude"
    )
    await report(ready, entry)
    assert (state(ready).status, state(ready).agent_id, state(ready).tmux_session) == (
        S.STARTING,
        "w",
        "relay-w",
    )
    gone = wire.ExitedAgent(
        agent_id="w",
        policy_name="P",
        spawn_request_id=request,
        last_error="killed by signal 9",
        restarted=True,
    )
    await report(ready, entry, exits=[gone])
    assert state(ready).status is S.STARTING
    await register(ready)
    over = wire.ExitedAgent(agent_id="w", policy_name="P", spawn_request_id=request, last_error="exit code 3")
    await report(ready, exits=[over])
    assert (state(ready).status, state(ready).last_error) == (S.FAILED, "exit code 3")


@pytest.mark.spec("ORC-12")
async def test_a_session_that_ends_while_it_is_stopped_was_stopped(ready: Fleet) -> None:
    await ask(ready, Start())
    await register(ready)
    request = state(ready).spawn_request_id
    await ask(ready, Stop())
    over = wire.ExitedAgent(agent_id="w", policy_name="P", spawn_request_id=request)
    await report(ready, exits=[over])
    assert state(ready).status is S.STOPPED


@pytest.mark.spec("POL-21")
async def test_a_shutdown_that_did_not_work_says_so_and_can_be_asked_for_again(ready: Fleet) -> None:
    await ask(ready, Start())
    await register(ready)
    command = await ask(ready, Stop())
    await settle(ready, command, C.FAILED, error="process 7 could not be stopped")
    assert (state(ready).status, state(ready).last_error) == (S.STOPPING, "process 7 could not be stopped")
    await settle(ready, await ask(ready, Stop()), C.SUCCEEDED)
    assert state(ready).status is S.STOPPED


async def test_an_agent_that_never_registers_has_failed(ready: Fleet) -> None:
    await put_policy(ready)
    command = await ask(ready, Start())
    await trio.sleep(400)
    assert state(ready).status is S.STARTING
    await settle(ready, command, C.SUCCEEDED)
    await trio.sleep(301)
    assert (state(ready).status, state(ready).last_error) == (
        S.FAILED,
        "the agent did not register within 300 s",
    )


async def test_a_host_that_was_deleted_runs_nothing_any_more(ready: Fleet) -> None:
    await ask(ready, Start())
    await ready.orchestrators["h1"].ask(orchestrators.Remove())
    await caught_up(ready)
    assert (state(ready).status, state(ready).last_error) == (S.FAILED, "host h1 was removed")


# -- relay starts it again


@pytest.mark.spec("POL-21", "O-25")
async def test_what_failed_is_started_again_after_a_delay_that_doubles(ready: Fleet) -> None:
    await ask(ready, Start())
    for failures, least in enumerate((5, 10, 20, 40), 1):
        await fail(ready)
        assert state(ready).consecutive_failures == failures
        took = await wait_until(ready, S.STARTING)
        assert least <= took <= least * 1.1 + 1
        assert (state(ready).restart_count, state(ready).consecutive_failures) == (failures, failures)
        assert last(ready).params["reason"] == "supervisor-restart"
    requests = [command.correlation_id for command in started(ready)]
    assert len(set(requests)) == 5
    assert state(ready).spawn_request_id == requests[-1]


@pytest.mark.spec("POL-21")
@pytest.mark.parametrize(("failures", "delay"), [(1, 5), (2, 10), (7, 300), (200, 300)])
def test_no_delay_is_longer_than_the_longest(failures: int, delay: float) -> None:
    assert retry_delay(wire.Restart(), failures, 0.0) == delay
    assert retry_delay(wire.Restart(), failures, 1.0) == pytest.approx(delay * 1.1)


@pytest.mark.spec("POL-21")
async def test_an_agent_that_ran_for_long_has_not_failed_before(ready: Fleet) -> None:
    await ask(ready, Start())
    await fail(ready)
    await wait_until(ready, S.STARTING)
    await register(ready)
    assert state(ready).consecutive_failures == 1
    with trio.fail_after(700):
        while state(ready).consecutive_failures:
            await ready.agents["w"].ask(agents.Heartbeat())
            await trio.sleep(30)
    assert state(ready).status is S.RUNNING
    assert state(ready).restart_count == 1


async def test_an_agent_that_fails_again_and_again_is_left_alone_until_a_person_starts_it(
    ready: Fleet, log: Log
) -> None:
    await put_policy(ready, restart={"mode": "always", "quarantineAfter": 3, "delayMs": 1000})
    await ask(ready, Start())
    for _ in range(2):
        await fail(ready)
        await wait_until(ready, S.STARTING)
    await fail(ready)
    now = state(ready)
    assert (now.status, now.quarantined, now.retry_at) == (S.FAILED, True, None)
    (alarm,) = policies.alarms(ready.store)
    assert "the agent of 1 policy" in alarm
    (audit,) = log.audits("server-policy-P-quarantined")
    assert audit["metadata"] == {"policyName": "P", "consecutiveFailures": 3}
    await trio.sleep(1000)
    assert len(started(ready)) == 3
    await beat(ready)
    await ask(ready, Start())
    assert (state(ready).quarantined, state(ready).consecutive_failures) == (None, 0)
    assert policies.alarms(ready.store) == []


async def test_a_restart_frees_it_too(ready: Fleet) -> None:
    await put_policy(ready, restart={"mode": "always", "quarantineAfter": 1})
    await ask(ready, Start())
    await fail(ready)
    assert state(ready).quarantined
    await ask(ready, Restart())
    assert (state(ready).status, state(ready).quarantined, state(ready).consecutive_failures) == (
        S.STARTING,
        None,
        0,
    )


@pytest.mark.parametrize(
    ("mode", "well", "again"),
    [
        ("never", False, False),
        ("on-failure", True, False),
        ("on-failure", False, True),
        ("always", True, True),
    ],
)
async def test_the_policy_says_when_it_is_started_again(
    ready: Fleet, mode: str, well: bool, again: bool
) -> None:
    await put_policy(ready, restart={"mode": mode})
    await ask(ready, Start())
    await register(ready)
    request = state(ready).spawn_request_id or ""
    await ready.policies["P"].ask(policies.Exited(request, "over", well))
    assert (state(ready).status, state(ready).retry_at is not None) == (S.FAILED, again)
    await trio.sleep(10)
    assert len(started(ready)) == (2 if again else 1)


async def test_it_is_started_again_once_its_host_is_there(ready: Fleet) -> None:
    await ask(ready, Start())
    await fail(ready)
    await ready.agents["orchestrator-h1"].ask(agents.SetStatus(wire.AgentStatus.OFFLINE))
    await trio.sleep(120)
    assert state(ready).status is S.FAILED
    await beat(ready)
    assert await wait_until(ready, S.STARTING) <= 11


async def test_a_stop_ends_the_attempts(ready: Fleet) -> None:
    await ask(ready, Start())
    await fail(ready)
    await settle(ready, await ask(ready, Stop()), C.SUCCEEDED)
    await trio.sleep(1000)
    assert (state(ready).status, len(started(ready))) == (S.STOPPED, 1)


async def test_it_moves_to_another_host_when_the_first_says_that_it_has_ended(ready: Fleet) -> None:
    await add_host(ready, "h2")
    await ask(ready, Start())
    await register(ready)
    await put_policy(ready, orchestratorId="h2", restart={"mode": "always"})
    await ready.agents["w"].ask(agents.SetStatus(wire.AgentStatus.OFFLINE))
    await caught_up(ready)
    with pytest.raises(Conflict, match="may still run on host h1: stop the policy first"):
        await ask(ready, Start())
    with trio.fail_after(10):
        while last(ready).type != "agent.shutdown":
            await beat(ready)
            await beat(ready, "h2")
            await trio.sleep(0.5)
    assert (last(ready).target, last(ready).params["reason"]) == ("orchestrator-h1", "policy-moved")
    await settle(ready, last(ready), C.SUCCEEDED)
    with trio.fail_after(10):
        while last(ready).type != "agent.spawn":
            await trio.sleep(0.1)
    assert last(ready).target == "orchestrator-h2"
    assert state(ready).orchestrator_id == "h2"


# -- the server starts again


@pytest.mark.spec("POL-21")
async def test_what_was_missed_is_made_up_for_at_the_next_start(system: System, store: Store) -> None:
    async with open_fleet(system, store) as fleet:
        await add_host(fleet)
        await put_policy(fleet, restart={"mode": "on-failure"})
        await ask(fleet, Start())
        await register(fleet)
        await fleet.policies.stop()
        await fleet.agents["w"].ask(agents.SetStatus(wire.AgentStatus.OFFLINE))
        assert state(fleet).status is S.RUNNING
    async with open_fleet(system, store) as fleet:
        await caught_up(fleet)
        assert state(fleet).status is S.FAILED
        await wait_until(fleet, S.STARTING)
        await fleet.policies.stop()
        over = wire.PatchCommand(status=C.FAILED, error="no such program")
        await fleet.commands[last(fleet).id].ask(commands.Patch(over))
        assert state(fleet).status is S.STARTING
    async with open_fleet(system, store) as fleet:
        await caught_up(fleet)
        assert (state(fleet).status, state(fleet).last_error) == (S.FAILED, "no such program")


@pytest.mark.spec("M-I19")
def test_epochs_grow_whatever_the_clock_says() -> None:
    assert next_epoch(0, at(5.0)) == 5_000
    assert next_epoch(5_000, at(5.0)) == 5_001
    assert next_epoch(5_001, at(3.0)) == 5_002


def at(seconds: float) -> Moment:
    return Moment(wire.Instant(seconds), lambda _: 1, lambda _: "x")


@pytest.mark.spec("O-25")
def test_every_state_can_be_left_and_every_event_names_a_state() -> None:
    assert set(MOVES) == set(S)
    assert all(moves["stop"] is S.STOPPING for moves in MOVES.values())
    assert all(moves["restart"] is S.STARTING for moves in MOVES.values())
    assert {status for status, moves in MOVES.items() if "start" not in moves} == {S.STARTING, S.RUNNING}


@pytest.mark.spec("M-I19", "POL-13")
async def test_the_state_knows_which_host_a_restart_went_to(fleet: Fleet) -> None:
    """It was stopped on one host and restarted on another: back to the first it goes only by way of that one."""
    for name in ("h1", "h2"):
        await add_host(fleet, name)
    await put_policy(fleet)
    started = await fleet.policies["P"].ask(Start())
    await fleet.policies["P"].ask(Stop())
    await fleet.policies["P"].ask(Exited(started.correlation_id or "", "it went", well=True))
    assert state(fleet).status is S.STOPPED
    await put_policy(fleet, orchestratorId="h2")
    again = await fleet.policies["P"].ask(Restart())
    assert (again.target, state(fleet).orchestrator_id) == ("orchestrator-h2", "h2")
    await put_policy(fleet, orchestratorId="h1")
    assert (await fleet.policies["P"].ask(Restart())).target == "orchestrator-h2"
    stopped = await fleet.policies["P"].ask(Stop())
    assert (stopped.target, state(fleet).orchestrator_id) == ("orchestrator-h2", "h2")


@pytest.mark.spec("ORC-12", "M-I12")
async def test_an_end_that_is_told_again_after_a_restart_is_no_end_of_who_is_there(fleet: Fleet) -> None:
    """The answer to the first report was lost; the session was started anew since, under the same spawn request."""
    await add_host(fleet)
    await put_policy(fleet)
    request = (await fleet.policies["P"].ask(Start())).correlation_id
    known = {"agent_id": "w", "policy_name": "P", "spawn_request_id": request}
    gone = wire.Roster(agents=[], exited_agents=[wire.ExitedAgent(**known)])
    await fleet.orchestrators["h1"].ask(orchestrators.ReportRoster(gone))
    assert state(fleet).status is S.FAILED
    await fleet.policies["P"].ask(Restart())
    again = wire.Roster(agents=[wire.ManagedAgent(**known)], exited_agents=[wire.ExitedAgent(**known)])
    await fleet.orchestrators["h1"].ask(orchestrators.ReportRoster(again))
    assert state(fleet).status is S.STARTING
