"""Actions on agents, prompts and timelines on a whole server."""

from collections.abc import Callable
from typing import Any

import httpx2
import pytest

R = "0F8FAD5B-D9CB-469F-A165-70867728950E"
ABLE = {
    "lifecycle": {"restartHard": True, "shutdownHard": True, "reconnect": True},
    "context": {"compact": True, "clear": True},
    "liveSession": {"interrupt": True},
}


async def register(api: httpx2.AsyncClient, key: str = "a1", **card: Any) -> None:
    meta = {"runnerManaged": True, "provider": "claude", "cwd": "/home/u/repo", **card.pop("meta", {})}
    body = {"id": key, "status": "idle", "ready": True, "providerCapabilities": ABLE, "meta": meta, **card}
    assert (await api.post("/api/agents", json=body)).status_code in (200, 201)


async def host(api: httpx2.AsyncClient) -> None:
    body = {"id": "o1", "hostname": "h1", "baseDir": "/home/u"}
    assert (await api.post("/api/orchestrators", json=body)).status_code == 201
    roster = {"agents": [{"agentId": "a1"}]}
    assert (await api.patch("/api/orchestrators/o1/agents", json=roster)).status_code == 200


async def act(api: httpx2.AsyncClient, action: Any, key: str = "a1") -> httpx2.Response:
    return await api.post(f"/api/agents/{key}/actions", json={"action": action})


async def prompt(api: httpx2.AsyncClient, body: Any, key: str = "a1") -> httpx2.Response:
    return await api.post(f"/api/agents/{key}/prompt", json=body)


async def trace(api: httpx2.AsyncClient) -> tuple[Any, ...]:
    """What a refused request leaves as it was: all but the record of its refusal."""
    paths = ("/api/agents", "/api/commands", "/api/messages", "/api/activity")
    agents, *rest, activity = [(await api.get(path)).json() for path in paths]
    done = [each for each in activity if each.get("view") != "security"]
    return ([{**agent, "lastSeen": 0} for agent in agents], *rest, done)


@pytest.mark.spec("W-1", "W-2", "W-3", "AGT-38", "M-026")
async def test_an_action_is_accepted_and_answered_with_its_command(api: httpx2.AsyncClient) -> None:
    await register(api)
    await host(api)
    for action, target in (
        ("restart", "orchestrator-o1"),
        ("shutdown", "orchestrator-o1"),
        ("compact", "a1"),
    ):
        answer = await act(api, action)
        assert answer.status_code == 202
        made = answer.json()
        assert (made["ok"], made["action"], made["command"]["target"]) == (True, action, target)
        assert (await api.get(f"/api/commands/{made['command']['id']}")).json() == made["command"]


@pytest.mark.spec("W-4", "W-5", "W-6", "M-030", "M-031", "AGT-31", "W-I44")
async def test_a_refused_action_leaves_no_trace(api: httpx2.AsyncClient) -> None:
    await register(api)
    await register(api, "user", kind="user")
    before = await trace(api)
    for action, key, status in (
        ("restart", "nope", 404),
        ("explode", "nope", 400),
        ("explode", "a1", 400),
        (None, "a1", 400),
        (["restart"], "a1", 400),
        ("shutdown", "user", 400),
        ("resume", "a1", 400),
        ("interrupt", "a1", 400),
    ):
        answer = await act(api, action, key)
        assert (answer.status_code, list(answer.json())) == (status, ["error"]), (action, key)
    for body in (b"", b"[]", b"null", b"{", b'"restart"'):
        assert (await api.post("/api/agents/a1/actions", content=body)).status_code == 400
    assert await trace(api) == before


@pytest.mark.spec("W-13", "W-17", "W-18", "M-032", "AGT-31")
async def test_a_resume_needs_a_host_and_then_a_session(api: httpx2.AsyncClient) -> None:
    await register(api, status="offline")
    assert (await act(api, "resume")).status_code == 409
    await host(api)
    assert (await act(api, "resume")).status_code == 422
    event = {"status": "session started", "metadata": {"provider": "claude", "claudeResumeId": R}}
    await api.post("/api/agents/a1/heartbeat", json={"meta": {"timelineEvent": event}})
    await api.patch("/api/agents/a1/status", json={"status": "offline"})
    answer = await act(api, "resume")
    assert answer.status_code == 202
    assert (answer.json()["action"], answer.json()["command"]["type"]) == ("resume", "agent.restart")
    assert answer.json()["command"]["params"]["restartSpawn"]["providerArgs"] == ["--resume", R]


