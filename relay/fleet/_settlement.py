"""Settlement: what the end of a host's command makes of its workspace (12.2 to 12.4).

A success tells a fact about the disk and always counts. Anything else counts only while the workspace still waits for
that command: what people and agents decided meanwhile stands. A result that does not name the workspace says nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs

from relay import wire
from relay.store import Decision

from ._audit import audit
from ._moment import Moment
from ._workspace_protocol import Settle
from ._workspace_rows import deleted, kept, may, moved, noted, whereabouts

__all__ = ["Outcome", "Settled", "outcome", "settle"]

Settled = tuple[wire.Workspace | None, Decision[None]]

SUCCEEDED = wire.CommandStatus.SUCCEEDED

AFTER_FAILED_MERGE = frozenset(
    {wire.WorkspaceStatus.CONFLICT, wire.WorkspaceStatus.CLEANED, wire.WorkspaceStatus.REVIEW_REQUESTED}
)
"""What a host may call the workspace whose merge has failed; anything else becomes a matter for review."""


@attrs.frozen
class Outcome:
    """The part of a command's result that counts."""

    status: wire.WorkspaceStatus | None
    removed: bool


def outcome(result: Mapping[str, Any] | None, workspace_id: str | None) -> Outcome | None:
    """What a result says about this workspace; None when it names none, or another one. Raises `wire.Invalid`."""
    if result is None:
        return None
    read = wire.decode(wire.WorkspaceOutcome, dict(result))
    if read.workspace_id is None or read.workspace_id != workspace_id:
        return None
    return Outcome(read.status, read.removed is True)


def settle(row: wire.Workspace | None, message: Settle, moment: Moment) -> Settled:
    """The row after the end of a command; as it was, when the command was settled before or the row is gone."""
    rule = RULES.get(message.type)
    if row is None or rule is None or row.metadata.get(_mark(message.type)) == message.command_id:
        return row, Decision(reply=None)
    return rule(row, message, _outcome(row, message), moment)


def _merge(row: wire.Workspace, message: Settle, result: Outcome | None, moment: Moment) -> Settled:
    notes: dict[str, Any] = {_mark(message.type): message.command_id}
    if result is not None:
        notes["mergeResult"] = message.result
    if message.status is SUCCEEDED:
        if result is None or result.status is None:
            return row, Decision(reply=None)
        notes["mergedAt"] = moment.ms
        return _become(moved(row, "merge succeeded", notes, moment, result.status))
    if not may(row, "merge failed"):
        return row, Decision(reply=None)
    notes["mergeError"] = _reason(message)
    reported = result.status if result is not None and result.status in AFTER_FAILED_MERGE else None
    return _become(moved(row, "merge failed", notes, moment, reported))


def _reconcile(row: wire.Workspace, message: Settle, result: Outcome | None, moment: Moment) -> Settled:
    said = message.status is SUCCEEDED and result is not None and result.status is not None
    if not said or not may(row, "reconcile succeeded"):
        return row, Decision(reply=None)
    assert result is not None
    mark = {_mark(message.type): message.command_id}
    if not result.removed:
        notes = {**mark, "reconcileResult": message.result, "reconciledAt": moment.ms}
        return _become(moved(row, "reconcile succeeded", notes, moment, result.status))
    record = audit(
        moment,
        f"workspace-reconcile-removed-{row.id}-{moment.ms}",
        f"workspace {row.id} was dropped: its session had changed nothing",
        body=row.worktree_path,
        meta=row.branch or row.id,
        icon="ti-trash",
        view="orchestrators",
        metadata={**mark, **whereabouts(row, "repoRoot")},
    )
    return None, deleted(row, None, record)


def _cleanup(row: wire.Workspace, message: Settle, result: Outcome | None, moment: Moment) -> Settled:
    notes: dict[str, Any] = {_mark(message.type): message.command_id}
    if message.status is not SUCCEEDED:
        return _become(noted(row, {**notes, "cleanupError": _reason(message)}, moment))
    if result is None:
        return row, Decision(reply=None)
    notes |= {"cleanupResult": message.result, "cleanedAt": moment.ms}
    return _become(moved(row, "cleanup succeeded", notes, moment))


Rule = Callable[[wire.Workspace, Settle, Outcome | None, Moment], Settled]

RULES: Mapping[str, Rule] = {
    "workspace.merge": _merge,
    "workspace.reconcile": _reconcile,
    "workspace.cleanup": _cleanup,
}


def _outcome(row: wire.Workspace, message: Settle) -> Outcome | None:
    """A malformed result is refused when it is reported; one that is there all the same must not hold up the end."""
    try:
        return outcome(message.result, row.id)
    except wire.Invalid:
        return None


def _become(after: wire.Workspace) -> Settled:
    return after, kept(after, None)


def _mark(command_type: str) -> str:
    """The member of the metadata that names the last command of this type that counted (W-I16)."""
    return f"{command_type.removeprefix('workspace.')}CommandId"


def _reason(message: Settle) -> str:
    return message.error or f"{message.type} ended as {message.status}, with no reason given"
