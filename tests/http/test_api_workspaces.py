"""`/api/workspaces` and `/api/merge-leases` on a whole server."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import httpx2
import pytest
import trio
from quart import Response, request
from quart_trio import QuartTrio
from rawhttp import serving

from relay.http.host_tokens import host_token

WORKTREE = {
    "id": "w1",
    "mode": "isolated",
    "repoRoot": "/base/repo",
    "sourceCwd": "/base/repo",
    "worktreePath": "/base/repo-w1",
    "branch": "agent/a1/w1",
    "baseRef": "main",
    "baseSha": "b0",
}
SHARED = {"id": "ws", "mode": "shared", "repoRoot": "/base/repo", "sourceCwd": "/base/repo"}


async def set_up(api: httpx2.AsyncClient, **host: Any) -> None:
    """Host h1 with an agent in the worktree w1 and one in the shared workspace ws."""
    card = {"id": "h1", "hostname": "h", "baseDir": "/base", **host}
    await api.post("/api/orchestrators", json=card)
    agents = [{"agentId": "a1", "workspace": WORKTREE}, {"agentId": "a2", "workspace": SHARED}]
    answer = await api.patch("/api/orchestrators/h1/agents", json={"agents": agents})
    assert answer.status_code == 200


@pytest.fixture
async def api(api: httpx2.AsyncClient) -> httpx2.AsyncClient:
    await set_up(api)
    return api


async def act(api: httpx2.AsyncClient, name: str, **body: Any) -> httpx2.Response:
    return await api.post(f"/api/workspaces/{name}/actions", json=body)


async def status_of(api: httpx2.AsyncClient, name: str) -> str:
    return str((await api.get(f"/api/workspaces/{name}")).json()["status"])


async def test_workspaces_are_listed_and_filtered(api: httpx2.AsyncClient) -> None:
    async def listed(**query: str) -> list[str]:
        return [row["id"] for row in (await api.get("/api/workspaces", params=query)).json()]

    assert await listed() == ["w1", "ws"]
    assert await listed(agentId="a1") == ["w1"]
    assert await listed(repoRoot="/base/repo", status="active") == ["w1", "ws"]
    assert await listed(status="merged") == []
    assert (await api.get("/api/workspaces", params={"status": "gone"})).status_code == 400
    assert (await api.get("/api/workspaces/none")).status_code == 404
    assert "orphans" in (await api.get("/api/workspaces/orphans")).json()  # no workspace of that name (COM-9)


@pytest.mark.spec("W-52", "W-53", "W-54")
async def test_actions_without_a_command_answer_the_workspace(api: httpx2.AsyncClient) -> None:
    bare = await act(api, "w1", action="status")
    assert (bare.status_code, bare.json()) == (200, (await api.get("/api/workspaces/w1")).json())
    ready = await act(api, "w1", action="ready", agentId="a1", detail="done")
    assert ready.status_code == 200
    assert ready.json()["workspace"]["metadata"] == {"detail": "done", "updatedByAgentId": "a1"}
    for action, status in [
        ("conflict-found", "conflict"),
        ("request-review", "review_requested"),
        ("merge-plan", "merge_planned"),
        ("abandon", "abandoned"),
    ]:
        answer = await act(api, "w1", action=action)
        assert (answer.status_code, list(answer.json())) == (200, ["workspace"])
        assert await status_of(api, "w1") == status
    assert (await api.get("/api/commands")).json() == []


@pytest.mark.spec("W-55", "W-56", "W-59", "W-74")
@pytest.mark.parametrize(
    ("name", "body", "status"),
    [
        ("none", {"action": "bogus"}, 404),
        ("w1", {"action": "bogus"}, 400),
        ("w1", {}, 400),
        ("ws", {"action": "merge"}, 422),
        ("ws", {"action": "cleanup"}, 422),
        ("w1", {"action": "ready", "detail": "x" * 4_001}, 400),
        ("w1", {"action": "merge", "strategy": "squash"}, 400),
        ("w1", {"action": "merge", "prTitle": "x" * 241}, 400),
        ("w1", {"action": "merge", "prBody": "x" * 8_001}, 400),
        ("w1", {"action": "ready", "metadata": []}, 400),
    ],
)
async def test_actions_that_do_not_fit_leave_no_trace(
    api: httpx2.AsyncClient, name: str, body: Any, status: int
) -> None:
    answer = await act(api, name, **body)
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]
    assert await status_of(api, "w1") == "active"
    assert (await api.get("/api/merge-leases")).json() == []
    assert (await api.get("/api/commands")).json() == []


@pytest.mark.spec("W-69", "W-72", "W-77", "W-I1")
async def test_a_merge_takes_the_lease_of_its_repository_until_it_is_settled(api: httpx2.AsyncClient) -> None:
    merge = await act(api, "w1", action="merge")
    assert merge.status_code == 202
    command = merge.json()["command"]
    assert (command["type"], command["correlationId"]) == ("workspace.merge", "w1")
    assert merge.json()["workspace"]["status"] == "merge_planned"
    (lease,) = (await api.get("/api/merge-leases")).json()
    assert (lease["repoRoot"], lease["workspaceId"], lease["commandId"]) == (
        "/base/repo",
        "w1",
        command["id"],
    )
    assert (await act(api, "w1", action="merge")).status_code == 409
    outcome = {"status": "succeeded", "result": {"workspaceId": "w1", "status": "merged"}}
    assert (await api.patch(f"/api/commands/{command['id']}", json=outcome)).status_code == 200
    assert await status_of(api, "w1") == "merged"
    assert (await api.get("/api/merge-leases")).json() == []


@pytest.mark.spec("W-60")
async def test_a_cleanup_becomes_a_command(api: httpx2.AsyncClient) -> None:
    answer = await act(api, "w1", action="cleanup")
    assert answer.status_code == 202
    assert answer.json()["command"]["params"]["requestedBy"] == "dashboard"
    assert answer.json()["workspace"]["status"] == "cleanup_requested"


@pytest.mark.spec("W-67")
async def test_a_deleted_record_is_answered_once(api: httpx2.AsyncClient) -> None:
    answer = await api.delete("/api/workspaces/w1")
    assert answer.json()["deleted"] is True
    assert answer.json()["workspace"]["id"] == "w1"
    assert (await api.delete("/api/workspaces/w1")).status_code == 404


@pytest.mark.spec("W-57", "W-58", "W-68")
async def test_scopes_are_checked_where_the_specification_places_them(limited_to: Callable[..., Any]) -> None:
    async with limited_to() as (root, nobody):
        await set_up(root)
        assert (await act(nobody, "none", action="merge")).status_code == 404
        assert (await act(nobody, "w1", action="bogus")).status_code == 400
        assert (await act(nobody, "ws", action="merge")).status_code == 422
        assert (await act(nobody, "w1", action="merge")).json() == {"error": "forbidden"}
        assert (await nobody.delete("/api/workspaces/none")).status_code == 403
    async with limited_to("agent:write") as (root, writer):
        await set_up(root)
        assert (await act(writer, "w1", action="ready")).status_code == 200
        assert (await act(writer, "w1", action="merge")).status_code == 403
        assert (await act(writer, "w1", action="cleanup")).status_code == 403


@attrs.define
class Host:
    """A host API that answers as it is told and remembers what it was asked."""

    port: int = 0
    asked: list[tuple[str, dict[str, str], str | None]] = attrs.field(factory=list)
    answer: tuple[int, str] = (200, '{"branch": "agent/a1/w1"}')
    silent: bool = False


@asynccontextmanager
async def host_api() -> AsyncIterator[Host]:
    host, app = Host(), QuartTrio(__name__, static_folder=None)

    @app.get("/api/workspace/<what>")
    async def asked(what: str) -> Response:
        host.asked.append((what, dict(request.args), request.headers.get("X-Agent-Relay-Token")))
        if host.silent:
            await trio.sleep_forever()
        return Response(host.answer[1], host.answer[0], content_type="application/json")

    async with serving(app) as port:
        host.port = port
        yield host


@pytest.mark.spec("W-101", "W-102", "W-104", "W-105")
async def test_the_host_is_asked_and_its_answer_passed_on(server: Any, api: httpx2.AsyncClient) -> None:
    async with host_api() as host:
        await set_up(api, apiUrl=f"http://127.0.0.1:{host.port}/")
        state = await api.get("/api/workspaces/w1/git-state")
        assert (state.status_code, state.json()) == (200, {"branch": "agent/a1/w1"})
        known = {"path": "/base/repo-w1", "baseRef": "main", "baseSha": "b0"}
        token = host_token((server.home / "host-key").read_text().strip(), "h1")
        assert host.asked.pop() == ("state", known, token), "the token of that host, and never relay's own"
        host.answer = (400, '{"error": "no"}')
        preview = await api.get("/api/workspaces/w1/merge-preview", params={"strategy": "pr"})
        assert (preview.status_code, preview.text) == (400, '{"error": "no"}')
        assert host.asked.pop()[:2] == ("merge-preview", {**known, "strategy": "pr"})
        await api.get("/api/workspaces/w1/merge-preview")
        assert host.asked.pop()[1] == known
        await api.get("/api/workspaces/w1/diff", params={"patch": "0"})
        assert host.asked.pop()[:2] == ("diff", {**known, "patch": "0"})
        await api.get("/api/workspaces/w1/diff", params={"patch": "1"})
        assert host.asked.pop()[1] == known


@pytest.mark.spec("W-98", "W-99", "W-100")
async def test_a_host_that_cannot_be_asked_is_an_answer_with_a_reason(api: httpx2.AsyncClient) -> None:
    async def reason(name: str) -> str:
        answer = await api.get(f"/api/workspaces/{name}/git-state")
        assert answer.status_code == 200
        assert answer.json()["available"] is False
        return str(answer.json()["reason"])

    assert (await api.get("/api/workspaces/none/git-state")).status_code == 404
    assert "worktree" in await reason("ws")
    assert "offline" in await reason("w1")
    with trio.socket.socket() as unused:
        await unused.bind(("127.0.0.1", 0))
        await set_up(api, apiUrl=f"http://127.0.0.1:{unused.getsockname()[1]}")
        assert "cannot be reached" in await reason("w1")


@pytest.mark.spec("W-103")
async def test_a_host_that_does_not_answer_is_given_up(
    api: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.http.upstream.WITHIN", 0.1)
    async with host_api() as host:
        host.silent = True
        await set_up(api, apiUrl=f"http://127.0.0.1:{host.port}")
        answer = await api.get("/api/workspaces/w1/git-state")
        assert (answer.status_code, answer.json()["available"]) == (200, False)


async def test_stewards_are_those_who_say_so_where_they_work(api: httpx2.AsyncClient) -> None:
    async def stewards() -> list[tuple[str, str, str]]:
        found = (await api.get("/api/repo-stewards")).json()
        assert all(isinstance(each["updatedAt"], int) for each in found)
        return [(each["repoRoot"], each["agentId"], each["status"]) for each in found]

    for name, capabilities in (("a1", ["code"]), ("a3", ["steward"])):
        await api.post("/api/agents", json={"id": name, "capabilities": capabilities})
    assert await stewards() == [], "nobody who is a steward works anywhere"
    await api.post("/api/agents", json={"id": "a2", "capabilities": ["steward", "code"], "status": "idle"})
    assert await stewards() == [("/base/repo", "a2", "idle")]
    await api.post("/api/agents", json={"id": "a1", "capabilities": ["steward"]})
    assert await stewards() == [("/base/repo", "a1", "online")], "who has been there for longest"
    await api.patch("/api/agents/a1/status", json={"status": "offline"})
    assert await stewards() == [("/base/repo", "a2", "idle")]
    await api.delete("/api/agents/a2")
    assert await stewards() == []
