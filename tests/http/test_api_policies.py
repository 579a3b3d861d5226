"""`/api/spawn-policies` and `/api/spawn-policy` on a whole server."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx2
import pytest
import trio

Limited = Callable[..., AbstractAsyncContextManager[tuple[httpx2.AsyncClient, httpx2.AsyncClient]]]

VALUE = {"orchestratorId": "h1", "provider": "claude", "tags": ["t"]}
P = "/api/spawn-policy/P"


@pytest.fixture
async def api(api: httpx2.AsyncClient) -> httpx2.AsyncClient:
    """As everywhere, with the host h1."""
    await api.post("/api/orchestrators", json={"id": "h1", "hostname": "h", "baseDir": "/base"})
    return api


async def state(api: httpx2.AsyncClient) -> dict[str, Any]:
    found: dict[str, Any] = (await api.get(f"{P}/status")).json()["state"]
    return found


async def register(api: httpx2.AsyncClient, request: str) -> None:
    meta = {"policyName": "P", "spawnRequestId": request}
    assert (await api.post("/api/agents", json={"id": "w", "meta": meta})).status_code in (200, 201)


@pytest.mark.spec("POL-3", "POL-4", "M-186", "M-189", "H-17")
async def test_a_policy_is_an_entry_and_comes_wrapped_or_bare(api: httpx2.AsyncClient) -> None:
    wrapped = await api.put(P, json={"value": VALUE, "updatedBy": "me"})
    bare = await api.put(P, json={**VALUE, "updatedBy": "you"})
    assert (wrapped.status_code, bare.status_code) == (201, 200)
    assert wrapped.json()["value"] == bare.json()["value"] == {**VALUE, "name": "P"}
    assert (wrapped.json()["updatedBy"], bare.json()["updatedBy"]) == ("me", "you")
    assert (await api.get(P)).json() == bare.json()
    assert (await api.get("/api/config/spawn-policy/P")).json() == bare.json()
    for path in ("/api/spawn-policies", "/api/spawn-policies/health"):
        (only,) = (await api.get(path)).json()
        assert sorted(only) == ["policy", "state"]
    assert (await api.get("/api/spawn-policy/Q")).status_code == 404


@pytest.mark.spec("POL-1", "POL-3", "M-188")
async def test_an_agent_that_was_never_started_is_stopped(api: httpx2.AsyncClient) -> None:
    await api.put(P, json=VALUE)
    for path in ("status", "health"):
        told = (await api.get(f"{P}/{path}")).json()
        assert told == {
            "policy": {**VALUE, "name": "P"},
            "state": {
                "policyName": "P", "status": "stopped", "orchestratorId": "h1", "provider": "claude",
                "restartCount": 0, "consecutiveFailures": 0, "updatedAt": 0,
            },
        }  # fmt: skip
        assert (await api.get(f"/api/spawn-policy/Q/{path}")).status_code == 404


@pytest.mark.spec("POL-9", "POL-10", "POL-17", "M-190", "M-092", "MSG-47")
async def test_a_start_is_accepted_and_lets_no_mail_out(api: httpx2.AsyncClient) -> None:
    await api.put(P, json=VALUE)
    sent = (await api.post("/api/messages", json={"from": "user", "to": "policy:P", "body": "x"})).json()
    started = await api.post(f"{P}/start")
    assert started.status_code == 202
    command = started.json()["command"]
    assert started.json() == {"ok": True, "command": command}
    assert re.fullmatch("sp_[0-9a-f-]{36}", command["correlationId"])
    assert (command["type"], command["target"]) == ("agent.spawn", "orchestrator-h1")
    told = {name: command["params"][name] for name in ("headless", "reason", "requestedBy")}
    assert told == {"headless": True, "reason": "manual-start", "requestedBy": "managed-agent"}
    assert (await state(api))["spawnRequestId"] == command["correlationId"]
    assert (await api.get(f"/api/messages/{sent['id']}")).json()["deliveryStatus"] == "queued"
    again = await api.post(f"{P}/start")
    assert (again.status_code, "policy P is starting" in again.json()["error"]) == (409, True)
    await register(api, command["correlationId"])
    assert (await api.get(f"/api/messages/{sent['id']}")).json()["resolvedToAgent"] == "w"


@pytest.mark.spec("POL-13", "POL-14", "M-193", "M-194")
async def test_a_restart_and_a_stop_are_accepted(api: httpx2.AsyncClient) -> None:
    await api.put(P, json=VALUE)
    request = (await api.post(f"{P}/start")).json()["command"]["correlationId"]
    await register(api, request)
    restarted = (await api.post(f"{P}/restart")).json()["command"]
    assert (restarted["type"], restarted["correlationId"]) == ("agent.restart", request)
    assert ((await state(api))["status"], (await state(api))["spawnRequestId"]) == ("starting", request)
    await register(api, request)
    assert (await state(api))["status"] == "running"
    stopped = (await api.post(f"{P}/stop")).json()["command"]
    assert (stopped["type"], stopped["params"]["agentId"]) == ("agent.shutdown", "w")
    await api.patch(f"/api/commands/{stopped['id']}", json={"status": "succeeded"})
    with trio.fail_after(10):
        while (await state(api))["status"] != "stopped":
            await trio.sleep(0.01)


@pytest.mark.spec("POL-6", "M-195", "M-I20", "H-14")
async def test_a_deletion_is_accepted_with_the_stop(api: httpx2.AsyncClient) -> None:
    await api.put(P, json=VALUE)
    assert (await api.delete(P, params={"updatedBy": "x" * 201})).status_code == 400
    deleted = await api.delete(P, params={"updatedBy": "me"})
    assert deleted.status_code == 202
    assert deleted.json()["command"]["params"]["reason"] == "policy-deleted"
    assert (await api.get(P)).status_code == 404
    past = (await api.get("/api/config/spawn-policy/P/history")).json()
    assert [(each["version"], each.get("deleted"), each.get("updatedBy")) for each in past] == [
        (2, True, "me"),
        (1, None, None),
    ]


@pytest.mark.spec("POL-8", "M-192", "M-196", "M-I29")
async def test_what_is_not_there_is_404_and_changes_nothing(api: httpx2.AsyncClient) -> None:
    for verb in ("start", "stop", "restart"):
        assert (await api.post(f"{P}/{verb}")).status_code == 404
    assert (await api.delete(P)).status_code == 404
    await api.put(P, json={**VALUE, "orchestratorId": "h9"})
    for verb in ("start", "stop", "restart"):
        refused = await api.post(f"{P}/{verb}")
        assert (refused.status_code, refused.json()) == (404, {"error": "no such orchestrator: h9"})
    assert (await api.delete(P)).status_code == 404
    assert (await api.get(P)).status_code == 200
    assert (await api.get("/api/commands")).json() == []


@pytest.mark.spec("POL-4", "M-187", "O-46")
@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        ({**VALUE, "provider": "gemini"}, "provider: expected one of claude, codex, command"),
        ({"provider": "claude"}, "orchestratorId: is required"),
        ({**VALUE, "name": "Q"}, "name: expected 'P'"),
        (
            {**VALUE, "restart": {"quarantineAfter": -1}},
            "restart.quarantineAfter: expected an integer from 0",
        ),
        ({"value": 7}, "body must be an object"),
        ([VALUE], "body must be an object"),
        ({"value": VALUE, "updatedBy": "x" * 201}, "updatedBy: longer than 200 characters"),
    ],
)
async def test_what_is_not_well_formed_is_refused(api: httpx2.AsyncClient, body: Any, wrong: str) -> None:
    refused = await api.put(P, json=body)
    assert (refused.status_code, wrong in refused.json()["error"]) == (400, True), refused.text
    assert (await api.get(P)).status_code == 404


@pytest.mark.spec("AUTH-4")
async def test_a_policy_needs_the_right_to_write_policies(limited_to: Limited) -> None:
    async with limited_to("policy:read", "config:write") as (root, limited):
        await root.put(P, json=VALUE)
        assert (await limited.get(f"{P}/status")).status_code == 200
        for verb in ("start", "stop", "restart"):
            assert (await limited.post(f"{P}/{verb}")).status_code == 403
        assert (await limited.put(P, json=VALUE)).status_code == 403
        assert (await limited.put("/api/config/spawn-policy/P", json={"value": VALUE})).status_code == 403
