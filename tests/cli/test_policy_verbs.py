"""Policies, profiles and configured values from a terminal."""

from __future__ import annotations

import json
from pathlib import Path

import httpx2
import pytest
from shell import Run, Served, answer


@pytest.fixture
def host(server: Served) -> str:
    token = (server.home / "token").read_text().strip()
    card = {"id": "h1", "hostname": "h", "baseDir": "/base"}
    headers = {"Authorization": f"Bearer {token}"}
    httpx2.post(f"{server.url}/api/orchestrators", json=card, headers=headers).raise_for_status()
    return "h1"


def test_a_policy_is_made_started_stopped_and_deleted(run: Run, host: str) -> None:
    assert "no policies; make one" in run("policies", "list").output
    made = run(
        "policies", "set", "P", "--host", host, "--provider", "claude", "--tag", "t", "--restart", "never"
    )
    assert "P is at version 1; relay policies start P starts its agent" in made.output
    again = answer(run("policies", "set", "P", "--host", host, "--provider", "codex", "--json"))
    assert (again["version"], again["value"]["provider"]) == (2, "codex")
    assert "stopped" in run("policies", "list").output
    command = answer(run("policies", "start", "P", "--json"))
    assert (command["type"], command["params"]["policyName"]) == ("agent.spawn", "P")
    (report,) = answer(run("policies", "--json"))
    assert report["state"]["status"] == "starting"
    refused = run("policies", "start", "P")
    assert (refused.exit_code, "policy P is starting: stop or restart it" in refused.stderr) == (1, True)
    assert "P is being restarted (cmd_" in run("policies", "restart", "P").output
    assert "P is being stopped (cmd_" in run("policies", "stop", "P").output
    shown = run("policies", "show", "P").output
    assert all(word in shown for word in ("codex", "state.status", "stopping"))
    assert (
        "P is deleted, and its agent is being stopped" in run("policies", "delete", "P", "--by", "me").output
    )
    history = answer(run("config", "history", "spawn-policy", "P", "--json"))
    assert [(each["version"], each.get("updatedBy")) for each in history] == [(3, "me"), (2, None), (1, None)]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("set", "P", "--host", "h1", "--provider", "gemini"), "expected one of claude, codex, command"),
        (
            ("set", "P", "--host", "h1", "--provider", "claude", "--restart", "often"),
            "never, on-failure, always",
        ),
        (("start", "P"), "no such policy: P"),
        (("show", "P"), "no such policy: P"),
        (("delete", "P"), "P"),
    ],
)
def test_what_cannot_be_is_said(run: Run, host: str, arguments: tuple[str, ...], said: str) -> None:
    refused = run("policies", *arguments)
    assert (refused.exit_code, said in refused.stderr) == (1, True), refused.stderr


def test_values_are_written_shown_and_deleted(run: Run, server: Served) -> None:
    assert "ns/k is at version 1" in run("config", "set", "ns", "k", '{"a": [1, null]}', "--by", "me").output
    assert answer(run("config", "get", "ns", "k")) == {"a": [1, None]}
    assert answer(run("config", "get", "ns", "k", "--json"))["updatedBy"] == "me"
    assert '{"a": [1, null]}' in run("config", "list", "ns").output
    assert "ns/k is deleted; relay config history ns k" in run("config", "delete", "ns", "k").output
    assert "deleted" in run("config", "history", "ns", "k").output
    assert "nothing is configured in ns" in run("config", "list", "ns").output
    odd = run("config", "set", "ns", "k", "like this")
    assert (odd.exit_code, "the value is not JSON" in odd.stderr) == (1, True)
    steward = run("config", "set", "steward", "global", '{"enabled": 1}')
    assert (steward.exit_code, "enabled: expected true or false" in steward.stderr) == (1, True)


def test_profiles_come_from_files(run: Run, server: Served, tmp_path: Path) -> None:
    file = tmp_path / "profile.json"
    file.write_text(json.dumps({"base": "host", "skills": ["review"]}))
    assert "agent-profile/reviewer is at version 1" in run("profiles", "set", "reviewer", str(file)).output
    assert answer(run("profiles", "show", "reviewer")) == {
        "base": "host",
        "skills": ["review"],
        "name": "reviewer",
    }
    assert "reviewer" in run("profiles").output
    assert run("profiles", "set", "reviewer", str(tmp_path / "none")).exit_code == 1
    assert answer(run("profiles", "delete", "reviewer", "--json")) == {"ok": True}


def test_an_agent_is_what_its_profile_says_where_the_options_say_nothing(
    run: Run, host: str, tmp_path: Path
) -> None:
    file = tmp_path / "profile.json"
    file.write_text(json.dumps({"model": "opus", "approvalMode": "read-only", "tags": ["careful"]}))
    run("profiles", "set", "reviewer", str(file))
    run("policies", "set", "P", "--host", host, "--provider", "claude", "--profile", "reviewer")
    params = answer(run("policies", "start", "P", "--json"))["params"]
    assert (params["model"], params["approvalMode"], params["tags"]) == ("opus", "read-only", ["careful"])
    run("policies", "set", "Q", "--host", host, "--provider", "claude", "--profile", "gone")
    refused = run("policies", "start", "Q")
    assert (refused.exit_code, "there is none 'gone'" in refused.stderr) == (1, True)


def test_providers_are_shown_changed_and_looked_for(run: Run, server: Served, tmp_path: Path) -> None:
    file = tmp_path / "claude.json"
    file.write_text(
        json.dumps({"command": "no-such-program", "defaultArgs": ["-q"], "env": {"KEY": "s3cret"}})
    )
    assert "claude is started as no-such-program" in run("providers", "set", "claude", str(file)).output
    listed = run("providers").output
    assert all(word in listed for word in ("no-such-program -q", "KEY", "codex"))
    assert "s3cret" not in listed + run("providers", "show", "claude", "--json").output
    assert "no-such-program" in run("providers", "show", "claude").output
    looked = run("providers", "test", "claude")
    assert (looked.exit_code, "no-such-program" in looked.output) == (1, True)
    assert json.loads(run("providers", "test", "claude", "--json").stdout)["ok"] is False
    file.write_text(run("providers", "show", "claude", "--json").output)
    masked = run("providers", "set", "claude", str(file))
    assert (masked.exit_code, "env" in masked.stderr) == (1, True)
    file.write_text("{")
    assert "cannot be read as JSON" in run("providers", "set", "claude", str(file)).stderr
    file.write_text('{"defaultArgs": 7}')
    wrong = run("providers", "set", "claude", str(file)).stderr
    assert "command" in wrong
    assert "defaultArgs" in wrong
    assert "expected one of" in run("providers", "show", "gemini").stderr
