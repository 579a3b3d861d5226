"""A server that is killed while events come in on a channel: each reaches all bindings or none, and its repeat the same."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import apsw
import attrs
import httpx2
import pytest
import trio
from test_server_crash import TOKEN, Server

ROUNDS = 6
BOUND = ("tag:t", "pool:p", "policy:P")
ELIGIBLE = ("idle", "online", "busy")


@attrs.define
class Caller:
    """Everybody outside. `answers` are the messages that were acknowledged for a key, `asked` all keys."""

    client: httpx2.AsyncClient
    answers: dict[str, list[int]] = attrs.field(factory=dict)
    asked: list[str] = attrs.field(factory=list)

    async def set_up(self) -> None:
        await self.post("/api/agents", {"id": "c", "kind": "channel"})
        for name in ("a1", "a2", "a3"):
            await self.post("/api/agents", {"id": name, "tags": ["p", "t"]})
        for target in BOUND:
            await self.post(
                "/api/channel-bindings", {"channelId": "c", "target": target, "mode": "broadcast"}
            )

    async def post(self, path: str, body: Any) -> Any:
        answer = await self.client.post(path, json=body)
        assert answer.status_code in (200, 201), answer.text
        return answer.json()

    async def happen(self, key: str) -> dict[str, Any]:
        answer: dict[str, Any] = await self.post(
            "/api/channels/c/events", {"body": key, "idempotencyKey": key}
        )
        return answer

    async def report(self, name: str) -> None:
        for number in range(10_000):
            key = f"{name}/{number}"
            self.asked.append(key)
            try:
                answer = await self.happen(key)
            except httpx2.TransportError:
                return
            self.answers[key] = [each["id"] for each in answer["messages"]]

    async def is_held(self) -> bool:
        """Whether the slot is held by one that may, which is so soon after the start."""
        found = (await self.client.get("/api/channel-bindings")).json()
        holders = [each["poolAgentId"] for each in found if "poolAgentId" in each]
        statuses = [(await self.client.get(f"/api/agents/{name}")).json()["status"] for name in holders]
        return len(statuses) == 1 and statuses[0] in ELIGIBLE

    async def come_and_go(self) -> None:
        """Somebody is always there."""
        for number in range(10_000):
            status = ("stale", "idle", "busy")[number % 3]
            try:
                path = f"/api/agents/{('a1', 'a2')[number % 2]}/status"
                await self.client.patch(path, json={"status": status})
            except httpx2.TransportError:
                return


async def run_and_kill(server: Server, caller: Caller, round_: int, chance: random.Random) -> None:
    before = len(caller.answers)
    wanted = before + chance.randrange(5, 60)
    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(caller.report, f"{round_}/{number}")
        nursery.start_soon(caller.come_and_go)
        with trio.fail_after(60):
            while len(caller.answers) < wanted:
                await trio.sleep(0)
        server.kill()


def stored(server: Server) -> Counter[str]:
    """How many messages each event has in the file; looked at while no server runs."""
    database = apsw.Connection(str(server.database), flags=apsw.SQLITE_OPEN_READWRITE)
    rows = database.execute("select record ->> 'body' from messages where kind = 'channel.event'").fetchall()
    database.close()
    return Counter(body for (body,) in rows)


@pytest.mark.spec("M-I36", "M-I23", "H-04")
async def test_events_survive_the_server_whole_or_not_at_all(tmp_path: Path) -> None:
    server = Server(tmp_path)
    chance = random.Random(5)
    headers = {"X-Agent-Relay-Token": TOKEN}
    async with httpx2.AsyncClient(
        base_url=server.url, headers=headers, timeout=30, trust_env=False
    ) as client:
        caller = Caller(client)
        server.start()
        await server.ready(client)
        await caller.set_up()
        for round_ in range(ROUNDS):
            await run_and_kill(server, caller, round_, chance)
            counts = stored(server)
            assert set(counts.values()) <= {len(BOUND)}
            assert caller.answers.keys() <= counts.keys()
            server.start()
            await server.ready(client)
            with trio.fail_after(5):
                while not await caller.is_held():
                    await trio.sleep(0.02)
        for key in caller.asked:
            answer = await caller.happen(key)
            numbers = [each["id"] for each in answer["messages"]]
            assert numbers == caller.answers.get(key, numbers)
            assert answer["created"] == (0 if key in counts else len(BOUND))
        server.kill()
        assert set(stored(server).values()) == {len(BOUND)}
