"""The row of a workspace: how its status moves, and how it is stored, found and announced."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from relay import wire
from relay.store import Decision, Event, Store, Write

from ._errors import NotFound, Unprocessable
from ._machine import AS_GIVEN, NONE, Moves
from ._moment import Moment
from ._paths import normalised

__all__ = [
    "MOVES",
    "changed",
    "deleted",
    "find_workspace",
    "get_workspace",
    "isolated",
    "kept",
    "list_workspaces",
    "may",
    "moved",
    "noted",
    "stored",
    "whereabouts",
]

Status = wire.WorkspaceStatus
Verb = wire.WorkspaceVerb

_Events = Mapping[str, Any]
_ALWAYS: _Events = {
    Verb.READY: Status.READY,
    Verb.CONFLICT_FOUND: Status.CONFLICT,
    Verb.REQUEST_REVIEW: Status.REVIEW_REQUESTED,
    Verb.MERGE_PLAN: Status.MERGE_PLANNED,
    Verb.ABANDON: Status.ABANDONED,
    Verb.CLEANUP: Status.CLEANUP_REQUESTED,
    "merge succeeded": AS_GIVEN,
    "cleanup succeeded": Status.CLEANED,
    "deleted": NONE,
}
_OPEN: _Events = {**_ALWAYS, Verb.MERGE: Status.MERGE_PLANNED}
_LIVE: _Events = {**_OPEN, "reconcile succeeded": AS_GIVEN, "dropped by reconcile": NONE}

MOVES: Moves = {
    NONE: {"reported by its host": Status.ACTIVE},
    Status.ACTIVE: _LIVE,
    Status.READY: _LIVE,
    Status.CONFLICT: _OPEN,
    Status.REVIEW_REQUESTED: _OPEN,
    Status.MERGE_PLANNED: {**_OPEN, "merge failed": Status.REVIEW_REQUESTED},
    Status.MERGED: _ALWAYS,
    Status.ABANDONED: _ALWAYS,
    Status.CLEANUP_REQUESTED: _ALWAYS,
    Status.CLEANED: _ALWAYS,
}
"""Spec 18.1. Events are the actions, and the ends of the host's commands; what is not listed moves nothing. What is `AS_GIVEN`
is what the host says that it has become."""


def may(row: wire.Workspace, event: str) -> bool:
    return event in MOVES[row.status]


def moved(
    row: wire.Workspace,
    event: str,
    notes: Mapping[str, Any],
    moment: Moment,
    reported: wire.WorkspaceStatus | None = None,
) -> wire.Workspace:
    """The row after an event that its status allows; `reported` takes precedence over the table."""
    status = reported or MOVES[row.status][event]
    assert isinstance(status, Status)
    return attrs.evolve(noted(row, notes, moment), status=status)


def noted(row: wire.Workspace, notes: Mapping[str, Any], moment: Moment) -> wire.Workspace:
    """The row with more metadata."""
    return attrs.evolve(row, metadata={**row.metadata, **notes}, updated_at=moment.at)


def kept(after: wire.Workspace, reply: Any) -> Decision[Any]:
    """The row is stored and announced."""
    return Decision(reply=reply, writes=(stored(after),), events=(changed(after),))


def deleted(row: wire.Workspace, reply: Any, *records: tuple[Write, Event]) -> Decision[Any]:
    """The row goes; the record, if there is one, says why."""
    gone = Event("workspace.changed", "server", row.id, {"id": row.id, "deleted": True})
    delete = Write("delete from workspaces where id = ?", (row.id,), 1)
    writes = (delete, *(write for write, _ in records))
    return Decision(reply=reply, writes=writes, events=(gone, *(event for _, event in records)))


def whereabouts(row: wire.Workspace, *names: str) -> dict[str, Any]:
    """The workspace's id and, of the members named, those it has: for params and metadata."""
    known = wire.to_json(row)
    return {"workspaceId": row.id, **{name: known[name] for name in names if name in known}}


def changed(row: wire.Workspace) -> Event:
    return Event("workspace.changed", "server", row.id, wire.to_json(row))


def stored(row: wire.Workspace) -> Write:
    values = (
        row.id,
        row.status,
        normalised(row.repo_root) if row.repo_root else None,
        normalised(row.worktree_path) if row.worktree_path else None,
        row.agent_id,
        wire.encode(row).decode(),
        round((row.updated_at or 0.0) * 1000),
    )
    return Write(
        "insert or replace into workspaces (id, status, repo_root, worktree_path, agent_id, record, updated_at)"
        " values (?, ?, ?, ?, ?, ?, ?)",
        values,
    )


def isolated(row: wire.Workspace) -> wire.Workspace:
    """The workspace, if it is a worktree that its host can act on; raises `Unprocessable`."""
    if row.mode is not wire.WorkspaceMode.ISOLATED or not row.worktree_path:
        raise Unprocessable("the workspace has no worktree of its own")
    return row


def find_workspace(store: Store, key: str) -> wire.Workspace | None:
    row = store.row("select record from workspaces where id = ?", key)
    return wire.decode(wire.Workspace, row[0]) if row else None


def get_workspace(store: Store, key: str) -> wire.Workspace:
    """The workspace; raises `NotFound`."""
    found = find_workspace(store, key)
    if found is None:
        raise NotFound("no such workspace")
    return found


def list_workspaces(
    store: Store, *, status: str | None = None, repo_root: str | None = None, agent_id: str | None = None
) -> list[wire.Workspace]:
    """Workspaces in the order of their ids."""
    sql = (
        "select record from workspaces where (?1 is null or status = ?1) and (?2 is null or repo_root = ?2)"
        " and (?3 is null or agent_id = ?3) order by id"
    )
    root = normalised(repo_root) if repo_root else None
    return [wire.decode(wire.Workspace, record) for (record,) in store.rows(sql, status, root, agent_id)]
