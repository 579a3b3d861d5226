"""What can be asked of an agent: who can be, of whom it is asked, what it leaves on the card; prompts."""

from __future__ import annotations

from typing import Any

import pytest
from fleetlog import Log
from hypothesis import given, strategies as st
from policykit import put_policy

from relay import wire
from relay.fleet import (
    Conflict,
    Fleet,
    Invalid,
    NotFound,
    Unprocessable,
    agents,
    commands,
    messages,
    orchestrators,
)
from relay.fleet._agent_actions import ACTIONS
from relay.fleet._restart_spawn import resuming
from relay.fleet.policies import Start

A = wire.AgentStatus
V = wire.AgentVerb
R = "0f8fad5b-d9cb-469f-a165-70867728950e"
ABLE: dict[str, Any] = {
    "lifecycle": {"restartHard": True, "shutdownHard": True, "reconnect": True},
    "context": {"compact": True, "clear": True},
    "liveSession": {"interrupt": True},
}


async def register(fleet: Fleet, key: str = "a1", able: dict[str, Any] | None = None, **card: Any) -> None:
    """An agent as a runner would: managed, of Claude."""
    meta = {"runnerManaged": True, "provider": "claude", **card.pop("meta", {})}
    asked = wire.RegisterAgent(
        id=key, ready=True, provider_capabilities=ABLE if able is None else able, meta=meta, **card
    )
    await fleet.agents[key].ask(agents.Register(asked))


async def host(
    fleet: Fleet, name: str = "o1", *managed: wire.ManagedAgent, base_dir: str = "/home/u"
) -> None:
    card = wire.RegisterOrchestrator(id=name, hostname=name, base_dir=base_dir)
    ref = fleet.orchestrators[name]
    await ref.ask(orchestrators.Register(card))
    await ref.ask(orchestrators.ReportRoster(wire.Roster(agents=list(managed))))


async def report(fleet: Fleet, resume: object, number: int = 0, provider: str = "claude") -> None:
    told = {"provider": provider, "claudeResumeId": resume}
    event = {"status": "session started", "id": f"s{number}", "metadata": told}
    await fleet.agents["a1"].ask(agents.Heartbeat(meta={"timelineEvent": event}))


async def act(fleet: Fleet, verb: str, key: str = "a1") -> wire.Command:
    asked = await fleet.agents[key].ask(agents.Act(V(verb)))
    assert asked.action == verb
    return asked.command


def card_of(fleet: Fleet, key: str = "a1") -> wire.Agent:
    return agents.get_agent(fleet.store, key)


async def resumable(fleet: Fleet, status: A = A.OFFLINE, **meta: Any) -> None:
    await register(fleet, meta=meta)
    await report(fleet, R)
    await fleet.agents["a1"].ask(agents.SetStatus(status))


@pytest.mark.spec("W-1", "M-034", "W-I42", "AGT-37", "AGT-39", "O-11")
async def test_a_restart_is_asked_of_the_host_and_marks_the_agent(fleet: Fleet, log: Log) -> None:
    await register(fleet, status=A.IDLE, label="build", tags=["t"])
    await host(fleet, "o1", wire.ManagedAgent(agent_id="a1"))
    before = len(log.types(audits=True))
    command = await act(fleet, "restart")
    assert (command.type, command.source, command.target) == ("agent.restart", "system", "orchestrator-o1")
    spawn = command.params["restartSpawn"]
    assert (spawn["requestedBy"], spawn["agentId"], spawn["provider"]) == (
        "dashboard-restart",
        "a1",
        "claude",
    )
    assert (spawn["label"], spawn["tags"]) == ("build", ["t"])
    assert spawn["spawnRequestId"].startswith("sp_")
    assert command.params["requestedBy"] == "dashboard"
    card = card_of(fleet)
    assert not card.ready
    assert card.meta["lifecycleAction"] == "restarting"
    assert card.meta["lifecycleCommandId"] == command.id
    assert card.meta["lifecycleActionAt"] == command.params["requestedAt"]
    assert log.types(audits=True)[before:] == ["agent.status", "command.requested", "activity.created"]
    (record,) = log.audits("server-agent-a1-action-")
    assert record["clientId"] == f"server-agent-a1-action-restart-{command.id}"
    assert (record["kind"], record["view"], record["meta"], record["agentId"]) == (
        "state",
        "agents",
        "a1",
        "a1",
    )
    assert (record["icon"], record["body"]) == ("ti-refresh", "restart")
    assert record["metadata"] == {"action": "restart", "commandId": command.id}


