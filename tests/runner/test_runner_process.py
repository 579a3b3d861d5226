"""A real runner process between a real agent process and a real server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trio

AGENT = r"""
import json, os, sys
journal = open(sys.argv[1], "a")
def say(**frame): print(json.dumps(frame), flush=True)
def note(**entry): journal.write(json.dumps(entry) + "\n"); journal.flush()
for line in sys.stdin:
    frame = json.loads(line)
    if frame["type"] == "hello":
        note(event="started", pid=os.getpid(), session=frame["sessionId"])
        say(type="ready", capabilities={"compact": True})
    elif frame["type"] == "prompt":
        note(event="prompt", text=frame["text"])
        say(type="ack", id=frame["id"])
    elif frame["type"] == "messages":
        note(event="offered", ids=[m["id"] for m in frame["messages"]])
        bodies = [m["body"] for m in frame["messages"]]
        if "swallow" in bodies and os.path.exists(sys.argv[1] + ".swallow"):
            continue
        note(event="taken", ids=[m["id"] for m in frame["messages"]])
        say(type="ack", id=frame["id"])
        for m in frame["messages"]:
            if m["body"] == "work": say(type="turn", state="start")
            if m["body"] == "rest": say(type="turn", state="end")
            if m["body"] == "die": os.kill(os.getpid(), 9)
            if m["body"] == "echo": say(type="reply", replyTo=m["id"], body="echo")
    elif frame["type"] == "ping": say(type="pong", id=frame["id"])
    elif frame["type"] == "compact": say(type="result", id=frame["id"], ok=True, data={"saved": 1})
    elif frame["type"] == "shutdown": sys.exit(0)
