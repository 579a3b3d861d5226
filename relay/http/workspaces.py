"""`/api/workspaces`, and what only the host of a workspace knows (agents-workspaces 8 and 9)."""

from collections.abc import Mapping
from typing import Any

from relay import wire
from relay.actors import Ref
from relay.fleet import Unprocessable, hosts, workspaces

from . import reach
from .answers import Answer, accepted, ok
from .routing import Call, Routes
from .upstream import Unanswered, unavailable

__all__ = ["route"]

route = Routes()

NEEDS_COMMAND = (wire.WorkspaceVerb.MERGE, wire.WorkspaceVerb.CLEANUP)


@route("GET", "/api/workspaces", scope="workspace:read")
async def list_(call: Call[None]) -> Answer:
    query = call.query
    found = workspaces.list_workspaces(
        call.fleet.store,
        status=query.choice("status", wire.WorkspaceStatus),
        repo_root=query.text("repoRoot", longest=1_000),
        agent_id=query.text("agentId"),
    )
    return ok([row for row in found if reach.sees_workspace(call.principal, row)])


@route("GET", "/api/workspaces/:id", scope="workspace:read")
async def get(call: Call[None]) -> Answer:
    return ok(_row(call))


@route("POST", "/api/workspaces/:id/actions", scope="agent:write", body=dict, late=True)
async def act(call: Call[dict[str, Any]]) -> Answer:
    """Checked in this order: workspace (404), members (400), worktree (422), and the scope of the action (8.3)."""
    row = _row(call)
    action = call.read(wire.WorkspaceAction)
    if action.action in NEEDS_COMMAND:
        workspaces.isolated(row)
        call.need("command:write", agent=action.agent_id)
    else:
        call.need("agent:write", agent=action.agent_id)
    call.need_reach(agent=row.agent_id)
    if action.action is wire.WorkspaceVerb.STATUS:
        return ok(row)
    acted = await _workspace(call).ask(workspaces.Act(action, call.by))
    if acted.command is None:
        return ok({"workspace": acted.workspace})
    return accepted({"workspace": acted.workspace, "command": acted.command})


@route("DELETE", "/api/workspaces/:id", scope="command:write")
async def remove(call: Call[None]) -> Answer:
    call.need_reach(agent=_row(call).agent_id)
    return ok({"deleted": True, "workspace": await _workspace(call).ask(workspaces.Remove(call.by))})


@route("GET", "/api/workspaces/:id/git-state", scope="workspace:read")
async def git_state(call: Call[None]) -> Answer:
    return await _from_host(call, "/api/workspace/state", {})


@route("GET", "/api/workspaces/:id/merge-preview", scope="workspace:read")
async def merge_preview(call: Call[None]) -> Answer:
    strategy = call.query.text("strategy")
    return await _from_host(call, "/api/workspace/merge-preview", {"strategy": strategy} if strategy else {})


@route("GET", "/api/workspaces/:id/diff", scope="workspace:read")
async def diff(call: Call[None]) -> Answer:
    bare = call.query.text("patch") == "0"
    return await _from_host(call, "/api/workspace/diff", {"patch": "0"} if bare else {})


async def _from_host(call: Call[None], path: str, extra: Mapping[str, str]) -> Answer:
    """What the host answers about the worktree, unchanged; 200 with a reason when it cannot be asked (9.1)."""
    try:
        row = workspaces.isolated(_row(call))
    except Unprocessable as refusal:
        return unavailable(str(refusal))
    host = hosts.host_of(call.fleet.store, row)
    if host is None:
        return unavailable("the host that owns the workspace is offline")
    known = {"path": row.worktree_path, "baseRef": row.base_ref, "baseSha": row.base_sha}
    query = {name: value for name, value in known.items() if value}
    try:
        return await call.edge.upstream.read(host, path, {**query, **extra})
    except Unanswered as error:
        return unavailable(str(error))


def _row(call: Call[Any]) -> wire.Workspace:
    return reach.workspace(call, workspaces.get_workspace(call.fleet.store, call.path["id"]))


def _workspace(call: Call[Any]) -> Ref[workspaces.WorkspaceProtocol]:
    return call.fleet.workspaces[call.path["id"]]
