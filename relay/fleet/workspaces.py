"""Workspaces: where agents work, and what becomes of their work.

One actor per id owns the row. Rules:

1. A host reports a workspace when it has made it; a report never reopens a row, nor does another host's change it. Statuses
   move by `MOVES`.
2. A merge starts here and nowhere else (W-I11): the repository's lease first, then the row and the command in one
   decision, which holds only while the lease does. Whatever goes wrong before that leaves all as it was (W-I3).
3. When the session of a live workspace is over, its host is asked what the worktree holds (`workspace.reconcile`).
4. The end of a command settles its workspace at most once (W-I16); what people and agents decided meanwhile stands
   (W-I12, W-I13).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from relay import wire
from relay.actors import ActorError, Context, Ref, Step
from relay.store import Conflict as FenceLost, Decision

from ._actor import FleetActor
from ._errors import Conflict, NotFound, Unprocessable
from ._orchestrator_rows import find_orchestrator
from ._owners import online, owner_of, owners_of
from ._paths import normalised
from ._settlement import Outcome, outcome, settle
from ._workspace_actions import cleanup, declare, is_vacant, plan_merge, purge, reconcile, remove, report
from ._workspace_protocol import Act, Acted, Purge, Remove, Report, Settle, Vacate, WorkspaceProtocol
from ._workspace_rows import MOVES, find_workspace, get_workspace, isolated, list_workspaces, may
from .merges import Acquire, MergeProtocol, Release

if TYPE_CHECKING:
    from ._fleet import Fleet

__all__ = [
    "MOVES",
    "Act",
    "Acted",
    "Outcome",
    "Purge",
    "Remove",
    "Report",
    "Settle",
    "Vacate",
    "Workspace",
    "WorkspaceProtocol",
    "find_workspace",
    "get_workspace",
    "isolated",
    "list_workspaces",
    "outcome",
]

Verb = wire.WorkspaceVerb

LEASE_WITHIN = 10.0  # seconds to get the repository's lease
RELEASE_WITHIN = (
    5.0  # to give it back; beyond that it ends when its owner starts again, or by its term (W-I5)
)


class Workspace(FleetActor[WorkspaceProtocol]):
    """The actor of one workspace."""

    def __init__(self, fleet: Fleet, key: str) -> None:
        super().__init__(fleet)
        self.id = key
        self.row = find_workspace(self.store, key)

    def handle(self, message: Any, context: Context[WorkspaceProtocol]) -> Step:
        match message:
            case Report() if self._is_on_another_host(message):
                self.settle(message, Decision(reply=self._known()), context)
            case Report():
                self._apply(message, report(self.row, message, self.moment()), context)
            case Settle():
                self._apply(message, settle(self.row, message, self.moment()), context)
            case Vacate():
                self._vacate(message, context)
            case Remove():
                self._apply(message, remove(self._known(), message, self.moment()), context)
            case Purge():
                self._apply(message, purge(self.row, message), context)
            case Act(action) if action.action is Verb.MERGE:
                return self._merge(message, context)
            case Act(action) if action.action is Verb.CLEANUP:
                self._cleanup(message, context)
            case Act():
                self._apply(message, declare(self._known(), message, self.moment()), context)
        return None

    def _known(self) -> wire.Workspace:
        if self.row is None:
            raise NotFound("no such workspace")
        return self.row

    def _is_on_another_host(self, message: Report) -> bool:
        """Nobody but its host says whose a workspace is, as long as that is there."""
        known = self.row.orchestrator_id if self.row is not None else None
        if known in (None, message.orchestrator_id):
            return False
        host = find_orchestrator(self.store, known or "")
        return host is not None and online(host)

    def _apply(self, message: Any, made: tuple[wire.Workspace | None, Decision[Any]], context: Any) -> None:
        self.row, decision = made
        self.settle(message, decision, context)

    def _cleanup(self, message: Act, context: Context[WorkspaceProtocol]) -> None:
        row = isolated(self._known())
        owners = owners_of(self.store, row)
        if not owners:
            raise Conflict(
                "no host owns the workspace's directory; DELETE /api/workspaces/:id drops the record"
            )
        owner = next((host for host in owners if online(host)), owners[0])
        self._apply(message, cleanup(row, message, owner, self.moment()), context)

    def _vacate(self, message: Vacate, context: Context[WorkspaceProtocol]) -> None:
        decision: Decision[None] = Decision(reply=None)
        if self.row is not None and is_vacant(self.row, message, self.store):
            decision = reconcile(self.row, f"orchestrator-{message.orchestrator_id}", self.moment())
        self.settle(message, decision, context)

    async def _merge(self, message: Act, context: Context[WorkspaceProtocol]) -> None:
        row = _mergeable(self._known())
        self._host(row)
        leases = self.fleet.leases[normalised(row.repo_root or "")]
        asked = Acquire(self.id, message.action.agent_id or "dashboard", context.system.new_id("cmd"))
        try:
            acted = await self._dispatch(row, message, leases, asked, context)
        except BaseException as failure:
            if not isinstance(failure, FenceLost):
                await _give_back(leases, asked.command_id)
                raise
            raise Conflict("the repository's merge lease was lost; ask again") from None
        self.row = acted.workspace
        if acted.command is not None:
            self.fleet.adopt(acted.command)
        context.reply(message, acted)

    async def _dispatch(
        self,
        row: wire.Workspace,
        message: Act,
        leases: Ref[MergeProtocol],
        asked: Acquire,
        context: Context[WorkspaceProtocol],
    ) -> Acted:
        with trio.fail_after(LEASE_WITHIN):
            lease = await leases.ask(asked)
        _, decision = plan_merge(row, message, self._host(row), lease, self.moment())
        return await self.commit(decision, context)

    def _host(self, row: wire.Workspace) -> wire.Orchestrator:
        """The host that a merge is sent to: it is never queued for one that is away (W-I18)."""
        owner = owner_of(self.store, row)
        if owner is None:
            raise Conflict(
                "no online host owns the workspace's directory; start its orchestrator and ask again"
            )
        return owner


def _mergeable(row: wire.Workspace) -> wire.Workspace:
    if not isolated(row).repo_root:
        raise Unprocessable("the workspace does not say which repository it belongs to")
    if not may(row, Verb.MERGE):
        raise Conflict(f"the workspace is {row.status}; only one that is still open can be merged")
    return row


async def _give_back(leases: Ref[MergeProtocol], command_id: str) -> None:
    """Nothing came of the command, so nobody else will ever release the lease; none may have been granted, too."""
    with trio.move_on_after(RELEASE_WITHIN, shield=True):
        try:
            await leases.ask(Release(command_id))
        except ActorError:
            pass
