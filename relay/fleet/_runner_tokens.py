"""For which agent a host may have a token: the one that a command has it start, now; and what else it is given for that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from relay import wire
from relay.store import Store

from ._errors import Conflict, Forbidden, Unprocessable
from ._orchestrator_rows import runs_elsewhere
from ._outfits import fetched

__all__ = ["granted", "host_of", "host_with", "startable"]

STARTING = ("agent.spawn", "agent.restart")


def host_of(store: Store, command: wire.Command) -> str:
    """The host that the command is for. Raises `Unprocessable`."""
    host = host_with(store, command.target)
    if host is None or command.type not in STARTING:
        raise Unprocessable(f"command {command.id} has no host start an agent")
    return host


def host_with(store: Store, agent_id: str) -> str | None:
    """The host whose identity this agent is."""
    row = store.row("select id from orchestrators where agent_id = ?", agent_id)
    return None if row is None else str(row[0])


def startable(store: Store, command: wire.Command, host_id: str, agent_id: str) -> str | None:
    """The policy for which the host starts the agent, if there is one. Raises `Conflict` when the command is over or not yet
    claimed, and `Forbidden` for an agent that it has not to start."""
    if command.status.final:
        raise Conflict(f"command {command.id} is over: {command.status}")
    if command.status is wire.CommandStatus.PENDING:
        raise Conflict(f"command {command.id} is not claimed yet")
    params = _spawn_of(command)
    if params.get("agentId") not in (None, agent_id):
        raise Forbidden(f"agentId: command {command.id} is not about {agent_id}")
    _not_somebody_else(store, host_id, agent_id)
    policy = params.get("policyName")
    return policy if isinstance(policy, str) and policy else None


def granted(store: Store, command: wire.Command) -> dict[str, Any]:
    """What a host that may have a token for this command gets with it (`wire.RunnerGrant`). Raises `Conflict`."""
    return fetched(store, _spawn_of(command))


def _spawn_of(command: wire.Command) -> Mapping[str, Any]:
    successor = command.params.get("restartSpawn")
    return successor if isinstance(successor, dict) else command.params


def _not_somebody_else(store: Store, host_id: str, agent_id: str) -> None:
    """The agent is none that is no host's to start, or another's."""
    row = store.row("select kind from agents where id = ?", agent_id)
    if agent_id in wire.RESERVED or (row is not None and row[0] != wire.AgentKind.PROVIDER):
        raise Forbidden(f"agentId: {agent_id} is no agent that a host starts")
    if (other := runs_elsewhere(store, host_id, agent_id)) is not None:
        raise Forbidden(f"agentId: {agent_id} runs on host {other}")
