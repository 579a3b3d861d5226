"""Orphans, questions and terminals on a whole server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx2
import orjson
import pytest
import trio
from hostkit import Behaviour, HostApi, host_api, saying, silent

from relay.fleet import hosts

REPO = "/base/repo"


def tree(name: str, branch: str | None, path: str = "") -> dict[str, Any]:
    return {"path": path or f"/base/wt/{name}", "branch": branch, "headSha": f"sha-{name}"}


MAIN = tree("main", "main", REPO + "/.")
X, Y, Z = tree("x", "agent/x"), tree("y", "agent/y"), tree("z", "agent/z")
OTHERS = [MAIN, tree("q", "feature/q"), tree("d", None), {"branch": "agent/none"}, "nonsense"]


@pytest.fixture
async def host() -> AsyncIterator[HostApi]:
    async with host_api() as host:
        yield host


def probing(*worktrees: Any) -> Behaviour:
    return saying(200, orjson.dumps({"worktrees": list(worktrees)}).decode())


async def register(
    api: httpx2.AsyncClient, host: HostApi | None, name: str = "h1", base: str = "/base"
) -> None:
    where = {"apiUrl": host.url} if host else {}
    card = {"id": name, "hostname": "h", "baseDir": base, **where}
    assert (await api.post("/api/orchestrators", json=card)).status_code in (200, 201)


async def workspaces(api: httpx2.AsyncClient, *rows: tuple[str, str, str], host: str = "h1") -> None:
    """Rows of workspaces: id, worktree, repository."""
    agents = [
        {
            "agentId": f"a-{name}",
            "workspace": {
                "id": name,
                "mode": "isolated",
                "repoRoot": repo,
                "sourceCwd": repo,
                "worktreePath": path,
                "branch": f"agent/{name}",
            },
        }
        for name, path, repo in rows
    ]
    answer = await api.patch(f"/api/orchestrators/{host}/agents", json={"agents": agents})
    assert answer.status_code == 200


@pytest.fixture
async def known(api: httpx2.AsyncClient, host: HostApi) -> httpx2.AsyncClient:
    """Host h1, where y is lived in and z was abandoned."""
    await register(api, host)
    await workspaces(api, ("y", "/base/wt/y", REPO), ("z", "/base/wt/z", REPO))
    await api.post("/api/workspaces/z/actions", json={"action": "abandon"})
    host.behaviour = probing(X, Y, Z, *OTHERS)
    return api


@pytest.mark.spec("W-106")
async def test_without_a_host_there_is_nothing_to_list(api: httpx2.AsyncClient) -> None:
    for _ in range(2):
        answer = await api.get("/api/workspaces/orphans")
        assert (answer.status_code, answer.json()["orphans"]) == (200, [])
        assert answer.json()["reason"]
        await register(api, None)


async def everything(api: httpx2.AsyncClient) -> list[str]:
    lists = ("workspaces", "commands", "activity", "orchestrators")
    return [(await api.get(f"/api/{name}")).text for name in lists]


@pytest.mark.spec("W-107", "W-I23", "W-I25")
async def test_orphans_are_the_agents_worktrees_that_nobody_is_in(
    known: httpx2.AsyncClient, host: HostApi
) -> None:
    before = await everything(known)
    answer = await known.get("/api/workspaces/orphans")
    assert (answer.status_code, list(answer.json())) == (200, ["orphans"])
    assert answer.json()["orphans"] == [
        {
            "worktreePath": f"/base/wt/{name}",
            "repoRoot": REPO,
            "branch": f"agent/{name}",
            "headSha": f"sha-{name}",
            "hadTerminalRow": had,
        }
        for name, had in (("x", False), ("z", True))
    ]
    [asked] = host.asked
    assert asked.target == "/api/workspace/probe?path=%2Fbase%2Frepo"
    assert asked.headers["x-agent-relay-token"]
    assert await everything(known) == before


async def test_a_row_of_any_repository_protects_its_worktree(
    known: httpx2.AsyncClient, host: HostApi
) -> None:
    await workspaces(
        known,
        ("y", "/base/wt/y", REPO),
        ("other", "/base/wt/./x/", "/elsewhere/repo"),
    )
    found = (await known.get("/api/workspaces/orphans")).json()["orphans"]
    assert [orphan["branch"] for orphan in found] == ["agent/z"]


@pytest.mark.spec("W-108", "W-I26")
@pytest.mark.parametrize(
    "failing", [silent, saying(500, "{}"), saying(200, "<html>"), saying(200, "[]"), saying(200, "{}")]
)
async def test_a_host_that_fails_hides_no_orphans_of_others(
    known: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch, failing: Behaviour
) -> None:
    monkeypatch.setattr("relay.http.upstream.WITHIN", 0.5)
    async with host_api() as other:
        other.behaviour = failing
        await register(known, other, "h0", "/other")
        await workspaces(known, ("v", "/other/wt/v", "/other/repo"), host="h0")
        answer = await known.get("/api/workspaces/orphans")
        assert other.connections == 1
    assert [orphan["branch"] for orphan in answer.json()["orphans"]] == ["agent/x", "agent/z"]


async def test_a_host_that_lists_no_end_of_worktrees_holds_nobody_up(
    known: httpx2.AsyncClient, host: HostApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two portions everybody else has a turn."""
    host.behaviour = probing(*(tree(f"n{number}", "agent/n") for number in range(5_000)))
    turns, begun = 0, []

    def judged(*given: Any, judge: Callable[..., Any] = hosts.orphans) -> Any:
        begun.append(turns)
        return judge(*given)

    async def others() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    monkeypatch.setattr("relay.http.orphans.hosts.orphans", judged)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(others)
        answer = await known.get("/api/workspaces/orphans")
        nursery.cancel_scope.cancel()
    assert len(answer.json()["orphans"]) == 5_000
    assert len(begun) == 50
    assert len(set(begun)) >= 25, "in each round of the loop it is their turn before or after ours"


