"""What can be said to the actor of a policy."""

from __future__ import annotations

from typing import Any

import attrs

from relay import wire
from relay.actors import Ask, Tell

__all__ = [
    "AgentBack",
    "AgentGone",
    "CommandMoved",
    "Delete",
    "Exited",
    "Healthy",
    "HostRemoved",
    "Link",
    "Listed",
    "Look",
    "Overdue",
    "PolicyProtocol",
    "Restart",
    "Retry",
    "SetPolicy",
    "Start",
    "Stop",
]


class PolicyProtocol:
    """What the actor of one policy understands."""


@attrs.frozen
class SetPolicy(Ask[PolicyProtocol, wire.ConfigEntry]):
    """The next version of what the policy says; nothing is started or stopped by that (POL-5)."""

    value: Any
    updated_by: str | None = None


@attrs.frozen
class Delete(Ask[PolicyProtocol, wire.Command]):
    """Stop the agent and forget what the policy says: both, or neither (POL-6)."""

    updated_by: str | None = None


@attrs.frozen
class Start(Ask[PolicyProtocol, wire.Command]):
    """Have the policy's host start an agent (POL-9)."""


@attrs.frozen
class Stop(Ask[PolicyProtocol, wire.Command]):
    """Have the agent ended (POL-13)."""


@attrs.frozen
class Restart(Ask[PolicyProtocol, wire.Command]):
    """Have the agent ended and started again, under the same spawn request; without one, as `Start` (POL-16)."""


@attrs.frozen
class Link(Ask[PolicyProtocol, bool]):
    """The agent registered with this spawn request id. The answer: whether it is the policy's agent now."""

    agent_id: str
    spawn_request_id: str


@attrs.frozen
class AgentBack(Tell[PolicyProtocol]):
    """The agent, who once registered with this spawn request id, was offline and is not any more."""

    agent_id: str
    spawn_request_id: str


@attrs.frozen
class AgentGone(Tell[PolicyProtocol]):
    """The agent is offline, or was deleted."""

    agent_id: str
    why: str


@attrs.frozen
class Exited(Ask[PolicyProtocol, None]):
    """A host reports that the session of this spawn request has ended. `well`: by itself, and with success."""

    spawn_request_id: str
    why: str
    well: bool = False


@attrs.frozen
class Listed(Tell[PolicyProtocol]):
    """A host has a session of this spawn request (ORC-12)."""

    spawn_request_id: str
    agent_id: str
    session: str | None


@attrs.frozen
class HostRemoved(Tell[PolicyProtocol]):
    """A person says that there is no such host any more."""

    orchestrator_id: str


@attrs.frozen
class CommandMoved(Tell[PolicyProtocol]):
    """A command about the policy's agent has ended, and that is durable."""

    command: wire.Command


@attrs.frozen
class Look(Tell[PolicyProtocol]):
    """Find out what was missed."""


@attrs.frozen
class Retry(Tell[PolicyProtocol]):
    """The agent that failed may be started again."""


@attrs.frozen
class Healthy(Tell[PolicyProtocol]):
    """The agent has run for long enough."""


@attrs.frozen
class Overdue(Tell[PolicyProtocol]):
    """The agent should have registered by now."""
