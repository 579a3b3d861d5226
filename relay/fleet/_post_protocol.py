"""What can be said to the post office."""

from __future__ import annotations

import attrs

from relay import wire
from relay.actors import Ask, Refusal

from ._letters import Sent

__all__ = ["Claim", "Delete", "MarkRead", "Post", "Renew", "Send", "SendMany", "TaskMessage"]


class Post:
    """What the post office understands."""


class TaskMessage:
    """Marks those messages of the post office's protocol that are about tasks."""


@attrs.frozen
class Send(Ask[Post, Sent]):
    message: wire.SendMessage


@attrs.frozen
class SendMany(Ask[Post, tuple[Sent | Refusal, ...]]):
    """Send several in one commit; the answers are in the order of `messages`.

    `together`: all of them or none; the first refusal is raised, and nothing is stored. Otherwise each refusal stands
    in its message's place. `even_offline`: the offline rule is not asked (CHN-13). `audited`: an audit record tells of
    each new message, as it does of those that are sent alone.
    """

    messages: tuple[wire.SendMessage, ...]
    together: bool = False
    even_offline: bool = False
    audited: bool = True


@attrs.frozen
class Claim(Ask[Post, wire.Claim]):
    """Take a claimable message for one agent."""

    message_id: int
    agent_id: str


@attrs.frozen
class Renew(Ask[Post, wire.Claim]):
    """Extend the claim that the agent holds."""

    message_id: int
    agent_id: str


@attrs.frozen
class MarkRead(Ask[Post, None]):
    """The agent has read it; saying so twice is harmless (MSG-25)."""

    message_id: int
    agent_id: str


@attrs.frozen
class Delete(Ask[Post, None]):
    message_id: int
