"""Workspaces: where agents work, and what becomes of their work.

One actor per id owns the row. Rules:

1. A host reports a workspace when it has made it; a report never reopens a row.
2. A merge starts here and nowhere else: the repository's lease first, then the row and the command in one decision,
   which holds only while the lease does. Whatever goes wrong before that leaves everything as it was (W-I3).
3. The end of a command settles its workspace at most once (W-I16), by `SETTLEMENTS`; what people and agents decided
   meanwhile stands (W-I12, W-I13).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs
import trio

from relay import wire
from relay.actors import Ask, Context, Step
from relay.store import Conflict as FenceLost
from relay.store import Decision, Event, Store, Write

from ._actor import FleetActor
from ._audit import audit
from ._errors import Conflict, NotFound, Unprocessable
from ._new_command import new_command
from ._owners import online, owner_of, owners_of
from ._paths import normalised
from .merges import TERM, Acquire, ReleaseToken, still_held

if TYPE_CHECKING:
    from ._fleet import Fleet
    from ._moment import Moment

__all__ = [
    "Act",
    "Acted",
    "Outcome",
    "Remove",
    "Report",
    "Settle",
    "Workspace",
    "WorkspaceProtocol",
    "find_workspace",
    "get_workspace",
    "isolated",
    "list_workspaces",
    "outcome",
]

Status = wire.WorkspaceStatus
Verb = wire.WorkspaceVerb
Commanded = wire.CommandStatus

DECLARED: Mapping[wire.WorkspaceVerb, wire.WorkspaceStatus] = {
    Verb.READY: Status.READY,
    Verb.CONFLICT_FOUND: Status.CONFLICT,
    Verb.REQUEST_REVIEW: Status.REVIEW_REQUESTED,
    Verb.MERGE_PLAN: Status.MERGE_PLANNED,
    Verb.ABANDON: Status.ABANDONED,
}
"""Actions that say what a workspace is, in any state (18.1)."""

CLOSED = frozenset({Status.CLEANED, Status.MERGED, Status.ABANDONED, Status.CLEANUP_REQUESTED})
"""States that a merge is refused in (P2)."""

LIVE = frozenset({Status.ACTIVE, Status.READY})
"""States that a reconcile may change (12.3)."""

AFTER_FAILED_MERGE = frozenset({Status.CONFLICT, Status.CLEANED, Status.REVIEW_REQUESTED})
"""States that a failed merge may ask for (12.2)."""

ICONS = {Verb.MERGE: "ti-git-merge", Verb.CLEANUP: "ti-trash", Verb.CONFLICT_FOUND: "ti-alert-triangle"}

RELEASE_WITHIN = 5.0
"""Seconds for giving a lease back; beyond that it ends when its owner starts again, or by its term (W-I5)."""

COMMAND_TTL_MS = round((TERM - 60) * 1000)
"""A merge command never outlives its lease (P1)."""


class WorkspaceProtocol:
    """What the actor of one workspace understands."""


@attrs.frozen
class Acted:
    """The workspace after an action, and the command it caused, if any."""

    workspace: wire.Workspace
    command: wire.Command | None = None


@attrs.frozen
class Act(Ask[WorkspaceProtocol, Acted]):
    """Do something to the workspace (8.3)."""

    action: wire.WorkspaceAction


@attrs.frozen
class Report(Ask[WorkspaceProtocol, wire.Workspace]):
    """A host has made this workspace for this agent."""

    report: wire.WorkspaceReport
    agent_id: str
    orchestrator_id: str


@attrs.frozen
class Remove(Ask[WorkspaceProtocol, wire.Workspace]):
    """Forget the row; the disk is left alone (8.5)."""


@attrs.frozen
class Settle(Ask[WorkspaceProtocol, None]):
    """A command about this workspace has ended."""

    command_id: str
    type: str
    status: wire.CommandStatus
    result: Mapping[str, Any] | None
    error: str | None


@attrs.frozen
class Outcome:
    """The part of a command's result that counts."""

    status: wire.WorkspaceStatus | None
    removed: bool


