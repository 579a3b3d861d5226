"""Mail for policies on a whole server."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import orjson
import pytest
import trio
from rawhttp import serving

from relay.actors import open_system
from relay.fleet import Fleet, open_fleet
from relay.http.api import table
from relay.http.auth import ROOT, Authenticator
from relay.http.edge import Edge
from relay.http.guard import Guard
from relay.http.upstream import open_upstream
from relay.store import open_store


async def send(api: httpx2.AsyncClient, **members: Any) -> httpx2.Response:
    return await api.post("/api/messages", json={"from": "u", "to": "policy:P", "body": "x", **members})


async def listed(api: httpx2.AsyncClient, **query: Any) -> httpx2.Response:
    return await api.get("/api/messages/queued", params=query)


@pytest.mark.spec("M-080", "M-082", "MSG-35")
async def test_mail_for_a_policy_without_an_agent_waits(api: httpx2.AsyncClient) -> None:
    answer = await send(api, maxAgeSeconds=60)
    assert answer.status_code == 201
    message = answer.json()
    assert message["deliveryStatus"] == "queued"
    status = (await api.get(f"/api/messages/{message['id']}/status")).json()
    assert status == {
        "id": message["id"],
        "to": "policy:P",
        "deliveryStatus": "queued",
        "queuedAt": message["createdAt"],
        "expiresAt": message["createdAt"] + 60_000,
        "readBy": [],
    }


@pytest.mark.spec("M-081", "MSG-34", "O-05", "O-22")
async def test_what_waits_is_listed(api: httpx2.AsyncClient) -> None:
    numbers = [(await send(api)).json()["id"] for _ in range(3)]
    for name in ("policy:P", "P", " P "):
        answer = await listed(api, **{"for": name})
        assert answer.status_code == 200
        assert [message["id"] for message in answer.json()] == numbers
    assert [m["id"] for m in (await listed(api, **{"for": "P", "limit": 1})).json()] == numbers[:1]
    assert len((await listed(api, **{"for": "P", "limit": 500})).json()) == 3
    assert (await listed(api, **{"for": "x" * 240})).json() == []


@pytest.mark.spec("M-081", "O-05")
@pytest.mark.parametrize(
    "query",
    [
        {},
        {"for": ""},
        {"for": "  "},
        {"for": "x" * 241},
        {"for": "P", "limit": 0},
        {"for": "P", "limit": 501},
        {"for": "P", "limit": "1.5"},
        {"for": "P", "limit": ""},
    ],
)
async def test_a_listing_that_makes_no_sense_is_400(api: httpx2.AsyncClient, query: Any) -> None:
    answer = await listed(api, **query)
    assert answer.status_code == 400
    assert list(answer.json()) == ["error"]


@pytest.mark.spec("MSG-34")
async def test_listing_needs_the_right_to_read(limited_to: Any) -> None:
    async with limited_to("message:send") as (_, limited):
        assert (await listed(limited, **{"for": "P"})).status_code == 403
    async with limited_to("message:read") as (_, limited):
        assert (await listed(limited, **{"for": "P"})).status_code == 200


@pytest.mark.spec("M-063", "MSG-30")
@pytest.mark.parametrize("age", [0, 1, 2_592_000])
async def test_how_long_mail_may_wait(api: httpx2.AsyncClient, age: int) -> None:
    message = (await send(api, maxAgeSeconds=age)).json()
    status = (await api.get(f"/api/messages/{message['id']}/status")).json()
    assert status["expiresAt"] == message["createdAt"] + 1000 * age


@pytest.mark.spec("M-087", "MSG-43", "O-20")
async def test_a_maintenance_run_tells_what_expired(api: httpx2.AsyncClient) -> None:
    number = (await send(api, maxAgeSeconds=0)).json()["id"]
    kept = (await send(api)).json()["id"]
    assert (await api.post("/api/system/reap")).json()["expiredQueuedMessageIds"] == [number]
    assert (await api.post("/api/system/reap")).json()["expiredQueuedMessageIds"] == []
    status = (await api.get(f"/api/messages/{number}/status")).json()
    assert status["deliveryStatus"] == "expired"
    assert status["expiredAt"] >= status["expiresAt"]
    assert [m["id"] for m in (await listed(api, **{"for": "P"})).json()] == [kept]


@pytest.mark.spec("M-085", "AGT-5")
async def test_a_registration_for_a_policy_nobody_started_is_a_registration(api: httpx2.AsyncClient) -> None:
    number = (await send(api)).json()["id"]
    card = {"id": "w", "meta": {"policyName": "P", "spawnRequestId": "R"}}
    assert (await api.post("/api/agents", json=card)).status_code == 201
    assert (await api.get(f"/api/messages/{number}")).json()["deliveryStatus"] == "queued"


@asynccontextmanager
async def with_fleet() -> AsyncIterator[tuple[Fleet, httpx2.AsyncClient]]:
    """A server whose policies the test can start: there is no route for that."""
    async with (
        open_system() as system,
        open_store(None, system) as store,
        open_fleet(system, store) as fleet,
        open_upstream("root") as upstream,
    ):
        edge = Edge(fleet, table(), Authenticator({"root": ROOT}), upstream, answer_within=10.0)
        async with serving(Guard(edge)) as port:
            headers = {"X-Agent-Relay-Token": "root"}
            async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers) as api:
                yield fleet, api


async def heard(response: httpx2.Response, last: int) -> list[int]:
    """The messages that the stream announces, up to `last`."""
    found: list[int] = []
    kind = ""
    with trio.fail_after(10):
        async for line in response.aiter_lines():
            name, _, value = line.partition(": ")
            if name == "event":
                kind = value
            elif name == "data" and kind == "message.new":
                found.append(orjson.loads(value)["id"])
                if found[-1] == last:
                    break
    return found


@pytest.mark.spec("M-083", "M-086", "M-090", "M-091", "MSG-42", "M-I30")
async def test_the_streams_of_an_agent_hear_of_its_mail_and_no_other() -> None:
    async with with_fleet() as (_, api):
        await api.post("/api/orchestrators", json={"id": "h1", "hostname": "h", "baseDir": "/base"})
        await api.put("/api/spawn-policy/P", json={"orchestratorId": "h1", "provider": "claude"})
        started = (await api.post("/api/spawn-policy/P/start")).json()["command"]
        for name in ("v", "w"):
            await api.post("/api/agents", json={"id": name})
        waiting = [(await send(api)).json()["id"] for _ in range(3)]
        async with (
            api.stream("GET", "/api/events", params={"agentId": "w"}) as of_w,
            api.stream("GET", "/api/events", params={"agentId": "v"}) as of_v,
        ):
            card = {"id": "w", "meta": {"policyName": "P", "spawnRequestId": started["correlationId"]}}
            assert (await api.post("/api/agents", json=card)).status_code == 200
            direct = (await send(api)).json()
            assert (direct["deliveryStatus"], direct["resolvedToAgent"]) == ("available", "w")
            last = (await send(api, to="broadcast")).json()["id"]
            assert await heard(of_w, last) == [*waiting, direct["id"], last]
            assert await heard(of_v, last) == [last]
        polled = (await api.get("/api/messages", params={"for": "w", "unread": "1"})).json()
        assert [message["id"] for message in polled] == [*waiting, direct["id"], last]
        assert {message["resolvedToAgent"] for message in polled[:-1]} == {"w"}


@pytest.mark.spec("MSG-29", "M-I5")
async def test_a_maintenance_run_leaves_a_claim_that_is_not_over(api: httpx2.AsyncClient) -> None:
    number = (await send(api, to="broadcast", claimable=True)).json()["id"]
    await api.post("/api/agents", json={"id": "a1"})
    assert (await api.post(f"/api/messages/{number}/claim", json={"agentId": "a1"})).status_code == 200
    assert (await api.post("/api/system/reap")).json()["releasedMessageIds"] == []
    assert (await api.get(f"/api/messages/{number}")).json()["claimedBy"] == "a1"


@pytest.mark.spec("M-092", "MSG-47")
async def test_a_start_alone_lets_no_mail_out(api: httpx2.AsyncClient) -> None:
    await api.post("/api/orchestrators", json={"id": "h1", "hostname": "h", "baseDir": "/base"})
    assert (
        await api.put("/api/spawn-policy/P", json={"orchestratorId": "h1", "provider": "claude"})
    ).status_code == 201
    number = (await send(api)).json()["id"]
    assert (await api.post("/api/spawn-policy/P/start")).status_code == 202
    assert (await api.get(f"/api/messages/{number}/status")).json()["deliveryStatus"] == "queued"
    assert [message["id"] for message in (await listed(api, **{"for": "P"})).json()] == [number]
