"""What a person decides about a session: the answer to a question of the agent, and a terminal beside it.

An answer is a command to the agent's runner, and never a message, so that no agent can give it. It waits a while for the
runner, as the question does; the first one counts there.
"""

from __future__ import annotations

from relay import wire
from relay.store import Decision

from ._audit import Caller, audit
from ._moment import Moment
from ._new_command import new_command
from ._prompts import promptable

__all__ = ["decided", "terminal_noted"]

TTL_MS = 600_000


def decided(
    card: wire.Agent, asked: wire.DecidePermission, moment: Moment, by: Caller | None
) -> Decision[wire.Command]:
    """The command that brings the answer; raises `Unprocessable` when the agent is not there."""
    promptable(card)
    new = wire.NewCommand(
        type="agent.permissionDecision",
        source="dashboard",
        target=card.id,
        params={**wire.to_json(asked), "agentId": card.id, "requestedAt": moment.ms},
        ttl_ms=TTL_MS,
    )
    command, writes, events = new_command(moment, new)
    note, noted = audit(
        moment,
        f"server-agent-{card.id}-permission-{command.id}",
        f"a question of {card.label or card.id} was answered: {asked.decision}",
        body=asked.reason or asked.decision.value,
        meta=card.id,
        icon="ti-shield-check",
        view="agents",
        agent_id=card.id,
        metadata={
            "approvalId": asked.approval_id,
            "decision": asked.decision.value,
            "commandId": command.id,
        },
        by=by,
    )
    return Decision(reply=command, writes=(*writes, note), events=(*events, noted))


def terminal_noted(
    card: wire.Agent, session: str, moment: Moment, by: Caller | None, *, opened: bool
) -> Decision[None]:
    """That somebody looks into the session from now on, or no longer does."""
    what = "opened" if opened else "closed"
    note, noted = audit(
        moment,
        f"server-agent-{card.id}-terminal-{what}-{session}-{moment.ms}",
        f"a terminal of {card.label or card.id} was {what}",
        body=session,
        meta=card.id,
        icon="ti-terminal",
        view="agents",
        agent_id=card.id,
        metadata={"session": session},
        by=by,
    )
    return Decision(reply=None, writes=(note,), events=(noted,))