@pytest.mark.spec("W-2", "M-034", "W-I43")
async def test_a_shutdown_keeps_the_rest_of_the_meta(fleet: Fleet) -> None:
    await register(
        fleet, status=A.IDLE, meta={"custom": 1, "sessionName": "s", "tmuxSession": "", "policyName": "P"}
    )
    await host(fleet, "o1", wire.ManagedAgent(agent_id="a1"))
    command = await act(fleet, "shutdown")
    assert command.type == "agent.shutdown"
    named = {
        name: command.params.get(name)
        for name in ("restartSpawn", "sessionName", "tmuxSession", "policyName")
    }
    assert named == {"restartSpawn": None, "sessionName": "s", "tmuxSession": None, "policyName": "P"}
    card = card_of(fleet)
    assert (card.meta["lifecycleAction"], card.meta["custom"], card.ready) == ("shutting-down", 1, False)


@pytest.mark.spec("W-3", "W-10", "M-033")
@pytest.mark.parametrize("verb", ["reconnect", "compact", "clearContext", "interrupt"])
async def test_other_actions_go_to_the_runner_and_leave_the_card_alone(
    fleet: Fleet, log: Log, verb: str
) -> None:
    await register(fleet, status=A.BUSY)
    await host(fleet, "o1", wire.ManagedAgent(agent_id="a1"))
    before, told = card_of(fleet), len(log.types())
    command = await act(fleet, verb)
    assert (command.type, command.target, command.params["action"]) == (f"agent.{verb}", "a1", verb)
    assert card_of(fleet) == before
    assert log.types()[told:] == ["command.requested"]
    (record,) = log.audits("server-agent-a1-action-")
    assert record["icon"] == ACTIONS[V(verb)].icon


REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("restart", {"able": {"lifecycle": {"restartHard": False}}}),
    ("restart", {"able": {"lifecycle": {"restartHard": "yes"}}}),
    ("restart", {"able": {"lifecycle": {}}}),
    ("restart", {"able": {}, "meta": {"runnerManaged": None}}),
    ("restart", {"able": {}, "meta": {"runnerManaged": "true"}}),
    ("shutdown", {"able": {}, "meta": {"runnerManaged": 1}}),
    ("reconnect", {"able": {}}),
    ("compact", {"able": {"lifecycle": {}, "context": {"compact": 1}}}),
    ("restart", {"tags": ["channel"]}),
    ("restart", {"meta": {"kind": "channel"}}),
    ("restart", {"kind": wire.AgentKind.CHANNEL}),
    ("shutdown", {"key": "user"}),
    ("restart", {"key": "system"}),
    ("interrupt", {"status": A.IDLE}),
    ("interrupt", {"status": A.BUSY, "able": {"liveSession": {"interrupt": "yes"}}}),
    ("resume", {"status": A.IDLE}),
    ("resume", {"status": A.ONLINE}),
    ("resume", {"status": A.OFFLINE, "meta": {"provider": "codex"}}),
]


@pytest.mark.spec("W-6", "W-7", "W-8", "W-9", "W-11", "W-12", "W-14", "W-15", "M-027", "M-028", "M-029", "M-032", "M-033",
                  "W-I44", "M-I29")  # fmt: skip
@pytest.mark.parametrize(("verb", "card"), REFUSED)
async def test_an_agent_that_cannot_do_it_is_left_alone(
    fleet: Fleet, log: Log, verb: str, card: dict[str, Any]
) -> None:
    given = dict(card)
    key = given.pop("key", "a1")
    await register(fleet, key, **given)
    await host(fleet)
    before, told = card_of(fleet, key), log.events()
    with pytest.raises(Invalid):
        await act(fleet, verb, key)
    assert (card_of(fleet, key), log.events()) == (before, told)


@pytest.mark.spec("W-8", "M-026", "AGT-32")
async def test_a_runner_that_says_nothing_of_its_life_cycle_can_be_stopped_and_restarted(
    fleet: Fleet,
) -> None:
    await register(fleet, able={})
    for verb in ("restart", "shutdown"):
        command = await act(fleet, verb)
        assert (command.target, command.params["agentId"]) == ("a1", "a1")
        assert "restartSpawn" not in command.params


async def test_what_the_runner_reports_of_its_provider_counts_as_a_capability(fleet: Fleet) -> None:
    await register(fleet, able={}, status=A.BUSY, meta={"providerCapabilities": ABLE})
    assert (await act(fleet, "interrupt")).type == "agent.interrupt"


