"""What profiles and provider configs say reaches the runner and the agent of a real host, and no command."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from hosts import Host, until

from relay import wire
from relay._files import read_json

NOTING = """
import json, os, sys
for line in sys.stdin:
    frame = json.loads(line)
    if frame["type"] == "hello":
        with open(sys.argv[1] + ".part", "w") as file:
            json.dump({"hello": frame, "env": dict(os.environ), "args": sys.argv[2:]}, file)
        os.replace(sys.argv[1] + ".part", sys.argv[1])
        print(json.dumps({"type": "ready"}), flush=True)
    elif frame["type"] == "ping": print(json.dumps({"type": "pong", "id": frame["id"]}), flush=True)
    elif "id" in frame: print(json.dumps({"type": "ack", "id": frame["id"]}), flush=True)
    elif frame["type"] == "shutdown": sys.exit(0)
"""

PROFILE: dict[str, Any] = {
    "provider": "command",
    "model": "sonnet",
    "effort": "high",
    "approvalMode": "read-only",
    "tags": ["careful"],
    "providerArgs": ["--from-profile"],
    "env": {"REVIEW_KEY": "s3cret-of-the-profile", "MODE": "profile"},
    "instructions": {"system": "You review.", "append": ["Be brief."], "repoInstructions": True},
    "skills": ["a", "b", {"name": "c", "enabled": False}],
}


def program(host: Host) -> dict[str, Any]:
    path = host.config.home / "noting.py"
    path.write_text(NOTING)
    return {"command": sys.executable, "defaultArgs": [str(path), str(host.config.home / "noted")]}


async def noted(host: Host) -> dict[str, Any]:
    """What the agent's program found when it was greeted."""
    found: dict[str, Any] = await until(lambda: read_json(host.config.home / "noted"))
    return found


async def commands_of(host: Host) -> str:
    return "".join(wire.encode(command).decode() for command in await host.relay.commands(limit=50))


@pytest.mark.spec("R-16", "ORC-20", "W-I39")
async def test_an_agent_is_what_its_profile_says_unless_its_spawn_says_otherwise(host: Host) -> None:
    await host.relay.set_config("agent-profile", "reviewer", PROFILE)
    async with host.running():
        asked = wire.SpawnAgent(
            provider=wire.Provider.COMMAND,
            profile="reviewer",
            agent_id="ada",
            cwd=str(host.repo.path),
            effort=wire.Effort.LOW,
            tags=["mine"],
            provider_args=["--mine"],
            env={"MODE": "spawn"},
            provider_config=program(host),
        )
        command = await host.ended(await host.relay.spawn("h1", asked))
        assert command.status is wire.CommandStatus.SUCCEEDED, command.error
        seen = await noted(host)
        assert seen["hello"]["model"] == "sonnet"
        assert seen["hello"]["effort"] == "low", "what is asked for wins"
        assert seen["hello"]["approvalMode"] == "read-only"
        assert seen["hello"]["systemPrompt"] == "You review.\n\nBe brief."
        assert seen["args"] == ["--from-profile", "--mine"]
        assert (seen["env"]["REVIEW_KEY"], seen["env"]["MODE"]) == ("s3cret-of-the-profile", "spawn")
        card = await host.relay.agent("ada")
        assert {"careful", "mine"} <= set(card.tags)
        assert card.meta["profile"] == "reviewer"
        told = card.meta["agentProfile"]
        assert (told["skills"], told["instructions"]["hasSystem"], told["instructions"]["appendCount"]) == (
            2,
            True,
            1,
        )
        entry = await host.rostered("ada")
        assert (entry.profile, entry.model, entry.effort) == ("reviewer", "sonnet", "low")
        for text in (await commands_of(host), wire.encode(card).decode()):
            assert "s3cret-of-the-profile" not in text
            assert "You review." not in text


