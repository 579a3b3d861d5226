"""Reactions, owed answers, attachments, broadcasts and the filters of activity, on a whole server."""

from typing import Any

import httpx2
import pytest


@pytest.fixture
async def api(api: httpx2.AsyncClient) -> httpx2.AsyncClient:
    """As everywhere, with two agents registered."""
    for name in ("a1", "a2"):
        await api.post("/api/agents", json={"id": name})
    return api


async def send(api: httpx2.AsyncClient, **members: Any) -> httpx2.Response:
    return await api.post("/api/messages", json={"from": "a1", "to": "a2", "body": "x", **members})


async def test_reactions(api: httpx2.AsyncClient) -> None:
    number = (await send(api)).json()["id"]
    path = f"/api/messages/{number}/reactions"
    first = await api.post(path, json={"agentId": "a2", "emoji": "👍"})
    again = await api.post(path, json={"agentId": "a2", "emoji": "👍"})
    assert (first.status_code, again.status_code) == (201, 200)
    (reaction,) = first.json()["reactions"]
    assert (reaction["agentId"], reaction["emoji"], type(reaction["at"])) == ("a2", "👍", int)
    assert again.json() == first.json() == (await api.get(f"/api/messages/{number}")).json()
    gone = await api.post(path, json={"agentId": "a2", "emoji": "👍", "remove": True})
    assert (gone.status_code, "reactions" in gone.json()) == (200, False)
    assert (
        await api.post("/api/messages/99/reactions", json={"agentId": "a", "emoji": "x"})
    ).status_code == 404
    for wrong in (
        {"agentId": "a2"},
        {"emoji": "x"},
        {"agentId": "a2", "emoji": "x" * 41},
        {"agentId": "a2", "emoji": "👍" * 21},
        {"agentId": "a2", "emoji": "x", "remove": "yes"},
    ):
        assert (await api.post(path, json=wrong)).status_code == 400, wrong
    assert (await api.post(path, json={"agentId": "a2", "emoji": "👍" * 20})).status_code == 201


async def test_attachments_within_their_limits(api: httpx2.AsyncClient) -> None:
    most = {"id": "i" * 160, "name": "n" * 240, "size": 0, "digest": "d" * 160, "kind": "k" * 80}
    answer = await send(api, attachments=[most] * 20)
    assert answer.status_code == 201
    found = (await api.get(f"/api/messages/{answer.json()['id']}")).json()
    assert found["attachments"] == [most] * 20
    for wrong in (
        [most] * 21,
        "art_1",
        ["art_1"],
        [{}],
        [{"id": ""}],
        *([{**most, name: value + "x"}] for name, value in most.items() if isinstance(value, str)),
        [{**most, "size": -1}],
        [{**most, "size": "7"}],
        [{**most, "size": None}],
    ):
        answer = await send(api, attachments=wrong)
        assert answer.status_code == 400, wrong
        assert "attachments" in answer.json()["error"]
    assert "attachments" not in (await send(api)).json()


async def test_reply_obligations(api: httpx2.AsyncClient) -> None:
    number = (await send(api, payload={"replyExpected": True})).json()["id"]
    await api.post(f"/api/messages/{number}/read", json={"agentId": "a2"})
    (owed,) = (await api.get("/api/agents/a2/reply-obligations")).json()
    assert (owed["messageId"], owed["from"], owed["kind"]) == (number, "a1", "chat")
    await send(api, **{"from": "a2", "to": None, "replyTo": number})
    assert (await api.get("/api/agents/a2/reply-obligations")).json() == []
    assert (await api.get("/api/agents/none/reply-obligations")).status_code == 404


@pytest.mark.spec("MSG-48", "O-53")
async def test_a_broadcast_of_the_system_reaches_everybody(api: httpx2.AsyncClient) -> None:
    answer = await api.post("/api/system/broadcast", json={"body": "going down at noon"})
    assert answer.status_code == 201
    message = answer.json()
    assert (message["kind"], message["to"], message["from"]) == ("system", "broadcast", "system")
    for name in ("a1", "a2"):
        assert (await api.get("/api/messages", params={"for": name})).json() == [message]
    named = await api.post("/api/system/broadcast", json={"body": "b", "subject": "s", "from": "ops"})
    assert (named.json()["from"], named.json()["subject"]) == ("ops", "s")
    most = {"body": "x" * 100_000, "subject": "x" * 240, "from": "x" * 240}
    assert (await api.post("/api/system/broadcast", json=most)).status_code == 201
    for name, value in most.items():
        answer = await api.post("/api/system/broadcast", json={**most, name: value + "x"})
        assert answer.status_code == 400, name
    assert (await api.post("/api/system/broadcast", json={})).status_code == 400


@pytest.mark.spec("ACT-1")
async def test_activity_is_filtered(api: httpx2.AsyncClient) -> None:
    number = (await send(api)).json()["id"]
    note = {"clientId": "c", "kind": "operator", "title": "t", "view": "chat", "messageId": 77}
    kept = (await api.post("/api/activity", json=note)).json()

    async def found(**query: Any) -> list[str]:
        return [each["clientId"] for each in (await api.get("/api/activity", params=query)).json()]

    assert await found(kind="operator") == ["c"]
    assert await found(view="chat") == ["c"]
    assert await found(messageId=77) == ["c"]
    assert await found(messageId=number) == [f"server-message-{number}"]
    assert await found(kind="operator", view="messages") == []
    assert await found(kind="operator", before=kept["id"]) == []
    for wrong in ({"kind": "dance"}, {"view": "x" * 81}, {"messageId": 0}, {"messageId": "x"}):
        assert (await api.get("/api/activity", params=wrong)).status_code == 400
