"""`/api/pairs` on a whole server."""

from typing import Any

import httpx2
import pytest
from rawhttp import serving

from relay import wire
from relay.actors import open_system
from relay.fleet import open_fleet
from relay.fleet.integrations import Integrations
from relay.http.api import table
from relay.http.auth import ROOT, Authenticator, Principal
from relay.http.edge import Edge
from relay.http.guard import Guard
from relay.http.upstream import open_upstream
from relay.store import open_store


@pytest.fixture
async def api(api: httpx2.AsyncClient) -> httpx2.AsyncClient:
    """As everywhere, with three agents registered."""
    for name in ("a1", "a2", "a3"):
        await api.post("/api/agents", json={"id": name})
    return api


async def propose(api: httpx2.AsyncClient, **members: Any) -> httpx2.Response:
    return await api.post("/api/pairs", json={"from": "a1", "to": "a2", **members})


@pytest.mark.spec("PAR-1", "PAR-2", "PAR-3", "PAR-4")
async def test_two_agents_pair_up_talk_and_part(api: httpx2.AsyncClient) -> None:
    answer = await propose(api, topic="tests")
    assert answer.status_code == 201
    pair = answer.json()
    path = f"/api/pairs/{pair['id']}"
    assert (pair["status"], pair["ttlSeconds"]) == ("pending", 900)
    assert pair["expiresAt"] == pair["createdAt"] + 900_000
    assert (await api.get(path)).json() == pair
    (invitation,) = (await api.get("/api/messages", params={"for": "a2"})).json()
    assert (invitation["id"], invitation["kind"]) == (pair["messageId"], "pair")
    assert invitation["payload"]["pairId"] == pair["id"]
    accepted = await api.post(f"{path}/accept", json={"agentId": "a2"})
    assert (accepted.status_code, accepted.json()["status"]) == (200, "active")
    said = {"from": "a2", "body": "hello", "idempotencyKey": "k"}
    first = await api.post(f"{path}/messages", json=said)
    again = await api.post(f"{path}/messages", json=said)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    assert (first.json()["to"], first.json()["kind"]) == ("a1", "pair")
    ended = await api.post(f"{path}/end", json={"agentId": "a1"})
    assert (ended.status_code, ended.json()["status"], ended.json()["endedBy"]) == (200, "ended", "a1")
    for verb, body in (
        ("accept", {"agentId": "a2"}),
        ("reject", {"agentId": "a2"}),
        ("end", {"agentId": "a1"}),
    ):
        assert (await api.post(f"{path}/{verb}", json=body)).status_code == 409
    assert (await api.post(f"{path}/messages", json=said)).status_code == 409


@pytest.mark.spec("PAR-2")
async def test_what_is_no_proposal(api: httpx2.AsyncClient) -> None:
    for wrong in (
        {"to": "a1"},
        {"to": "nobody"},
        {"from": "nobody"},
        {"to": ""},
        {"ttlSeconds": 0},
        {"ttlSeconds": 86_401},
        {"ttlSeconds": None},
        {"topic": "x" * 241},
        {"from": 7},
    ):
        assert (await propose(api, **wrong)).status_code == 400, wrong
    for right in ({"ttlSeconds": 1}, {"ttlSeconds": 86_400}, {"topic": "x" * 240}):
        assert (await propose(api, **right)).status_code == 201, right
    await api.patch("/api/agents/a2/status", json={"status": "offline"})
    assert (await propose(api)).status_code == 422


@pytest.mark.spec("PAR-3", "PAR-4")
async def test_checks_come_in_order(api: httpx2.AsyncClient) -> None:
    path = f"/api/pairs/{(await propose(api)).json()['id']}"
    for verb in ("accept", "reject", "end"):
        assert (await api.post(f"/api/pairs/none/{verb}", json={})).status_code == 400
        assert (await api.post(f"/api/pairs/none/{verb}", json={"agentId": "a2"})).status_code == 404
        assert (await api.post(f"{path}/{verb}", json={"agentId": "a3"})).status_code == 403
    assert (await api.post("/api/pairs/none/messages", json={"from": "a1", "body": "x"})).status_code == 404
    assert (await api.post(f"{path}/messages", json={"from": "a1"})).status_code == 400
    assert (await api.post(f"{path}/messages", json={"from": "a3", "body": "x"})).status_code == 403
    assert (await api.post(f"{path}/messages", json={"from": "a1", "body": "x"})).status_code == 409
    assert (await api.get("/api/pairs/none")).status_code == 404


