"""A server that is killed under load loses nothing it acknowledged, and does nothing twice.

A real server process on a real SQLite file is put under concurrent load and killed with SIGKILL at a random moment,
again and again on the same database. After each restart the clients' own notes of what was acknowledged are held
against what the server says and against the database file.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import apsw
import attrs
import httpx2
import pytest
import trio

from relay.cli.demo.ports import reserve_port

ROUNDS = 20
TOKEN = "crash-test-token-" + "x" * 32
ORDER = ["pending", "accepted", "running", "succeeded"]


class Server:
    """A `relay serve` process on a fixed port, database and token."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.database = home / "relay.db"
        self.port = reserve_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        serve = ("serve", "--database", str(self.database), "--port", str(self.port))
        with (self.home / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "relay", *serve],
                env={**os.environ, "RELAY_HOME": str(self.home), "AGENT_RELAY_TOKEN": TOKEN},
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    async def ready(self, client: httpx2.AsyncClient) -> None:
        with trio.fail_after(30):
            while True:
                try:
                    if (await client.get("/api/health")).status_code == 200:
                        return
                except httpx2.TransportError:
                    pass
                assert self.process is not None
                assert self.process.poll() is None, (self.home / "server.log").read_text()[-3000:]
                await trio.sleep(0.02)


@attrs.define
class Notes:
    """What the clients were told, and what they asked for without being told the outcome."""

    messages: dict[str, int] = attrs.field(factory=dict)
    """Idempotency key -> id."""
    unsure: list[str] = attrs.field(factory=list)
    """Keys whose outcome is unknown."""
    commands: dict[str, str] = attrs.field(factory=dict)
    """Id -> status that was acknowledged."""
    statuses: dict[str, set[str]] = attrs.field(factory=dict)
    """Agent -> statuses it may have."""
    leases: dict[str, set[str]] = attrs.field(factory=dict)
    """Workspace -> commands its lease may be bound to; "" is none, "?" is any."""
    tokens: dict[str, int] = attrs.field(factory=dict)
    """Workspace -> the last fencing token given for its repository."""


class Stopped(Exception):
    """The server is gone; the outcome of the last request is unknown."""


class Load:
    """The clients of one round."""

    def __init__(self, client: httpx2.AsyncClient, notes: Notes, seed: int) -> None:
        self.client = client
        self.notes = notes
        self.random = random.Random(seed)
        self.seed = seed

    async def call(self, method: str, path: str, body: Any = None, *, expect: set[int]) -> Any:
        try:
            answer = await self.client.request(method, path, json=body)
        except httpx2.TransportError as error:
            raise Stopped from error
        assert answer.status_code in expect, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json()

    async def send_messages(self, sender: str) -> None:
        for number in range(10_000):
            key = f"{self.seed}/{sender}/{number}"
            self.notes.unsure.append(key)
            answer = await self.call("POST", "/api/messages", message(sender, key), expect={201})
            self.notes.unsure.remove(key)
            self.notes.messages[key] = answer["id"]

    async def drive_commands(self) -> None:
        while True:
            body = {"type": "test.work", "source": "crash", "target": "nobody"}
            command = (await self.call("POST", "/api/commands", body, expect={201}))["id"]
            self.notes.commands[command] = "pending"
            for status in ORDER[1:]:
                await self.call("PATCH", f"/api/commands/{command}", {"status": status}, expect={200})
                self.notes.commands[command] = status

    async def change_status(self, agent: str) -> None:
        while True:
            for status in ("busy", "idle"):
                self.notes.statuses[agent].add(status)
                await self.call("PATCH", f"/api/agents/{agent}/status", {"status": status}, expect={200})
                self.notes.statuses[agent] = {status}

    async def merge(self, workspace: str) -> None:
        may = self.notes.leases
        while True:
            may[workspace].add("?")
            action = {"action": "merge", "strategy": "rebase-ff", "deleteBranch": False}
            answer = await self.call("POST", f"/api/workspaces/{workspace}/actions", action, expect={202})
            command, token = answer["command"]["id"], answer["command"]["params"]["leaseToken"]
            assert token > self.notes.tokens.get(workspace, 0), "a fencing token was given again"
            self.notes.tokens[workspace] = token
            may[workspace] = {command, ""}
            result = {"workspaceId": workspace, "status": "active", "merged": True, "strategy": "rebase-ff"}
            patch = {"status": "succeeded", "result": result}
            await self.call("PATCH", f"/api/commands/{command}", patch, expect={200})
            may[workspace] = {""}

    async def run(self, kill: Any, seconds: float) -> None:
        async def until_stopped(work: Any, *arguments: Any) -> None:
            try:
                await work(*arguments)
            except Stopped:
                pass

        async with trio.open_nursery() as nursery:
            for sender in range(6):
                nursery.start_soon(until_stopped, self.send_messages, f"sender-{sender}")
            for _ in range(2):
                nursery.start_soon(until_stopped, self.drive_commands)
            for agent in self.notes.statuses:
                nursery.start_soon(until_stopped, self.change_status, agent)
            for workspace in self.notes.leases:
                nursery.start_soon(until_stopped, self.merge, workspace)
            await trio.sleep(seconds)
            kill()


