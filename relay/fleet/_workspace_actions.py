"""What people, agents and hosts do to a workspace: one decision each.

An action writes row, command and audit together, or nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from relay import wire
from relay.store import Decision, Event, Store, Write

from ._audit import audit
from ._machine import NONE
from ._moment import Moment
from ._new_command import is_asked, new_command
from ._owners import online
from ._workspace_protocol import Act, Acted, Purge, Remove, Report, Vacate
from ._workspace_rows import MOVES, changed, deleted, kept, may, moved, stored, whereabouts
from .merges import TERM, still_held

__all__ = ["Made", "cleanup", "declare", "is_vacant", "plan_merge", "purge", "reconcile", "remove", "report"]

Verb = wire.WorkspaceVerb
Made = tuple[wire.Workspace, Decision[Acted]]

ICONS = {Verb.MERGE: "ti-git-merge", Verb.CLEANUP: "ti-trash", Verb.CONFLICT_FOUND: "ti-alert-triangle"}

RECONCILE = "workspace.reconcile"

COMMAND_TTL_MS = round((TERM - 60) * 1000)
"""A merge command never outlives its lease (P1)."""


def declare(row: wire.Workspace, message: Act, moment: Moment) -> Made:
    """An action that only says what the workspace is."""
    action = message.action
    if action.action is Verb.STATUS:
        return row, Decision(reply=Acted(row))
    after = moved(row, action.action, _given(action), moment)
    record = _audited(after, message, None, moment)
    return after, Decision(
        reply=Acted(after), writes=(stored(after), record[0]), events=(changed(after), record[1])
    )


def cleanup(row: wire.Workspace, message: Act, owner: wire.Orchestrator, moment: Moment) -> Made:
    """The owner is asked to remove the worktree; one that is offline finds the command when it is back (8.4)."""
    action = message.action
    after = moved(row, Verb.CLEANUP, _given(action), moment)
    params = {
        "action": "cleanup",
        **whereabouts(row, "repoRoot", "worktreePath", "branch"),
        "requestedBy": action.agent_id or "dashboard",
        "requestedAt": moment.ms,
        "deleteBranch": True,
        "queued": not online(owner),
    }
    asked = wire.NewCommand(
        type="workspace.cleanup", source="system", target=owner.agent_id, params=params, correlation_id=row.id
    )
    return after, _dispatched(after, message, new_command(moment, asked), moment)


def plan_merge(
    row: wire.Workspace,
    message: Act,
    owner: wire.Orchestrator,
    lease: wire.MergeLease,
    moment: Moment,
) -> Made:
    """The row is planned and the command written, if the lease still stands (11.2)."""
    action = message.action
    after = moved(row, Verb.MERGE, _given(action), moment)
    params = {
        "action": "merge",
        **whereabouts(row, "repoRoot", "worktreePath", "branch", "baseRef", "baseSha"),
        "strategy": action.strategy,
        "deleteBranch": action.delete_branch,
        **{name: text for name, text in (("prTitle", action.pr_title), ("prBody", action.pr_body)) if text},
        "requestedBy": lease.holder,
        "requestedAt": moment.ms,
        "leaseToken": lease.token,
    }
    asked = wire.NewCommand(
        type="workspace.merge",
        source="system",
        target=owner.agent_id,
        params=params,
        correlation_id=row.id,
        ttl_ms=COMMAND_TTL_MS,
    )
    command = new_command(moment, asked, id=lease.command_id)
    return after, _dispatched(after, message, command, moment, still_held(lease))


def report(
    row: wire.Workspace | None, message: Report, moment: Moment
) -> tuple[wire.Workspace, Decision[Any]]:
    """A report makes an unknown workspace, and names the agent of a known one; it never changes a status."""
    if row is not None:
        if row.agent_id == message.agent_id:
            return row, Decision(reply=row)
        after = attrs.evolve(row, agent_id=message.agent_id, updated_at=moment.at)
        return after, kept(after, after)
    made = wire.Workspace(
        **attrs.asdict(message.report, recurse=False),
        status=MOVES[NONE]["reported by its host"],
        agent_id=message.agent_id,
        orchestrator_id=message.orchestrator_id,
        created_at=moment.at,
        updated_at=moment.at,
    )
    return made, kept(made, made)


def reconcile(row: wire.Workspace, host: str, moment: Moment) -> Decision[None]:
    """The host is asked whether the worktree of an owner who is gone holds anything; the row waits for the answer
    (12.3)."""
    params = {
        "action": "reconcile",
        **whereabouts(row, "repoRoot", "worktreePath", "branch", "baseRef", "baseSha"),
        "requestedBy": "system",
        "requestedAt": moment.ms,
        "deleteBranch": True,
        "queued": False,
    }
    asked = wire.NewCommand(
        type=RECONCILE, source="system", target=host, params=params, correlation_id=row.id
    )
    _, writes, events = new_command(moment, asked)
    return Decision(reply=None, writes=writes, events=events)


def is_vacant(row: wire.Workspace | None, message: Vacate, store: Store) -> bool:
    """Whether what the host says leaves a live worktree without its owner, and nobody has been asked about it yet."""
    if row is None or not may(row, "reconcile succeeded") or row.mode is not wire.WorkspaceMode.ISOLATED:
        return False
    if not (row.worktree_path and row.repo_root):
        return False
    if (row.agent_id, row.orchestrator_id) != (message.agent_id, message.orchestrator_id):
        return False
    return not is_asked(store, RECONCILE, row.id)


def remove(row: wire.Workspace, message: Remove, moment: Moment) -> tuple[None, Decision[wire.Workspace]]:
    """The record goes, the disk is untouched, and no lease is freed (W-I27)."""
    metadata = {**whereabouts(row, "repoRoot", "worktreePath"), "status": row.status, "diskUntouched": True}
    record = audit(
        moment,
        f"workspace-delete-{row.id}-{moment.ms}",
        f"the record of workspace {row.id} was deleted",
        body=row.worktree_path,
        meta=row.branch or row.id,
        icon="ti-trash",
        view="orchestrators",
        metadata=metadata,
        by=message.by,
    )
    return None, deleted(row, row, record)


def purge(row: wire.Workspace | None, message: Purge) -> tuple[wire.Workspace | None, Decision[bool]]:
    """What has been cleaned up for long is of interest to nobody (18.1)."""
    if (
        row is None
        or row.status is not wire.WorkspaceStatus.CLEANED
        or (row.updated_at or 0) >= message.before
    ):
        return row, Decision(reply=False)
    return None, deleted(row, True)


def _given(action: wire.WorkspaceAction) -> Mapping[str, Any]:
    """The metadata that comes with an action (8.3)."""
    extra = {"detail": action.detail, "updatedByAgentId": action.agent_id}
    return action.metadata | {name: value for name, value in extra.items() if value is not None}


def _dispatched(
    after: wire.Workspace,
    message: Act,
    made: tuple[wire.Command, tuple[Write, ...], tuple[Event, ...]],
    moment: Moment,
    *fences: Write,
) -> Decision[Acted]:
    command, writes, events = made
    record = _audited(after, message, command, moment)
    return Decision(
        reply=Acted(after, command),
        writes=(*fences, stored(after), *writes, record[0]),
        events=(changed(after), *events, record[1]),
    )


def _audited(
    after: wire.Workspace, message: Act, command: wire.Command | None, moment: Moment
) -> tuple[Write, Event]:
    """A9 and A10 of the audit catalogue."""
    action = message.action
    metadata = {
        "action": action.action,
        **whereabouts(after, "repoRoot", "worktreePath"),
        "status": after.status,
    }
    if command is not None:
        metadata["commandId"] = command.id
    return audit(
        moment,
        f"workspace-{action.action}-{after.id}-{moment.ms}",
        f"{action.action} of workspace {after.id}" + (" was asked for" if command else ""),
        body=action.detail or after.worktree_path,
        meta=after.branch or after.id,
        icon=ICONS.get(action.action, "ti-git-branch"),
        view="orchestrators",
        agent_id=action.agent_id,
        metadata=metadata,
        by=message.by,
    )
