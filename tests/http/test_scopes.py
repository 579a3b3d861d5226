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


@pytest.mark.spec("AUTH-5")
async def test_a_token_that_is_for_nothing_gets_nothing(api: httpx2.AsyncClient) -> None:
    """It has every scope, and its constraints leave nothing; what is free is on the list above."""
    await api.post("/api/agents", json={"id": "1"})
    await api.post("/api/orchestrators", json={"id": "1", "hostname": "h", "baseDir": "/srv"})
    await api.post("/api/messages", json={"from": "user", "to": "1", "body": "x"})
    await api.post("/api/commands", json={"type": "t", "source": "s", "target": "1"})
    headers = using((await make(api, scope=["*"], constraints={kind: [] for kind in KINDS}))["token"])
    seen: dict[str, Any] = {}
    for route in ROUTES:
        if route.path in FREE and route.method == "GET":
            continue
        answer = await api.request(route.method, where(route), headers=headers, content=b"{}")
        if answer.status_code < 400:
            seen[f"{route.method} {route.path}"] = answer.text[:80]
    assert seen == {}


assert set(KINDS) == set(wire.Constraints.__annotations__)
