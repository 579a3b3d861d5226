"""What can be asked of an agent: restart, shutdown and the rest, as a table (agents-workspaces 4).

An action is a command, to the host that runs the agent or to its runner. Some mark the agent on the way: it is not ready,
and its meta says what is done to it, until its runner reports again. All of it is one decision (W-I42, W-I44).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from relay import wire
from relay.store import Decision, Event, Store, Write

from ._agent_protocol import Act, Asked
from ._agent_rules import announced
from ._audit import audit
from ._controllers import controller
from ._errors import Conflict, Invalid, Unprocessable
from ._moment import Moment
from ._new_command import new_command
from ._records import text_member
from ._restart_spawn import Origin, restart_spawn
from .timeline import resume_id

__all__ = ["ACTIONS", "Action", "Means", "asked", "eligible", "means"]

V = wire.AgentVerb


@attrs.frozen
class Action:
    """One row of the table. `done` says that it is; `needs` is the path in the agent's capabilities that must be true."""

    command: str
    icon: str
    done: str
    needs: tuple[str, str] | None = None
    host: bool = False
    """The host that runs the agent carries it out, if there is one."""
    spawns: bool = False
    """The host is told how to start the agent again."""
    marker: str | None = None
    """What `meta.lifecycleAction` says of it; then the agent is not ready."""


ACTIONS: Mapping[wire.AgentVerb, Action] = {
    V.RESTART: Action(
        "agent.restart", "ti-refresh", "was restarted", ("lifecycle", "restartHard"), True, True, "restarting"
    ),
    V.RESUME: Action("agent.restart", "ti-player-play", "was resumed", None, True, True, "resuming"),
    V.SHUTDOWN: Action(
        "agent.shutdown",
        "ti-power",
        "was shut down",
        ("lifecycle", "shutdownHard"),
        True,
        False,
        "shutting-down",
    ),
    V.RECONNECT: Action("agent.reconnect", "ti-refresh", "reconnected", ("lifecycle", "reconnect")),
    V.COMPACT: Action("agent.compact", "ti-compress", "was compacted", ("context", "compact")),
    V.CLEAR_CONTEXT: Action("agent.clearContext", "ti-eraser", "has a clear context", ("context", "clear")),
    V.INTERRUPT: Action("agent.interrupt", "ti-player-stop", "was interrupted", ("liveSession", "interrupt")),
}
"""Spec 4.5. Whether an agent can be resumed is a matter of its provider and status, not of a capability."""

UNMANAGED = (V.RESTART, V.SHUTDOWN)
"""What an agent that says nothing of its life cycle can be asked, if it has a runner."""
RESUMABLE = (wire.AgentStatus.OFFLINE, wire.AgentStatus.STALE)
RELOAD = "memory-reload:"
NAMED = ("sessionName", "tmuxSession", "policyName", "spawnRequestId")


@attrs.frozen
class Means:
    """By what an action is done: the host that runs the agent, and the session to resume."""

    host: wire.Orchestrator | None = None
    resume: str | None = None


def eligible(card: wire.Agent, verb: wire.AgentVerb) -> bool:
    """Whether this agent can be asked that, as it is now (4.2)."""
    if card.id in wire.RESERVED or _is_channel(card):
        return False
    if verb is V.RESUME:
        return _provider(card) == "claude" and card.status in RESUMABLE
    able = _able(card, ACTIONS[verb].needs)
    if verb is V.INTERRUPT:
        return able and card.status is wire.AgentStatus.BUSY
    if isinstance(_capabilities(card).get("lifecycle"), dict):
        return able
    return card.meta.get("runnerManaged") is True and verb in UNMANAGED


def _is_channel(card: wire.Agent) -> bool:
    is_one = wire.AgentKind.CHANNEL
    return card.kind is is_one or card.meta.get("kind") == is_one.value or is_one.value in card.tags