async def reclaim(api: httpx2.AsyncClient, **body: Any) -> httpx2.Response:
    return await api.post("/api/workspaces/orphans/reclaim", json=body)


@pytest.mark.spec("W-109")
async def test_an_orphan_is_reclaimed_by_its_host(known: httpx2.AsyncClient) -> None:
    answer = await reclaim(known, worktreePath="/base/wt/x", repoRoot=REPO, branch="agent/x")
    assert (answer.status_code, list(answer.json())) == (202, ["command"])
    command = answer.json()["command"]
    assert (command["type"], command["target"]) == ("workspace.cleanup", "orchestrator-h1")
    assert {"correlationId", "ttlMs"} & set(command) == set()
    params = {name: value for name, value in command["params"].items() if name != "requestedAt"}
    assert params == {
        "action": "cleanup",
        "worktreePath": "/base/wt/x",
        "repoRoot": REPO,
        "branch": "agent/x",
        "deleteBranch": True,
        "reclaim": True,
        "requestedBy": "dashboard",
    }
    [audit] = [
        each
        for each in (await known.get("/api/activity")).json()
        if each["clientId"].startswith("workspace-orphan-reclaim-")
    ]
    assert (audit["icon"], audit["body"], audit["meta"]) == ("ti-trash", "/base/wt/x", "agent/x")
    assert audit["metadata"]["commandId"] == command["id"]
    assert audit["metadata"]["authSub"] == "root"


@pytest.mark.spec("W-110", "W-111", "W-I24")
@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"worktreePath": "/base/wt/./y", "repoRoot": REPO}, 409),
        ({"worktreePath": "/base/wt", "repoRoot": REPO}, 409),
        ({"worktreePath": "/base/wt/x"}, 400),
        ({"repoRoot": REPO}, 400),
        ({"worktreePath": "x", "repoRoot": REPO}, 400),
        ({"worktreePath": REPO + "/", "repoRoot": REPO}, 400),
        ({"worktreePath": "/base/wt/x", "repoRoot": REPO, "branch": "main"}, 400),
        ({"worktreePath": "/" + "x" * 1_000, "repoRoot": REPO}, 400),
        ({"worktreePath": "/srv/wt/x", "repoRoot": "/srv/repo"}, 409),
    ],
)
async def test_what_is_not_reclaimed(known: httpx2.AsyncClient, body: Any, status: int) -> None:
    answer = await reclaim(known, **body)
    assert (answer.status_code, list(answer.json())) == (status, ["error"])
    assert (await known.get("/api/commands")).json() == []


@pytest.mark.spec("W-111")
async def test_a_host_that_is_away_reclaims_nothing(known: httpx2.AsyncClient) -> None:
    await known.patch("/api/agents/orchestrator-h1/status", json={"status": "offline"})

    async def offline() -> bool:
        return (await known.get("/api/orchestrators/h1")).json()["status"] == "offline"

    await eventually(offline)
    assert (await reclaim(known, worktreePath="/base/wt/x", repoRoot=REPO)).status_code == 409


@pytest.mark.spec("W-111")
async def test_the_scope_is_checked_before_the_body(limited_to: Callable[..., Any]) -> None:
    async with limited_to("workspace:read") as (_, reader):
        answer = await reader.post("/api/workspaces/orphans/reclaim", content=b"{broken")
        assert answer.json() == {"error": "forbidden"}
    async with limited_to("command:write") as (_, writer):
        assert (await writer.post("/api/workspaces/orphans/reclaim", content=b"{broken")).status_code == 400
        assert (await writer.post("/api/workspaces/orphans/reclaim", content=b"[]")).status_code == 400


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    with trio.fail_after(10):
        while not await condition():
            await trio.sleep(0.01)