@pytest.mark.spec("M-190", "W-I39")
async def test_a_policy_starts_its_agent_with_the_profile_that_it_names(host: Host) -> None:
    await host.relay.set_config("agent-profile", "reviewer", PROFILE)
    async with host.running():
        policy = wire.SpawnPolicy(
            orchestrator_id="h1",
            provider=wire.Provider.COMMAND,
            cwd=str(host.repo.path),
            profile="reviewer",
            model="opus",
            provider_config=program(host),
        )
        await host.relay.set_policy("P", policy)
        command = await host.ended(await host.relay.start_policy("P"))
        assert command.status is wire.CommandStatus.SUCCEEDED, command.error
        seen = await noted(host)
        assert (seen["hello"]["model"], seen["hello"]["approvalMode"]) == ("opus", "read-only")
        assert seen["env"]["REVIEW_KEY"] == "s3cret-of-the-profile"
        assert "s3cret-of-the-profile" not in await commands_of(host)
        (host.config.home / "noted").unlink()
        again = await host.ended(await host.relay.restart_policy("P"))
        assert again.status is wire.CommandStatus.SUCCEEDED, again.error
        assert (await noted(host))["env"]["REVIEW_KEY"] == "s3cret-of-the-profile"
        await host.ended(await host.relay.stop_policy("P"))


async def test_a_profile_that_is_too_long_for_an_environment_arrives_whole(host: Host) -> None:
    long = "x" * 31_000
    profile = {**PROFILE, "instructions": {"system": long, "append": [long]}}
    await host.relay.set_config("agent-profile", "reviewer", profile)
    async with host.running():
        entry = await host.spawned("ada", profile="reviewer", providerConfig=program(host))
        assert (await noted(host))["hello"]["systemPrompt"] == f"{long}\n\n{long}"
        (file,) = (host.config.state / "runners").glob(f"{entry.session_name}.AGENT_RELAY_*")
        assert file.stat().st_mode & 0o077 == 0
        await host.done("agent.shutdown", agentId="ada")
        assert not file.exists()


async def test_a_host_starts_nothing_with_a_profile_that_has_gone(host: Host) -> None:
    async with host.running():
        command = await host.done("agent.spawn", **host.wish("ada", profile="gone"))
        assert command.status is wire.CommandStatus.FAILED
        assert "profile: there is none 'gone'" in (command.error or "")
        assert await host.roster() == []


@pytest.mark.spec("PRV-3", "R-7", "W-I39")
async def test_the_configuration_of_a_provider_holds_for_its_agents(host: Host, tmp_path: Path) -> None:
    """There is no adapter for it here, so what its runner was started with is noted before that ends."""
    await host.relay.set_provider_config(
        "claude",
        wire.SetProviderConfig(
            command="/opt/claude",
            default_args=["--verbose"],
            default_tags=["usual"],
            default_approval_mode="read-only",
            env={"CLAUDE_KEY": "s3cret-of-the-provider", "KIND": "usual"},
        ),
    )
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "sitecustomize.py").write_text(
        "import json, os\n"
        "if 'AGENT_RELAY_PROVIDER_CONFIG_JSON' in os.environ:\n"
        f"    json.dump(dict(os.environ), open({str(notes / 'noted')!r}, 'w'))\n"
    )
    async with host.running(env={"PYTHONPATH": os.pathsep.join([str(notes), *sys.path])}):
        asked = wire.SpawnAgent(
            provider=wire.Provider.CLAUDE,
            cwd=str(host.repo.path),
            provider_config={"defaultArgs": ["--quiet"], "env": {"KIND": "this one"}},
        )
        command = await host.relay.spawn("h1", asked)
        assert command.params["approvalMode"] == "read-only"
        found = await until(lambda: read_json(notes / "noted"))
        config = json.loads(found["AGENT_RELAY_PROVIDER_CONFIG_JSON"])
        assert (config["command"], config["defaultTags"]) == ("/opt/claude", ["usual"])
        assert config["defaultArgs"] == ["--quiet"], "what is asked for wins"
        assert config["env"] == {"CLAUDE_KEY": "s3cret-of-the-provider", "KIND": "this one"}
        assert found["AGENT_RELAY_APPROVAL"] == "read-only"
        await host.ended(command)
        assert "s3cret-of-the-provider" not in await commands_of(host)