@pytest.mark.spec("W-4", "M-031")
async def test_an_unknown_agent_can_be_asked_nothing(fleet: Fleet, log: Log) -> None:
    with pytest.raises(NotFound):
        await act(fleet, "restart", "nope")
    with pytest.raises(NotFound):
        await fleet.agents["nope"].ask(agents.Prompt("hi"))
    assert log.events() == []


@pytest.mark.spec("W-13", "W-16", "W-I40", "W-I41", "AGT-41")
@pytest.mark.parametrize("status", [A.OFFLINE, A.STALE])
async def test_an_agent_that_is_gone_is_resumed_by_a_host(fleet: Fleet, status: A) -> None:
    await resumable(fleet, status, cwd="/home/u/repo", spawnRequestId="sp_1")
    await host(fleet, "o0", base_dir="/srv")
    await host(fleet)
    command = await act(fleet, "resume")
    assert (command.type, command.target) == ("agent.restart", "orchestrator-o1")
    assert (command.params["action"], command.params["claudeResumeId"]) == ("resume", R)
    spawn = command.params["restartSpawn"]
    assert (spawn["claudeResumeId"], spawn["resumeOfAgentId"]) == (R, "a1")
    assert (spawn["requestedBy"], spawn["spawnRequestId"], spawn["cwd"]) == (
        "dashboard-resume", "sp_1", "/home/u/repo")  # fmt: skip
    assert spawn["providerArgs"] == ["--resume", R]
    assert card_of(fleet).meta["lifecycleAction"] == "resuming"


@pytest.mark.spec("W-17", "M-032", "W-I40")
async def test_nobody_is_resumed_without_a_host(fleet: Fleet, log: Log) -> None:
    await resumable(fleet, cwd="/home/u/repo")
    await host(fleet, "o0", base_dir="/srv")
    before = log.events()
    with pytest.raises(Conflict):
        await act(fleet, "resume")
    assert log.events() == before


@pytest.mark.spec("W-18", "M-032", "W-I44")
async def test_nobody_is_resumed_without_a_session_that_was_reported_lately(fleet: Fleet) -> None:
    await resumable(fleet, cwd="/home/u/repo")
    await host(fleet)
    for number in range(1, 51):
        await report(fleet, None, number)
    await fleet.agents["a1"].ask(agents.SetStatus(A.OFFLINE))
    before = card_of(fleet)
    with pytest.raises(Unprocessable):
        await act(fleet, "resume")
    assert card_of(fleet) == before


@pytest.mark.spec("W-19")
async def test_a_malformed_session_is_passed_over(fleet: Fleet) -> None:
    await resumable(fleet, cwd="/home/u/repo")
    await host(fleet)
    for number, (wrong, provider) in enumerate(
        [(R + "0", "claude"), (7, "claude"), (R[:-1] + "f", "codex")], 1
    ):
        await report(fleet, wrong, number, provider)
    for _ in range(40):
        for status in (A.BUSY, A.IDLE):
            await fleet.agents["a1"].ask(agents.SetStatus(status))
    await fleet.agents["a1"].ask(agents.SetStatus(A.OFFLINE))
    assert (await act(fleet, "resume")).params["claudeResumeId"] == R


@pytest.mark.spec("W-21", "AGT-40")
async def test_a_resume_goes_on_with_what_the_agent_was_started_by(fleet: Fleet) -> None:
    args = ["--resume", "old", "--model", "m"]
    params = {
        "action": "spawn",
        "cwd": "/home/u/repo",
        "providerArgs": args,
        "workspaceMode": "isolated",
        "prompt": "go",
    }
    spawn = wire.NewCommand(
        type="agent.spawn", source="system", target="x", params=params, correlation_id="sp_1"
    )
    await commands.create_command(fleet, spawn)
    await resumable(fleet, cwd="/home/u/.relay/w1", spawnRequestId="sp_1", policyName="P", model="opus")
    await host(fleet)
    again = (await act(fleet, "resume")).params["restartSpawn"]
    assert again["providerArgs"] == ["--model", "m", "--resume", R]
    assert (again["cwd"], again["workspaceMode"], again["policyName"]) == ("/home/u/repo", "isolated", "P")
    assert again["model"] == "opus"
    assert "prompt" not in again


