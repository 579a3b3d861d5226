"""Terminals beside a session, with the machine's own tmux: opened through relay, and ended in every way they can end."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import AsyncIterator
from typing import Any

import attrs
import httpx2
import pytest
from hosts import Host, until

from relay._files import read_json, write_json
from relay.orchestrator.guests import Guests
from relay.orchestrator.sessions import Sessions

needs_tmux = pytest.mark.skipif(shutil.which("tmux") is None, reason="there is no tmux here")


@pytest.fixture
async def client(server: Any) -> AsyncIterator[httpx2.AsyncClient]:
    headers = {"X-Agent-Relay-Token": server.token}
    async with httpx2.AsyncClient(base_url=server.base_url, headers=headers, trust_env=False) as client:
        yield client


@pytest.fixture
def host_of_its_own(host: Host) -> Host:
    """One whose tmux server no other test shares."""
    name = f"t{host.config.home.parent.name}-{id(host)}"
    return attrs.evolve(host, config=attrs.evolve(host.config, id=name))


def shown(command: list[str]) -> str:
    """What the terminal shows; fails when it is not there."""
    tmux, option, server, *_, target = command
    words = [tmux, option, server, "capture-pane", "-p", "-t", f"{target}:"]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def is_there(command: list[str]) -> bool:
    tmux, option, server, *_, target = command
    return (
        subprocess.run([tmux, option, server, "has-session", "-t", target], capture_output=True).returncode
        == 0
    )


@needs_tmux
async def test_a_terminal_shows_the_session_until_it_is_closed(
    host_of_its_own: Host, client: httpx2.AsyncClient
) -> None:
    host = host_of_its_own
    async with host.running() as config:
        await host.spawned("ada")
        path = "/api/agents/ada/terminal-session"
        answer = await client.post(path, json={"ttlMs": 1})
        assert answer.status_code == 201, answer.text
        told = answer.json()
        command = told["attach"]["command"]
        assert told["session"].startswith("ar-guest-command-ada-")
        assert is_there(command)
        assert isinstance(shown(command), str)
        assert list(read_json(config.state / "guests.json")) == [told["session"]]
        assert (await client.delete(f"{path}/other")).status_code == 404
        assert (await client.delete(f"{path}/{told['session']}")).json() == {"ok": True}
        assert not is_there(command)
        assert (await client.delete(f"{path}/{told['session']}")).status_code == 404
        assert read_json(config.state / "guests.json") == {}


@needs_tmux
async def test_a_terminal_ends_with_its_time_and_with_its_session(
    host_of_its_own: Host, client: httpx2.AsyncClient
) -> None:
    host = host_of_its_own
    async with host.running() as config:
        await host.spawned("ada")
        commands = []
        for _ in range(2):
            answer = await client.post("/api/agents/ada/terminal-session")
            commands.append(answer.json()["attach"]["command"])
        known = read_json(config.state / "guests.json")
        over, *_ = known
        known[over]["ends_at"] = 1.0
    write_json(config.state / "guests.json", known)
    async with host.running():
        await until(lambda: [is_there(command) for command in commands] == [False, True])
        await host.done("agent.shutdown", agentId="ada")
    async with host.running():
        await until(lambda: not is_there(commands[1]))
    assert read_json(config.state / "guests.json") == {}


async def test_without_tmux_a_terminal_is_422_and_says_what_to_do(
    host: Host, client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.orchestrator.guests.shutil.which", lambda name: None)
    async with host.running() as config:
        await host.spawned("ada")
        answer = await client.post("/api/agents/ada/terminal-session")
        assert (answer.status_code, "install it" in answer.json()["error"]) == (422, True)
        assert not read_json(config.state / "guests.json")


async def test_a_damaged_list_of_terminals_holds_up_no_daemon(host: Host) -> None:
    host.config.state.mkdir(parents=True)
    for text in ("[]", '{"a": 1}', '{"a": {"x": 1}}', "nonsense"):
        (host.config.state / "guests.json").write_text(text)
        assert Guests(host.config, Sessions(host.config, lambda: 0.0), lambda: 0.0).open == {}