@pytest.mark.spec("W-20", "W-22", "AGT-31", "AGT-48", "AUTH-5")
async def test_the_scope_is_asked_last(limited_to: Callable[..., Any]) -> None:
    async with limited_to() as (root, nobody):
        await register(root)
        await register(root, "gone", status="offline")
        before = await trace(root)
        for action, key, status in (
            ("explode", "a1", 400),
            ("restart", "nope", 404),
            ("interrupt", "a1", 400),
            ("resume", "gone", 409),
            ("restart", "a1", 403),
        ):
            assert (await act(nobody, action, key)).status_code == status, (action, key)
        for body, key, status in (
            ({}, "nope", 400),
            ({"body": "hi"}, "nope", 404),
            ({"body": "hi"}, "gone", 422),
            ({"body": "hi"}, "a1", 403),
        ):
            assert (await prompt(nobody, body, key)).status_code == status, (body, key)
        assert await trace(root) == before
    async with limited_to("agent:write", "message:send") as (root, some):
        await register(root)
        assert (await act(some, "restart")).status_code == 202
        assert (await prompt(some, {"body": "hi"})).status_code == 201


@pytest.mark.spec("W-27", "W-28", "W-30", "W-31", "W-32", "AGT-48")
async def test_a_prompt_may_be_as_long_as_a_message(api: httpx2.AsyncClient) -> None:
    await register(api)
    text = "é" * 100_000
    answer = await prompt(api, {"body": text})
    assert answer.status_code == 201
    made = answer.json()
    assert made["ok"] is True
    command = (await api.get(f"/api/commands/{made['commandId']}")).json()
    assert command["params"] == {"body": text, "messageId": made["messageId"]}
    assert (await api.get(f"/api/messages/{made['messageId']}")).json()["body"] == text
    before = await trace(api)
    for body, key in (
        ({"body": text + "x"}, "a1"),
        ({"body": text + "x"}, "nope"),
        ({"body": ""}, "a1"),
        ([], "a1"),
    ):
        assert (await prompt(api, body, key)).status_code == 400
    assert await trace(api) == before


@pytest.mark.spec("W-I46")
async def test_a_prompt_is_not_delivered_besides(api: httpx2.AsyncClient) -> None:
    await register(api)
    number = (await prompt(api, {"body": "hi"})).json()["messageId"]
    taken = (await api.post("/api/agents/a1/deliveries", json={})).json()["deliveries"]
    assert taken == []
    unread = await api.get("/api/messages", params={"for": "a1", "unread": "true"})
    assert number not in [message["id"] for message in unread.json()]
    everything = await api.get("/api/messages", params={"for": "a1"})
    assert number in [message["id"] for message in everything.json()]


async def test_a_timeline_is_read_newest_first(api: httpx2.AsyncClient) -> None:
    await register(api)
    await api.patch("/api/agents/a1/status", json={"status": "busy"})
    event = {"status": "began", "id": "1", "timestamp": 1_700_000_000_123, "metadata": {"k": [1]}}
    await api.post("/api/agents/a1/heartbeat", json={"meta": {"timelineEvent": event}})
    newest, *rest = (await api.get("/api/agents/a1/timeline")).json()
    assert newest == {
        "id": newest["id"],
        "agentId": "a1",
        "at": 1_700_000_000_123,
        "status": "began",
        "metadata": {"k": [1]},
    }
    assert [entry["status"] for entry in rest] == ["busy", "idle"]
    back = await api.get("/api/agents/a1/timeline", params={"limit": 1, "before": newest["id"]})
    assert back.json() == rest[:1]
    for query, status in (
        ({"limit": 0}, 400),
        ({"limit": 501}, 400),
        ({"limit": 500}, 200),
        ({"before": "x"}, 400),
    ):
        assert (await api.get("/api/agents/a1/timeline", params=query)).status_code == status
    assert (await api.get("/api/agents/nope/timeline")).status_code == 404
    assert (await api.get("/api/agents/nope/timeline", params={"limit": 0})).status_code == 400
    bad = await api.post("/api/agents/a1/heartbeat", json={"meta": {"timelineEvent": {"id": "1"}}})
    assert bad.status_code == 400
    assert "meta.timelineEvent: status" in bad.json()["error"]


@pytest.mark.spec("AGT-43", "H-02")
async def test_a_spawn_goes_to_the_first_host_that_contains_the_directory(api: httpx2.AsyncClient) -> None:
    for name, base in (("h1", "/one"), ("h2", "/two"), ("h3", "/two")):
        await api.post("/api/orchestrators", json={"id": name, "hostname": name, "baseDir": base})
    answer = await api.post("/api/agents/spawn", json={"provider": "claude", "cwd": "/two/repo"})
    assert (answer.status_code, answer.json()["orchestratorId"]) == (202, "h2")
    nowhere = await api.post("/api/agents/spawn", json={"provider": "claude", "cwd": "/three"})
    assert nowhere.status_code == 400
    assert "/one" in nowhere.json()["error"]