def message(sender: str, key: str) -> dict[str, Any]:
    return {"from": sender, "to": "reader", "body": key, "idempotencyKey": key}


async def furnish(client: httpx2.AsyncClient, notes: Notes, base: Path) -> None:
    """Agents, a host, and workspaces in repositories of their own."""
    for agent in ("a1", "a2", "reader"):
        (await client.post("/api/agents", json={"id": agent})).raise_for_status()
    notes.statuses = {"a1": {"online"}, "a2": {"online"}}
    host = {"id": "h1", "hostname": "h1", "baseDir": str(base), "providers": ["command"]}
    (await client.post("/api/orchestrators", json=host)).raise_for_status()
    for number in range(2):
        await report_workspace(client, notes, base, f"w{number}")


async def report_workspace(client: httpx2.AsyncClient, notes: Notes, base: Path, name: str) -> None:
    repository = str(base / f"repository-{name}")
    workspace = {
        "id": name,
        "mode": "isolated",
        "repoRoot": repository,
        "sourceCwd": repository,
        "worktreePath": str(base / "worktrees" / name),
        "branch": f"agent/x/{name}",
        "baseRef": "main",
        "baseSha": "0" * 40,
    }
    entry = {"agentId": f"agent-{name}", "provider": "command", "sessionName": name, "tmuxSession": name}
    entry |= {"cwd": repository, "approvalMode": "open", "startedAt": 0, "workspace": workspace}
    answer = await client.patch("/api/orchestrators/h1/agents", json={"agents": [entry]})
    answer.raise_for_status()
    notes.leases[name] = {""}


async def verify(client: httpx2.AsyncClient, notes: Notes, database: Path) -> None:
    """Everything acknowledged is there; a repeated send of an unsure message finds or makes exactly one."""
    for key in list(notes.unsure):
        answer = await client.post("/api/messages", json=message(key.split("/")[1], key))
        assert answer.status_code in {200, 201}, answer.text
        notes.messages[key] = answer.json()["id"]
        notes.unsure.remove(key)
    stored = rows(database, "select id, idempotency_key from messages")
    by_key: dict[str, list[int]] = {}
    for number, key in stored:
        by_key.setdefault(key, []).append(number)
    assert {key: [number] for key, number in notes.messages.items()} == by_key
    for command, status in notes.commands.items():
        found = (await client.get(f"/api/commands/{command}")).json()["status"]
        reached, told = ORDER.index(found), ORDER.index(status)
        assert told <= reached <= told + 1, f"{command} is {found}, and {status} was acknowledged"
    notes.commands = {}
    for agent, possible in notes.statuses.items():
        assert (await client.get(f"/api/agents/{agent}")).json()["status"] in possible
    await verify_leases(client, notes)
    ids = [number for (number,) in rows(database, "select id from events order by id")]
    assert ids == list(range(ids[0], ids[0] + len(ids))), "the event log has a gap"


async def verify_leases(client: httpx2.AsyncClient, notes: Notes) -> None:
    leases = (await client.get("/api/merge-leases")).json()
    held = {lease["workspaceId"]: lease["commandId"] for lease in leases}
    for workspace, possible in notes.leases.items():
        command = held.get(workspace, "")
        assert command in possible or "?" in possible, (workspace, command, possible)
        if command:
            assert (await client.get(f"/api/commands/{command}")).status_code == 200, (
                "a lease without its command"
            )
            patch = {"status": "failed", "error": "killed"}
            assert (await client.patch(f"/api/commands/{command}", json=patch)).status_code in {200, 409}
        row = (await client.get(f"/api/workspaces/{workspace}")).json()
        assert row["status"] in {"active", "review_requested"}, row
        notes.leases[workspace] = {""}
    assert (await client.get("/api/merge-leases")).json() == []


def rows(database: Path, sql: str) -> list[Any]:
    connection = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return list(connection.execute(sql))
    finally:
        connection.close()


@pytest.mark.spec("W-I49", "W-I5", "M-I1", "M-I2")
async def test_nothing_acknowledged_is_lost_and_nothing_happens_twice(tmp_path: Path) -> None:
    server, notes = Server(tmp_path), Notes()
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    headers = {"X-Agent-Relay-Token": TOKEN}
    limits = httpx2.Limits(max_connections=32, max_keepalive_connections=32)
    async with httpx2.AsyncClient(base_url=server.url, headers=headers, limits=limits, timeout=20) as client:
        try:
            server.start()
            await server.ready(client)
            await furnish(client, notes, tmp_path)
            with trio.fail_after(240):
                for round_ in range(ROUNDS):
                    await Load(client, notes, round_).run(server.kill, chance.uniform(0.05, 0.8))
                    server.start()
                    await server.ready(client)
                    await verify(client, notes, server.database)
        finally:
            server.kill()
    assert len(notes.messages) > ROUNDS, "there was no load to speak of"
    assert rows(server.database, "pragma integrity_check") == [("ok",)]
