"""The cards of agents, as they are stored."""

from __future__ import annotations

from relay import wire
from relay.store import Store

from ._errors import NotFound

__all__ = ["find_agent", "find_participant", "get_agent", "list_agents", "reserved"]


def find_agent(store: Store, key: str) -> wire.Agent | None:
    row = store.row("select record from agents where id = ?", key)
    return wire.decode(wire.Agent, row[0]) if row else None


def find_participant(store: Store, key: str) -> wire.Agent | None:
    """Whom mail under this id reaches: the agent, or a reserved participant, who needs no card to be there (3.1)."""
    return find_agent(store, key) or reserved(key)


def reserved(key: str) -> wire.Agent | None:
    """What stands for a reserved participant without a card."""
    return wire.Agent(id=key, kind=wire.RESERVED[key]) if key in wire.RESERVED else None


def get_agent(store: Store, key: str) -> wire.Agent:
    """The agent; raises `NotFound`."""
    agent = find_agent(store, key)
    if agent is None:
        raise NotFound("no such agent")
    return agent


def list_agents(
    store: Store, *, status: wire.AgentStatus | None = None, kind: wire.AgentKind | None = None
) -> list[wire.Agent]:
    """Agents in the order of their ids."""
    sql = "select record from agents where (?1 is null or status = ?1) and (?2 is null or kind = ?2) order by id"
    return [wire.decode(wire.Agent, record) for (record,) in store.rows(sql, status, kind)]
