"""What the actor of one workspace understands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from relay import wire
from relay.actors import Ask

from ._audit import Caller

__all__ = ["Act", "Acted", "Purge", "Remove", "Report", "Settle", "Vacate", "WorkspaceProtocol"]


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
    by: Caller | None = None


@attrs.frozen
class Report(Ask[WorkspaceProtocol, wire.Workspace]):
    """A host has made this workspace for this agent."""

    report: wire.WorkspaceReport
    agent_id: str
    orchestrator_id: str


@attrs.frozen
class Remove(Ask[WorkspaceProtocol, wire.Workspace]):
    """Forget the row; the disk is left alone (8.5)."""

    by: Caller | None = None


@attrs.frozen
class Purge(Ask[WorkspaceProtocol, bool]):
    """Forget the row, if the workspace has been cleaned up since before that moment (epoch seconds): whether it was."""

    before: float


@attrs.frozen
class Vacate(Ask[WorkspaceProtocol, None]):
    """The host says that the session of this agent, which worked in the workspace, is over."""

    agent_id: str
    orchestrator_id: str


@attrs.frozen
class Settle(Ask[WorkspaceProtocol, None]):
    """A command about this workspace has ended."""

    command_id: str
    type: str
    status: wire.CommandStatus
    result: Mapping[str, Any] | None
    error: str | None
