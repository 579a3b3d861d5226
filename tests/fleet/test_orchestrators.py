"""Hosts: registration, liveness, roster, spawns and actions."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from fleetlog import Log
from trio.testing import wait_all_tasks_blocked

from relay import wire
from relay.actors import System
from relay.fleet import (
    Conflict,
    Fleet,
    Invalid,
    NotFound,
    agents,
    commands,
    open_fleet,
    orchestrators,
    workspaces,
)
from relay.store import Store

ONLINE, OFFLINE = wire.OrchestratorStatus.ONLINE, wire.OrchestratorStatus.OFFLINE
CLAUDE, CODEX, COMMAND = wire.Provider.CLAUDE, wire.Provider.CODEX, wire.Provider.COMMAND


async def register(fleet: Fleet, key: str = "h1", **card: Any) -> orchestrators.Registered:
    described = wire.RegisterOrchestrator(**{"id": key, "hostname": "h", "base_dir": "/base", **card})
    return await fleet.orchestrators[key].ask(orchestrators.Register(described))


async def spawn(fleet: Fleet, key: str = "h1", **request: Any) -> wire.Command:
    asked = wire.SpawnAgent(**{"provider": CLAUDE, **request})
    return (await fleet.orchestrators[key].ask(orchestrators.Spawn(asked))).command


async def act(fleet: Fleet, key: str = "h1", **action: Any) -> wire.Command:
    asked = wire.OrchestratorAction(**action)
    return (await fleet.orchestrators[key].ask(orchestrators.Act(asked))).command


async def beat(fleet: Fleet, key: str = "h1", **fields: Any) -> wire.Orchestrator:
    return await fleet.orchestrators[key].ask(orchestrators.Heartbeat(wire.OrchestratorHeartbeat(**fields)))


def status(fleet: Fleet, key: str = "h1") -> wire.OrchestratorStatus:
    return orchestrators.get_orchestrator(fleet.store, key).status


@pytest.mark.spec("M-150", "ORC-3", "TIM-5")
async def test_a_host_registers_with_an_identity_of_its_own(fleet: Fleet, log: Log) -> None:
    made = await register(fleet)
    assert made.new
    assert made.orchestrator.providers == [CLAUDE, CODEX]
    assert orchestrators.get_orchestrator(fleet.store, "h1") == made.orchestrator
    identity = agents.get_agent(fleet.store, "orchestrator-h1")
    assert identity.kind is wire.AgentKind.ORCHESTRATOR
    assert log.types() == ["orchestrator.status", "agent.status"]
    assert len(log.audits("server-orchestrator-register-h1-")) == 1
    again = await register(fleet, version="2")
    assert not again.new
    assert again.orchestrator.created_at == made.orchestrator.created_at


@pytest.mark.spec("ORC-2", "O-41")
async def test_the_address_of_a_host_may_come_in_meta(fleet: Fleet) -> None:
    assert (await register(fleet, meta={"apiUrl": "file:///etc/passwd"})).orchestrator.api_url is None
    assert (await register(fleet, meta={"apiUrl": "http://h:1"})).orchestrator.api_url == "http://h:1"
    endless = "http://h:1/" + "x" * 500
    assert (await register(fleet, meta={"apiUrl": endless})).orchestrator.api_url is None
    assert [host.id for host in orchestrators.list_orchestrators(fleet.store)] == ["h1"]
    told = await register(fleet, meta={"apiUrl": "http://h:1"}, api_url="http://h:2")
    assert told.orchestrator.api_url == "http://h:2"


@pytest.mark.spec("M-152", "ORC-4", "ORC-5")
async def test_a_heartbeat_keeps_what_it_does_not_say(fleet: Fleet) -> None:
    await register(fleet, version="1", git_sha="abc")
    assert (await beat(fleet, version="2")).version == "2"
    after = orchestrators.get_orchestrator(fleet.store, "h1")
    assert (after.version, after.git_sha) == ("2", "abc")
    with pytest.raises(NotFound):
        await beat(fleet, "h9")


@pytest.mark.spec("ORC-9", "O-10")
async def test_a_silent_host_goes_offline_with_its_identity_and_comes_back(fleet: Fleet, log: Log) -> None:
    await register(fleet)
    for _ in range(10):
        await trio.sleep(60)
        await beat(fleet)
    await trio.sleep(89)
    assert status(fleet) is ONLINE
    await trio.sleep(2)
    assert status(fleet) is OFFLINE
    assert agents.get_agent(fleet.store, "orchestrator-h1").status is wire.AgentStatus.OFFLINE
    assert [e["data"]["status"] for e in log.events("orchestrator.status")] == ["online", "offline"]
    await beat(fleet)
    await wait_all_tasks_blocked()
    assert status(fleet) is ONLINE
    assert agents.get_agent(fleet.store, "orchestrator-h1").status is wire.AgentStatus.ONLINE


@pytest.mark.spec("ORC-9")
async def test_a_host_that_says_goodbye_is_offline_at_once_until_it_is_heard_of(
    fleet: Fleet, log: Log
) -> None:
    await register(fleet)
    identity = fleet.agents["orchestrator-h1"]
    for _ in range(2):
        await identity.ask(agents.SetStatus(wire.AgentStatus.OFFLINE))
        await wait_all_tasks_blocked()
    assert status(fleet) is OFFLINE
    assert agents.get_agent(fleet.store, "orchestrator-h1").status is wire.AgentStatus.OFFLINE
    assert [e["data"]["status"] for e in log.events("orchestrator.status")] == ["online", "offline"]
    with pytest.raises(Conflict):
        await spawn(fleet)
    await beat(fleet)
    assert status(fleet) is ONLINE
    await trio.sleep(89)
    assert status(fleet) is ONLINE


async def test_only_the_identity_of_a_host_speaks_for_it(fleet: Fleet) -> None:
    await register(fleet)
    for name, kind in (("h1", wire.AgentKind.ORCHESTRATOR), ("orchestrator-h2", wire.AgentKind.ORCHESTRATOR)):
        await fleet.agents[name].ask(agents.Register(wire.RegisterAgent(id=name, kind=kind)))
        await fleet.agents[name].ask(agents.SetStatus(wire.AgentStatus.OFFLINE))
    await wait_all_tasks_blocked()
    assert status(fleet) is ONLINE


async def test_a_restart_gives_every_host_a_full_term(system: System, store: Store) -> None:
    async with open_fleet(system, store) as fleet:
        await register(fleet)
    await trio.sleep(10_000)
    async with open_fleet(system, store) as fleet:
        await trio.sleep(80)
        assert status(fleet) is ONLINE
        await trio.sleep(15)
        assert status(fleet) is OFFLINE


async def test_an_identity_whose_host_is_gone_does_not_stay_online(system: System, store: Store) -> None:
    async with open_fleet(system, store) as fleet:
        card = wire.RegisterAgent(id="orchestrator-h7", kind=wire.AgentKind.ORCHESTRATOR)
        await fleet.agents[card.id].ask(agents.Register(card))
    async with open_fleet(system, store) as fleet:
        await wait_all_tasks_blocked()
        assert agents.get_agent(store, "orchestrator-h7").status is wire.AgentStatus.OFFLINE


@pytest.mark.spec("M-166", "ORC-8", "O-42")
async def test_a_host_is_forgotten_once(fleet: Fleet, log: Log) -> None:
    await register(fleet)
    await fleet.orchestrators["h1"].ask(orchestrators.Remove())
    with pytest.raises(NotFound):
        await fleet.orchestrators["h1"].ask(orchestrators.Remove())
    (gone,) = log.events("orchestrator.removed")
    assert (gone["subject"], gone["data"]) == ("h1", {"id": "h1"})
    assert agents.list_agents(fleet.store) == []
    await trio.sleep(1000)
    assert orchestrators.list_orchestrators(fleet.store) == []


@pytest.mark.spec("M-153", "ORC-18", "M-I29")
@pytest.mark.parametrize("cwd", ["/base-evil", "/base/../etc", "/base/..x", "/", "elsewhere"])
async def test_a_spawn_stays_inside_the_base_directory(fleet: Fleet, log: Log, cwd: str) -> None:
    await register(fleet)
    before = log.events()
    with pytest.raises(Invalid):
        await spawn(fleet, cwd=cwd)
    assert log.events() == before
    assert commands.list_commands(fleet.store) == []


@pytest.mark.spec("M-153")
@pytest.mark.parametrize("cwd", ["/base", "/base/", "/base/x", "/base/a/../b"])
async def test_a_spawn_anywhere_inside_is_fine(fleet: Fleet, cwd: str) -> None:
    await register(fleet)
    assert (await spawn(fleet, cwd=cwd)).params["cwd"] == cwd


@pytest.mark.spec("M-154")
async def test_a_spawn_needs_the_provider(fleet: Fleet) -> None:
    await register(fleet, providers=[CODEX])
    with pytest.raises(Invalid):
        await spawn(fleet)
    await register(fleet, "h2", providers=[COMMAND])
    config = {"command": "/bin/agent"}
    command = await spawn(
        fleet, "h2", provider=COMMAND, provider_config=config, agent_id="w1", env={"A": "b"}
    )
    assert command.params["providerConfig"] == config
    assert (command.params["agentId"], command.params["env"]) == ("w1", {"A": "b"})


@pytest.mark.spec("M-155", "ORC-20", "ORC-21")
async def test_a_spawn_is_a_command_to_the_hosts_identity(fleet: Fleet, log: Log) -> None:
    await register(fleet)
    command = await spawn(
        fleet,
        spawn_request_id="r1",
        policy_name="P",
        tags=["t"],
        workspace_mode=wire.WorkspaceMode.ISOLATED,
    )
    assert (command.type, command.source, command.target) == ("agent.spawn", "system", "orchestrator-h1")
    assert (command.correlation_id, command.expires_at) == ("r1", None)
    params = command.params
    assert params["approvalMode"] == params["permissionMode"] == "guarded"
    assert (params["cwd"], params["tags"], params["capabilities"]) == ("/base", ["t"], [])
    assert (params["policyName"], params["spawnRequestId"]) == ("P", "r1")
    assert (params["requestedBy"], params["workspaceMode"]) == ("dashboard", "isolated")
    assert commands.get_command(fleet.store, command.id) == command
    (asked,) = log.events("command.requested")
    assert asked["subject"] == command.id
    (record,) = log.audits(f"server-orchestrator-spawn-h1-{command.id}")
    assert (record["icon"], record["body"]) == ("ti-plus", "/base")
    assert record["metadata"]["commandId"] == command.id


@pytest.mark.spec("TIM-4")
async def test_a_spawn_request_gets_an_id_when_it_has_none(fleet: Fleet) -> None:
    await register(fleet)
    first, second = await spawn(fleet), await spawn(fleet)
    assert first.correlation_id is not None
    assert first.correlation_id.startswith("sp_")
    assert first.correlation_id == first.params["spawnRequestId"] != second.correlation_id


@pytest.mark.spec("O-43", "M-159")
async def test_a_spawn_needs_the_host_an_action_waits_for_it(fleet: Fleet) -> None:
    await register(fleet)
    await trio.sleep(100)
    with pytest.raises(Conflict):
        await spawn(fleet)
    command = await act(fleet, action="restart")
    assert (command.type, command.status) == ("agent.restart", wire.CommandStatus.PENDING)
    with pytest.raises(NotFound):
        await spawn(fleet, "h9")
    with pytest.raises(NotFound):
        await act(fleet, "h9", action="restart")


@pytest.mark.spec("M-157", "M-158", "ORC-27", "ORC-28")
async def test_an_action_is_for_one_agent_or_for_all(fleet: Fleet, log: Log) -> None:
    await register(fleet)
    everybody = await act(fleet, action="shutdown")
    assert (everybody.target, everybody.params["reason"]) == ("orchestrator-h1", "manual")
    (record,) = log.audits("server-orchestrator-action-h1-shutdown-")
    assert (record["body"], record["icon"]) == ("all", "ti-power")
    one = await act(fleet, action="shutdown", agent_id="a1", spawn_request_id="sp_1")
    assert (one.target, one.correlation_id) == ("a1", "sp_1")
    assert (one.params["orchestratorId"], one.params["agentId"]) == ("h1", "a1")


@pytest.mark.spec("M-035", "M-036", "M-037", "O-12")
async def test_a_spawn_without_a_host_takes_the_first_that_fits(fleet: Fleet, log: Log) -> None:
    codex = wire.SpawnAgent(provider=CODEX)
    with pytest.raises(Invalid):
        await orchestrators.spawn_anywhere(fleet, codex)
    await register(fleet, "h3", providers=[CODEX])
    await register(fleet, "h1", providers=[CLAUDE])
    await register(fleet, "h2", providers=[CODEX])
    done = await orchestrators.spawn_anywhere(fleet, codex)
    assert (done.orchestrator_id, done.command.target) == ("h2", "orchestrator-h2")
    assert done.command.params["approvalMode"] == "guarded"
    assert len(log.audits("server-agent-spawn-codex-")) == 1
    with pytest.raises(Invalid):
        await orchestrators.spawn_anywhere(fleet, wire.SpawnAgent(provider=CODEX, cwd="/elsewhere"))
    await trio.sleep(100)
    with pytest.raises(Invalid):
        await orchestrators.spawn_anywhere(fleet, codex)


def managed(agent: str = "a1", workspace: str | None = None) -> wire.ManagedAgent:
    report = wire.WorkspaceReport(id=workspace, repo_root="/base/r") if workspace else None
    return wire.ManagedAgent(agent_id=agent, provider="claude", workspace=report)


async def roster(
    fleet: Fleet,
    *agents_: wire.ManagedAgent,
    gone: list[wire.ExitedAgent] | None = None,
    host: str = "h1",
) -> None:
    sent = wire.Roster(agents=list(agents_), exited_agents=gone or [])
    await fleet.orchestrators[host].ask(orchestrators.ReportRoster(sent))


@pytest.mark.spec("ORC-10", "ORC-11")
async def test_a_roster_replaces_the_one_before(fleet: Fleet, log: Log) -> None:
    with pytest.raises(NotFound):
        await roster(fleet, managed())
    await register(fleet)
    await roster(fleet, managed("a1"), managed("a2"))
    await roster(fleet, managed("a2"))
    after = orchestrators.get_orchestrator(fleet.store, "h1")
    assert [entry.agent_id for entry in after.managed_agents] == ["a2"]
    assert len(log.events("orchestrator.status")) == 3
    assert (await register(fleet)).orchestrator.managed_agents == after.managed_agents


async def test_a_roster_makes_the_workspaces_it_names(fleet: Fleet, log: Log) -> None:
    await register(fleet)
    await roster(fleet, managed("a1", "w1"))
    row = workspaces.get_workspace(fleet.store, "w1")
    assert (row.agent_id, row.orchestrator_id, row.repo_root) == ("a1", "h1", "/base/r")
    before = log.events("workspace.changed")
    await roster(fleet, managed("a1", "w1"))
    assert log.events("workspace.changed") == before


async def test_an_exited_agent_is_offline_unless_it_runs_again(fleet: Fleet, log: Log) -> None:
    await register(fleet)
    for key in ("a1", "a2"):
        await fleet.agents[key].ask(agents.Register(wire.RegisterAgent(id=key)))
    gone = [wire.ExitedAgent(agent_id=key, exit_code=1) for key in ("a1", "a2", "nobody")]
    await roster(fleet, managed("a2"), gone=gone)
    assert agents.get_agent(fleet.store, "a1").status is wire.AgentStatus.OFFLINE
    assert agents.get_agent(fleet.store, "a2").status is wire.AgentStatus.ONLINE
    assert len(log.audits("server-agent-a1-exited-")) == len(log.audits("server-agent-a2-exited-")) == 1
    assert log.audits("server-agent-nobody-") == []


async def test_a_host_does_not_end_what_another_host_runs(fleet: Fleet, log: Log) -> None:
    for host in ("h1", "h2"):
        await register(fleet, host)
    await fleet.agents["a1"].ask(agents.Register(wire.RegisterAgent(id="a1")))
    await roster(fleet, managed("a1"))
    gone = [wire.ExitedAgent(agent_id="a1", exit_code=1, detected_at=wire.Instant(1))]
    await roster(fleet, gone=gone, host="h2")
    assert agents.get_agent(fleet.store, "a1").status is wire.AgentStatus.ONLINE
    assert log.audits("server-agent-a1-exited-") == []
    await roster(fleet, gone=gone)
    assert agents.get_agent(fleet.store, "a1").status is wire.AgentStatus.OFFLINE


@pytest.mark.parametrize("away", [False, True])
async def test_the_end_of_an_agent_that_has_moved_is_its_new_hosts_to_tell(fleet: Fleet, away: bool) -> None:
    for host in ("h1", "h2"):
        await register(fleet, host)
    await fleet.agents["a1"].ask(agents.Register(wire.RegisterAgent(id="a1")))
    await roster(fleet, managed("a1"))
    if away:
        goodbye = agents.SetStatus(wire.AgentStatus.OFFLINE)
        await fleet.agents["orchestrator-h1"].ask(goodbye)
        await wait_all_tasks_blocked()
        assert status(fleet, "h1") is OFFLINE
    else:
        await roster(fleet, managed("a1"), host="h2")
    await roster(fleet, gone=[wire.ExitedAgent(agent_id="a1", exit_code=1)], host="h2")
    assert agents.get_agent(fleet.store, "a1").status is wire.AgentStatus.OFFLINE


async def test_hosts_are_listed_by_id(fleet: Fleet) -> None:
    for key in ("b", "a"):
        await register(fleet, key)
    assert [host.id for host in orchestrators.list_orchestrators(fleet.store)] == ["a", "b"]
    assert orchestrators.list_orchestrators(fleet.store, status=OFFLINE) == []
