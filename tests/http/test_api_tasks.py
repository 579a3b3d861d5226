"""`/api/tasks` on a whole server."""

from typing import Any

import httpx2
import pytest


@pytest.fixture
async def task(api: httpx2.AsyncClient) -> dict[str, Any]:
    """A task for a1, which is there as a2 is."""
    for name in ("a1", "a2"):
        await api.post("/api/agents", json={"id": name})
    return await report(api, "a1", channel="c")


async def report(api: httpx2.AsyncClient, target: str, **event: Any) -> dict[str, Any]:
    answer = await api.post(
        "/api/integrations/events", json={"title": "build broken", "target": target, **event}
    )
    assert answer.status_code == 201, answer.text
    return dict(answer.json()["task"])


async def say(api: httpx2.AsyncClient, number: object, **body: Any) -> httpx2.Response:
    return await api.post(f"/api/tasks/{number}/status", json=body)


@pytest.mark.spec("M-111", "TSK-12", "O-27")
async def test_tasks_are_listed_and_found(api: httpx2.AsyncClient, task: dict[str, Any]) -> None:
    assert (task["id"], task["source"], task["target"], task["status"]) == (1, "root", "a1", "open")
    for query in (
        {},
        {"status": "open"},
        {"source": "root"},
        {"target": "a1"},
        {"channel": "c"},
        {"limit": "500"},
    ):
        assert (await api.get("/api/tasks", params=query)).json() == [task]
    for query in ({"status": "done"}, {"source": "x"}, {"claimedBy": "a1"}):
        assert (await api.get("/api/tasks", params=query)).json() == []
    for query in ({"status": "ended"}, {"limit": "0"}, {"limit": "501"}, {"target": "x" * 241}):
        answer = await api.get("/api/tasks", params=query)
        assert (answer.status_code, next(iter(query)) in answer.json()["error"]) == (400, True)


@pytest.mark.spec("TSK-5", "TSK-8", "MSG-29a")
async def test_a_task_is_claimed_and_done(api: httpx2.AsyncClient, task: dict[str, Any]) -> None:
    held = (await api.post("/api/tasks/1/claim", json={"agentId": "a1"})).json()
    assert held["ok"]
    assert held["task"] == (await api.get("/api/tasks/1")).json()
    assert held["claimExpiresAt"] == (await api.get("/api/messages/1")).json()["claimExpiresAt"]
    done = await say(api, 1, status="done", agentId="a1", body="built", metadata={"run": 8})
    assert (done.status_code, done.json()["status"]) == (200, "done")
    assert "claimedBy" not in done.json()
    history = (await api.get("/api/tasks/1/events")).json()
    assert [(each["type"], each["status"]) for each in history] == [
        ("created", "open"), ("claimed", "claimed"), ("status", "done"),
    ]  # fmt: skip
    assert (history[2]["agentId"], history[2]["body"], history[2]["metadata"]) == ("a1", "built", {"run": 8})
    assert all(each["taskId"] == 1 and each["at"] for each in history)
    assert (await say(api, 1, status="done")).status_code == 200
    assert (await say(api, 1, status="failed")).status_code == 409
    assert (await api.post("/api/messages/1/claim", json={"agentId": "a1"})).status_code == 409


@pytest.mark.spec("TSK-4", "TSK-6", "M-I29")
async def test_what_is_wrong_is_refused_and_changes_nothing(
    api: httpx2.AsyncClient, task: dict[str, Any]
) -> None:
    await api.post("/api/tasks/1/claim", json={"agentId": "a1"})
    before = (await api.get("/api/tasks/1/events")).json()
    wrong: list[tuple[int, Any]] = [
        (400, []),
        (400, "done"),
        (400, {}),
        (400, {"status": "finished"}),
        (400, {"status": None}),
        (400, {"status": "done", "agentId": 1}),
        (400, {"status": "done", "agentId": "x" * 241}),
        (400, {"status": "done", "body": "x" * 100_001}),
        (400, {"status": "done", "metadata": []}),
        (400, {"status": "done", "metadata": {"x": "x" * 65_536}}),
        (409, {"status": "done", "agentId": "a2"}),
        (409, {"status": "orphaned", "agentId": "a1"}),
    ]
    for status, body in wrong:
        answer = await api.post("/api/tasks/1/status", json=body)
        assert (answer.status_code, bool(answer.json()["error"])) == (status, True), body
    for body in ({}, {"agentId": ""}, {"agentId": "x" * 241}):
        assert (await api.post("/api/tasks/1/claim", json=body)).status_code == 400
    assert (await api.post("/api/tasks/1/claim", json={"agentId": "a2"})).status_code == 403
    assert (await api.get("/api/tasks/1/events")).json() == before


@pytest.mark.spec("TSK-4")
async def test_everything_a_report_may_hold_is_taken(api: httpx2.AsyncClient, task: dict[str, Any]) -> None:
    metadata = {"x": "x" * (65_536 - len('{"x":""}'))}
    answer = await say(api, 1, status="done", agentId="x" * 240, body="x" * 100_000, metadata=metadata)
    assert answer.status_code == 200
    (_, entry) = (await api.get("/api/tasks/1/events")).json()
    assert (len(entry["agentId"]), len(entry["body"]), entry["metadata"]) == (240, 100_000, metadata)


@pytest.mark.parametrize("path", ["", "/events"])
async def test_an_unknown_task_is_404_and_no_number_is_400(api: httpx2.AsyncClient, path: str) -> None:
    assert (await api.get(f"/api/tasks/9{path}")).status_code == 404
    for number in ("0", "-1", "1.5", "x"):
        assert (await api.get(f"/api/tasks/{number}{path}")).status_code == 400
    assert (await say(api, 9, status="done")).status_code == 404
    assert (await say(api, "x", status="done")).status_code == 400
    assert (await api.post("/api/tasks/9/claim", json={"agentId": "a1"})).status_code == 404


@pytest.mark.spec("MSG-29b")
async def test_rivals_for_a_task_get_409(api: httpx2.AsyncClient) -> None:
    for name in ("a1", "a2"):
        await api.post("/api/agents", json={"id": name, "tags": ["t"]})
    await report(api, "tag:t")
    assert (await api.post("/api/messages/1/claim", json={"agentId": "a1"})).status_code == 200
    for path in ("tasks", "messages"):
        answer = await api.post(f"/api/{path}/1/claim", json={"agentId": "a2"})
        assert (answer.status_code, "a1" in answer.json()["error"]) == (409, True)