class Workspace(FleetActor[WorkspaceProtocol]):
    """The actor of one workspace."""

    def __init__(self, fleet: Fleet, key: str) -> None:
        super().__init__(fleet)
        self.id = key
        self.row = find_workspace(self.store, key)

    def handle(self, message: Any, context: Context[WorkspaceProtocol]) -> Step:
        match message:
            case Report():
                self._apply(message, report(self.row, message, self.moment()), context)
            case Settle():
                self._apply(message, settle(self.row, message, self.moment()), context)
            case Remove():
                self._apply(message, remove(self._known(), self.moment()), context)
            case Act(action) if action.action is Verb.MERGE:
                return self._merge(message, context)
            case Act(action) if action.action is Verb.CLEANUP:
                self._cleanup(message, context)
            case Act():
                self._apply(message, declare(self._known(), message.action, self.moment()), context)
        return None

    def _known(self) -> wire.Workspace:
        if self.row is None:
            raise NotFound("no such workspace")
        return self.row

    def _apply(self, message: Any, made: tuple[wire.Workspace | None, Decision[Any]], context: Any) -> None:
        self.row, decision = made
        self.settle(message, decision, context)

    def _cleanup(self, message: Act, context: Context[WorkspaceProtocol]) -> None:
        row = isolated(self._known())
        owners = owners_of(self.store, row.source_cwd)
        if not owners:
            raise Conflict("no host owns the workspace's directory; DELETE /api/workspaces/:id drops the record")
        owner = next((host for host in owners if online(host)), owners[0])
        self._apply(message, cleanup(row, message.action, owner, self.moment()), context)

    async def _merge(self, message: Act, context: Context[WorkspaceProtocol]) -> None:
        row, action = isolated(self._known()), message.action
        if row.status in CLOSED:
            raise Conflict(f"the workspace is {row.status}; only one that is still open can be merged")
        if owner_of(self.store, row.source_cwd) is None:
            raise Conflict("no online host owns the workspace's directory; start its orchestrator and ask again")
        command_id = context.system.new_id("cmd")
        holder = action.agent_id or "dashboard"
        leases = self.fleet.leases[normalised(row.repo_root or "")]
        lease = await leases.ask(Acquire(self.id, holder, command_id))
        try:
            owner = owner_of(self.store, row.source_cwd)
            if owner is None:
                raise Conflict("the host that owns the workspace's directory has gone offline")
            after, decision = plan_merge(row, action, owner, lease, self.moment())
            acted = await self.commit(decision, context)
        except FenceLost:
            raise Conflict("the repository's merge lease was lost; ask again") from None
        except BaseException:
            with trio.move_on_after(RELEASE_WITHIN, shield=True):
                await leases.ask(ReleaseToken(lease.token))
            raise
        self.row = after
        assert acted.command is not None
        self.fleet.adopt(acted.command)
        context.reply(message, acted)


Made = tuple[wire.Workspace, Decision[Acted]]


def declare(row: wire.Workspace, action: wire.WorkspaceAction, moment: Moment) -> Made:
    """An action that only says what the workspace is."""
    if action.action is Verb.STATUS:
        return row, Decision(reply=Acted(row))
    after = _moved(row, DECLARED[action.action], _given(action), moment)
    record = _audited(after, action, None, moment)
    return after, Decision(reply=Acted(after), writes=(_row(after), record[0]), events=(_changed(after), record[1]))


def cleanup(row: wire.Workspace, action: wire.WorkspaceAction, owner: wire.Orchestrator, moment: Moment) -> Made:
    """The owner is asked to remove the worktree; one that is offline finds the command when it is back (8.4)."""
    after = _moved(row, Status.CLEANUP_REQUESTED, _given(action), moment)
    params = {
        "action": "cleanup",
        **_whereabouts(row, "repoRoot", "worktreePath", "branch"),
        "requestedBy": action.agent_id or "dashboard",
        "requestedAt": moment.ms,
        "deleteBranch": True,
        "queued": not online(owner),
    }
    asked = wire.NewCommand(
        type="workspace.cleanup", source="system", target=owner.agent_id, params=params, correlation_id=row.id
    )
    return after, _dispatched(after, action, new_command(moment, asked), moment)


