"""What can be said to the actor of one agent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from relay import wire
from relay.actors import Ask, Tell

from ._audit import Caller

__all__ = [
    "Act",
    "AgentProtocol",
    "Asked",
    "Decide",
    "Exited",
    "Follow",
    "Heartbeat",
    "NoteTerminal",
    "Prompt",
    "Prompted",
    "ReapIfSilent",
    "Register",
    "Registered",
    "Remove",
    "SetLabel",
    "SetReady",
    "SetStatus",
    "SetTags",
    "Silence",
    "Update",
]


class AgentProtocol:
    """What the actor of one agent understands."""


@attrs.frozen
class Registered:
    agent: wire.Agent
    new: bool


@attrs.frozen
class Register(Ask[AgentProtocol, Registered]):
    """Insert or refresh the card (AGT-1 to AGT-10)."""

    card: wire.RegisterAgent


@attrs.frozen
class SetStatus(Ask[AgentProtocol, wire.Agent]):
    """`instance` is the session guard; None is let through. So in all of these."""

    status: wire.AgentStatus
    instance: str | None = None


@attrs.frozen
class SetReady(Ask[AgentProtocol, wire.Agent]):
    ready: bool
    instance: str | None = None


@attrs.frozen
class Heartbeat(Ask[AgentProtocol, wire.Agent]):
    """`status` is what to come back to from stale or offline; `meta` is merged into the card's."""

    instance: str | None = None
    status: wire.AgentStatus | None = None
    meta: Mapping[str, Any] | None = None


@attrs.frozen
class Update(Ask[AgentProtocol, wire.Agent]):
    """Status, ready flag and more members of `meta` in one; what is None stays as it is (BUS-3)."""

    status: wire.AgentStatus | None = None
    ready: bool | None = None
    meta: Mapping[str, Any] | None = None
    instance: str | None = None


@attrs.frozen
class SetLabel(Ask[AgentProtocol, wire.Agent]):
    label: str | None


@attrs.frozen
class SetTags(Ask[AgentProtocol, wire.Agent]):
    tags: list[str]


@attrs.frozen
class Asked:
    """An action was asked of the agent; the command stands for it."""

    action: wire.AgentVerb
    command: wire.Command


@attrs.frozen
class Act(Ask[AgentProtocol, Asked]):
    """Have the agent restarted, shut down, interrupted … (AGT-30)."""

    action: wire.AgentVerb
    by: Caller | None = None


@attrs.frozen
class Prompted:
    """A prompt is on its way: the message that shows it, and the command that brings it."""

    message_id: int
    command_id: str


@attrs.frozen
class Decide(Ask[AgentProtocol, wire.Command]):
    """Answer a question of the agent: the command that brings it to its runner. 422 when it is offline."""

    asked: wire.DecidePermission
    by: Caller | None = None


@attrs.frozen
class NoteTerminal(Ask[AgentProtocol, None]):
    """A terminal beside the agent's session was opened, or closed."""

    session: str
    opened: bool
    by: Caller | None = None


@attrs.frozen
class Prompt(Ask[AgentProtocol, Prompted]):
    """Put a text of the user's into the agent's session (AGT-48)."""

    body: str


@attrs.frozen
class Remove(Ask[AgentProtocol, None]):
    """Forget the agent (AGT-18)."""


@attrs.frozen
class Exited(Ask[AgentProtocol, bool]):
    """A host reports that a session of the agent ended; `succeeded` when the host goes on with another one.

    It is audited once. The agent goes offline unless its card describes a later session. The answer says whether the
    report was news.
    """

    report: wire.ExitedAgent
    succeeded: bool = False


@attrs.frozen
class Follow(Tell[AgentProtocol]):
    """The host behind this identity came or went."""

    status: wire.AgentStatus


@attrs.frozen
class Silence(Tell[AgentProtocol]):
    """It is time to look how long there has been no contact."""


@attrs.frozen
class ReapIfSilent(Ask[AgentProtocol, bool]):
    """Go offline, if there has been no contact for too long; the answer is whether it did (step 5 of 19.2).

    `held_up`: the server was, so that nobody could be heard; everybody has the whole time again.
    """

    held_up: bool = False
