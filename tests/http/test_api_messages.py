"""`/api/messages` and `/api/activity` on a whole server."""

from typing import Any

import httpx2
import pytest
import trio


@pytest.fixture
async def api(api: httpx2.AsyncClient) -> httpx2.AsyncClient:
    """As everywhere, with two agents registered."""
    for name in ("a1", "a2"):
        await api.post("/api/agents", json={"id": name, "tags": ["t"]})
    return api


async def send(api: httpx2.AsyncClient, **members: Any) -> httpx2.Response:
    return await api.post("/api/messages", json={"from": "a1", "to": "a2", "body": "x", **members})


@pytest.mark.spec("M-050", "M-070", "O-07")
async def test_a_message_is_stored_and_found(api: httpx2.AsyncClient) -> None:
    answer = await send(api)
    assert answer.status_code == 201
    message = answer.json()
    assert (await api.get(f"/api/messages/{message['id']}")).json() == message
    assert (await api.get("/api/messages/cursor")).json() == {"latestId": message["id"]}
    assert (await api.get("/api/messages", params={"for": "a2"})).json() == [message]
    assert (await api.get("/api/messages", params={"for": "a1"})).json() == []
    assert (await api.get("/api/messages/999")).status_code == 404


@pytest.mark.spec("M-060", "M-061", "MSG-15")
async def test_a_repeated_key_is_answered_with_the_first_message_and_200(api: httpx2.AsyncClient) -> None:
    answers: list[httpx2.Response] = []

    async def one() -> None:
        answers.append(await send(api, idempotencyKey="k"))

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(one)
    assert sorted(answer.status_code for answer in answers) == [200] * 19 + [201]
    assert len({answer.json()["id"] for answer in answers}) == 1


@pytest.mark.spec("M-051", "M-052", "M-053")
async def test_a_direct_message_to_an_offline_agent_is_422(api: httpx2.AsyncClient) -> None:
    await api.patch("/api/agents/a2/status", json={"status": "offline"})
    assert (await send(api)).status_code == 422
    assert (await api.get("/api/messages/cursor")).json() == {"latestId": 0}
    assert (await send(api, kind="system")).status_code == 201
    await api.patch("/api/agents/a2/status", json={"status": "stale"})
    assert (await send(api)).status_code == 201


@pytest.mark.spec("M-056", "M-059", "M-062", "M-063", "M-064")
@pytest.mark.parametrize(
    "members",
    [
        {"to": None},
        {"to": None, "replyTo": 99},
        {"from": ""},
        {"body": None},
        {"body": "x" * 100_001},
        {"idempotencyKey": "x" * 241},
        {"channel": "x" * 121},
        {"maxAgeSeconds": -1},
        {"maxAgeSeconds": 2_592_001},
        {"maxAgeSeconds": 1.5},
        {"maxAgeSeconds": "60"},
        {"maxAgeSeconds": None},
        {"kind": "gossip"},
        {"claimable": "yes"},
    ],
)
async def test_a_message_that_does_not_fit_is_400(api: httpx2.AsyncClient, members: Any) -> None:
    answer = await send(api, **members)
    assert answer.status_code == 400
    assert list(answer.json()) == ["error"]
    assert (await api.get("/api/messages/cursor")).json() == {"latestId": 0}


@pytest.mark.spec("M-057", "MSG-24")
async def test_a_reply_finds_its_receiver_and_its_thread(api: httpx2.AsyncClient) -> None:
    first = (await send(api)).json()
    reply = (await api.post("/api/messages", json={"from": "a2", "replyTo": first["id"], "body": "y"})).json()
    assert reply["to"] == "a1"
    thread = (await api.get(f"/api/messages/{reply['id']}/thread")).json()
    assert [message["id"] for message in thread] == [first["id"], reply["id"]]
    assert (await api.get("/api/messages/999/thread")).status_code == 404


@pytest.mark.spec("M-082", "MSG-25", "MSG-35")
async def test_reading_marks_a_message_and_shows_in_its_status(api: httpx2.AsyncClient) -> None:
    number = (await send(api)).json()["id"]
    for _ in range(2):
        assert (await api.post(f"/api/messages/{number}/read", json={"agentId": "a2"})).json() == {"ok": True}
    status = (await api.get(f"/api/messages/{number}/status")).json()
    assert (status["id"], status["to"], status["readBy"]) == (number, "a2", ["a2"])
    assert (await api.get("/api/messages", params={"for": "a2", "unread": "1"})).json() == []
    assert (await api.post("/api/messages/999/read", json={"agentId": "a2"})).status_code == 404
    assert (await api.post(f"/api/messages/{number}/read", json={})).status_code == 400
    assert (await api.get("/api/messages/999/status")).status_code == 404


@pytest.mark.spec("M-065", "M-066", "M-068", "O-19")
async def test_one_agent_wins_a_claim_and_renews_it(api: httpx2.AsyncClient) -> None:
    number = (await send(api, **{"from": "u", "to": "tag:t", "claimable": True})).json()["id"]
    answers: dict[str, httpx2.Response] = {}

    async def claim(agent: str) -> None:
        answers[agent] = await api.post(f"/api/messages/{number}/claim", json={"agentId": agent})

    async with trio.open_nursery() as nursery:
        nursery.start_soon(claim, "a1")
        nursery.start_soon(claim, "a2")
    assert sorted(answer.status_code for answer in answers.values()) == [200, 409]
    winner, loser = sorted(answers, key=lambda agent: answers[agent].status_code)
    won = answers[winner].json()
    assert won["ok"] is True
    renewed = await api.post(f"/api/messages/{number}/claim/renew", json={"agentId": winner})
    assert renewed.json()["claimExpiresAt"] >= won["claimExpiresAt"]
    assert (await api.post(f"/api/messages/{number}/claim/renew", json={"agentId": loser})).status_code == 409


@pytest.mark.spec("M-068", "MSG-29b", "O-19")
async def test_claims_that_make_no_sense_are_refused(api: httpx2.AsyncClient) -> None:
    plain = (await send(api)).json()["id"]
    mine = (await send(api, **{"from": "u", "claimable": True})).json()["id"]
    assert (await api.post(f"/api/messages/{plain}/claim", json={"agentId": "a2"})).status_code == 409
    assert (await api.post(f"/api/messages/{mine}/claim", json={"agentId": "a1"})).status_code == 403
    assert (await api.post("/api/messages/999/claim", json={"agentId": "a1"})).status_code == 404


@pytest.mark.spec("M-069")
async def test_a_deleted_message_is_unknown(api: httpx2.AsyncClient) -> None:
    number = (await send(api)).json()["id"]
    assert (await api.delete(f"/api/messages/{number}")).json() == {"ok": True}
    assert (await api.get(f"/api/messages/{number}")).status_code == 404
    assert (await api.delete(f"/api/messages/{number}")).status_code == 404


@pytest.mark.spec("ACT-2", "O-07")
async def test_activity_of_one_client_id_is_one_record(api: httpx2.AsyncClient) -> None:
    note = {"clientId": "n1", "kind": "operator", "title": "looked"}
    first = await api.post("/api/activity", json=note)
    again = await api.post("/api/activity", json=note)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    listed = (await api.get("/api/activity", params={"limit": 1})).json()
    assert [record["clientId"] for record in listed] == ["n1"]
    older = (await api.get("/api/activity", params={"before": listed[0]["id"]})).json()
    assert "n1" not in [record["clientId"] for record in older]
    assert (await api.post("/api/activity", json={**note, "kind": "gossip"})).status_code == 400