@pytest.mark.spec("AGT-40")
async def test_a_host_is_not_told_how_to_start_what_it_alone_knows(fleet: Fleet) -> None:
    await register(fleet, meta={"provider": "command"})
    await host(fleet, "o1", wire.ManagedAgent(agent_id="a1"))
    command = await act(fleet, "restart")
    assert command.target == "orchestrator-o1"
    assert "restartSpawn" not in command.params


async def test_the_host_that_names_the_agent_comes_before_one_with_a_session_of_that_name(
    fleet: Fleet,
) -> None:
    await register(fleet, meta={"tmuxSession": "s"})
    await host(fleet, "o1", wire.ManagedAgent(agent_id="other", tmux_session="s"))
    assert (await act(fleet, "restart")).target == "orchestrator-o1"
    await host(fleet, "o2", wire.ManagedAgent(agent_id="a1"))
    assert (await act(fleet, "restart")).target == "orchestrator-o2"


async def test_an_agent_that_runs_outside_of_any_host_is_asked_itself(fleet: Fleet) -> None:
    await register(fleet, meta={"cwd": "/home/u/repo"})
    await host(fleet)
    assert (await act(fleet, "shutdown")).target == "a1"
    await fleet.agents["a1"].ask(agents.SetStatus(A.STALE))
    assert (await act(fleet, "shutdown")).target == "orchestrator-o1"


REWRITTEN = [
    ([], ["--resume", R]),
    (["--verbose"], ["--verbose", "--resume", R]),
    (["--resume", "X", "--model", "m"], ["--model", "m", "--resume", R]),
    (["--resume=X", "a"], ["a", "--resume", R]),
    (["a", "--resume"], ["a", "--resume", R]),
    (["--resume", "--model", "m"], ["m", "--resume", R]),
    (["--resume", "", "X"], ["--resume", R]),
    (["--resumed"], ["--resumed", "--resume", R]),
    ([" a ", 1, None, "  "], [" a ", "--resume", R]),
    ("--verbose", ["--resume", R]),
    (None, ["--resume", R]),
]


@pytest.mark.spec("AGT-41", "W-I41")
@pytest.mark.parametrize(("before", "after"), REWRITTEN)
def test_the_session_to_resume_takes_the_place_of_any_other(before: Any, after: list[str]) -> None:
    assert resuming({"providerArgs": before}, "a1", R)["providerArgs"] == after


ARGS = st.lists(st.sampled_from(["--resume", "--resume=x", "", " ", "a", "--b", 1]))


@pytest.mark.spec("W-I41")
@given(args=ARGS)
def test_resuming_twice_is_resuming_once(args: list[Any]) -> None:
    once = resuming({"providerArgs": args}, "a1", R)
    assert once["providerArgs"][-2:] == ["--resume", R]
    assert once["providerArgs"].count("--resume") == 1
    assert resuming(once, "a1", R) == once


@pytest.mark.spec("W-26")
async def test_a_compaction_names_the_memories_to_load_again(fleet: Fleet) -> None:
    await register(fleet, tags=["memory-reload:m1", "x", "memory-reload:"])
    assert (await act(fleet, "compact")).params["alwaysReload"] == ["m1"]
    await register(fleet, tags=["x"])
    assert "alwaysReload" not in (await act(fleet, "compact")).params


@pytest.mark.spec("W-I42", "W-I43")
async def test_the_runner_clears_the_mark_with_its_next_report(fleet: Fleet) -> None:
    await register(fleet, meta={"custom": 1})
    await act(fleet, "restart")
    await fleet.agents["a1"].ask(agents.Heartbeat(meta={"lifecycleAction": None}))
    await fleet.agents["a1"].ask(agents.SetReady(ready=True))
    card = card_of(fleet)
    assert (card.ready, card.meta.get("lifecycleAction"), card.meta["custom"]) == (True, None, 1)


@pytest.mark.spec("W-23", "W-24", "W-25", "M-143")
@pytest.mark.parametrize(
    ("kind", "params", "status", "said"),
    [
        ("agent.restart", {"action": "resume", "agentId": "a1"}, "succeeded", "a1 was resumed"),
        ("agent.restart", {"action": "restart", "agentId": "a1"}, "succeeded", "a1 was restarted"),
        ("agent.restart", {}, "failed", "restart of x failed"),
        ("agent.shutdown", {"action": "explode"}, "succeeded", "x was shut down"),
        ("agent.reconnect", {"agentId": 7, "action": ["restart"]}, "succeeded", "x reconnected"),
        ("agent.compact", {"action": "compact"}, "succeeded", None),
        ("agent.restart", {}, "canceled", None),
        ("agent.restart", {}, "running", None),
    ],
)
async def test_how_an_action_ended_is_told(
    fleet: Fleet, log: Log, kind: str, params: dict[str, Any], status: str, said: str | None
) -> None:
    command = await commands.create_command(
        fleet, wire.NewCommand(type=kind, source="system", target="x", params=params)
    )
    change = wire.PatchCommand(status=wire.CommandStatus(status))
    await fleet.commands[command.id].ask(commands.Patch(change))
    assert [record["title"] for record in log.audits("server-agent-")] == ([said] if said else [])


