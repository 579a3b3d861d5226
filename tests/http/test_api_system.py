"""Maintenance and statistics on a whole server."""

from collections.abc import Callable
from typing import Any

import httpx2
import pytest
import trio

EMPTY: dict[str, Any] = {
    "ok": True,
    "reapedAgentIds": [],
    "reapedOrchestratorIds": [],
    "releasedMessageIds": [],
    "releasedTaskIds": [],
    "releasedOrphanedTaskIds": [],
    "expiredQueuedMessageIds": [],
    "expiredCommandIds": [],
}


@pytest.mark.spec("M-230", "SYS-10", "SYS-11")
@pytest.mark.parametrize("body", [b"", b"{", b'{"dryRun": true}'])
async def test_a_run_with_nothing_to_do_says_so_and_is_audited(api: httpx2.AsyncClient, body: bytes) -> None:
    answer = await api.post("/api/system/reap", content=body)
    assert (answer.status_code, answer.json()) == (200, EMPTY)
    (record,) = (await api.get("/api/activity")).json()
    assert record["clientId"].startswith("server-system-reap-")
    assert (record["kind"], record["icon"], record["view"]) == ("state", "ti-broom", "activity")


@pytest.mark.spec("M-139", "M-089", "MSG-30", "SYS-11")
async def test_a_run_names_what_it_ended(api: httpx2.AsyncClient) -> None:
    made = await api.post("/api/commands", json={"type": "t", "source": "s", "target": "x", "ttlMs": 1})
    body = {"from": "user", "to": "policy:p", "body": "x", "maxAgeSeconds": 0}
    queued = (await api.post("/api/messages", json=body)).json()
    report = (await api.post("/api/system/reap")).json()
    assert report["expiredQueuedMessageIds"] == [queued["id"]]
    with trio.fail_after(5):
        while not report["expiredCommandIds"]:
            report = (await api.post("/api/system/reap")).json()
    assert report["expiredCommandIds"] == [made.json()["id"]]
    assert (await api.get(f"/api/commands/{made.json()['id']}")).json()["status"] == "timed_out"
    assert (await api.post("/api/system/reap")).json() == EMPTY


async def test_whoever_runs_maintenance_needs_the_right_to(limited_to: Callable[..., Any]) -> None:
    async with limited_to("agent:write") as (_, some), limited_to("system:write") as (_, keeper):
        assert (await some.post("/api/system/reap")).status_code == 403
        assert (await some.get("/api/stats")).status_code == 403
        assert (await keeper.post("/api/system/reap")).status_code == 200


@pytest.mark.spec("SYS-1", "O-56")
async def test_statistics_say_how_everything_divides(api: httpx2.AsyncClient) -> None:
    for name, status in (("a1", "busy"), ("a2", "idle"), ("a3", "idle")):
        await api.post("/api/agents", json={"id": name, "status": status})
    for to in ("a1", "policy:p", "policy:q"):
        await api.post("/api/messages", json={"from": "user", "to": to, "body": "x"})
    expiring = {"from": "user", "to": "policy:p", "body": "x", "maxAgeSeconds": 0}
    await api.post("/api/messages", json=expiring)
    await api.post("/api/system/reap")
    command = {"type": "t", "source": "s", "target": "x"}
    await api.post("/api/commands", json=command)
    stats = (await api.get("/api/stats")).json()
    health = (await api.get("/api/health")).json()
    assert stats["counts"] == health["counts"]
    counts = stats["counts"]
    assert (counts["agents"], counts["messages"], counts["queuedMessages"]) == (3, 4, 2)
    assert (counts["tasks"], counts["deadLetters"], counts["pendingCommands"]) == (0, 0, 1)
    assert stats["messagesByDeliveryStatus"] == {"queued": 2, "available": 1, "expired": 1}
    assert stats["agentsByStatus"] == {"online": 0, "idle": 2, "busy": 1, "stale": 0, "offline": 0}
    assert set(stats["tasksByStatus"].values()) == {0}
    assert stats["commandsByStatus"]["pending"] == 1
