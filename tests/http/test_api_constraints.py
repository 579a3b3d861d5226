"""What the constraints of a token leave of each route: its own agents, hosts, policies, channels, targets, workspaces, paths."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from tokenkit import make, refusals, using

HOST = {"id": "h1", "hostname": "h", "baseDir": "/srv"}
ANYTHING = ["*"]


@pytest.fixture
async def fleet(api: httpx2.AsyncClient) -> httpx2.AsyncClient:
    """Two agents with mail, two hosts, a command for each, a channel, two workspaces."""
    for name in ("a1", "a2"):
        await api.post("/api/agents", json={"id": name, "tags": ["crew"]})
    await api.post("/api/agents", json={"id": "ops", "kind": "channel"})
    for name in ("h1", "h2"):
        await api.post("/api/orchestrators", json={**HOST, "id": name})
    for sender, to in (("user", "a1"), ("user", "a2"), ("a2", "tag:crew"), ("a2", "user")):
        await api.post("/api/messages", json={"from": sender, "to": to, "body": f"to {to}"})
    for target in ("a1", "a2", "orchestrator-h1", "orchestrator-h2"):
        asked = {"type": "agent.spawn", "source": "user", "target": target, "params": {"provider": "claude"}}
        await api.post("/api/commands", json=asked)
    for number, agent in ((1, "a1"), (2, "a2")):
        entry = {
            "agentId": agent,
            "provider": "claude",
            "workspace": {
                "id": f"w{number}",
                "mode": "isolated",
                "repoRoot": "/srv/repo",
                "sourceCwd": "/srv/repo",
                "worktreePath": f"/srv/work-{number}",
                "branch": f"agent/{number}",
                "baseRef": "main",
            },
        }
        await api.patch(f"/api/orchestrators/h{number}/agents", json={"agents": [entry]})
    return api


@pytest.fixture
async def as_a1(fleet: httpx2.AsyncClient) -> AsyncIterator[httpx2.AsyncClient]:
    """Whoever may do everything, but for a1 only."""
    token = (await make(fleet, scope=ANYTHING, constraints={"agents": ["a1"]}))["token"]
    async with httpx2.AsyncClient(base_url=fleet.base_url, headers=using(token), trust_env=False) as client:
        yield client


async def limited(api: httpx2.AsyncClient, **constraints: Any) -> dict[str, str]:
    """The headers of whoever may do everything within these constraints."""
    return using((await make(api, scope=ANYTHING, constraints=constraints))["token"])


async def commands(api: httpx2.AsyncClient) -> dict[str, str]:
    """The ids of commands by their targets."""
    return {each["target"]: each["id"] for each in (await api.get("/api/commands")).json()}


A1 = [
    ("GET", "/api/messages?for=a1", None, 200),
    ("GET", "/api/messages?for=a2", None, 403),
    ("GET", "/api/messages", None, 403),
    ("GET", "/api/messages/queued?for=a2", None, 403),
    ("GET", "/api/messages/1", None, 200),
    ("GET", "/api/messages/2", None, 403),
    ("GET", "/api/messages/3", None, 200),
    ("GET", "/api/messages/4", None, 403),
    ("GET", "/api/messages/4/status", None, 403),
    ("GET", "/api/messages/4/thread", None, 403),
    ("GET", "/api/messages/4/deliveries", None, 403),
    ("DELETE", "/api/messages/4", None, 403),
    ("POST", "/api/messages/2/read", {"agentId": "a2"}, 403),
    ("POST", "/api/messages/2/claim", {"agentId": "a2"}, 403),
    ("POST", "/api/messages/2/claim/renew", {"agentId": "a2"}, 403),
    ("POST", "/api/messages/4/reactions", {"agentId": "a1", "emoji": "+1"}, 403),
    ("POST", "/api/messages/2/redeliver", {"agentId": "a2"}, 403),
    ("POST", "/api/messages/2/redeliver", None, 403),
    ("GET", "/api/dead-letters", None, 403),
    ("GET", "/api/dead-letters?agentId=a1", None, 200),
    ("POST", "/api/messages", {"from": "a1", "to": "a2", "body": "x"}, 201),
    ("POST", "/api/messages", {"from": "a2", "to": "a1", "body": "x"}, 403),
    ("POST", "/api/messages", {"from": "user", "to": "a1", "body": "x"}, 403),
    ("POST", "/api/system/broadcast", {"body": "x"}, 403),
    ("POST", "/api/agents/a1/deliveries", {}, 200),
    ("POST", "/api/agents/a2/deliveries", {}, 403),
    ("GET", "/api/agents/a2/deliveries", None, 403),
    ("POST", "/api/agents/a2/deliveries/ack", {"acks": []}, 403),
    ("GET", "/api/agents/a2/reply-obligations", None, 403),
    ("GET", "/api/agents", None, 200),
    ("GET", "/api/agents/a2", None, 200),
    ("GET", "/api/agents/a2/timeline", None, 403),
    ("POST", "/api/agents", {"id": "a1", "tags": ["crew"]}, 200),
    ("POST", "/api/agents", {"id": "a3"}, 403),
    ("PATCH", "/api/agents/a1/status", {"status": "busy"}, 200),
    ("PATCH", "/api/agents/a2/status", {"status": "busy"}, 403),
    ("PATCH", "/api/agents/a2/ready", {"ready": True}, 403),
    ("POST", "/api/agents/a2/heartbeat", None, 403),
    ("PATCH", "/api/agents/a2/label", {"label": "x"}, 403),
    ("PATCH", "/api/agents/a2/tags", {"tags": []}, 403),
    ("DELETE", "/api/agents/a2", None, 403),
    ("POST", "/api/agents/a1/prompt", {"body": "x"}, 403),
    ("GET", "/api/commands?target=a1", None, 200),
    ("GET", "/api/commands?target=a2", None, 403),
    ("GET", "/api/commands", None, 403),
    ("POST", "/api/commands", {"type": "t", "source": "s", "target": "a2"}, 403),
    ("POST", "/api/commands", {"type": "t", "source": "s", "target": "orchestrator-h1"}, 403),
    ("POST", "/api/commands", {"type": "t", "source": "s", "target": "a1"}, 201),
    ("GET", "/api/events", None, 403),
    ("GET", "/api/events?agentId=a2", None, 403),
    ("GET", "/api/activity", None, 403),
    ("GET", "/api/activity?agentId=a2", None, 403),
    ("POST", "/api/activity", {"clientId": "c", "kind": "state", "title": "t", "agentId": "a2"}, 403),
    ("GET", "/api/pairs", None, 403),
    ("GET", "/api/pairs?agentId=a1", None, 200),
    ("POST", "/api/pairs", {"from": "a2", "to": "a1"}, 403),
    ("POST", "/api/tasks/1/status", {"status": "done"}, 403),
    ("POST", "/api/tasks/1/claim", {"agentId": "a2"}, 403),
    ("POST", "/api/orchestrators/h1/spawn", {"provider": "claude"}, 403),
    ("POST", "/api/orchestrators/h1/spawn", {"provider": "claude", "agentId": "a2"}, 403),
    ("POST", "/api/orchestrators/h1/actions", {"action": "shutdown"}, 403),
    ("POST", "/api/orchestrators/h1/actions", {"action": "shutdown", "agentId": "a2"}, 403),
    ("POST", "/api/agents/spawn", {"provider": "claude"}, 403),
    ("POST", "/api/workspaces/w2/actions", {"action": "ready"}, 403),
    ("POST", "/api/workspaces/w1/actions", {"action": "merge", "agentId": "a2"}, 403),
    ("POST", "/api/workspaces/w2/actions", {"action": "cleanup", "agentId": "a1"}, 403),
    ("DELETE", "/api/workspaces/w2", None, 403),
    ("POST", "/api/workspaces/orphans/reclaim", {"worktreePath": "/srv/x", "repoRoot": "/srv/repo"}, 403),
    ("POST", "/api/orchestrators/h1/actions", {"action": "upgrade", "targetVersion": "9.9.9"}, 403),
    ("POST", "/api/commands", {"type": "agent.permissionDecision", "source": "s", "target": "a1"}, 403),
    ("POST", "/api/agents/a1/permission-decision", {"approvalId": "x", "decision": "approve"}, 403),
    (
        "POST",
        "/api/activity",
        {"clientId": "server-message-99", "kind": "state", "title": "t", "agentId": "a1"},
        403,
    ),
]


@pytest.mark.parametrize(("method", "path", "body", "status"), A1)
async def test_a_token_for_one_agent_is_for_that_agent(
    as_a1: httpx2.AsyncClient, method: str, path: str, body: Any, status: int
) -> None:
    answer = await as_a1.request(method, path, json=body)
    assert answer.status_code == status, answer.text


@pytest.mark.spec("TOK-4", "CMD-14")
async def test_only_the_target_takes_and_reports_on_a_command(
    fleet: httpx2.AsyncClient, as_a1: httpx2.AsyncClient
) -> None:
    known = await commands(fleet)
    for target in ("a2", "orchestrator-h1"):
        path = f"/api/commands/{known[target]}"
        assert (await as_a1.get(path)).status_code == 403
        assert (await as_a1.post(f"{path}/claim")).status_code == 403
        assert (await as_a1.patch(path, json={"status": "succeeded"})).status_code == 403
        assert (await as_a1.delete(path)).status_code == 403
        assert (await fleet.get(path)).json()["status"] == "pending"
    own = f"/api/commands/{known['a1']}"
    assert (await as_a1.get(own)).status_code == 200
    token = (await as_a1.post(f"{own}/claim")).json()["token"]
    assert (await as_a1.patch(own, json={"status": "succeeded", "token": token})).status_code == 200


async def test_a_host_is_for_its_own_record_and_commands(fleet: httpx2.AsyncClient) -> None:
    h1 = await limited(fleet, agents=["orchestrator-h1"], orchestrators=["h1"])
    known = await commands(fleet)
    for method, path, body, status in (
        ("POST", "/api/orchestrators", {**HOST, "id": "h1"}, 200),
        ("POST", "/api/orchestrators", {**HOST, "id": "h2"}, 403),
        ("POST", "/api/orchestrators/h1/heartbeat", None, 200),
        ("POST", "/api/orchestrators/h2/heartbeat", None, 403),
        ("PATCH", "/api/orchestrators/h2/agents", {"agents": []}, 403),
        ("DELETE", "/api/orchestrators/h2", None, 403),
        ("POST", f"/api/commands/{known['orchestrator-h2']}/claim", None, 403),
        ("POST", f"/api/commands/{known['orchestrator-h1']}/claim", None, 200),
        ("POST", "/api/commands", {"type": "t", "source": "s", "target": "orchestrator-h2"}, 403),
        ("PATCH", "/api/agents/orchestrator-h1/status", {"status": "online"}, 200),
        ("PATCH", "/api/agents/a1/status", {"status": "offline"}, 403),
    ):
        answer = await fleet.request(method, path, json=body, headers=h1)
        assert answer.status_code == status, (method, path, answer.text)


async def test_targets_and_channels_limit_where_messages_go(fleet: httpx2.AsyncClient) -> None:
    only_a1 = await limited(fleet, targets=["a1"])
    other = await limited(fleet, channels=["other"])
    for headers, body, status in (
        (only_a1, {"from": "a2", "to": "a1", "body": "x"}, 201),
        (only_a1, {"from": "a2", "to": "user", "body": "x"}, 403),
        (only_a1, {"from": "a2", "body": "x", "replyTo": 1}, 403),
        (other, {"from": "a2", "to": "a1", "body": "x"}, 201),
        (other, {"from": "a2", "to": "a1", "body": "x", "channel": "ops"}, 403),
        (other, {"from": "a2", "to": "channel:ops", "body": "x"}, 403),
    ):
        answer = await fleet.post("/api/messages", json=body, headers=headers)
        assert answer.status_code == status, (body, answer.text)
    binding = {"channelId": "ops", "target": {"type": "agent", "id": "a1"}}
    bound = (await fleet.post("/api/channel-bindings", json=binding)).json()
    for method, path, body in (
        ("GET", "/api/channels/ops", None),
        ("POST", "/api/channels/ops/events", {"body": "x"}),
        ("POST", "/api/channel-bindings", binding),
        ("DELETE", f"/api/channel-bindings/{bound['id']}", None),
    ):
        assert (await fleet.request(method, path, json=body, headers=other)).status_code == 403, path


async def test_workspaces_and_paths_limit_what_is_seen_and_done(fleet: httpx2.AsyncClient) -> None:
    for headers in (await limited(fleet, workspaces=["w1"]), await limited(fleet, paths=["/srv/work-1"])):
        seen = (await fleet.get("/api/workspaces", headers=headers)).json()
        assert [row["id"] for row in seen] == ["w1"]
        assert (await fleet.get("/api/workspaces/w1", headers=headers)).status_code == 200
        for method, path, body in (
            ("GET", "/api/workspaces/w2", None),
            ("GET", "/api/workspaces/w2/git-state", None),
            ("GET", "/api/workspaces/w2/diff", None),
            ("POST", "/api/workspaces/w2/actions", {"action": "ready"}),
            ("POST", "/api/workspaces/w2/actions", {"action": "merge"}),
            ("DELETE", "/api/workspaces/w2", None),
        ):
            assert (await fleet.request(method, path, json=body, headers=headers)).status_code == 403, path
    below = await limited(fleet, paths=["/srv/work-1"])
    for cwd, status in (
        ("/srv/work-1/deep", 202),
        ("/srv/work-2", 403),
        (None, 403),
        ("/srv/work-1/..", 403),
    ):
        asked = {"provider": "claude", **({"cwd": cwd} if cwd else {})}
        answer = await fleet.post("/api/orchestrators/h1/spawn", json=asked, headers=below)
        assert answer.status_code == status, (cwd, answer.text)


async def test_policies_limit_whose_queue_is_read_and_who_registers(fleet: httpx2.AsyncClient) -> None:
    headers = await limited(fleet, policies=["p1"])
    for query, status in (("policy:p1", 200), ("p1", 200), ("policy:p2", 403), ("p2", 403)):
        answer = await fleet.get("/api/messages/queued", params={"for": query}, headers=headers)
        assert answer.status_code == status, query
    for policy, status in (("p1", 201), ("p2", 403)):
        card = {"id": f"of-{policy}", "meta": {"policyName": policy}}
        assert (await fleet.post("/api/agents", json=card, headers=headers)).status_code == status


async def test_a_refusal_names_who_was_refused_what(
    fleet: httpx2.AsyncClient, as_a1: httpx2.AsyncClient
) -> None:
    await as_a1.delete("/api/agents/a2")
    (refusal,) = await refusals(fleet)
    facts = refusal["metadata"]
    assert (facts["status"], facts["route"]) == (403, "DELETE /api/agents/:id")
    assert facts["authJti"].startswith("tok")
