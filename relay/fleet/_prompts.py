"""Prompts: a text of the user's for an agent's session (agents-workspaces 5).

The command brings the text to the session; the message, of kind `session`, only shows it and is never delivered (W-I46).
Both are inserted by the agent's own decision, so there is one of each, and the agent was there (W-I45).
"""

from __future__ import annotations

from relay import wire
from relay.store import Decision

from ._agent_protocol import Prompted
from ._audit import audit
from ._errors import Unprocessable
from ._letters import joined, letter, sent
from ._moment import Moment
from ._new_command import new_command
from ._queue import Routed

__all__ = ["promptable", "prompted"]

USER = "user"


def promptable(card: wire.Agent) -> wire.Agent:
    """Raises `Unprocessable` when the agent is not there; a busy or stale one may hear of it."""
    if card.status is wire.AgentStatus.OFFLINE:
        raise Unprocessable(f"{card.id} is offline")
    return card


def prompted(card: wire.Agent, body: str, moment: Moment) -> Decision[Prompted]:
    """First the command is told of, then the message."""
    shown = wire.SendMessage(from_=USER, to=card.id, kind=wire.MessageKind.SESSION, body=body)
    stored = letter(shown, None, moment, Routed())
    params = {"body": body, "messageId": stored.id}
    asked = wire.NewCommand(type="prompt.inject", source="dashboard", target=card.id, params=params)
    command, writes, events = new_command(moment, asked)
    write, event = audit(
        moment,
        f"server-prompt-inject-{stored.id}",
        f"a prompt was injected into {card.label or card.id}",
        kind=wire.ActivityKind.MESSAGE,
        body=body,
        meta=f"{USER} -> {card.id}",
        icon="ti-message-bolt",
        view="messages",
        agent_id=card.id,
        message_id=stored.id,
    )
    return joined(
        Prompted(stored.id, command.id),
        Decision(reply=None, writes=writes, events=events),
        sent(stored, moment, audited=False),
        Decision(reply=None, writes=(write,), events=(event,)),
    )
