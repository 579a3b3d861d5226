"""What can be said to the post office."""

from __future__ import annotations

import attrs

from relay import wire
from relay.actors import Ask, Refusal, Tell

__all__ = [
    "Claim",
    "Delete",
    "ExpireQueued",
    "MarkAllRead",
    "MarkRead",
    "Post",
    "ReleaseQueue",
    "Renew",
    "RenewAll",
    "ResumeQueue",
    "Send",
    "SendMany",
    "Sent",
    "TaskMessage",
]


class Post:
    """What the post office understands."""


class TaskMessage:
    """Marks those messages of the post office's protocol that are about tasks."""


@attrs.frozen
class Sent:
    """The message that stands for what was sent, and its JSON text; `new` unless an earlier one of the same key does."""

    message: wire.Message
    text: bytes
    new: bool


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
    """Take a claimable message for one agent.

    `to_hand_over`: it is for an agent that has not asked for this one. Then it is refused, as over, when another has taken
    the message; except for one that stands for a task, whose status says what is left to do.
    """

    message_id: int
    agent_id: str
    to_hand_over: bool = False


@attrs.frozen
class Renew(Ask[Post, wire.Claim]):
    """Extend the claim that the agent holds."""

    message_id: int
    agent_id: str


@attrs.frozen
class RenewAll(Tell[Post]):
    """As `Renew`, for messages that are in the agent's hands. What it holds no claim on is passed over."""

    message_ids: tuple[int, ...]
    agent_id: str


@attrs.frozen
class MarkRead(Ask[Post, None]):
    """The agent has read it; saying so twice is harmless (MSG-25)."""

    message_id: int
    agent_id: str


@attrs.frozen
class MarkAllRead(Ask[Post, None]):
    """The agent has confirmed these. Those that are gone are passed over."""

    message_ids: tuple[int, ...]
    agent_id: str


@attrs.frozen
class Delete(Ask[Post, None]):
    message_id: int


@attrs.frozen
class ReleaseQueue(Ask[Post, bool]):
    """Give the agent that serves the policy, if one does, what waits for it (MSG-40). The answer: whether more waits.

    One answer stands for a limited number of messages; the post office goes on with the rest by itself.
    """

    policy: str


@attrs.frozen
class ResumeQueue(Tell[Post]):
    """As `ReleaseQueue`; nobody waits for it."""

    policy: str


@attrs.frozen
class ExpireQueued(Ask[Post, tuple[int, ...]]):
    """Queued messages whose life time is over expire (MSG-43). The answer: which, a bounded number; ask again until none
    is left.

    `missed`: seconds that the server was not there. They are added to every life time first, for nobody could register.
    """

    missed: float = 0.0
