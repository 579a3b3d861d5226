"""Agents, their workspaces and the audit from a terminal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from shell import Run, Served, answer

WORKSPACE = {
    "id": "w1",
    "mode": "isolated",
    "repoRoot": "/base/repo",
    "sourceCwd": "/base/repo",
    "worktreePath": "/base/wt/y",
    "branch": "agent/y",
}


@pytest.fixture
def host(server: Served) -> str:
    """Host h1, with agent a1 in the workspace w1."""
    card = {"id": "h1", "hostname": "h", "baseDir": "/base", "providers": ["command"]}
    server.call("POST", "orchestrators", card)
    server.call("PATCH", "orchestrators/h1/agents", {"agents": []})
    server.call(
        "PATCH",
        "orchestrators/h1/agents",
        {"agents": [{"agentId": "a1", "sessionName": "s", "workspace": WORKSPACE}]},
    )
    can = {
        "lifecycle": {"restartHard": True, "shutdownHard": True, "reconnect": True},
        "context": {"compact": True, "clear": True},
        "liveSession": {"interrupt": True},
    }
    server.register("a1", status="busy", providerCapabilities=can, meta={"runnerManaged": True})
    return "h1"


@pytest.mark.parametrize(
    ("verb", "type_"),
    [
        ("restart", "agent.restart"),
        ("shutdown", "agent.shutdown"),
        ("reconnect", "agent.reconnect"),
        ("interrupt", "agent.interrupt"),
        ("compact", "agent.compact"),
        ("clear", "agent.clearContext"),
    ],
)
def test_an_agent_is_made_to_do_something(run: Run, host: str, verb: str, type_: str) -> None:
    assert answer(run("agents", verb, "a1", "--json"))["type"] == type_
    said = run("agents", verb, "a1").output
    assert f"a1 is to {verb}; relay commands show cmd_" in said


def test_a_session_that_cannot_be_resumed_is_not(run: Run, host: str) -> None:
    refused = run("agents", "resume", "a1")
    assert (refused.exit_code, "resume is not available for a1" in refused.stderr) == (1, True)


def test_an_agent_is_spawned_where_one_wants_or_where_it_fits(run: Run, host: str) -> None:
    program = ("--provider", "command", "--program", "python3 -u 'my agent.py'")
    anywhere = answer(run("agents", "spawn", *program, "--tag", "t", "--json"))
    assert anywhere["target"] == "orchestrator-h1"
    assert anywhere["params"]["providerConfig"] == {
        "command": "python3",
        "defaultArgs": ["-u", "my agent.py"],
    }
    here = run(
        *("agents", "spawn", "--host", host, "--id", "scribe", "--workspace", "isolated", "--request", "r1"),
        *program,
    )
    assert "orchestrator-h1 is to start scribe; relay commands show cmd_" in here.output


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--provider", "gemini"), "expected one of claude, codex, command"),
        (("--provider", "command", "--program", "'half"), "No closing quotation"),
        (("--provider", "command", "--program", " "), "there is no word in it"),
        (("--provider", "command", "--workspace", "own"), "expected one of"),
        (("--provider", "command", "--effort", "none at all"), "expected one of"),
        (("--provider", "command", "--approval", "all"), "expected one of open, guarded, read-only"),
        (("--provider", "claude"), "no host that is online has the provider claude"),
    ],
)
def test_what_cannot_be_spawned_is_said(run: Run, host: str, given: tuple[str, ...], said: str) -> None:
    refused = run("agents", "spawn", *given)
    assert (refused.exit_code, said in refused.stderr) == (1, True), refused.stderr


def test_an_agent_is_shown_prompted_answered_and_forgotten(run: Run, host: str) -> None:
    assert answer(run("agents", "show", "a1", "--json"))["id"] == "a1"
    assert '"lifecycle"' in run("agents", "show", "a1").output
    told = answer(run("agents", "prompt", "a1", "go on", "--json"))
    assert told["commandId"].startswith("cmd_")
    assert "a1 is told (command cmd_" in run("agents", "prompt", "a1", "go on").output
    assert "a1 is told: deny" in run("agents", "decide", "a1", "q1", "deny", "--reason", "no").output
    wrong = run("agents", "decide", "a1", "q1", "perhaps")
    assert "expected one of approve, approve-session, deny, abort" in wrong.stderr
    entries = answer(run("agents", "timeline", "a1", "--json"))
    assert entries[0]["agentId"] == "a1"
    assert "busy" in run("agents", "timeline", "a1").output
    refused = run("agents", "terminal", "a1", "--minutes", "5")
    assert (refused.exit_code, "host h1 has no API" in refused.stderr) == (1, True), refused.stderr
    assert "a1 is forgotten" in run("agents", "forget", "a1").output
    gone = run("agents", "show", "a1")
    assert (gone.exit_code, "next: relay agents shows who is there" in gone.stderr) == (1, True)


def test_a_workspace_is_looked_into_and_given_up(run: Run, host: str) -> None:
    assert [each["id"] for each in answer(run("workspaces", "--json"))] == ["w1"]
    assert "agent/y" in run("workspaces", "show", "w1").output
    assert answer(run("workspaces", "show", "w1", "--json"))["status"] == "active"
    assert "its host cannot be asked" in run("workspaces", "diff", "w1").output
    assert answer(run("workspaces", "diff", "w1", "--json"))["available"] is False
    assert "w1 is abandoned" in run("workspaces", "abandon", "w1").output
    assert "abandoned" in run("workspaces").output
    assert "w1 is being cleaned up (command cmd_" in run("workspaces", "cleanup", "w1").output
    assert "w1 is forgotten" in run("workspaces", "forget", "w1").output
    gone = run("workspaces", "cleanup", "w1")
    assert (gone.exit_code, "no such workspace" in gone.stderr) == (1, True)


def test_the_audit_says_who_did_what_and_who_was_refused(run: Run, host: str, tmp_path: Path) -> None:
    made = answer(run("tokens", "create", "observer", "--sub", "watcher", "--json", "--scope", "agent:read"))
    secret = tmp_path / "token"
    secret.write_text(made["token"])
    refused = run("send", "b", "x", "--token-file", str(secret))
    assert (refused.exit_code, "next: relay routes names the scope" in refused.stderr) == (1, True)
    denied, *rest = answer(run("audit", "list", "--view", "security", "--json"))
    assert denied["metadata"]["authSub"] == "watcher"
    assert made["record"]["jti"] in json.dumps(rest)
    shown = run("audit", "--view", "security").output
    assert "watcher was refused" in shown
    assert "POST /api/messages" in shown
    assert (
        answer(run("audit", "--before", str(denied["id"]), "--limit", "1", "--json"))[0]["id"] < denied["id"]
    )
    assert "no records" in run("audit", "--agent", "nobody").output
    assert "expected one of message" in run("audit", "--kind", "odd").stderr
