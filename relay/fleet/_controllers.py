"""Which host runs an agent (agents-workspaces 4.3)."""

from __future__ import annotations

from relay import wire
from relay.store import Store

from ._paths import within
from ._records import text_member

__all__ = ["controller"]

GONE = (wire.AgentStatus.OFFLINE, wire.AgentStatus.STALE)


def controller(store: Store, card: wire.Agent) -> wire.Orchestrator | None:
    """The host that is online and has this agent in its roster, by its id, else by the name of its session.

    When none has it and nobody is heard of the agent, the one that would start it: its policy's, else the first whose
    base directory contains its place. One that is heard of runs outside of any host, and its runner is asked itself.
    """
    if card.meta.get("runnerManaged") is not True:
        return None
    rows = store.rows("select record from orchestrators where status = 'online' order by id")
    hosts = [wire.decode(wire.Orchestrator, record) for (record,) in rows]
    return _listed(hosts, card) or (_fallback(store, hosts, card) if card.status in GONE else None)


def _listed(hosts: list[wire.Orchestrator], card: wire.Agent) -> wire.Orchestrator | None:
    sessions = {text_member(card.meta, "sessionName"), text_member(card.meta, "tmuxSession")} - {None}
    entries = [(host, entry) for host in hosts for entry in host.managed_agents]
    by_id = (host for host, entry in entries if entry.agent_id == card.id)
    by_session = (host for host, entry in entries if sessions & {entry.session_name, entry.tmux_session})
    return next(by_id, None) or next(by_session, None)


def _fallback(store: Store, hosts: list[wire.Orchestrator], card: wire.Agent) -> wire.Orchestrator | None:
    policy, place = text_member(card.meta, "policyName"), text_member(card.meta, "cwd")
    row = store.row("select orchestrator_id from managed_agents where policy_name = ?", policy)
    by_policy = (host for host in hosts if row is not None and host.id == row[0])
    by_place = (host for host in hosts if place is not None and within(host.base_dir, place))
    return next(by_policy, None) or next(by_place, None)
