"""Landing by itself: a maintenance job starts the merges of workspaces that are ready (agents-workspaces 11.3).

It asks the workspaces as a person does, so whatever keeps a person's merge from being started keeps its own, too (W-I11):
a repository that is busy, or whose host is away, has its turn in a later run, and nobody is told.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import trio

from relay import wire
from relay.actors import Refusal

from ._paths import normalised
from .config import steward_entry
from .workspaces import Act

if TYPE_CHECKING:
    from ._job_works import Run

__all__ = ["auto_merge"]

AUTO = "auto-merge"
WORKSPACE_WITHIN = 20.0  # seconds
READY = "select id, repo_root, record from workspaces where status = 'ready' order by updated_at, id"


async def auto_merge(run: Run) -> Mapping[str, Any] | None:
    """Start the merge of the longest unchanged of each repository. None unless the steward's configuration wants that."""
    fleet = run.fleet
    steward = wire.decode(wire.StewardConfig, steward_entry(fleet.store).value)
    if not (steward.enabled and steward.auto_merge):
        return None
    action = wire.WorkspaceAction(
        action=wire.WorkspaceVerb.MERGE,
        agent_id=AUTO,
        strategy=steward.strategy,
        delete_branch=steward.delete_branch,
    )
    begun: set[str] = set()
    started = []
    for key, repository, record in fleet.store.rows(READY):
        row = wire.decode(wire.Workspace, record)
        root = normalised(repository) if repository else None
        if root is None or root in begun or row.mode is not wire.WorkspaceMode.ISOLATED:
            continue
        try:
            with trio.fail_after(WORKSPACE_WITHIN):
                await fleet.workspaces[key].ask(Act(action))
        except Refusal:
            continue
        begun.add(root)
        started.append(key)
    return {"started": len(started), **({"workspaceIds": started} if started else {})}
