"""Whose name mail may be sent in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
import pytest
from rawhttp import serving

from relay.actors import open_system
from relay.fleet import open_fleet
from relay.fleet.integrations import Integrations
from relay.http.api import table
from relay.http.auth import ROOT, Authenticator, Principal
from relay.http.edge import Edge
from relay.http.guard import Guard
from relay.http.upstream import open_upstream
from relay.store import open_store
from relay.wire import IntegrationSettings

SETTINGS = IntegrationSettings(name="ci", secret="secret-of-ci-which-is-long")
CI = Principal("integration:ci", frozenset({"message:send", "message:read", "task:write"}), integration="ci")


@asynccontextmanager
async def server_for(principal: Principal) -> AsyncIterator[httpx2.AsyncClient]:
    async with (
        open_system() as system,
        open_store(None, system) as store,
        open_fleet(system, store, integrations=Integrations([SETTINGS])) as fleet,
        open_upstream("root") as upstream,
    ):
        edge = Edge(fleet, table(), Authenticator({"its": principal}), upstream, answer_within=10.0)
        async with serving(Guard(edge)) as port:
            headers = {"X-Agent-Relay-Token": "its"}
            async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers) as client:
                yield client


@pytest.mark.spec("AUTH-5", "MSG-1", "M-I29")
async def test_an_integration_sends_in_its_own_name_only() -> None:
    async with server_for(CI) as api:
        mail = {"from": "a1", "to": "a2", "body": "x"}
        answer = await api.post("/api/messages", json=mail)
        assert (answer.status_code, answer.json()) == (
            403,
            {"error": "from: this token does not speak for a1"},
        )
        assert (await api.get("/api/messages/cursor")).json() == {"latestId": 0}
        assert (await api.post("/api/messages", json={**mail, "from": "ci"})).status_code == 201


async def test_an_integration_reads_claims_and_works_in_its_own_name_only() -> None:
    async with server_for(CI) as api:
        mail = {"from": "ci", "to": "a1", "body": "x", "claimable": True}
        number = (await api.post("/api/messages", json=mail)).json()["id"]
        for path in (
            f"messages/{number}/claim",
            f"messages/{number}/claim/renew",
            f"messages/{number}/read",
            "tasks/1/claim",
            "tasks/1/status",
        ):
            answer = await api.post(f"/api/{path}", json={"agentId": "a1", "status": "done"})
            told = {"error": "agentId: this token does not speak for a1"}
            assert (answer.status_code, answer.json()) == (403, told), path
            answer = await api.post(f"/api/{path}", json={"agentId": "ci", "status": "done"})
            assert "does not speak" not in answer.text
        acks = [{"messageId": number, "token": 1, "outcome": "confirmed"}]
        for path in ("deliveries", "deliveries/ack"):
            answer = await api.post(f"/api/agents/a1/{path}", json={"acks": acks})
            told = {"error": "id: this token does not speak for a1"}
            assert (answer.status_code, answer.json()) == (403, told), path
        assert (await api.get(f"/api/messages/{number}")).json()["readBy"] == ["ci"]


async def test_root_sends_in_any_name() -> None:
    async with server_for(ROOT) as api:
        for sender in ("a1", "ci", "user"):
            mail = {"from": sender, "to": "a2", "body": "x"}
            assert (await api.post("/api/messages", json=mail)).status_code == 201


def test_a_connection_of_an_agent_sends_as_that_agent() -> None:
    limited = Principal("p", frozenset({"message:send"}))
    assert limited.may_be("a1") and limited.may_be("a1", "a1")
    assert not limited.may_be("a2", "a1")
    assert CI.may_be("ci", "a1") and not CI.may_be("a1", "a1")
    assert ROOT.may_be("a2", "a1")
