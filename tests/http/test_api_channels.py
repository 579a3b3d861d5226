"""`/api/channels` and `/api/channel-bindings` on a whole server."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest


@pytest.fixture
async def api(api: httpx2.AsyncClient) -> httpx2.AsyncClient:
    """As everywhere, with channel c, and two agents in pool p."""
    await api.post("/api/agents", json={"id": "c", "kind": "channel", "label": "the line"})
    for name in ("a1", "a2"):
        await api.post("/api/agents", json={"id": name, "tags": ["p", "t"]})
    return api


async def bind(api: httpx2.AsyncClient, target: Any, mode: str = "exclusive") -> httpx2.Response:
    return await api.post("/api/channel-bindings", json={"channelId": "c", "target": target, "mode": mode})


async def happen(api: httpx2.AsyncClient, **members: Any) -> httpx2.Response:
    return await api.post("/api/channels/c/events", json={"body": "x", **members})


async def latest(api: httpx2.AsyncClient) -> int:
    return int((await api.get("/api/messages/cursor")).json()["latestId"])


@pytest.mark.spec("CHN-1", "CHN-2", "CHN-5")
async def test_channels_are_listed_with_their_bindings(api: httpx2.AsyncClient) -> None:
    bound = (await bind(api, "pool:p")).json()
    assert {**bound, "id": "", "createdAt": 0} == {
        "id": "",
        "channelId": "c",
        "target": {"type": "pool", "id": "p"},
        "mode": "exclusive",
        "poolAgentId": "a1",
        "createdAt": 0,
    }
    (channel,) = (await api.get("/api/channels")).json()
    assert channel == {
        "id": "c",
        "agentId": "c",
        "label": "the line",
        "status": "online",
        "directions": ["in", "out"],
        "bindings": [bound],
    }
    assert (await api.get("/api/channels/c")).json() == channel
    assert (await api.get("/api/channels/a1")).status_code == 404


@pytest.mark.spec("CHN-6", "CHN-7", "O-07", "O-30")
async def test_bindings_are_made_found_and_deleted(api: httpx2.AsyncClient) -> None:
    first = await bind(api, {"type": "tag", "id": "t"}, "broadcast")
    again = await bind(api, "tag:t", "broadcast")
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    flat = {"channelId": "c", "targetType": "label", "targetId": "l", "mode": "broadcast"}
    other = (await api.post("/api/channel-bindings", json=flat)).json()
    assert (await api.get("/api/channel-bindings")).json() == [first.json(), other]
    assert (await api.get("/api/channel-bindings", params={"channelId": "d"})).json() == []
    assert (await api.delete(f"/api/channel-bindings/{other['id']}")).json() == {"ok": True}
    assert (await api.delete(f"/api/channel-bindings/{other['id']}")).status_code == 404
    assert (await api.get("/api/channel-bindings", params={"channelId": "c"})).json() == [first.json()]


@pytest.mark.spec("M-106", "CHN-6")
@pytest.mark.parametrize(
    "members",
    [
        {"mode": "claimable"},
        {"target": {"type": "group", "id": "g"}},
        {"target": {"type": "agent"}},
        {"target": {"type": "agent", "id": " "}},
        {"target": {"id": "a1"}},
        *(
            {"target": {"type": "agent", "id": address}}
            for address in ("broadcast", "tag:t", "policy:P", "pool:p")
        ),
        {"target": None, "targetType": "agent", "targetId": "orchestrator:h"},
        {"target": "channel:c"},
        {"target": "tag: "},
        {"target": "x" * 241},
        {"target": {"type": "tag", "id": "x" * 237}},
        {"target": ["a1"]},
        {"target": None},
        {"target": None, "targetType": "group", "targetId": "g"},
        {"channelId": None},
        {"channelId": "x" * 121},
    ],
)
async def test_a_binding_that_does_not_fit_is_400(api: httpx2.AsyncClient, members: Any) -> None:
    body = {"channelId": "c", "target": "a1", **members}
    answer = await api.post("/api/channel-bindings", json=body)
    assert answer.status_code == 400
    assert list(answer.json()) == ["error"]
    assert (await api.get("/api/channel-bindings")).json() == []


async def test_a_binding_fits_at_its_limits_and_needs_a_channel(api: httpx2.AsyncClient) -> None:
    assert (await bind(api, "x" * 240)).status_code == 201
    assert (await bind(api, {"type": "tag", "id": "x" * 236})).status_code == 201
    body = {"channelId": "nobody", "target": "a1"}
    assert (await api.post("/api/channel-bindings", json=body)).status_code == 404
    assert (await api.post("/api/channel-bindings", json={**body, "channelId": "a1"})).status_code == 404


@pytest.mark.spec("M-100", "M-101", "CHN-12", "CHN-15", "O-07", "O-31")
async def test_an_event_becomes_a_message_per_binding(api: httpx2.AsyncClient) -> None:
    assert (await happen(api)).status_code == 409
    await bind(api, "a1", "broadcast")
    await bind(api, "tag:t", "broadcast")
    first = await happen(api, idempotencyKey="k", payload={"n": 1}, subject="s")
    assert first.status_code == 201
    answer = first.json()
    assert answer["created"] == 2
    assert [(each["from"], each["to"]) for each in answer["messages"]] == [("c", "a1"), ("c", "tag:t")]
    for each in answer["messages"]:
        assert (each["kind"], each["channel"], each["claimable"]) == ("channel.event", "c", False)
        assert (each["body"], each["payload"], each["subject"]) == ("x", {"n": 1}, "s")
    again = await happen(api, idempotencyKey="k")
    assert again.status_code == 200
    assert again.json() == {**answer, "created": 0}
    received = (await api.get("/api/messages", params={"for": "a1"})).json()
    assert [each["id"] for each in received] == [each["id"] for each in answer["messages"]]


@pytest.mark.spec("M-102", "M-103", "M-104", "M-105", "M-108", "H-04")
async def test_where_an_event_goes_and_where_it_cannot(api: httpx2.AsyncClient) -> None:
    await bind(api, "pool:p")
    assert [each["to"] for each in (await happen(api)).json()["messages"]] == ["a1"]
    await bind(api, "policy:P")
    (queued,) = (await happen(api)).json()["messages"]
    assert (queued["to"], queued["deliveryStatus"]) == ("policy:P", "queued")
    stored = await latest(api)
    for dead_end in ("pool:nobody", "orchestrator:h1"):
        await bind(api, "a1")
        await bind(api, "a2", "broadcast")
        await bind(api, dead_end, "broadcast")
        answer = await happen(api)
        assert answer.status_code == 400
        assert dead_end in answer.json()["error"]
    assert await latest(api) == stored


@pytest.mark.parametrize(
    "members",
    [
        {"body": None},
        {"body": "x" * 100_001},
        {"payload": []},
        {"payload": {"x": "y" * 65_536}},
        {"subject": "x" * 241},
        {"idempotencyKey": "x" * 241},
        {"idempotencyKey": 7},
    ],
)
async def test_an_event_that_does_not_fit_is_400(api: httpx2.AsyncClient, members: Any) -> None:
    await bind(api, "a1")
    assert (await happen(api, **members)).status_code == 400
    assert await latest(api) == 0


async def test_an_event_at_its_limits_is_stored(api: httpx2.AsyncClient) -> None:
    key = "k" * (239 - len((await bind(api, "a1")).json()["id"]))
    assert (await happen(api, idempotencyKey=key + "k")).status_code == 400
    stored = await happen(api, body="x" * 100_000, subject="s" * 240, idempotencyKey=key)
    assert stored.status_code == 201
    number = stored.json()["messages"][0]["id"]
    assert len((await api.get(f"/api/messages/{number}")).json()["body"]) == 100_000
    assert (await api.post("/api/channels/nobody/events", json={"body": "x"})).status_code == 404


@pytest.mark.spec("AUTH-4")
async def test_reading_channels_and_changing_them_are_two_rights(limited_to: Any) -> None:
    async with limited_to("channel:read") as (root, limited):
        await root.post("/api/agents", json={"id": "c", "kind": "channel"})
        bound = (await bind(root, "a1")).json()["id"]
        for path in ("/api/channels", "/api/channels/c", "/api/channel-bindings"):
            assert (await limited.get(path)).status_code == 200
        assert (await bind(limited, "a2")).status_code == 403
        assert (await happen(limited)).status_code == 403
        assert (await limited.delete(f"/api/channel-bindings/{bound}")).status_code == 403
        assert (await root.get("/api/channel-bindings")).json()[0]["id"] == bound
