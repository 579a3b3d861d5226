"""Every route, walked: it names its scope, refuses whoever has not got it, and heeds the constraints of whoever has."""

from __future__ import annotations

import re
from typing import Any

import httpx2
import pytest
from tokenkit import make, using

from relay import wire
from relay.http.api import table
from relay.http.routing import PUBLIC, Route

ROUTES = [route for route in table().routes if route.path != "/bus"]
SCOPE = re.compile(r"[a-z]+:[a-z]+")
KINDS = ("agents", "orchestrators", "policies", "channels", "targets", "workspaces", "paths")

FREE = {
    "/api/agents": "who is in the fleet is no secret",
    "/api/agents/:id": "nor what they say of themselves",
    "/api/orchestrators": "as with agents",
    "/api/orchestrators/:id": "as with agents",
    "/api/workspaces": "only those that the token is for are listed",
    "/api/merge-leases": "only those below its paths are listed",
    "/api/repo-stewards": "only those below its paths are listed",
    "/api/workspaces/orphans": "only those below its paths are listed",
    "/api/tokens": "only those that reach no further are listed",
    "/api/messages/cursor": "a number",
    "/api/stats": "numbers",
    "/api/health": "public",
    "/api/tasks": "only those that its agents have, or could, are listed",
    "/api/channels": "only those that the token is for are listed",
    "/api/channel-bindings": "only those of its channels are listed",
    "/api/integrations": "names and scopes, never secrets",
    "/api/agent-profiles": "what is configured for all",
    "/api/agent-profiles/:name": "what is configured for all",
    "/api/config/:namespace": "what is configured for all; only the policies that the token is for",
    "/api/config/:namespace/:key": "what is configured for all",
    "/api/config/:namespace/:key/history": "what is configured for all",
    "/api/providers/config": "what is configured for all, and masked",
    "/api/providers/:provider/config": "what is configured for all, and masked",
    "/api/steward-config": "what is configured for all",
    "/api/recipes": "what can be started",
    "/api/recipes/:name": "what can be started",
    "/api/recipes/instances": "what was started",
    "/api/recipes/instances/:id": "what was started",
    "/api/automations": "what begins by itself",
    "/api/automations/:id": "what begins by itself",
    "/api/automations/:id/next": "what begins by itself",
    "/api/automation-runs": "what began by itself",
    "/api/connectors": "what there is beside the server",
    "/api/connectors/:id": "what there is beside the server",
    "/api/maintenance/jobs": "when what is done",
    "/api/audit/verify": "whether the record is whole",
    "/api/spawn-policies": "only those that the token is for are listed",
    "/api/spawn-policies/health": "only those that the token is for are listed",
    "/api/host/directories": "limited by itself to a configured folder",
}
"""Reading that constraints leave free, and why."""


def where(route: Route) -> str:
    return re.sub(r":\w+", "1", route.path)


def test_every_route_names_its_scope() -> None:
    without = [f"{route.method} {route.path}" for route in ROUTES if not SCOPE.fullmatch(route.scope)]
    assert without == ["GET /api/health"]
    assert all(route.scope == PUBLIC for route in ROUTES if route.path == "/api/health")


def test_a_route_is_on_what_its_path_names() -> None:
    for route in ROUTES:
        if route.on is not None:
            assert route.names, route.path
            assert {f"{route.on}s", f"{route.on[:-1]}ies"} & set(KINDS), route.path


@pytest.mark.spec("AUTH-4", "AUTH-5")
async def test_nobody_gets_through_without_the_scope(api: httpx2.AsyncClient) -> None:
    """Whoever may do nothing, and whoever may do everything but this."""
    nothing = using((await make(api, scope=["nothing:at-all"]))["token"])
    every = {route.scope for route in ROUTES} - {PUBLIC}
    for route in ROUTES:
        if route.scope == PUBLIC:
            continue
        answer = await api.request(route.method, where(route), headers=nothing, content=b"{}")
        refused = answer.status_code in (400, 403, 404, 409, 422)
        assert refused if route.body is not None or route.scope_checked_late else answer.status_code == 403, (
            route.path,
            answer.status_code,
        )
    assert len(every) > 15