"""


class Host:
    """Starts runners of agent `a1`, as the host daemon does."""

    def __init__(self, folder: Path, url: str, token: str) -> None:
        self.folder = folder
        self.journal = folder / "journal.jsonl"
        self.info = folder / "info.json"
        self.processes: list[subprocess.Popen[bytes]] = []
        self._url, self._token = url, token
        (folder / "agent.py").write_text(AGENT)

    def start(self, **env: str) -> subprocess.Popen[bytes]:
        config = {
            "command": sys.executable,
            "defaultArgs": [str(self.folder / "agent.py"), str(self.journal)],
        }
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AGENT_RELAY_")}
        own = {
            "AGENT_RELAY_URL": self._url,
            "AGENT_RELAY_TOKEN": self._token,
            "AGENT_RELAY_PROVIDER_CONFIG_JSON": json.dumps(config),
            "AGENT_RELAY_RUNNER_INFO_FILE": str(self.info),
            "AGENT_RELAY_STATE_DIR": str(self.folder / "state"),
            "AGENT_RELAY_LABEL": "ada",
            "AGENT_RELAY_TAGS": "headless,blue",
        }
        arguments = ("command", "--headless", "--cwd", str(self.folder), "--agent-id", "a1")
        with (self.folder / "runner.log").open("ab") as log:
            self.processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", "relay.runner", *arguments],
                    env=inherited | own | env,
                    stdout=log,
                    stderr=log,
                )
            )
        return self.processes[-1]

    def noted(self, event: str) -> list[dict[str, Any]]:
        if not self.journal.exists():
            return []
        entries = [json.loads(line) for line in self.journal.read_text().splitlines()]
        return [entry for entry in entries if entry["event"] == event]

    def taken(self) -> list[int]:
        return [number for entry in self.noted("taken") for number in entry["ids"]]

    def end(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
        for entry in self.noted("started"):
            try:
                os.kill(entry["pid"], signal.SIGKILL)
            except ProcessLookupError:
                pass


@pytest.fixture
def host(tmp_path: Path, server: Any) -> Iterator[Host]:
    folder = tmp_path / "host"
    folder.mkdir()
    host = Host(folder, server.base_url, server.token)
    yield host
    host.end()


async def until(condition: Callable[[], bool | Awaitable[bool]]) -> None:
    with trio.fail_after(20):
        while True:
            met = condition()
            if met if isinstance(met, bool) else await met:
                return
            await trio.sleep(0.02)


async def agent(api: httpx2.AsyncClient) -> dict[str, Any]:
    answer = await api.get("/api/agents/a1")
    return answer.json() if answer.status_code == 200 else {}


async def is_ready(api: httpx2.AsyncClient) -> bool:
    return (await agent(api)).get("ready") is True


async def send(api: httpx2.AsyncClient, body: str, to: str = "a1", **more: Any) -> int:
    answer = await api.post("/api/messages", json={"from": "b1", "to": to, "body": body, **more})
    assert answer.status_code == 201, answer.text
    return int(answer.json()["id"])


async def readers(api: httpx2.AsyncClient, number: int) -> list[str]:
    return list((await api.get(f"/api/messages/{number}")).json()["readBy"])


@pytest.mark.spec("R-1", "R-17", "R-20", "R-29", "R-139", "R-I1", "R-I2")
async def test_what_waits_is_delivered_in_order_after_the_prompt_and_then_read(
    host: Host, api: httpx2.AsyncClient
) -> None:
    await api.post("/api/agents", json={"id": "a1", "status": "idle"})
    first, second = await send(api, "one"), await send(api, "two")
    host.start(AGENT_RELAY_PROMPT="begin")
    await until(lambda: host.taken() == [first, second])
    third = await send(api, "three", "label:ada", claimable=True)
    fourth = await send(api, "four", "tag:blue")
    await until(lambda: host.taken() == [first, second, third, fourth])

    async def all_read() -> bool:
        return all([await readers(api, number) == ["a1"] for number in (first, second, third, fourth)])

    await until(all_read)
    lines = [json.loads(line)["event"] for line in host.journal.read_text().splitlines()]
    assert lines[:3] == ["started", "prompt", "offered"]
    info = json.loads(host.info.read_text())
    assert host.info.stat().st_mode & 0o777 == 0o600
    assert info["agentId"] == "a1"
    assert info["pid"] == host.processes[0].pid
    assert info["registeredAt"] >= info["startedAt"]


@pytest.mark.spec("R-139", "R-I20")
async def test_turns_are_seen_as_busy_and_idle(host: Host, api: httpx2.AsyncClient) -> None:
    host.start()
    await until(lambda: is_ready(api))
    await send(api, "work")

    async def is_busy() -> bool:
        return bool((await agent(api))["status"] == "busy")

    await until(is_busy)
    await send(api, "rest")

    async def is_idle() -> bool:
        return bool((await agent(api))["status"] == "idle")

    await until(is_idle)


@pytest.mark.spec("R-26", "R-21", "R-I4", "R-I5")
async def test_what_is_not_for_it_is_neither_delivered_nor_read(host: Host, api: httpx2.AsyncClient) -> None:
    host.start()
    await until(lambda: is_ready(api))
    observed = await send(api, "seen", kind="session")
    other = await send(api, "not yours", "label:grace")
    mine = await send(api, "yours")
    await until(lambda: host.taken() == [mine])
    assert await readers(api, observed) == []
    assert await readers(api, other) == []


@pytest.mark.spec("R-I11", "R-36")
async def test_a_new_runner_delivers_what_was_not_acknowledged_and_nothing_else(
    host: Host, api: httpx2.AsyncClient
) -> None:
    swallow = host.journal.with_name(host.journal.name + ".swallow")
    host.start()
    await until(lambda: is_ready(api))
    first = await send(api, "one")
    await until(lambda: host.taken() == [first])

    async def first_is_read() -> bool:
        return await readers(api, first) == ["a1"]

    await until(first_is_read)
    swallow.touch()
    second = await send(api, "swallow")
    await until(lambda: any(entry["ids"] == [second] for entry in host.noted("offered")))
    host.processes[0].kill()
    host.processes[0].wait()
    assert await readers(api, second) == []
    swallow.unlink()
    host.start()
    await until(lambda: host.taken() == [first, second])
    assert len({entry["session"] for entry in host.noted("started")}) == 2


@pytest.mark.spec("R-67", "R-I13", "R-8")
async def test_an_agent_that_was_killed_is_started_again(host: Host, api: httpx2.AsyncClient) -> None:
    host.start()
    await until(lambda: is_ready(api))
    await send(api, "die")
    await until(lambda: len(host.noted("started")) == 2)
    after = await send(api, "after")
    await until(lambda: after in host.taken())
    assert host.processes[0].poll() is None


async def test_a_reply_is_stored_once_for_its_sender(host: Host, api: httpx2.AsyncClient) -> None:
    host.start()
    await until(lambda: is_ready(api))
    asked = await send(api, "echo")

    async def thread() -> list[Any]:
        return list((await api.get(f"/api/messages/{asked}/thread")).json())

    async def answered() -> bool:
        return len(await thread()) == 2

    await until(answered)
    reply = (await thread())[1]
    assert (reply["from"], reply["to"], reply["body"], reply["replyTo"]) == ("a1", "b1", "echo", asked)


async def command(api: httpx2.AsyncClient, kind: str, **params: Any) -> str:
    body = {"type": kind, "source": "test", "target": "a1", "params": params}
    return str((await api.post("/api/commands", json=body)).json()["id"])


async def outcome(api: httpx2.AsyncClient, number: str) -> dict[str, Any]:
    found: dict[str, Any] = {}

    async def ended() -> bool:
        found.update((await api.get(f"/api/commands/{number}")).json())
        return found["status"] in {"succeeded", "failed", "rejected"}

    await until(ended)
    return found


@pytest.mark.spec("R-53", "R-55", "R-59", "R-I23")
async def test_commands_are_carried_out_and_answered(host: Host, api: httpx2.AsyncClient) -> None:
    host.start()
    await until(lambda: is_ready(api))
    assert (await outcome(api, await command(api, "agent.compact")))["status"] == "succeeded"
    assert (await outcome(api, await command(api, "agent.interrupt")))["status"] == "failed"
    assert (await outcome(api, await command(api, "agent.unheard-of")))["status"] in {"failed", "rejected"}
    assert (await outcome(api, await command(api, "prompt.inject", body="hello")))["status"] == "succeeded"
    assert host.noted("prompt")[-1]["text"] == "hello"
    assert (await outcome(api, await command(api, "agent.restart")))["status"] == "succeeded"
    await until(lambda: len(host.noted("started")) == 2)
    after = await send(api, "after")
    await until(lambda: after in host.taken())


@pytest.mark.spec("R-48", "R-I21")
async def test_an_agent_is_shut_down_on_command_and_its_runner_ends(
    host: Host, api: httpx2.AsyncClient
) -> None:
    process = host.start()
    await until(lambda: is_ready(api))
    assert (await outcome(api, await command(api, "agent.shutdown")))["status"] == "succeeded"
    await until(lambda: process.poll() is not None)
    assert process.returncode == 0
    assert (await agent(api)).get("ready", False) is False


async def test_sigterm_ends_agent_and_runner_and_says_offline(host: Host, api: httpx2.AsyncClient) -> None:
    process = host.start()
    await until(lambda: is_ready(api))
    process.terminate()
    await until(lambda: process.poll() is not None)
    assert process.returncode == 0
    assert (await agent(api))["status"] == "offline"