# -- questions


async def agent(api: httpx2.AsyncClient, **card: Any) -> None:
    card = {"id": "a1", "meta": {"runnerManaged": True, "provider": "claude"}, **card}
    assert (await api.post("/api/agents", json=card)).status_code == 201


async def decide(api: httpx2.AsyncClient, **body: Any) -> httpx2.Response:
    return await api.post("/api/agents/a1/permission-decision", json=body)


@pytest.mark.parametrize("decision", ["approve", "approve-session", "deny", "abort"])
async def test_an_answer_is_a_command_to_the_runner(api: httpx2.AsyncClient, decision: str) -> None:
    await agent(api)
    answer = await decide(api, approvalId="q1", decision=decision, reason="because")
    assert (answer.status_code, answer.json()["ok"]) == (202, True)
    command = answer.json()["command"]
    assert (command["type"], command["target"]) == ("agent.permissionDecision", "a1")
    params = {name: command["params"][name] for name in ("approvalId", "decision", "reason")}
    assert params == {"approvalId": "q1", "decision": decision, "reason": "because"}
    assert (await api.get("/api/messages", params={"for": "a1"})).json() == [], "it is never a message"
    audits = [each["clientId"] for each in (await api.get("/api/activity")).json()]
    assert f"server-agent-a1-permission-{command['id']}" in audits


async def test_what_is_no_answer(api: httpx2.AsyncClient) -> None:
    assert (await decide(api, approvalId="q1", decision="deny")).status_code == 404
    await agent(api)
    for body in (
        {},
        {"approvalId": "q1"},
        {"decision": "deny"},
        {"approvalId": "", "decision": "deny"},
        {"approvalId": "q1", "decision": "maybe"},
        {"approvalId": "x" * 241, "decision": "deny"},
        {"approvalId": "q1", "decision": "deny", "reason": 1},
    ):
        assert (await decide(api, **body)).status_code == 400
    await api.patch("/api/agents/a1/status", json={"status": "offline"})
    assert (await decide(api, approvalId="q1", decision="deny")).status_code == 422
    assert (await api.get("/api/commands")).json() == []


async def test_an_answer_needs_the_scope(limited_to: Callable[..., Any]) -> None:
    async with limited_to("message:send") as (root, nobody):
        await agent(root)
        assert (await decide(nobody, approvalId="q1", decision="approve")).status_code == 403
        assert (await root.get("/api/commands")).json() == []


# -- terminals


@pytest.mark.spec("ORC-60")
async def test_a_terminal_is_opened_and_closed_by_the_host(api: httpx2.AsyncClient, host: HostApi) -> None:
    path = "/api/agents/a1/terminal-session"
    assert (await api.post(path)).status_code == 404
    await agent(api)
    assert (await api.post(path)).status_code == 422
    await register(api, None)
    await workspaces(api)
    await api.patch("/api/orchestrators/h1/agents", json={"agents": [{"agentId": "a1"}]})
    assert (await api.post(path)).status_code == 422
    await register(api, host)
    told = {"session": "ar-guest-1", "attach": {"command": ["tmux", "attach"]}}
    host.behaviour = saying(201, orjson.dumps(told).decode())
    answer = await api.post(path, json={"ttlMs": 60_000})
    assert (answer.status_code, answer.json()) == (201, told)
    assert (host.asked[-1].method, host.asked[-1].target) == ("POST", "/api/terminal-guests")
    assert orjson.loads(host.asked[-1].body) == {"agentId": "a1", "ttlMs": 60_000}
    host.behaviour = saying(200, '{"ok": true}')
    assert (await api.delete(f"{path}/ar-guest%2F1")).json() == {"ok": True}
    assert host.asked[-1].target == "/api/terminal-guests/ar-guest%2F1"
    notes = [each["clientId"] for each in (await api.get("/api/activity")).json()]
    assert any(note.startswith("server-agent-a1-terminal-opened-ar-guest-1-") for note in notes)
    assert any(note.startswith("server-agent-a1-terminal-closed-") for note in notes)
    host.behaviour = saying(422, '{"error": "there is no tmux"}')
    refused = await api.post(path, json={})
    assert (refused.status_code, refused.json()) == (422, {"error": "there is no tmux"})
    assert (await api.post(path, json={"ttlMs": 0})).status_code == 400
    assert (await api.post(path, json={"ttlMs": "long"})).status_code == 400


async def test_a_terminal_needs_the_scope(limited_to: Callable[..., Any]) -> None:
    async with limited_to("agent:read") as (root, nobody):
        await agent(root)
        assert (await nobody.post("/api/agents/a1/terminal-session")).status_code == 403
        assert (await nobody.delete("/api/agents/a1/terminal-session/s")).status_code == 403
