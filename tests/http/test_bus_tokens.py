"""Tokens on the bus: it lasts no longer than they do, and is for no more than they are."""

from __future__ import annotations

from typing import Any

import attrs
import httpx2
import pytest
from busclient import bus
from tokenkit import make, refusals

from relay.http import keys, verifying


@attrs.frozen
class Listening:
    """A server, for whoever has this token."""

    port: int
    token: str


PROVIDER = {"role": "provider", "componentId": "c1", "agentId": "a1", "instanceId": "i1"}
AGENT = {"role": "provider", "profileId": "provider-agent", "sub": "runner:a1"}


async def for_a1(api: httpx2.AsyncClient, **asked: Any) -> dict[str, Any]:
    return await make(api, **{**AGENT, "constraints": {"agents": ["a1"], "policies": []}, **asked})


@pytest.mark.spec("M-I34", "BUS-7")
async def test_a_connection_ends_with_its_token(server: Any, api: httpx2.AsyncClient) -> None:
    made = await for_a1(api)
    async with bus(Listening(server.port, made["token"]), **PROVIDER) as socket:
        await api.post(f"/api/tokens/{made['record']['jti']}/revoke")
        assert (await socket.told("error"))["code"] == "unauthorized"
        assert (await socket.close()).code == 4401


async def test_a_connection_ends_when_its_token_expires(
    server: Any, api: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (keys, verifying):
        monkeypatch.setattr(module, "LEEWAY", 0)
    made = await make(api, scope=["event:read"], ttlSeconds=2)
    async with bus(Listening(server.port, made["token"])) as socket:
        await socket.say("hello", role="dashboard", componentId="c1")
        assert (await socket.close()).code == 4401


@pytest.mark.spec("AUTH-5", "BUS-2")
@pytest.mark.parametrize(
    "hello",
    [
        {**PROVIDER, "agentId": "a2"},
        {"role": "dashboard", "componentId": "c1"},
        {**PROVIDER, "meta": {"policyName": "p"}},
    ],
)
async def test_a_hello_for_others_is_refused_and_on_record(
    server: Any, api: httpx2.AsyncClient, hello: dict[str, Any]
) -> None:
    made = await for_a1(api)
    async with bus(Listening(server.port, made["token"])) as socket:
        await socket.say("hello", **hello)
        assert (await socket.told("error"))["code"] == "forbidden"
    (refusal, *_) = await refusals(api)
    assert (refusal["metadata"]["status"], refusal["metadata"]["route"]) == (403, "bus hello")


@pytest.mark.spec("CMD-14", "AUTH-5")
async def test_frames_reach_no_further_than_the_token(server: Any, api: httpx2.AsyncClient) -> None:
    made = await for_a1(api, constraints={"agents": ["a1"], "targets": ["a2"], "policies": []})
    other = {"type": "t", "source": "s", "target": "a2"}
    command = (await api.post("/api/commands", json=other)).json()["id"]
    own = (await api.post("/api/commands", json={**other, "target": "a1"})).json()["id"]
    async with bus(Listening(server.port, made["token"]), **PROVIDER) as socket:
        for kind, members, ok in (
            ("send", {"messages": [{"from": "a1", "to": "a2", "body": "x"}]}, True),
            ("send", {"messages": [{"from": "a1", "to": "user", "body": "x"}]}, False),
            ("send", {"messages": [{"from": "a2", "to": "a2", "body": "x"}]}, False),
            ("read", {"messageIds": [1], "agentId": "a2"}, False),
            ("command.update", {"commandId": own, "status": "running"}, True),
            ("command.update", {"commandId": command, "status": "running"}, False),
        ):
            assert (await socket.ask(kind, **members))["ok"] is ok, (kind, members)
    assert len(await refusals(api)) >= 3
