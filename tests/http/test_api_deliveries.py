"""The delivery ladder over HTTP, on a whole server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx2
import pytest
import trio


@pytest.fixture
async def api(api: httpx2.AsyncClient) -> httpx2.AsyncClient:
    """As everywhere, with two agents registered."""
    for name in ("a1", "a2"):
        await api.post("/api/agents", json={"id": name, "instanceId": f"{name}-s1", "tags": ["t"]})
    return api


async def send(api: httpx2.AsyncClient, **members: Any) -> int:
    answer = await api.post("/api/messages", json={"from": "a1", "to": "a2", "body": "x", **members})
    assert answer.status_code == 201, answer.text
    return int(answer.json()["id"])


async def take(api: httpx2.AsyncClient, agent: str = "a2", **members: Any) -> list[dict[str, Any]]:
    answer = await api.post(f"/api/agents/{agent}/deliveries", json=members)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["deliveries"])


async def ack(
    api: httpx2.AsyncClient, handed: dict[str, Any], outcome: str = "confirmed", **more: Any
) -> Any:
    members = {"messageId": handed["messageId"], "token": handed["token"], "outcome": outcome, **more}
    return await api.post("/api/agents/a2/deliveries/ack", json={"acks": [members]})


async def progress(api: httpx2.AsyncClient, number: int, **query: Any) -> list[dict[str, Any]]:
    answer = await api.get(f"/api/messages/{number}/deliveries", params=query)
    assert answer.status_code == 200, answer.text
    return list(answer.json())


async def kill(api: httpx2.AsyncClient, number: int) -> None:
    """Make a dead letter of it."""
    for _ in range(2):
        (handed,) = await take(api)
        assert handed["messageId"] == number
        await ack(api, handed, "died", error="it ended", retryMs=0)


async def test_a_message_is_taken_settled_and_seen_to_be(api: httpx2.AsyncClient) -> None:
    number = await send(api)
    (handed,) = await take(api, instanceId="a2-s1", holding=[])
    assert handed.keys() == {"messageId", "token", "attempt", "handedAt", "visibleUntil", "message"}
    assert (handed["message"]["body"], handed["visibleUntil"] - handed["handedAt"]) == ("x", 60_000)
    (found,) = await progress(api, number)
    assert (found["agentId"], found["rung"], found["attempt"]) == ("a2", "handed", 1)
    answer = await ack(api, handed, evidence="turn 1")
    assert answer.json() == {"results": [{"messageId": number, "ok": True, "rung": "confirmed"}]}
    (found,) = await progress(api, number)
    assert (found["rung"], found["evidence"]) == ("confirmed", "turn 1")
    assert (await api.get("/api/agents/a2/deliveries")).json() == [found]
    assert (await api.get(f"/api/messages/{number}")).json()["readBy"] == ["a2"]


async def test_a_stale_token_is_refused_alone_with_409_and_among_others_by_its_item(
    api: httpx2.AsyncClient,
) -> None:
    await send(api)
    (first,) = await take(api, instanceId="a2-s1", holding=[])
    (second,) = await take(api, instanceId="a2-s1", holding=[])
    answer = await ack(api, first)
    assert answer.status_code == 409
    assert "stale" in answer.json()["error"]
    acks = [
        {"messageId": each["messageId"], "token": each["token"], "outcome": "confirmed"}
        for each in (first, second)
    ]
    results = (await api.post("/api/agents/a2/deliveries/ack", json={"acks": acks})).json()["results"]
    assert [(each["ok"], each.get("error")) for each in results] == [(False, "stale"), (True, None)]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/api/agents/nobody/deliveries", {}, 404),
        (
            "/api/agents/nobody/deliveries/ack",
            {"acks": [{"messageId": 1, "token": 1, "outcome": "busy"}]},
            404,
        ),
        ("/api/agents/a2/deliveries", {"instanceId": "other"}, 409),
        ("/api/agents/a2/deliveries", {"limit": 0}, 400),
        ("/api/agents/a2/deliveries", {"limit": 100}, 200),
        ("/api/agents/a2/deliveries", {"limit": 101}, 400),
        ("/api/agents/a2/deliveries", {"bytes": 262_144}, 200),
        ("/api/agents/a2/deliveries", {"bytes": 262_145}, 400),
        ("/api/agents/a2/deliveries", {"waitMs": 25_001}, 400),
        ("/api/agents/a2/deliveries", {"instanceId": "x" * 161}, 400),
        ("/api/agents/a2/deliveries", {"holding": [0]}, 400),
        ("/api/agents/a2/deliveries", {"holding": list(range(1, 1001))}, 200),
        ("/api/agents/a2/deliveries", {"holding": list(range(1, 1002))}, 400),
        ("/api/agents/a2/deliveries/ack", {"acks": []}, 400),
        (
            "/api/agents/a2/deliveries/ack",
            {"acks": [{"messageId": 1, "token": 1, "outcome": "delivered"}]},
            400,
        ),
        (
            "/api/agents/a2/deliveries/ack",
            {"acks": [{"messageId": 9, "token": 1, "outcome": "busy"}] * 500},
            200,
        ),
        (
            "/api/agents/a2/deliveries/ack",
            {"acks": [{"messageId": 9, "token": 1, "outcome": "busy"}] * 501},
            400,
        ),
        ("/api/messages/99/redeliver", {}, 404),
        ("/api/messages/x/redeliver", {}, 400),
    ],
)
async def test_what_does_not_fit_is_refused(
    api: httpx2.AsyncClient, path: str, body: Any, status: int
) -> None:
    answer = await api.post(path, json=body)
    assert answer.status_code == status, answer.text
    assert status == 200 or answer.json()["error"]


async def test_dead_letters_are_listed_counted_and_redelivered(api: httpx2.AsyncClient) -> None:
    numbers = []
    for body in ("one", "two"):
        numbers.append(await send(api, body=body))
        await kill(api, numbers[-1])
    letters = (await api.get("/api/dead-letters")).json()
    assert [(each["messageId"], each["rung"], each["message"]["body"]) for each in letters] == [
        (numbers[1], "dead", "two"),
        (numbers[0], "dead", "one"),
    ]
    assert letters[0]["error"] == "it ended"
    older = {"before": numbers[1], "agentId": "a2"}
    assert [
        each["messageId"] for each in (await api.get("/api/dead-letters", params=older)).json()
    ] == numbers[:1]
    assert (await api.get("/api/dead-letters", params={"agentId": "a1"})).json() == []
    assert (await api.get("/api/dead-letters", params={"limit": 501})).status_code == 400
    answer = await api.post(f"/api/messages/{numbers[0]}/redeliver")
    assert answer.json() == {"redelivered": ["a2"]}
    answer = await api.post(f"/api/messages/{numbers[0]}/redeliver", json={"agentId": "a2"})
    assert answer.status_code == 409
    assert "not dead" in answer.json()["error"]
    (again,) = await take(api)
    assert (again["messageId"], again["attempt"]) == (numbers[0], 1)
    with trio.fail_after(10):
        while (await api.get("/api/health")).json()["counts"]["deadLetters"] != 1:
            await trio.sleep(0.05)


async def test_a_take_waits_for_something_to_take(api: httpx2.AsyncClient) -> None:
    taken: list[dict[str, Any]] = []

    async def wait() -> None:
        taken.extend(await take(api, waitMs=25_000))

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            number = await send(api, to="tag:t")
        assert [each["messageId"] for each in taken] == [number]
        await ack(api, taken[0], "returned")
        (handed,) = await take(api, waitMs=25_000)
        await ack(api, handed, "refused", retryMs=300)
        assert len(await take(api, waitMs=25_000)) == 1
    assert await take(api, waitMs=50) == []


async def test_a_taker_who_has_left_is_handed_nothing(api: httpx2.AsyncClient) -> None:
    for _ in range(3):
        with pytest.raises(httpx2.TimeoutException):
            await api.post("/api/agents/a2/deliveries", json={"waitMs": 25_000}, timeout=0.2)
    number = await send(api)
    (handed,) = await take(api, waitMs=1_000)
    assert (handed["messageId"], handed["token"], handed["attempt"]) == (number, 1, 1)


async def test_a_sender_waits_for_a_rung(api: httpx2.AsyncClient) -> None:
    number = await send(api, to="tag:t", **{"from": "b1"})
    reached: list[Any] = []

    async def wait(**query: Any) -> None:
        reached.append((query, await progress(api, number, waitMs=25_000, **query)))

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: wait(rung="confirmed"))
            nursery.start_soon(lambda: wait(rung="replied", any="1"))
            (first,), (second,) = await take(api, "a1"), await take(api, "a2")
            assert (await progress(api, number, rung="handed", waitMs=25_000))[0]["rung"] == "handed"
            await ack(api, second)
            await api.post(f"/api/messages/{number}/read", json={"agentId": "a1"})
            await send(api, **{"from": "a2", "to": "b1"}, replyTo=number)
    assert {rung["rung"]: [each["rung"] for each in found] for rung, found in reached} == {
        "confirmed": ["confirmed", "confirmed"],
        "replied": ["confirmed", "replied"],
    }
    assert first["messageId"] == number
    assert [each["rung"] for each in await progress(api, number, rung="replied", waitMs=50)] == [
        "confirmed",
        "replied",
    ]


async def test_nobody_waits_for_what_is_dead_or_for_more_than_one_worker(api: httpx2.AsyncClient) -> None:
    with trio.fail_after(10):
        number = await send(api)
        await kill(api, number)
        (found,) = await progress(api, number, rung="confirmed", waitMs=25_000)
        assert found["rung"] == "dead"
        work = await send(api, to="tag:t", claimable=True, **{"from": "b1"})
        (handed,) = await take(api)
        await ack(api, handed)
        found = await progress(api, work, rung="confirmed", waitMs=25_000)
        assert sorted(each["rung"] for each in found) == ["confirmed", "routed"]
    assert (await api.get("/api/messages/99/deliveries")).status_code == 404
    assert (
        await api.get(f"/api/messages/{work}/deliveries", params={"rung": "delivered"})
    ).status_code == 400
    assert (await api.get(f"/api/messages/{work}/deliveries", params={"waitMs": 25_001})).status_code == 400


async def test_the_scopes_are_those_of_messages(limited_to: Callable[..., Any]) -> None:
    async with limited_to("message:send") as (root, limited):
        await root.post("/api/agents", json={"id": "a2"})
        assert (await limited.post("/api/agents/a2/deliveries", json={})).status_code == 403
        assert (await limited.get("/api/dead-letters")).status_code == 403
        assert (await limited.post("/api/messages/9/redeliver")).status_code == 404
    async with limited_to("message:read") as (_, limited):
        assert (await limited.post("/api/messages/9/redeliver")).status_code == 403
        assert (await limited.get("/api/dead-letters")).status_code == 200