@pytest.mark.spec("W-27", "W-29", "M-040", "W-I45", "AGT-49")
@pytest.mark.parametrize("status", [A.BUSY, A.STALE, A.IDLE, A.ONLINE])
async def test_a_prompt_is_a_command_and_a_message_that_shows_it(fleet: Fleet, log: Log, status: A) -> None:
    await register(fleet, status=status)
    before = len(log.types(audits=True))
    done = await fleet.agents["a1"].ask(agents.Prompt("hi"))
    command = commands.get_command(fleet.store, done.command_id)
    assert (command.type, command.source, command.target) == ("prompt.inject", "dashboard", "a1")
    assert command.params == {"body": "hi", "messageId": done.message_id}
    message = messages.get_message(fleet.store, done.message_id)
    assert (message.from_, message.to, message.kind) == ("user", "a1", wire.MessageKind.SESSION)
    assert message.body == "hi"
    assert log.types(audits=True)[before:] == ["command.requested", "message.new", "activity.created"]
    (record,) = log.audits("server-prompt-inject-")
    assert record["clientId"] == f"server-prompt-inject-{message.id}"
    assert (record["kind"], record["icon"], record["view"]) == ("message", "ti-message-bolt", "messages")
    assert (record["body"], record["meta"]) == ("hi", "user -> a1")
    assert (record["messageId"], record["agentId"]) == (message.id, "a1")
    assert log.audits("server-message-") == []


@pytest.mark.spec("W-28", "M-040", "M-I29")
async def test_a_prompt_to_an_offline_agent_is_refused(fleet: Fleet, log: Log) -> None:
    await register(fleet, status=A.OFFLINE)
    before = log.events()
    with pytest.raises(Unprocessable):
        await fleet.agents["a1"].ask(agents.Prompt("hi"))
    assert log.events() == before


@pytest.mark.spec("W-33", "W-34", "W-I46")
async def test_a_session_message_is_stored_for_an_offline_agent_and_asks_nothing_of_it(fleet: Fleet) -> None:
    await register(fleet, status=A.OFFLINE)
    asked = wire.SendMessage(from_="user", to="a1", kind=wire.MessageKind.SESSION, body="x")
    sent = await fleet.post_office.ask(messages.Send(asked))
    assert messages.get_message(fleet.store, sent.message.id).body == "x"
    assert commands.list_commands(fleet.store) == []


@pytest.mark.spec("AGT-40", "POL-12")
async def test_an_agent_of_a_policy_is_started_again_as_its_policy_says(fleet: Fleet) -> None:
    await host(fleet, "h1", wire.ManagedAgent(agent_id="a1"))
    await put_policy(fleet, provider="claude", cwd="/base/p", tags=["t"], providerArgs=["--x"])
    started = await fleet.policies["P"].ask(Start())
    meta = {"runnerManaged": True, "policyName": "P", "spawnRequestId": started.correlation_id}
    await register(fleet, meta=meta, tags=["other"])
    spawn = (await act(fleet, "restart")).params["restartSpawn"]
    as_policy = {**started.params, "agentId": "a1", "requestedBy": "dashboard-restart"}
    for only in ("reason", "orchestratorId", "requestedAt"):
        as_policy.pop(only)
    assert {**spawn, "requestedAt": None} == {**as_policy, "requestedAt": None}


async def test_an_agent_that_was_replaced_is_not_started_in_the_place_of_its_successor(fleet: Fleet) -> None:
    await host(fleet, "h1", wire.ManagedAgent(agent_id="a1"))
    await put_policy(fleet, provider="claude")
    await fleet.policies["P"].ask(Start())
    meta = {"runnerManaged": True, "policyName": "P", "spawnRequestId": "an earlier one"}
    await register(fleet, meta=meta)
    spawn = (await act(fleet, "restart")).params["restartSpawn"]
    assert (spawn["spawnRequestId"], spawn["policyEpoch"]) == ("an earlier one", 0)