def plan_merge(
    row: wire.Workspace,
    action: wire.WorkspaceAction,
    owner: wire.Orchestrator,
    lease: wire.MergeLease,
    moment: Moment,
) -> Made:
    """The row is planned and the command written, if the lease still stands (11.2)."""
    after = _moved(row, Status.MERGE_PLANNED, _given(action), moment)
    params = {
        "action": "merge",
        **_whereabouts(row, "repoRoot", "worktreePath", "branch", "baseRef", "baseSha"),
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
    return after, _dispatched(after, action, command, moment, still_held(lease))


def report(row: wire.Workspace | None, message: Report, moment: Moment) -> tuple[wire.Workspace, Decision[Any]]:
    """A report makes an unknown workspace, and names the agent of a known one; it never changes a status."""
    if row is not None:
        if row.agent_id == message.agent_id:
            return row, Decision(reply=row)
        after = attrs.evolve(row, agent_id=message.agent_id, updated_at=moment.at)
        return after, Decision(reply=after, writes=(_row(after),), events=(_changed(after),))
    made = wire.Workspace(
        **attrs.asdict(message.report, recurse=False),
        agent_id=message.agent_id,
        orchestrator_id=message.orchestrator_id,
        created_at=moment.at,
        updated_at=moment.at,
    )
    return made, Decision(reply=made, writes=(_row(made),), events=(_changed(made),))


def remove(row: wire.Workspace, moment: Moment) -> tuple[None, Decision[wire.Workspace]]:
    """The record goes, the disk is untouched, and no lease is freed (W-I27)."""
    metadata = {**_whereabouts(row, "repoRoot", "worktreePath"), "status": row.status, "diskUntouched": True}
    record = audit(
        moment,
        f"workspace-delete-{row.id}-{moment.ms}",
        f"the record of workspace {row.id} was deleted",
        body=row.worktree_path,
        meta=row.branch or row.id,
        icon="ti-trash",
        view="orchestrators",
        metadata=metadata,
    )
    return None, _deleted(row, row, record)


def settle(
    row: wire.Workspace | None, message: Settle, moment: Moment
) -> tuple[wire.Workspace | None, Decision[None]]:
    """What the end of a command makes of the workspace; nothing, when it was settled before or is gone."""
    rule = SETTLEMENTS.get(message.type)
    if row is None or rule is None or row.metadata.get(f"{message.type.split('.')[1]}CommandId") == message.command_id:
        return row, Decision(reply=None)
    return rule(row, message, moment)


def _merged(row: wire.Workspace, message: Settle, moment: Moment) -> tuple[wire.Workspace, Decision[None]]:
    """12.2. A success is a fact about the disk; a failure counts only while the merge is still what is wanted."""
    result = outcome(message.result, row.id)
    if message.status is Commanded.SUCCEEDED:
        if result is None or result.status is None:
            return row, Decision(reply=None)
        notes = {"mergeResult": message.result, "mergeCommandId": message.command_id, "mergedAt": moment.ms}
        return _settled(row, result.status, notes, moment)
    if row.status is not Status.MERGE_PLANNED:
        return row, Decision(reply=None)
    status = Status.REVIEW_REQUESTED
    if result is not None and result.status in AFTER_FAILED_MERGE:
        status = result.status
    error = message.error or f"the merge {message.status.value.replace('_', ' ')} without saying why"
    notes = {"mergeCommandId": message.command_id, "mergeError": error}
    if result is not None:
        notes["mergeResult"] = message.result
    return _settled(row, status, notes, moment)


def _reconciled(
    row: wire.Workspace, message: Settle, moment: Moment
) -> tuple[wire.Workspace | None, Decision[None]]:
    """12.3. Applies only to a workspace nobody has decided about since."""
    result = outcome(message.result, row.id)
    if message.status is not Commanded.SUCCEEDED or row.status not in LIVE:
        return row, Decision(reply=None)
    if result is None or result.status is None:
        return row, Decision(reply=None)
    if not result.removed:
        notes = {
            "reconcileResult": message.result,
            "reconcileCommandId": message.command_id,
            "reconciledAt": moment.ms,
        }
        return _settled(row, result.status, notes, moment)
    record = audit(
        moment,
        f"workspace-reconcile-removed-{row.id}-{moment.ms}",
        f"workspace {row.id} was dropped: its session had changed nothing",
        body=row.worktree_path,
        meta=row.branch or row.id,
        icon="ti-trash",
        view="orchestrators",
        metadata={"reconcileCommandId": message.command_id, **_whereabouts(row, "repoRoot")},
    )
    return None, _deleted(row, None, record)


def _cleaned(row: wire.Workspace, message: Settle, moment: Moment) -> tuple[wire.Workspace, Decision[None]]:
    """12.4. A cleanup that failed leaves the row waiting, with the reason."""
    result = outcome(message.result, row.id)
    if message.status is Commanded.SUCCEEDED and result is not None:
        notes = {
            "cleanupResult": message.result,
            "cleanupCommandId": message.command_id,
            "cleanedAt": moment.ms,
        }
        return _settled(row, Status.CLEANED, notes, moment)
    if message.status is Commanded.SUCCEEDED:
        return row, Decision(reply=None)
    error = message.error or f"the cleanup {message.status.value.replace('_', ' ')} without saying why"
    return _settled(row, row.status, {"cleanupCommandId": message.command_id, "cleanupError": error}, moment)


SETTLEMENTS: Mapping[str, Any] = {
    "workspace.merge": _merged,
    "workspace.reconcile": _reconciled,
    "workspace.cleanup": _cleaned,
}
"""What the end of a command does, by its type."""


def outcome(result: Mapping[str, Any] | None, workspace_id: str | None) -> Outcome | None:
    """What a result says about this workspace; None when it names none, or another one. Raises `wire.Invalid`."""
    if result is None:
        return None
    read = wire.decode(wire.WorkspaceOutcome, dict(result))
    if read.workspace_id is None or read.workspace_id != workspace_id:
        return None
    return Outcome(read.status, read.removed is True)


def isolated(row: wire.Workspace) -> wire.Workspace:
    """The workspace, if it is a worktree that its host can act on; raises `Unprocessable`."""
    if row.mode is not wire.WorkspaceMode.ISOLATED or not row.worktree_path:
        raise Unprocessable("the workspace has no worktree of its own")
    return row


def _given(action: wire.WorkspaceAction) -> dict[str, Any]:
    """The metadata that comes with an action (8.3)."""
    extra = {"detail": action.detail, "updatedByAgentId": action.agent_id}
    return action.metadata | {name: value for name, value in extra.items() if value is not None}


def _moved(
    row: wire.Workspace, status: wire.WorkspaceStatus, notes: Mapping[str, Any], moment: Moment
) -> wire.Workspace:
    return attrs.evolve(row, status=status, metadata={**row.metadata, **notes}, updated_at=moment.at)


def _settled(
    row: wire.Workspace, status: wire.WorkspaceStatus, notes: Mapping[str, Any], moment: Moment
) -> tuple[wire.Workspace, Decision[None]]:
    after = _moved(row, status, notes, moment)
    return after, Decision(reply=None, writes=(_row(after),), events=(_changed(after),))


def _dispatched(
    after: wire.Workspace,
    action: wire.WorkspaceAction,
    made: tuple[wire.Command, tuple[Write, ...], tuple[Event, ...]],
    moment: Moment,
    *fences: Write,
) -> Decision[Acted]:
    command, writes, events = made
    record = _audited(after, action, command, moment)
    return Decision(
        reply=Acted(after, command),
        writes=(*fences, _row(after), *writes, record[0]),
        events=(_changed(after), *events, record[1]),
    )


def _deleted(row: wire.Workspace, reply: Any, record: tuple[Write, Event]) -> Decision[Any]:
    gone = Event("workspace.changed", "server", row.id, {"id": row.id, "deleted": True})
    delete = Write("delete from workspaces where id = ?", (row.id,), 1)
    return Decision(reply=reply, writes=(delete, record[0]), events=(gone, record[1]))


def _audited(
    after: wire.Workspace, action: wire.WorkspaceAction, command: wire.Command | None, moment: Moment
) -> tuple[Write, Event]:
    """A9 and A10 of the audit catalogue."""
    metadata = {
        "action": action.action,
        **_whereabouts(after, "repoRoot", "worktreePath"),
        "status": after.status,
    }
    if command is not None:
        metadata["commandId"] = command.id
    return audit(
        moment,
        f"workspace-{action.action}-{after.id}-{moment.ms}",
        f"{action.action} of workspace {after.id}",
        body=action.detail or after.worktree_path,
        meta=after.branch or after.id,
        icon=ICONS.get(action.action, "ti-git-branch"),
        view="orchestrators",
        agent_id=action.agent_id,
        metadata=metadata,
    )


def _whereabouts(row: wire.Workspace, *names: str) -> dict[str, Any]:
    known = wire.to_json(row)
    return {"workspaceId": row.id, **{name: known[name] for name in names if name in known}}


def _changed(row: wire.Workspace) -> Event:
    return Event("workspace.changed", "server", row.id, wire.to_json(row))


def _row(row: wire.Workspace) -> Write:
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
