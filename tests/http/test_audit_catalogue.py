"""Both catalogues of the contract, row by row, against what the server writes (messaging-control 21, agents-workspaces 16).

One story makes each row's record happen, over HTTP, with time that the test moves on. What the contract leaves open is
`ANY`; a dash there is None here. Metadata may name the caller besides, and must where the row says so (`auth`).
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import attrs
import httpx2
import pytest
from rawhttp import serving
from trio.testing import MockClock

from relay.actors import System, open_system, virtual_wall
from relay.fleet import open_fleet
from relay.http.api import table
from relay.http.auth import ROOT, Authenticator
from relay.http.edge import Edge
from relay.http.guard import Guard
from relay.http.upstream import open_upstream
from relay.store import open_store

ANY = object()
AUTH = {"authSub", "authRole"}
MS, CMD = r"\d{13}", r"cmd_\w+"


@attrs.frozen(kw_only=True)
class Row:
    client_id: str
    metadata: set[str] | None = None
    auth: bool = False
    kind: str = "state"
    body: Any = None
    meta: Any = None
    icon: Any = None
    view: Any = None
    agent: str | None = None
    message: bool = False
    also: frozenset[str] = frozenset()
    """Members of the metadata that the contract does not name."""


def row(client_id: str, **rest: Any) -> Row:
    return Row(client_id=client_id, **rest)


HOST = {"view": "orchestrators", "meta": "h1"}
WORKSPACE = {
    "view": "orchestrators",
    "meta": "agent/w1",
    "metadata": {"action", "workspaceId", "repoRoot", "worktreePath", "status"},
    "auth": True,
}

MESSAGING = [
    row(rf"server-agent-a1-registered-{MS}", meta="a1", agent="a1"),
    row(rf"server-agent-a1-status-{MS}", meta="a1", agent="a1"),
    row(
        rf"server-agent-a1-label-{MS}",
        body="build",
        meta="a1",
        icon="ti-tag",
        view="chat",
        agent="a1",
        metadata={"field", "previous", "next"},
    ),
    row(
        rf"server-agent-a1-tags-{MS}",
        body="x, y",
        meta="a1",
        icon="ti-tags",
        view="chat",
        agent="a1",
        metadata={"field", "previous", "next"},
    ),
    row(
        rf"server-agent-spawn-claude-{MS}",
        body="/base",
        meta="h1",
        icon="ti-plus",
        view="agents",
        metadata={"provider", "orchestratorId", "approvalMode", "commandId"},
        also=frozenset({"label"}),
    ),
    row(
        rf"server-agent-lost-heartbeat-lost-{MS}",
        body="marked offline",
        meta="lost",
        icon="ti-heart-off",
        view="chat",
        agent="lost",
    ),
    row(r"server-message-1", kind="message", message=True, view=ANY, agent="user"),
    row(rf"server-orchestrator-register-h1-{MS}", body=ANY, meta=ANY, icon=ANY, view="orchestrators"),
    row(
        rf"server-orchestrator-spawn-h1-{CMD}",
        body="/base/x",
        icon="ti-plus",
        metadata={"orchestratorId", "provider", "approvalMode", "label", "commandId"},
        **HOST,
    ),
    row(
        rf"server-orchestrator-action-h1-restart-{CMD}",
        body="a1",
        icon="ti-refresh",
        metadata={"orchestratorId", "action", "agentId", "commandId"},
        **HOST,
    ),
    row(
        rf"server-orchestrator-action-h1-shutdown-{CMD}",
        body="all",
        icon="ti-power",
        metadata={"orchestratorId", "action", "agentId", "commandId"},
        **HOST,
    ),
    row(
        r"server-recipe-start-\w+",
        body="debug",
        meta=ANY,
        icon="ti-play",
        view="activity",
        metadata={"recipeInstanceId", "commands"},
    ),
    row(
        rf"server-recipe-stop-\w+-{MS}",
        body="debug",
        meta=ANY,
        icon="ti-player-stop",
        view="activity",
        metadata={"recipeInstanceId", "commands"},
    ),
    row(rf"server-system-reap-{MS}", body=ANY, icon="ti-broom", view="activity"),
]

ACTIONS = [
    row(
        rf"server-agent-a1-action-{action}-{CMD}",
        body=action, meta="a1", icon=icon, view="agents", agent="a1", metadata={"action", "commandId"}, auth=True,
    )
    for action, icon in (
        ("restart", "ti-refresh"),
        ("resume", "ti-player-play"),
        ("shutdown", "ti-power"),
        ("reconnect", "ti-refresh"),
        ("compact", "ti-compress"),
        ("clearContext", "ti-eraser"),
        ("interrupt", "ti-player-stop"),
    )
]  # fmt: skip

WORKSPACES = [
    *ACTIONS,
    row(rf"server-agent-a1-action-restart-{CMD}-succeeded", body=ANY, meta="a1", icon="ti-refresh", view="agents", agent="a1", metadata={"action", "commandId", "status", "error"}),
    row(rf"server-agent-a1-action-shutdown-{CMD}-failed", body=ANY, meta="a1", icon="ti-power", view="agents", agent="a1", metadata={"action", "commandId", "status", "error"}),
    row(r"server-prompt-inject-\d+", kind="message", body="do it", meta="user -> a1", icon="ti-message-bolt", view="messages", agent="a1", message=True),
    row(rf"server-orchestrator-upgrade-h1-{CMD}", body="0.12.0 → 0.13.0", icon="ti-arrow-up-circle", metadata={"orchestratorId", "targetVersion", "providers", "commandId"}, auth=True, **HOST),
    row(rf"server-orchestrator-upgraded-h1-{MS}", body="0.12.0 → 0.13.0", icon="ti-arrow-up-circle", metadata={"orchestratorId", "version", "commandId"}, **HOST),
    row(rf"server-orchestrator-upgrade-failed-h1-{MS}", body=ANY, icon="ti-alert-triangle", metadata={"orchestratorId", "commandId"}, **HOST),
    row(rf"workspace-orphan-reclaim-{MS}", body="/base/wt/x", meta="agent/x", icon="ti-trash", view="orchestrators", metadata={"worktreePath", "repoRoot", "branch", "commandId"}, auth=True),
    row(rf"workspace-merge-w1-{MS}", body="please", icon="ti-git-merge", agent="a1", also=frozenset({"commandId"}), **WORKSPACE),
    row(rf"workspace-ready-w1-{MS}", body="/base/wt/w1", icon="ti-git-branch", agent="a1", **WORKSPACE),
    row(rf"workspace-conflict-found-w1-{MS}", body="/base/wt/w1", icon="ti-alert-triangle", **WORKSPACE),
    row(rf"workspace-request-review-w1-{MS}", body="/base/wt/w1", icon="ti-git-branch", **WORKSPACE),
    row(rf"workspace-merge-plan-w1-{MS}", body="/base/wt/w1", icon="ti-git-branch", **WORKSPACE),
    row(rf"workspace-abandon-w1-{MS}", body="/base/wt/w1", icon="ti-git-branch", **WORKSPACE),
    row(rf"workspace-cleanup-w1-{MS}", body="/base/wt/w1", icon="ti-trash", also=frozenset({"commandId"}), **WORKSPACE),
    row(rf"workspace-reconcile-removed-w2-{MS}", body="/base/wt/w2", meta="agent/w2", icon="ti-trash", view="orchestrators", metadata={"reconcileCommandId", "workspaceId", "repoRoot"}),
    row(rf"workspace-delete-w1-{MS}", body="/base/wt/w1", meta="agent/w1", icon="ti-trash", view="orchestrators", metadata={"workspaceId", "repoRoot", "worktreePath", "status", "diskUntouched"}, auth=True),
    row(rf"server-runner-token-remint-\w+-{MS}", body="runner:a1", meta=ANY, icon="ti-key", view="security", metadata={"orchestratorId", "jti", "sub"}, auth=True, also=frozenset({"profileId"})),
]  # fmt: skip

CATALOGUE = [*MESSAGING, *WORKSPACES]

ABLE = {
    "lifecycle": dict.fromkeys(("restartHard", "shutdownHard", "reconnect"), True),
    "context": {"compact": True, "clear": True},
    "liveSession": {"interrupt": True},
    "model": {"provider": "claude"},
}
RESUMABLE = "11111111-2222-3333-4444-555555555555"


class Story:
    def __init__(self, api: httpx2.AsyncClient, clock: MockClock, system: System) -> None:
        self.api = api
        self.clock = clock
        self.system = system

    async def call(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        answer = await self.api.request(method, f"/api/{path}", json=body, headers=headers or None)
        assert answer.status_code < 300, (method, path, answer.text)
        return answer.json()

    async def post(self, path: str, **body: Any) -> Any:
        return await self.call("POST", path, body)

    async def settle(self, command: dict[str, Any], status: str, **more: Any) -> None:
        await self.call("PATCH", f"commands/{command['id']}", {"status": status, **more})

    async def online(self, **host: Any) -> Any:
        self.clock.jump(0.01)
        card = {"id": "h1", "hostname": "h", "baseDir": "/base", "version": "0.12.0", "contracts": {}, **host}
        return await self.post("orchestrators", **card)

    async def agents(self) -> None:
        await self.post("agents", id="lost")
        await self.post(
            "agents", id="a1", meta={"runnerManaged": True, "provider": "claude"}, providerCapabilities=ABLE
        )
        await self.call("PATCH", "agents/a1/status", {"status": "idle"})
        await self.call("PATCH", "agents/a1/label", {"label": "build"})
        await self.call("PATCH", "agents/a1/tags", {"tags": ["x", "y"]})
        await self.post("messages", **{"from": "user", "to": "a1", "body": "hello"})
        await self.post("agents/a1/prompt", body="do it")

    async def actions(self) -> None:
        restart = (await self.post("agents/a1/actions", action="restart"))["command"]
        await self.settle(restart, "succeeded")
        shutdown = (await self.post("agents/a1/actions", action="shutdown"))["command"]
        await self.settle(shutdown, "failed", error="no")
        for action in ("reconnect", "compact", "clearContext"):
            await self.post("agents/a1/actions", action=action)
        await self.call("PATCH", "agents/a1/status", {"status": "busy"})
        await self.post("agents/a1/actions", action="interrupt")

    async def hosts(self) -> None:
        await self.online()
        await self.post("agents/spawn", provider="claude")
        await self.post("orchestrators/h1/spawn", provider="claude", cwd="/base/x", label="l")
        await self.post("orchestrators/h1/actions", action="restart", agentId="a1")
        await self.post("orchestrators/h1/actions", action="shutdown")
        await self.post("orchestrators/h1/actions", action="upgrade", targetVersion="0.13.0")
        await self.post("orchestrators/h1/heartbeat", version="0.13.0")
        await self.post("orchestrators/h1/actions", action="upgrade", targetVersion="0.14.0")
        made = (await self.post("recipes/start", name="debug"))["instance"]
        await self.post(f"recipes/instances/{made['id']}/stop")

    async def workspaces(self) -> None:
        def worktree(name: str, agent: str) -> Any:
            known = {"id": name, "mode": "isolated", "repoRoot": "/base/repo", "sourceCwd": "/base/repo"}
            place = {"worktreePath": f"/base/wt/{name}", "branch": f"agent/{name}", "baseRef": "main"}
            return {"agentId": agent, "workspace": known | place}

        both = [worktree("w1", "a1"), worktree("w2", "a2")]
        await self.call("PATCH", "orchestrators/h1/agents", {"agents": both})
        merge = (await self.act("merge", agentId="a1", detail="please"))["command"]
        await self.settle(merge, "failed", error="no")
        await self.act("ready", agentId="a1")
        for action in ("conflict-found", "request-review", "merge-plan", "abandon", "cleanup"):
            await self.act(action)
        ended = [{"agentId": "a2", "exitCode": 0}]
        await self.call("PATCH", "orchestrators/h1/agents", {"agents": both[:1], "exited": ended})
        asked = await self.call("GET", "commands?type=workspace.reconcile")
        result = {"workspaceId": "w2", "status": "cleaned", "removed": True}
        await self.settle(asked[0], "succeeded", result=result)
        await self.call("DELETE", "workspaces/w1")
        await self.post(
            "workspaces/orphans/reclaim", worktreePath="/base/wt/x", repoRoot="/base/repo", branch="agent/x"
        )

    async def act(self, action: str, **body: Any) -> Any:
        return await self.post("workspaces/w1/actions", action=action, **body)

    async def tokens(self) -> None:
        known = {
            "role": "provider",
            "sub": "runner:a1",
            "constraints": {"agents": ["a1"], "orchestrators": ["h1"]},
        }
        token = (await self.post("tokens", ttlSeconds=3_600, **known))["token"]
        await self.post("orchestrators/h1/runner-token", token=token)

    async def time(self) -> None:
        """An upgrade is late, and an agent is not heard of for long."""
        for _ in range(65):
            self.clock.jump(5)
            await self.system.idle()
            await self.post("orchestrators/h1/heartbeat", version="0.13.0")
            await self.post("agents/a1/heartbeat")
        await self.post("system/reap")
        reported = {
            "id": "e1",
            "status": "idle",
            "metadata": {"provider": "claude", "claudeResumeId": RESUMABLE},
        }
        meta = {"runnerManaged": True, "provider": "claude", "timelineEvent": reported}
        await self.post("agents", id="a1", status="offline", meta=meta)

    async def records(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = await self.call("GET", "activity?limit=500")
        return found


@pytest.fixture
async def story(mock_clock: MockClock) -> AsyncIterator[Story]:
    async with (
        open_system(wall=virtual_wall(), seed=1) as system,
        open_store(None, system) as store,
        open_fleet(system, store) as fleet,
        open_upstream("root") as upstream,
    ):
        edge = Edge(fleet, table(), Authenticator({"root": ROOT}), upstream, answer_within=10.0)
        async with serving(Guard(edge)) as port:
            url, headers = f"http://127.0.0.1:{port}", {"X-Agent-Relay-Token": "root"}
            async with httpx2.AsyncClient(base_url=url, headers=headers, trust_env=False) as api:
                yield Story(api, mock_clock, system)


def wrong(row: Row, record: dict[str, Any]) -> list[str]:
    """What of the record is not as the row says."""
    expected = {
        "kind": row.kind,
        "body": row.body,
        "meta": row.meta,
        "icon": row.icon,
        "view": row.view,
        "agentId": row.agent,
    }
    found = [
        f"{name} is {record.get(name)!r}, not {value!r}"
        for name, value in expected.items()
        if value is not ANY and record.get(name) != value
    ]
    known = set(record.get("metadata") or {})
    least = (row.metadata or set()) | (AUTH if row.auth else set())
    if not least <= known <= least | row.also | AUTH | {"authJti"}:
        found.append(f"metadata has {sorted(known)}, not {sorted(least)}")
    if bool(record.get("messageId")) is not row.message:
        found.append(f"messageId is {record.get('messageId')}")
    return found if record["title"] else [*found, "no title"]


@pytest.mark.spec("ACT-3", "W-I39", "M-I32", "AGT-37", "AGT-45", "AGT-49", "AGT-51", "ORC-42", "ORC-44")
async def test_every_row_of_both_catalogues_is_written_as_it_says(
    story: Story, mock_clock: MockClock
) -> None:
    await story.agents()
    await story.actions()
    await story.hosts()
    await story.workspaces()
    await story.tokens()
    await story.time()
    await story.post("agents/a1/actions", action="resume")
    records = await story.records()
    problems = []
    for row in CATALOGUE:
        found = [record for record in records if re.fullmatch(row.client_id, record["clientId"])]
        if not found:
            problems.append(f"{row.client_id}: nothing is on record")
        problems += [f"{row.client_id}: {each}" for record in found[-1:] for each in wrong(row, record)]
    assert not problems, "\n".join(problems)
    assert len({record["clientId"] for record in records}) == len(records)


OTHERS = [
    r"server-agent-(a2|lost|orchestrator-h1)-(registered|status)-\d{13}",
    r"server-token-(create|mint)-\w+-\d{13}",
]
"""Of the same story, but of no row: other agents than the rows are about, and what tokens are on record for (tokens.md)."""


@pytest.mark.spec("W-I39", "ACT-3")
async def test_nothing_else_is_on_record_and_nothing_that_is_secret(
    story: Story, mock_clock: MockClock
) -> None:
    secrets = ["root"]
    told = story.call

    async def call(*arguments: Any, **headers: str) -> Any:
        answer = await told(*arguments, **headers)
        if isinstance(answer, dict) and isinstance(answer.get("token"), str):
            secrets.append(answer["token"])
        return answer

    story.call = call  # type: ignore[method-assign]
    for part in (story.agents, story.actions, story.hosts, story.workspaces, story.tokens):
        await part()
    records = await story.records()
    known = re.compile("|".join([*(row.client_id for row in CATALOGUE), *OTHERS]))
    assert [record["clientId"] for record in records if not known.fullmatch(record["clientId"])] == []
    assert len(secrets) == 3
    for record in records:
        facts = {name: value for name, value in (record.get("metadata") or {}).items() if name not in AUTH}
        text = repr([record["clientId"], record["title"], record.get("body"), record.get("meta"), facts])
        assert not [secret for secret in secrets if secret in text], record
        assert not re.search(r"eyJ[\w-]+\.[\w-]+\.", text), record


SILENT = [
    ("POST", "workspaces/w1/actions", {"action": "status"}, 200),
    ("POST", "workspaces/w1/actions", {"action": "merge"}, 409),
    ("POST", "workspaces/none/actions", {"action": "ready"}, 404),
    ("POST", "agents/a1/actions", {"action": "resume", "nonsense": 1}, 400),
    ("POST", "agents/a1/actions", {"action": "dance"}, 400),
    ("POST", "orchestrators/h1/actions", {"action": "upgrade"}, 409),
    ("POST", "orchestrators/h1/spawn", {"provider": "claude", "cwd": "/elsewhere"}, 400),
    ("POST", "workspaces/orphans/reclaim", {"worktreePath": "/base/repo", "repoRoot": "/base/repo"}, 400),
    ("GET", "orchestrators/h1/directories", None, 422),
    ("GET", "orchestrators/h1/version", None, 422),
    ("GET", "workspaces/orphans", None, 200),
    ("PUT", "steward-config", {"enabled": True}, 201),
    ("PUT", "config/space/key", {"value": 1}, 201),
    ("DELETE", "config/space/key", None, 200),
    ("POST", "commands", {"type": "x", "source": "s", "target": "t"}, 201),
    ("POST", "orchestrators/h1/heartbeat", {}, 200),
]


@pytest.mark.spec("ACT-6", "ACT-3")
async def test_what_the_catalogues_leave_out_leaves_no_record(story: Story, mock_clock: MockClock) -> None:
    """Refusals, looking, proxies, configuration, commands of clients; a reconcile that removes nothing, the end of a merge."""
    await story.agents()
    await story.online()
    reported = {"id": "w1", "mode": "isolated", "repoRoot": "/base/repo", "sourceCwd": "/base/repo"}
    reported |= {"worktreePath": "/base/wt/w1", "branch": "agent/w1", "baseRef": "main"}
    listed = {"agents": [{"agentId": "a1", "workspace": reported}]}
    await story.call("PATCH", "orchestrators/h1/agents", listed)
    merge = (await story.act("merge"))["command"]
    before = await story.records()
    for method, path, body, status in SILENT:
        answer = await story.api.request(method, f"/api/{path}", json=body)
        assert answer.status_code == status, (method, path, answer.text)
    await story.settle(merge, "succeeded", result={"workspaceId": "w1", "status": "merged", "merged": True})
    await story.call(
        "PATCH", "orchestrators/h1/agents", listed | {"exited": [{"agentId": "a1", "exitCode": 0}]}
    )
    for asked in await story.call("GET", "commands?type=workspace.reconcile"):
        await story.settle(asked, "succeeded", result={"workspaceId": "w1", "status": "active"})
    assert [record["clientId"] for record in await story.records()] == [each["clientId"] for each in before]
