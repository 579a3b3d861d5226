"""What a runner is told, and how it tells what is wrong with that."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from runnerkit import Host, Relay

from relay.runner import BadOptions, Options, read_options


def read(folder: Path, *arguments: str, config: object = None, **environ: str) -> Options:
    given = {"AGENT_RELAY_PROVIDER_CONFIG_JSON": json.dumps(config or {"command": sys.executable})}
    return read_options(["command", "--cwd", str(folder), *arguments], given | environ)


@pytest.mark.parametrize(
    ("name", "value", "wrong"),
    [
        ("PROVIDER_ARGS_JSON", "5", "a list of texts"),
        ("PROVIDER_ARGS_JSON", "0", "a list of texts"),
        ("PROVIDER_ARGS_JSON", '"-c"', "a list of texts"),
        ("PROVIDER_ARGS_JSON", "[1]", "a list of texts"),
        ("PROVIDER_ARGS_JSON", "[", "JSON"),
        ("PROVIDER_CONFIG_JSON", "5", "an object"),
        ("PROVIDER_CONFIG_JSON", "[]", "an object"),
        ("PROVIDER_CONFIG_JSON", "{", "JSON"),
        ("WORKSPACE_JSON", "5", "an object"),
        ("WORKSPACE_JSON", '"x"', "an object"),
        ("APPROVAL", "bogus", "open, guarded, read-only"),
        ("URL", "localhost:4850", "http://"),
        ("URL", "http://", "http://"),
        ("URL", "http://[", "http://"),
        ("TOKEN", "sécret", "token"),
    ],
)
def test_a_variable_of_the_wrong_kind_is_named(tmp_path: Path, name: str, value: str, wrong: str) -> None:
    with pytest.raises(BadOptions) as caught:
        read(tmp_path, **{f"AGENT_RELAY_{name}": value})
    assert f"AGENT_RELAY_{name}" in str(caught.value)
    assert wrong in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value", "wrong"),
    [
        ("command", 5, "a text"),
        ("command", "", "a text"),
        ("defaultArgs", "-c", "a list of texts"),
        ("defaultArgs", [1], "a list of texts"),
        ("defaultArgs", {"-c": 1}, "a list of texts"),
        ("defaultTags", 5, "a list of texts"),
        ("defaultTags", "blue", "a list of texts"),
        ("defaultCapabilities", [None], "a list of texts"),
        ("env", ["A=1"], "an object of texts"),
        ("env", {"A": 1}, "an object of texts"),
        ("restart", "false", "true or false"),
        ("headless", 5, "an object"),
        ("headless", {"shutdownTimeoutMs": "5 s"}, "shutdownTimeoutMs"),
        ("headless", {"shutdownTimeoutMs": 0}, "shutdownTimeoutMs"),
        ("headless", {"shutdownTimeoutMs": True}, "shutdownTimeoutMs"),
        ("protocol", "xml", "jsonl"),
        ("protocol", ["jsonl"], "jsonl"),
    ],
)
def test_a_field_of_the_provider_of_the_wrong_kind_is_named(
    tmp_path: Path, field: str, value: Any, wrong: str
) -> None:
    with pytest.raises(BadOptions) as caught:
        read(tmp_path, config={"command": sys.executable, field: value})
    assert "AGENT_RELAY_PROVIDER_CONFIG_JSON" in str(caught.value)
    assert f"`{field}" in str(caught.value)
    assert wrong in str(caught.value)


def test_what_is_null_is_not_given(tmp_path: Path) -> None:
    config = {
        "command": sys.executable,
        "defaultArgs": None,
        "defaultTags": None,
        "env": None,
        "headless": None,
    }
    options = read(
        tmp_path, config=config, AGENT_RELAY_PROVIDER_ARGS_JSON="null", AGENT_RELAY_WORKSPACE_JSON="null"
    )
    assert (options.command, options.all_tags, options.workspace) == ([sys.executable], ["command"], None)


def test_everything_of_the_right_kind_is_taken(tmp_path: Path) -> None:
    config = {
        "command": sys.executable,
        "defaultArgs": ["-c"],
        "defaultTags": ["blue"],
        "defaultCapabilities": ["review"],
        "env": {"A": "1"},
        "restart": False,
        "headless": {"shutdownTimeoutMs": 1500, "tmuxPrefix": "x"},
        "protocol": "jsonl",
    }
    args = {"AGENT_RELAY_PROVIDER_ARGS_JSON": '["a"]', "AGENT_RELAY_WORKSPACE_JSON": '{"id": "w"}'}
    options = read(tmp_path, "--approval", "read-only", "--headless", "--", "b", config=config, **args)
    assert options.command == [sys.executable, "-c", "a", "b"]
    assert options.all_tags == ["blue", "command"]
    assert options.all_capabilities == ["review"]
    assert (options.restarts, options.grace, options.workspace) == (False, 1.5, {"id": "w"})
    assert options.approval_mode == "read-only"


def test_an_option_is_named_as_it_was_given(tmp_path: Path) -> None:
    with pytest.raises(BadOptions, match="--approval"):
        read(tmp_path, "--approval", "bogus")
    with pytest.raises(BadOptions, match="--relay-url"):
        read(tmp_path, "--relay-url", "bogus")
    with pytest.raises(BadOptions, match="--cwd"):
        read(tmp_path / "missing")


@pytest.mark.parametrize("command", ["no-such-program", "./no-such-program", "/no/such/program", "."])
def test_a_program_that_is_not_there_is_told(tmp_path: Path, command: str) -> None:
    with pytest.raises(BadOptions, match=r"AGENT_RELAY_PROVIDER_CONFIG_JSON.*`command`.*no program"):
        read(tmp_path, config={"command": command})


def test_a_program_is_looked_for_as_it_will_be_started(tmp_path: Path) -> None:
    program = tmp_path / "bin" / "agent"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    with pytest.raises(BadOptions, match="no program"):  # not executable
        read(tmp_path, config={"command": "bin/agent"})
    program.chmod(0o755)
    assert read(tmp_path, config={"command": "bin/agent"}).command == ["bin/agent"]
    assert read(tmp_path, config={"command": "agent", "env": {"PATH": str(program.parent)}})
    with pytest.raises(BadOptions, match="no program"):
        read(tmp_path, config={"command": "sh", "env": {"PATH": str(program.parent)}})


def test_what_a_runner_keeps_is_in_the_home_of_relay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    assert read(tmp_path, "--agent-id", "a1").state_dir == tmp_path / "user/.relay/runners/a1"
    monkeypatch.setenv("RELAY_HOME", str(tmp_path / "home"))
    assert read(tmp_path, "--agent-id", "a1").state_dir == tmp_path / "home/runners/a1"
    kept = str(tmp_path / "kept")
    assert read(tmp_path, "--agent-id", "a1", AGENT_RELAY_STATE_DIR=kept).state_dir == Path(kept)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AGENT_RELAY_STATE_DIR", "/proc/x"),
        ("AGENT_RELAY_STATE_DIR", "/dev/null"),
        ("AGENT_RELAY_LOG_FILE", "/proc/x"),
        ("AGENT_RELAY_PROVIDER_ARGS_JSON", "[1]"),
    ],
)
async def test_a_runner_that_cannot_start_says_why_before_relay_hears_of_the_agent(
    host: Host, relay: Relay, name: str, value: str
) -> None:
    process = host.start(**{name: value})
    assert process.wait(20) == 1
    said = host.log.read_text()
    assert name in said
    assert "Traceback" not in said
    assert await relay.get("/api/agents") == []


def test_the_command_line_tells_it_as_well(tmp_path: Path) -> None:
    environ = {
        **os.environ,
        "AGENT_RELAY_PROVIDER_CONFIG_JSON": json.dumps({"command": sys.executable}),
        "AGENT_RELAY_STATE_DIR": "/proc/x",
    }
    said = subprocess.run(
        [sys.executable, "-m", "relay", "runner", "command", "--json"],
        env=environ,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert said.returncode == 1
    assert "AGENT_RELAY_STATE_DIR" in json.loads(said.stderr)["why"]