def _provider(card: wire.Agent) -> object:
    model = _capabilities(card).get("model")
    told = card.meta.get("provider")
    return (
        told if isinstance(told, str) and told else model.get("provider") if isinstance(model, dict) else None
    )


def _capabilities(card: wire.Agent) -> Mapping[str, Any]:
    """The card's, else those that its runner reports with the rest of what it knows."""
    reported = card.meta.get("providerCapabilities")
    return card.provider_capabilities or (reported if isinstance(reported, dict) else {})


def _able(card: wire.Agent, needs: tuple[str, str] | None) -> bool:
    part, name = needs or ("", "")
    known = _capabilities(card).get(part)
    return isinstance(known, dict) and known.get(name) is True


def means(store: Store, card: wire.Agent, verb: wire.AgentVerb) -> Means:
    """What the action needs, found; raises unless it can be done now (4.1, steps 3 to 6)."""
    if not eligible(card, verb):
        raise Invalid(f"{verb} is not available for {card.id} as it is now ({card.status})")
    host = controller(store, card) if ACTIONS[verb].host else None
    if verb is not V.RESUME:
        return Means(host)
    if host is None:
        raise Conflict(f"no host that is online can resume {card.id}: start the orchestrator that ran it")
    found = resume_id(store, card.id)
    if found is None:
        raise Unprocessable(f"{card.id} has reported no session that could be resumed: restart it instead")
    return Means(host, found)


def asked(
    card: wire.Agent, message: Act, found: Means, before: Origin, moment: Moment
) -> tuple[wire.Agent, Decision[Asked]]:
    """The command, and what it makes of the card (4.6, 4.9): others hear of the card first, then of the command (17).
    `before` is what started the agent."""
    verb = message.action
    action = ACTIONS[verb]
    params = {
        "action": verb.value,
        "agentId": card.id,
        **{name: value for name in NAMED if (value := text_member(card.meta, name)) is not None},
        **_extra(card, verb, found, before, moment),
        "requestedBy": "dashboard",
        "requestedAt": moment.ms,
    }
    target = found.host.agent_id if found.host is not None else card.id
    new = wire.NewCommand(type=action.command, source="system", target=target, params=params)
    command, writes, events = new_command(moment, new)
    record = _audited(card, message, command, moment)
    reply = Asked(verb, command)
    if action.marker is None:
        return card, Decision(reply=reply, writes=(*writes, record[0]), events=(*events, record[1]))
    marks = {
        "lifecycleAction": action.marker,
        "lifecycleActionAt": moment.ms,
        "lifecycleCommandId": command.id,
    }
    after = attrs.evolve(card, ready=False, meta={**card.meta, **marks})
    told = announced(after, reply)
    return after, attrs.evolve(
        told, writes=(*writes, *told.writes, record[0]), events=(*told.events, *events, record[1])
    )


def _extra(
    card: wire.Agent, verb: wire.AgentVerb, found: Means, before: Origin, moment: Moment
) -> Mapping[str, Any]:
    """What only some actions say."""
    spawn = ACTIONS[verb].spawns and found.host is not None
    reload = [tag.removeprefix(RELOAD) for tag in card.tags if tag.startswith(RELOAD) and tag != RELOAD]
    extra = {
        "restartSpawn": restart_spawn(card, before, found.resume, moment) if spawn else None,
        "claudeResumeId": found.resume,
        "alwaysReload": reload if verb is V.COMPACT and reload else None,
    }
    return {name: value for name, value in extra.items() if value is not None}


def _audited(card: wire.Agent, message: Act, command: wire.Command, moment: Moment) -> tuple[Write, Event]:
    verb = message.action
    return audit(
        moment,
        f"server-agent-{card.id}-action-{verb}-{command.id}",
        f"{verb} of {card.label or card.id} was asked for",
        body=verb.value,
        meta=card.id,
        icon=ACTIONS[verb].icon,
        view="agents",
        agent_id=card.id,
        metadata={"action": verb.value, "commandId": command.id},
        by=message.by,
    )
