"""`/api/agents` on a whole server."""

from typing import Any

import httpx2
import pytest


@pytest.fixture
async def a1(api: httpx2.AsyncClient) -> dict[str, Any]:
    answer = await api.post("/api/agents", json={"id": "a1", "kind": "provider", "instanceId": "i2"})
    assert answer.status_code == 201
    card: dict[str, Any] = answer.json()
    return card


async def card_of(api: httpx2.AsyncClient, name: str) -> dict[str, Any]:
    answer = await api.get(f"/api/agents/{name}")
    assert answer.status_code == 200
    card: dict[str, Any] = answer.json()
    return card


@pytest.mark.spec("M-010", "M-011", "O-07", "AGT-10")
async def test_a_registration_is_201_and_a_refreshed_one_200(api: httpx2.AsyncClient, a1: Any) -> None:
    again = await api.post("/api/agents", json={"id": "a1", "kind": "provider", "instanceId": "i2"})
    assert again.status_code == 200
    assert again.json()["createdAt"] == a1["createdAt"]
    assert (await card_of(api, "a1"))["kind"] == "provider"
    assert [agent["id"] for agent in (await api.get("/api/agents")).json()] == ["a1"]


async def test_agents_are_listed_by_status_and_kind(api: httpx2.AsyncClient, a1: Any) -> None:
    await api.post("/api/agents", json={"id": "b", "kind": "user"})
    await api.patch("/api/agents/a1/status", json={"status": "busy"})
    assert [a["id"] for a in (await api.get("/api/agents", params={"status": "busy"})).json()] == ["a1"]
    assert [a["id"] for a in (await api.get("/api/agents", params={"kind": "user"})).json()] == ["b"]
    assert (await api.get("/api/agents", params={"status": "asleep"})).status_code == 400


@pytest.mark.spec("M-012", "M-013", "M-014", "M-015", "M-021", "M-025", "M-022")
@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("a1/status", {"status": "stale"}, 200),
        ("a1/status", {"status": "sleeping"}, 400),
        ("a1/status", {}, 400),
        ("zz/status", {"status": "idle"}, 404),
        ("a1/ready", {"ready": True}, 200),
        ("a1/ready", {"ready": "yes"}, 400),
        ("zz/ready", {"ready": True}, 404),
        ("a1/label", {"label": "build"}, 200),
        ("a1/label", {"label": None}, 200),
        ("a1/label", {}, 400),
        ("a1/label", {"label": "x" * 121}, 400),
        ("zz/label", {"label": None}, 404),
        ("a1/tags", {"tags": ["x", "y"]}, 200),
        ("a1/tags", {"tags": []}, 200),
        ("a1/tags", {"tags": "x"}, 400),
        ("a1/tags", {"tags": [1]}, 400),
        ("a1/tags", {}, 400),
        ("zz/tags", {"tags": []}, 404),
    ],
)
async def test_writes_to_an_agent(
    api: httpx2.AsyncClient, a1: Any, path: str, body: Any, status: int
) -> None:
    answer = await api.patch(f"/api/agents/{path}", json=body)
    assert answer.status_code == status
    if status == 200 and path.endswith("tags"):
        assert answer.json()["tags"] == body["tags"]
    elif status == 200:
        assert answer.json() == {"ok": True}
    else:
        assert list(answer.json()) == ["error"]
        assert (await card_of(api, "a1")) == a1


@pytest.mark.spec("M-016", "AGT-20", "O-08")
async def test_another_session_is_refused_whether_named_in_body_or_header(
    api: httpx2.AsyncClient, a1: Any
) -> None:
    header = {"X-Agent-Relay-Instance-Id": "i1"}
    for route, body in [("status", {"status": "busy"}), ("ready", {"ready": True})]:
        path = f"/api/agents/a1/{route}"
        assert (await api.patch(path, json={**body, "instanceId": "i1"})).status_code == 409
        assert (await api.patch(path, json=body, headers=header)).status_code == 409
        assert (await api.patch(path, json={**body, "instanceId": "i2"}, headers=header)).status_code == 200
    assert (await api.post("/api/agents/a1/heartbeat", headers=header)).status_code == 409
    too_long = {"X-Agent-Relay-Instance-Id": "x" * 161}
    assert (await api.post("/api/agents/a1/heartbeat", headers=too_long)).status_code == 400


@pytest.mark.spec("AGT-16", "BODY-3")
async def test_a_heartbeat_needs_no_body(api: httpx2.AsyncClient, a1: Any) -> None:
    await api.patch("/api/agents/a1/status", json={"status": "stale"})
    assert (await api.post("/api/agents/a1/heartbeat")).json() == {"ok": True}
    assert (await card_of(api, "a1"))["status"] == "online"
    assert (await api.post("/api/agents/a1/heartbeat", json={"status": 1})).status_code == 400
    assert (await api.post("/api/agents/zz/heartbeat")).status_code == 404


@pytest.mark.spec("AGT-18")
async def test_a_deleted_agent_is_unknown(api: httpx2.AsyncClient, a1: Any) -> None:
    assert (await api.delete("/api/agents/a1")).json() == {"ok": True}
    assert (await api.get("/api/agents/a1")).status_code == 404
    assert (await api.delete("/api/agents/a1")).status_code == 404


@pytest.mark.spec("RTE-3")
async def test_an_agent_id_may_hold_a_slash(api: httpx2.AsyncClient) -> None:
    await api.post("/api/agents", json={"id": "team/a 1"})
    assert (await api.get("/api/agents/team%2Fa%201")).json()["id"] == "team/a 1"


@pytest.mark.spec("M-035", "M-036", "M-037", "M-038", "M-039", "AGT-46")
async def test_a_spawn_goes_to_a_host_that_has_the_provider(api: httpx2.AsyncClient) -> None:
    assert (await api.post("/api/agents/spawn", json={"provider": "codex"})).status_code == 400
    for name, provider in (("h1", "claude"), ("h2", "codex")):
        host = {"id": name, "hostname": name, "baseDir": "/base", "providers": [provider]}
        assert (await api.post("/api/orchestrators", json=host)).status_code == 201
    answer = await api.post("/api/agents/spawn", json={"provider": "codex"})
    assert answer.status_code == 202
    made = answer.json()
    assert (made["ok"], made["orchestratorId"], made["provider"]) == (True, "h2", "codex")
    assert made["command"]["type"] == "agent.spawn"
    assert made["command"]["target"] == "orchestrator-h2"
    assert made["command"]["params"]["approvalMode"] == "guarded"
    for body in ({"provider": "gemini"}, {}, {"provider": "codex", "cwd": "/base/" + "x" * 495}):
        assert (await api.post("/api/agents/spawn", json=body)).status_code == 400
