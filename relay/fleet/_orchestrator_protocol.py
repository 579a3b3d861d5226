"""What can be said to the actor of one host."""

from __future__ import annotations

import attrs

from relay import wire
from relay.actors import Ask, Tell

from ._audit import Caller

__all__ = [
    "Act",
    "Dispatched",
    "Heartbeat",
    "Leave",
    "Mend",
    "OrchestratorProtocol",
    "ReapIfSilent",
    "Reclaim",
    "Register",
    "Registered",
    "Remove",
    "ReportRoster",
    "Silence",
    "Spawn",
    "Upgrade",
    "UpgradeMoved",
]


class OrchestratorProtocol:
    """What the actor of one host understands."""


@attrs.frozen
class Registered:
    orchestrator: wire.Orchestrator
    new: bool


@attrs.frozen
class Dispatched:
    """A command was made for the host."""

    orchestrator_id: str
    command: wire.Command


@attrs.frozen
class Register(Ask[OrchestratorProtocol, Registered]):
    """Insert or refresh the host (ORC-1 to ORC-3). `addresses` are those that its API may be called at."""

    card: wire.RegisterOrchestrator
    addresses: tuple[str, ...] = ()


@attrs.frozen
class Heartbeat(Ask[OrchestratorProtocol, wire.Orchestrator]):
    beat: wire.OrchestratorHeartbeat


@attrs.frozen
class ReportRoster(Ask[OrchestratorProtocol, wire.Orchestrator]):
    """The host's agents as they are now (ORC-10 to ORC-12)."""

    roster: wire.Roster


@attrs.frozen
class Spawn(Ask[OrchestratorProtocol, Dispatched]):
    """Have the host start an agent; `anywhere` when the host was chosen by the server (3.9)."""

    request: wire.SpawnAgent
    anywhere: bool = False
    by: Caller | None = None


@attrs.frozen
class Act(Ask[OrchestratorProtocol, Dispatched]):
    """Have the host restart or shut down agents (14.5)."""

    action: wire.OrchestratorAction
    by: Caller | None = None


@attrs.frozen
class Upgrade(Ask[OrchestratorProtocol, Dispatched]):
    """Have the host change its version (14.6); an upgrade that is under way is given up for it."""

    asked: wire.UpgradeOrchestrator
    by: Caller | None = None


@attrs.frozen
class UpgradeMoved(Tell[OrchestratorProtocol]):
    """The command of an upgrade has ended so."""

    command_id: str
    status: wire.CommandStatus
    error: str | None = None


@attrs.frozen
class Reclaim(Ask[OrchestratorProtocol, wire.Command]):
    """Have the host remove a worktree that no workspace is in any more (agents-workspaces 10.2)."""

    asked: wire.Reclaim
    by: Caller | None = None


@attrs.frozen
class Remove(Ask[OrchestratorProtocol, None]):
    """Forget the host and its identity (ORC-8)."""


@attrs.frozen
class Leave(Tell[OrchestratorProtocol]):
    """The host has said goodbye: it is offline until it is heard of again."""


@attrs.frozen
class Mend(Tell[OrchestratorProtocol]):
    """Finish what an earlier life may have left half done."""


@attrs.frozen
class Silence(Tell[OrchestratorProtocol]):
    """It is time to look how long there has been no contact."""


@attrs.frozen
class ReapIfSilent(Ask[OrchestratorProtocol, bool]):
    """Go offline, if there has been no contact for too long; the answer is whether it did (step 6 of 19.2).

    `held_up`: the server was, so that nobody could be heard; everybody has the whole time again.
    """

    held_up: bool = False
