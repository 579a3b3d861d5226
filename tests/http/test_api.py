"""What is common to all routes, on a whole server."""

import re
from pathlib import Path
from typing import Any

import httpx2
import pytest

from relay.http import routes

SCOPE = re.compile(r"public|[a-z]+:[a-z]+")


def test_every_route_has_a_scope_and_only_health_is_public() -> None:
    declared = routes()
    assert all(SCOPE.fullmatch(route["scope"]) for route in declared)
    assert [route["path"] for route in declared if route["scope"] == "public"] == ["/api/health"]


def test_routes_that_change_something_need_more_than_reading() -> None:
    acting = {
        route["path"] for route in routes() if route["method"] != "GET" and route["scope"].endswith(":read")
    }
    assert acting == {
        "/api/agents/:id/deliveries",
        "/api/agents/:id/deliveries/ack",
        "/api/messages/:id/claim",
        "/api/messages/:id/claim/renew",
        "/api/messages/:id/read",
    }, "these belong to receiving a message"


def test_the_routes_of_this_server_are_listed() -> None:
    listed = {(route["method"], route["path"]) for route in routes()}
    assert {
        ("POST", "/api/agents"),
        ("POST", "/api/agents/spawn"),
        ("PATCH", "/api/orchestrators/:id/agents"),
        ("POST", "/api/messages/:id/claim/renew"),
        ("POST", "/api/commands/:id/claim"),
        ("POST", "/api/workspaces/:id/actions"),
        ("GET", "/api/merge-leases"),
        ("GET", "/api/events"),
        ("GET", "/api/health"),
    } <= listed
    assert len(listed) == len(routes())


def test_the_page_lists_every_route_with_its_scope() -> None:
    page = (Path(__file__).parent.parent.parent / "docs" / "http.md").read_text()
    rows = re.findall(r"^\| `(\w+) (\S+)` \| `(\S+)` \| (.+) \|$", page, re.MULTILINE)
    assert [row[:3] for row in rows] == [
        (route["method"], route["path"], route["scope"]) for route in routes()
    ]


@pytest.mark.spec("AUTH-4")
async def test_no_route_but_health_is_served_without_a_token(server: Any) -> None:
    async with httpx2.AsyncClient(base_url=server.base_url, trust_env=False) as nobody:
        for route in routes():
            answer = await nobody.request(route["method"], route["path"].replace(":id", "1"), content=b"{}")
            expected = 200 if route["scope"] == "public" else 401
            assert answer.status_code == expected, route


@pytest.mark.spec("SYS-1")
async def test_health_says_what_there_is(api: httpx2.AsyncClient) -> None:
    await api.post("/api/agents", json={"id": "a1"})
    health = (await api.get("/api/health")).json()
    assert health["status"] == "ok"
    assert health["version"]
    assert health["uptimeMs"] >= 0
    assert set(health["counts"]) >= {
        "agents",
        "orchestrators",
        "messages",
        "pendingCommands",
        "sseConnections",
    }


@pytest.mark.spec("M-001", "M-003", "BODY-2")
@pytest.mark.parametrize("body", [b'{"type":', b"[]", b"3", b"null", b"", b'"{}"', b"\xff\xfe{}"])
async def test_a_broken_body_is_400_and_nothing_is_stored(api: httpx2.AsyncClient, body: bytes) -> None:
    answer = await api.post("/api/commands", content=body)
    assert answer.status_code == 400
    assert list(answer.json()) == ["error"]
    assert (await api.get("/api/commands")).json() == []


@pytest.mark.spec("M-002", "O-01")
async def test_a_body_over_the_limit_is_413_and_nothing_is_stored(api: httpx2.AsyncClient) -> None:
    answer = await api.post("/api/messages", content=b'{"body": "' + b"x" * 1_048_576)
    assert answer.status_code == 413
    assert answer.json()["error"]
    assert (await api.get("/api/messages/cursor")).json() == {"latestId": 0}


async def test_all_problems_of_a_body_are_told_with_their_places(api: httpx2.AsyncClient) -> None:
    answer = await api.post("/api/commands", json={"type": 7, "source": "s", "ttlMs": 0, "params": []})
    assert answer.status_code == 400
    for place in ("type", "target", "ttlMs", "params"):
        assert place in answer.json()["error"]
    assert "source" not in answer.json()["error"]


@pytest.mark.spec("VAL-2")
async def test_unknown_members_are_ignored(api: httpx2.AsyncClient) -> None:
    answer = await api.post("/api/agents", json={"id": "a1", "futureMember": {"x": 1}})
    assert answer.status_code == 201


@pytest.mark.spec("M-004", "M-005")
async def test_limits_of_lists_are_checked(api: httpx2.AsyncClient) -> None:
    for path in ("/api/commands", "/api/messages", "/api/activity"):
        for limit in ("0", "501", "abc", "1.5"):
            assert (await api.get(path, params={"limit": limit})).status_code == 400, (path, limit)
        for limit in ("1", "500"):
            assert (await api.get(path, params={"limit": limit})).json() == [], (path, limit)


@pytest.mark.spec("M-006", "MSG-23")
@pytest.mark.parametrize("number", ["abc", "0", "-1", "1.5", "9" * 30])
@pytest.mark.parametrize("route", ["", "/status", "/thread"])
async def test_a_message_id_that_is_no_positive_integer_is_400(
    api: httpx2.AsyncClient, number: str, route: str
) -> None:
    assert (await api.get(f"/api/messages/{number}{route}")).status_code == 400


@pytest.mark.spec("BODY-4")
async def test_a_broken_body_on_an_unknown_id_is_400(api: httpx2.AsyncClient) -> None:
    for method, path in [
        ("PATCH", "/api/agents/zz/status"),
        ("PATCH", "/api/commands/zz"),
        ("POST", "/api/orchestrators/zz/spawn"),
        ("POST", "/api/orchestrators/zz/heartbeat"),
        ("POST", "/api/workspaces/zz/actions"),
        ("POST", "/api/messages/999/claim"),
    ]:
        assert (await api.request(method, path, content=b"{")).status_code == 400, path


async def test_the_token_file_holds_the_token(server: Any) -> None:
    assert (Path(server.home) / "token").read_text().strip() == server.token


@pytest.mark.spec("BUS-1")
async def test_the_bus_is_no_page(api: httpx2.AsyncClient) -> None:
    answer = await api.get("/bus")
    assert (answer.status_code, answer.headers["upgrade"]) == (426, "websocket")
    assert "WebSocket" in answer.json()["error"]
