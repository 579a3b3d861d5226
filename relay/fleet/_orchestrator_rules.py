"""What becomes of a host's row, and what a roster says that is new. They decide and do nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

import attrs

from relay import wire
from relay.store import Decision, Event, Write

from ._audit import audit
from ._moment import Moment
from ._orchestrator_protocol import Register, Registered
from ._records import text_of

__all__ = ["announced", "given", "identity", "news", "register", "row_of", "vacated"]


def register(
    before: wire.Orchestrator | None, message: Register, moment: Moment
) -> tuple[wire.Orchestrator, Decision[Registered]]:
    """The host as it describes itself; what the server knows of it stays."""
    card = message.card
    record = wire.Orchestrator(
        **attrs.asdict(attrs.evolve(card, api_url=card.address), recurse=False),
        agent_id=f"orchestrator-{card.id}",
        api_addresses=list(message.addresses),
        managed_agents=before.managed_agents if before else [],
        queued_spawns=before.queued_spawns if before else [],
        upgrade=before.upgrade if before else None,
        last_seen=moment.at,
        created_at=before.created_at if before else moment.at,
    )
    note, told = audit(
        moment,
        f"server-orchestrator-register-{card.id}-{moment.ms}",
        f"host {card.id} registered",
        body=card.base_dir,
        meta=card.id,
        icon="ti-server",
        view="orchestrators",
    )
    reply = Registered(record, new=before is None)
    row, event = announced(record)
    return record, Decision(reply=reply, writes=(row, note), events=(event, told))


Entry = TypeVar("Entry", wire.ManagedAgent, wire.ExitedAgent)


def news(before: list[wire.ManagedAgent], after: list[Entry]) -> Iterator[Entry]:
    """The entries whose workspace the host has not reported before."""
    known = {(entry.agent_id, entry.workspace.id) for entry in before if entry.workspace}
    for entry in after:
        if entry.workspace and (entry.agent_id, entry.workspace.id) not in known:
            yield entry


def vacated(before: list[wire.ManagedAgent], roster: wire.Roster) -> dict[str, str]:
    """The workspaces in which no session runs any more, and the agents whose sessions ran there."""
    there = {entry.workspace.id for entry in roster.agents if entry.workspace}
    were = {entry.workspace.id: entry.agent_id for entry in before if entry.workspace}
    were |= {gone.workspace.id: gone.agent_id for gone in roster.exited_agents if gone.workspace}
    return {workspace: agent for workspace, agent in were.items() if workspace not in there}


def identity(record: wire.Orchestrator) -> wire.RegisterAgent:
    return wire.RegisterAgent(
        id=record.agent_id,
        kind=wire.AgentKind.ORCHESTRATOR,
        status=wire.AgentStatus.ONLINE,
        ready=True,
        machine=record.hostname,
        meta={"kind": "orchestrator", "orchestratorId": record.id},
    )


def given(body: wire.OrchestratorHeartbeat) -> dict[str, Any]:
    return attrs.asdict(body, recurse=False, filter=lambda _, value: value is not None)


def announced(record: wire.Orchestrator) -> tuple[Write, Event]:
    known = wire.to_json(record)
    return row_of(record, known), Event("orchestrator.status", "server", record.id, known)


def row_of(record: wire.Orchestrator, known: Any) -> Write:
    seen = round((record.last_seen or 0.0) * 1000)
    return Write(
        "insert into orchestrators (id, agent_id, status, record, updated_at) values (?, ?, ?, ?, ?)"
        " on conflict (id) do update set agent_id = excluded.agent_id, status = excluded.status,"
        " record = excluded.record, updated_at = excluded.updated_at",
        (record.id, record.agent_id, record.status, text_of(known), seen),
    )
