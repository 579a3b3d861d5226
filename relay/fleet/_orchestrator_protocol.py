"""What can be said to the actor of one host."""

from __future__ import annotations

import attrs

from relay import wire
from relay.actors import Ask, Tell

__all__ = [
    "Act",
    "Dispatched",
    "Heartbeat",
    "Leave",
    "OrchestratorProtocol",
    "ReapIfSilent",
    "Register",
    "Registered",
    "Remove",
    "ReportRoster",
    "Silence",
    "Spawn",
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
    """Insert or refresh the host (ORC-1 to ORC-3)."""

    card: wire.RegisterOrchestrator


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


@attrs.frozen
class Act(Ask[OrchestratorProtocol, Dispatched]):
    """Have the host restart or shut down agents (14.5)."""

    action: wire.OrchestratorAction


@attrs.frozen
class Remove(Ask[OrchestratorProtocol, None]):
    """Forget the host and its identity (ORC-8)."""


@attrs.frozen
class Leave(Tell[OrchestratorProtocol]):
    """The host has said goodbye: it is offline until it is heard of again."""


@attrs.frozen
class Silence(Tell[OrchestratorProtocol]):
    """It is time to look how long there has been no contact."""


@attrs.frozen
class ReapIfSilent(Ask[OrchestratorProtocol, bool]):
    """Go offline, if there has been no contact for too long; the answer is whether it did (step 6 of 19.2).

    `held_up`: the server was, so that nobody could be heard; everybody has the whole time again.
    """

    held_up: bool = False
