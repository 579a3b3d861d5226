"""`GET /bus` on a whole server: what is said and told, and how connections begin and end."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
import trio
from busclient import Closed, bus, hello, upgrade
from rawhttp import connect

PROVIDER = {"role": "provider", "componentId": "runner-1", "agentId": "w", "instanceId": "i1"}


def message(**members: Any) -> dict[str, Any]:
    return {"from": "a1", "to": "w", "body": "x", **members}


@pytest.mark.spec("BUS-1", "BUS-2", "BUS-4", "O-61")
async def test_a_hello_is_answered_and_registers_the_agent(server: Any, api: httpx2.AsyncClient) -> None:
    given = {"machine": "m1", "tags": ["t"], "capabilities": ["c"], "label": "L", "meta": {"k": 1}, "status": "idle"}
    async with bus(server, **PROVIDER, **given) as socket:
        welcome = socket.welcome
        assert (welcome["protocol"], welcome["agentId"], welcome["heartbeatMs"]) == (1, "w", 30_000)
        assert not welcome["resumed"]
        assert "reset" not in welcome
        agent = (await api.get("/api/agents/w")).json()
        assert agent == {**agent, **given, "kind": "provider", "instanceId": "i1"}
        assert (await socket.events(1))[0]["event"] == "agent.status"
        await api.post("/api/messages", json=message())
        (told,) = await socket.events(1)
        assert (told["type"], told["message"]["body"]) == ("message.new", "x")


