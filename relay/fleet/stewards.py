"""Repo stewards: the agents that look after the merge queues of repositories (agents-workspaces 13).

Whoever is there, has the capability `steward` and a workspace in the repository looks after it; of several, whoever has been there
for longest. Nothing is kept about it: it is so for as long as the agent is, and says it.
"""

from __future__ import annotations

from relay import wire
from relay.store import Store

__all__ = ["CAPABILITY", "list_stewards"]

CAPABILITY = "steward"

SQL = (
    "select w.repo_root, a.record from workspaces w join agents a on a.id = w.agent_id"
    " where w.repo_root is not null and w.status <> 'cleaned' and a.status <> 'offline'"
    " and exists (select 1 from json_each(a.record, '$.capabilities') where value = ?)"
    " order by w.repo_root, coalesce(a.record ->> '$.createdAt', 0) desc, a.id desc"
)


def list_stewards(store: Store) -> list[wire.RepoSteward]:
    """One for each repository that has any, by repository."""
    found = {root: wire.decode(wire.Agent, record) for root, record in store.rows(SQL, CAPABILITY)}
    return [_steward(root, agent) for root, agent in found.items()]


def _steward(root: str, agent: wire.Agent) -> wire.RepoSteward:
    return wire.RepoSteward(
        repo_root=root, agent_id=agent.id, status=agent.status, updated_at=agent.last_seen or agent.created_at
    )