SPAWN = {"provider": "claude"}
SOUND: dict[str, Any] = {
    "POST /api/activity": {"clientId": "c", "kind": "state", "title": "t", "agentId": "1"},
    "POST /api/agents": {"id": "1"},
    "POST /api/agents/:id/actions": {"action": "shutdown"},
    "POST /api/agents/:id/deliveries/ack": {"acks": [{"messageId": 1, "token": 1, "outcome": "confirmed"}]},
    "PATCH /api/agents/:id/label": {"label": "x"},
    "POST /api/agents/:id/permission-decision": {"approvalId": "x", "decision": "approve"},
    "POST /api/agents/:id/prompt": {"body": "x"},
    "PATCH /api/agents/:id/ready": {"ready": True},
    "PATCH /api/agents/:id/status": {"status": "busy"},
    "PATCH /api/agents/:id/tags": {"tags": []},
    "POST /api/agents/spawn": SPAWN,
    "POST /api/automations": {
        "name": "n",
        "schedule": {"type": "manual"},
        "action": {"type": "message", "to": "1", "body": "x"},
    },
    "POST /api/channel-bindings": {"channelId": "1", "target": {"type": "agent", "id": "1"}},
    "POST /api/channels/:id/events": {"body": "x"},
    "POST /api/commands": {"type": "t", "source": "s", "target": "1"},
    "PATCH /api/commands/:id": {"status": "running"},
    "POST /api/commands/:id/runner-token": {"agentId": "1"},
    "POST /api/connectors/:id/actions": {"action": "start"},
    "POST /api/integrations/events": {"title": "t", "target": "1"},
    "POST /api/messages": {"from": "1", "to": "1", "body": "x"},
    "POST /api/messages/:id/claim": {"agentId": "1"},
    "POST /api/messages/:id/claim/renew": {"agentId": "1"},
    "POST /api/messages/:id/reactions": {"agentId": "1", "emoji": "+1"},
    "POST /api/messages/:id/read": {"agentId": "1"},
    "POST /api/orchestrators": {"id": "1", "hostname": "h", "baseDir": "/srv"},
    "POST /api/orchestrators/:id/actions": {"action": "shutdown", "agentId": "1"},
    "PATCH /api/orchestrators/:id/agents": {"agents": []},
    "POST /api/orchestrators/:id/spawn": SPAWN,
    "POST /api/pairs": {"from": "1", "to": "2"},
    "POST /api/pairs/:id/accept": {"agentId": "2"},
    "POST /api/pairs/:id/end": {"agentId": "2"},
    "POST /api/pairs/:id/reject": {"agentId": "2"},
    "POST /api/pairs/:id/messages": {"from": "1", "body": "x"},
    "POST /api/recipes/instances/:id/steps/:step": {"decision": "retry"},
    "POST /api/system/broadcast": {"body": "x"},
    "POST /api/tasks/:id/claim": {"agentId": "1"},
    "POST /api/tasks/:id/status": {"status": "done", "agentId": "1"},
    "POST /api/workspaces/:id/actions": {"action": "ready"},
    "POST /api/workspaces/orphans/reclaim": {"worktreePath": "/srv/o", "repoRoot": "/srv/r"},
}
"""What whoever may would be answered with success, or with something else than 400."""

HARMLESS = {
    "POST /api/tokens": "what it makes reaches as little",
    "POST /api/runtime-tokens/renew": "its own",
}


async def furnished(api: httpx2.AsyncClient) -> dict[str, str]:
    """Something of everything that paths name; the id of each by the begin of its path."""
    able = {"providerCapabilities": {"lifecycle": {"shutdownHard": True}}, "meta": {"runnerManaged": True}}
    for name in ("1", "2"):
        await api.post("/api/agents", json={"id": name, "status": "idle", "ready": True, **able})
    place = {
        "id": "1",
        "mode": "isolated",
        "repoRoot": "/srv/r",
        "worktreePath": "/srv/w",
        "sourceCwd": "/srv/r",
    }
    await api.post("/api/orchestrators", json=SOUND["POST /api/orchestrators"])
    roster = {"agents": [{"agentId": "1", "provider": "claude", "workspace": place}]}
    made: dict[str, str] = {}
    for prefix, method, path, body, member in (
        ("/api/workspaces/", "PATCH", "/api/orchestrators/1/agents", roster, ()),
        ("/api/messages/", "POST", "/api/messages", {"from": "user", "to": "1", "body": "x"}, ("id",)),
        (
            "/api/commands/",
            "POST",
            "/api/commands",
            {"type": "agent.spawn", "source": "s", "target": "orchestrator-1", "params": SPAWN},
            ("id",),
        ),
        ("/api/pairs/", "POST", "/api/pairs", SOUND["POST /api/pairs"], ("id",)),
        ("/api/tasks/", "POST", "/api/integrations/events", {"title": "t", "target": "1"}, ("task", "id")),
        ("/api/tokens/", "POST", "/api/tokens", {"role": "other"}, ("record", "jti")),
        ("/api/channels/", "POST", "/api/agents", {"id": "ops", "kind": "channel"}, ("id",)),
        (
            "/api/channel-bindings/",
            "POST",
            "/api/channel-bindings",
            {"channelId": "ops", "target": {"type": "agent", "id": "1"}},
            ("id",),
        ),
        (
            "/api/spawn-policy/",
            "PUT",
            "/api/spawn-policy/1",
            {"orchestratorId": "1", "provider": "claude", "cwd": "/srv"},
            (),
        ),
        ("/api/automations/", "POST", "/api/automations", SOUND["POST /api/automations"], ("id",)),
    ):
        answer = await api.request(method, path, json=body)
        assert answer.is_success, (path, answer.text)
        found = answer.json()
        for each in member:
            found = found[each]
        made[prefix] = str(found) if member else "1"
    return made


@pytest.mark.spec("AUTH-5")
async def test_a_token_that_is_for_nothing_gets_nothing(api: httpx2.AsyncClient) -> None:
    """It has every scope, and its constraints leave nothing of what there is; what is free is on the list above. Every
    request is sound and names what is there, so that nothing is refused for another reason."""
    made = await furnished(api)
    headers = using((await make(api, scope=["*"], constraints={kind: [] for kind in KINDS}))["token"])
    seen: dict[str, Any] = {}
    for route in ROUTES:
        name = f"{route.method} {route.path}"
        if (route.path in FREE and route.method == "GET") or name in HARMLESS:
            continue
        known = next((key for prefix, key in made.items() if route.path.startswith(prefix + ":")), "1")
        path = re.sub(r":\w+", "1", re.sub(r":\w+", known, route.path, count=1))
        if path == "/api/messages/queued":
            path += "?for=1"
        answer = await api.request(route.method, path, headers=headers, json=SOUND.get(name, {}))
        if answer.status_code != 403:
            seen[name] = (answer.status_code, answer.text[:120])
    assert seen == {}


assert set(KINDS) == set(wire.Constraints.__annotations__)
