"""`/api/orchestrators` on a whole server."""

from typing import Any

import httpx2
import pytest
import trio

HOST = {"id": "h1", "hostname": "h", "baseDir": "/base"}


@pytest.fixture
async def h1(api: httpx2.AsyncClient) -> dict[str, Any]:
    answer = await api.post("/api/orchestrators", json=HOST)
    assert answer.status_code == 201
    host: dict[str, Any] = answer.json()
    return host


@pytest.mark.spec("M-150", "ORC-7")
async def test_a_host_registers_with_both_providers(api: httpx2.AsyncClient, h1: Any) -> None:
    assert (h1["providers"], h1["status"]) == (["claude", "codex"], "online")
    assert h1["agentId"] == "orchestrator-h1"
    assert (await api.post("/api/orchestrators", json=HOST)).status_code == 200
    assert (await api.get("/api/orchestrators/h1")).json()["id"] == "h1"
    assert [host["id"] for host in (await api.get("/api/orchestrators")).json()] == ["h1"]
    assert (await api.get("/api/orchestrators", params={"status": "offline"})).json() == []
    assert (await api.get("/api/orchestrators/zz")).status_code == 404


@pytest.mark.spec("M-151")
@pytest.mark.parametrize(
    "members",
    [
        {"protocolVersion": 0},
        {"protocolVersion": 1.5},
        {"protocolVersion": "2"},
        {"providers": ["gemini"]},
        {"baseDir": ""},
        {"baseDir": "projects"},
        {"apiUrl": "file:///etc/passwd"},
        {"apiUrl": "http://user@h:1"},
        {"apiUrl": "h:4851"},
        {"hostname": None},
        {"envKeys": "x"},
    ],
)
async def test_a_registration_that_does_not_fit_is_400(api: httpx2.AsyncClient, members: Any) -> None:
    assert (await api.post("/api/orchestrators", json={**HOST, **members})).status_code == 400
    assert (await api.get("/api/orchestrators")).json() == []


@pytest.mark.spec("M-152", "ORC-4", "ORC-5")
async def test_heartbeats(api: httpx2.AsyncClient, h1: Any) -> None:
    path = "/api/orchestrators/h1/heartbeat"
    for content in (b"", b"null", b"7", b"[]", b"{}", b'{"version": "1.2.3"}'):
        assert (await api.post(path, content=content)).json() == {"ok": True}, content
    assert (await api.get("/api/orchestrators/h1")).json()["version"] == "1.2.3"
    assert (await api.post(path, json={"version": "x" * 81})).status_code == 400
    assert (await api.post("/api/orchestrators/zz/heartbeat", json={"version": "x" * 81})).status_code == 400
    assert (await api.post("/api/orchestrators/zz/heartbeat")).status_code == 404


@pytest.mark.spec("ORC-10")
async def test_a_roster_replaces_the_managed_agents(api: httpx2.AsyncClient, h1: Any) -> None:
    path = "/api/orchestrators/h1/agents"
    roster = {"agents": [{"agentId": "a1", "provider": "claude"}]}
    assert (await api.patch(path, json=roster)).status_code == 200
    listed = (await api.get("/api/orchestrators/h1")).json()["managedAgents"]
    assert [agent["agentId"] for agent in listed] == ["a1"]
    assert (await api.patch(path, json={"agents": [{}]})).status_code == 400
    assert (await api.patch(path, json={})).status_code == 400
    assert (await api.patch("/api/orchestrators/zz/agents", json=roster)).status_code == 404


@pytest.mark.spec("M-153", "M-154", "M-156", "ORC-18", "ORC-22")
@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"provider": "claude"}, 202),
        ({"provider": "claude", "cwd": "/base"}, 202),
        ({"provider": "claude", "cwd": "/base/x"}, 202),
        ({"provider": "claude", "cwd": "/base-evil"}, 400),
        ({"provider": "claude", "cwd": "/base/../etc"}, 400),
        ({"provider": "claude", "prompt": "x" * 4_001}, 400),
        ({"provider": "gemini"}, 400),
        ({}, 400),
        ([], 400),
        (None, 400),
    ],
)
async def test_spawning_on_a_host(api: httpx2.AsyncClient, h1: Any, body: Any, status: int) -> None:
    answer = await api.post("/api/orchestrators/h1/spawn", json=body)
    assert answer.status_code == status
    if status == 202:
        assert answer.json()["ok"] is True
        assert answer.json()["orchestratorId"] == "h1"
        assert answer.json()["command"]["target"] == "orchestrator-h1"
    else:
        assert (await api.get("/api/commands")).json() == []


@pytest.mark.spec("O-43", "M-I29")
async def test_a_host_must_be_there_before_the_members_of_a_spawn_are_looked_at(
    api: httpx2.AsyncClient, h1: Any
) -> None:
    await api.patch("/api/agents/orchestrator-h1/status", json={"status": "offline"})
    with trio.fail_after(10):
        while (await api.get("/api/orchestrators/h1")).json()["status"] != "offline":
            await trio.sleep(0.01)
    for body in ({"provider": "claude"}, {"provider": "gemini"}, {"provider": "claude", "cwd": "/etc"}, []):
        answer = await api.post("/api/orchestrators/h1/spawn", json=body)
        assert (answer.status_code, "start its orchestrator" in answer.json()["error"]) == (409, True), body
    assert (await api.post("/api/orchestrators/h1/spawn", content=b"{")).status_code == 400
    assert (await api.get("/api/commands")).json() == []


async def test_an_unknown_host_is_404_before_the_members_are_looked_at(api: httpx2.AsyncClient) -> None:
    for route in ("spawn", "actions"):
        assert (await api.post(f"/api/orchestrators/zz/{route}", json={})).status_code == 404


@pytest.mark.spec("M-157", "M-158", "ORC-29")
async def test_actions_become_commands(api: httpx2.AsyncClient, h1: Any) -> None:
    path = "/api/orchestrators/h1/actions"
    made = await api.post(path, json={"action": "shutdown"})
    assert made.status_code == 202
    assert (made.json()["ok"], made.json()["action"]) == (True, "shutdown")
    assert made.json()["command"]["target"] == "orchestrator-h1"
    assert made.json()["command"]["params"]["reason"] == "manual"
    aimed = await api.post(path, json={"action": "restart", "agentId": "a1"})
    assert aimed.json()["command"]["target"] == "a1"
    for body in ({}, {"action": "explode"}, [], {"action": "restart", "reason": "x" * 201}):
        assert (await api.post(path, json=body)).status_code == 400


@pytest.mark.spec("M-166", "ORC-8")
async def test_a_deleted_host_is_unknown(api: httpx2.AsyncClient, h1: Any) -> None:
    assert (await api.delete("/api/orchestrators/h1")).json() == {"ok": True}
    assert (await api.delete("/api/orchestrators/h1")).status_code == 404
