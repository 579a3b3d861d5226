"""`/api/workspaces/orphans`: worktrees on hosts that no workspace is in any more (agents-workspaces 10)."""

from typing import Any

import orjson
import trio

from relay import wire
from relay.fleet import hosts, orchestrators, within

from . import reach
from .answers import Answer, accepted, ok
from .routing import Call, Routes
from .upstream import Unanswered

__all__ = ["route"]

route = Routes()

AT_ONCE = 8  # repositories that are asked about
ALL_WITHIN = 25.0  # seconds for all repositories; those that took longer are left out
PORTION = 100  # worktrees that are judged before others have their turn


@route("GET", "/api/workspaces/orphans", scope="workspace:read")
async def list_(call: Call[None]) -> Answer:
    """What cannot be asked is left out; nothing is changed (W-I23, W-I26)."""
    store = call.fleet.store
    asked = [host for host in hosts.online_hosts(store) if host.api_url is not None]
    if not asked:
        return ok({"orphans": [], "reason": "no host that could be asked is online"})
    roots = [root for root in hosts.repositories(store) if call.principal.may("workspace:read", path=root)]
    found: dict[str, list[hosts.Orphan]] = {}
    with trio.move_on_after(ALL_WITHIN):
        async with trio.open_nursery() as nursery:
            limiter = trio.CapacityLimiter(AT_ONCE)
            for root in roots:
                owner = next((host for host in asked if within(host.base_dir, root)), None)
                if owner is not None:
                    nursery.start_soon(_look, call, owner, root, limiter, found)
    return ok({"orphans": [orphan for root in roots for orphan in found.get(root, ())]})


async def _look(
    call: Call[None],
    host: wire.Orchestrator,
    root: str,
    limiter: trio.CapacityLimiter,
    found: dict[str, list[hosts.Orphan]],
) -> None:
    async with limiter:
        worktrees = await _worktrees(call, host, root)
    orphans: list[hosts.Orphan] = []
    for start in range(0, len(worktrees), PORTION):
        orphans += hosts.orphans(call.fleet.store, root, worktrees[start : start + PORTION])
        await trio.lowlevel.checkpoint()
    found[root] = orphans


async def _worktrees(call: Call[None], host: wire.Orchestrator, root: str) -> list[Any]:
    """Those of the repository, as its host lists them; none when it does not say."""
    try:
        answer = await call.edge.upstream.read(host, "/api/workspace/probe", {"path": root})
        told = orjson.loads(answer.body) if 200 <= answer.status < 300 else None
    except (Unanswered, ValueError):
        return []
    listed = told.get("worktrees") if isinstance(told, dict) else None
    return listed if isinstance(listed, list) else []


@route("POST", "/api/workspaces/orphans/reclaim", scope="command:write", body=bytes, late=True)
async def reclaim(call: Call[bytes]) -> Answer:
    """The scope is checked before the body is looked at (10.2)."""
    call.need("command:write")
    asked = wire.decode(wire.Reclaim, call.body or b"null")
    reach.about(call.principal, None, "worktreePath")
    call.need("command:write", path=asked.worktree_path)
    hosts.must_be_orphan(call.fleet.store, asked)
    host = hosts.online_owner(call.fleet.store, asked.repo_root)
    call.need("command:write", orchestrator=host.id)
    command = await call.fleet.orchestrators[host.id].ask(orchestrators.Reclaim(asked, call.by))
    return accepted({"command": command})