async def test_pairs_are_found(api: httpx2.AsyncClient) -> None:
    first = (await propose(api)).json()
    second = (await propose(api, to="a3")).json()
    await api.post(f"/api/pairs/{first['id']}/accept", json={"agentId": "a2"})

    async def found(**query: Any) -> list[str]:
        return [pair["id"] for pair in (await api.get("/api/pairs", params=query)).json()]

    assert set(await found()) == {first["id"], second["id"]}
    assert await found(status="active") == [first["id"]]
    assert await found(agentId="a3") == [second["id"]]
    assert len(await found(limit=1)) == 1
    for wrong in ({"status": "over"}, {"limit": 0}, {"limit": 501}):
        assert (await api.get("/api/pairs", params=wrong)).status_code == 400


async def test_scopes(limited_to: Any) -> None:
    async with limited_to("pair:read") as (root, limited):
        assert (await limited.get("/api/pairs")).status_code == 200
        for path, body in (
            ("", {"from": "a1", "to": "a2"}),
            ("/p/accept", {"agentId": "a"}),
            ("/p/messages", {"from": "a1", "body": "x"}),
        ):
            assert (await limited.post(f"/api/pairs{path}", json=body)).status_code == 403
            assert (await root.post(f"/api/pairs{path}", json=body)).status_code in {400, 404}


async def test_whoever_has_a_name_speaks_in_no_other() -> None:
    """In pairs, reactions and broadcasts."""
    scopes = frozenset({"pair:write", "message:send"})
    named = Principal("integration:a1", scopes, integration="a1")
    settings = wire.IntegrationSettings(name="a1", secret="secret-of-a1-which-is-long")
    async with (
        open_system() as system,
        open_store(None, system) as store,
        open_fleet(system, store, integrations=Integrations([settings])) as fleet,
        open_upstream("root") as upstream,
    ):
        edge = Edge(fleet, table(), Authenticator({"root": ROOT, "a1": named}), upstream, answer_within=10.0)
        async with serving(Guard(edge)) as port:
            url = f"http://127.0.0.1:{port}"
            async with (
                httpx2.AsyncClient(base_url=url, headers={"X-Agent-Relay-Token": "root"}) as root,
                httpx2.AsyncClient(base_url=url, headers={"X-Agent-Relay-Token": "a1"}) as limited,
            ):
                for name in ("a1", "a2"):
                    await root.post("/api/agents", json={"id": name})
                assert (await propose(limited, **{"from": "a2", "to": "a1"})).status_code == 403
                pair = await propose(limited)
                path = f"/api/pairs/{pair.json()['id']}"
                assert pair.status_code == 201
                for verb in ("accept", "reject", "end"):
                    assert (await limited.post(f"{path}/{verb}", json={"agentId": "a2"})).status_code == 403
                assert (await root.post(f"{path}/accept", json={"agentId": "a2"})).status_code == 200
                for name, status in (("a1", 201), ("a2", 403)):
                    said = await limited.post(f"{path}/messages", json={"from": name, "body": "x"})
                    liked = await limited.post(
                        f"/api/messages/{pair.json()['messageId']}/reactions",
                        json={"agentId": name, "emoji": "+1"},
                    )
                    told = await limited.post("/api/system/broadcast", json={"from": name, "body": "x"})
                    assert (said.status_code, liked.status_code, told.status_code) == (status,) * 3
                assert (await limited.post("/api/system/broadcast", json={"body": "x"})).status_code == 403
