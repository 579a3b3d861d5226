"""Hosts as rows: found, and listed."""

from __future__ import annotations

from relay import wire
from relay.store import Store

from ._errors import NotFound

__all__ = ["find_orchestrator", "get_orchestrator", "list_orchestrators", "runs_elsewhere"]


def find_orchestrator(store: Store, key: str) -> wire.Orchestrator | None:
    row = store.row("select record from orchestrators where id = ?", key)
    return wire.decode(wire.Orchestrator, row[0]) if row else None


def get_orchestrator(store: Store, key: str) -> wire.Orchestrator:
    """The host; raises `NotFound`."""
    record = find_orchestrator(store, key)
    if record is None:
        raise NotFound("no such orchestrator")
    return record


def list_orchestrators(
    store: Store, *, status: wire.OrchestratorStatus | None = None
) -> list[wire.Orchestrator]:
    """Hosts in the order of their ids."""
    sql = "select record from orchestrators where (?1 is null or status = ?1) order by id"
    return [wire.decode(wire.Orchestrator, record) for (record,) in store.rows(sql, status)]


def runs_elsewhere(store: Store, host_id: str, agent_id: str) -> str | None:
    """Another host that is there and runs this agent."""
    sql = (
        "select o.id from orchestrators o, json_each(o.record, '$.managedAgents') m"
        " where o.id <> ? and o.status = 'online' and json_extract(m.value, '$.agentId') = ?"
    )
    row = store.row(sql, host_id, agent_id)
    return row[0] if row else None
