"""What policies hear of hosts and agents (ORC-12): of sessions that are there, of those that have ended, and of agents that go
and come back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from relay import wire
from relay.actors import Ref, Tell
from relay.store import Store

from ._policy_protocol import AgentBack, AgentGone, Exited, HostRemoved, Listed
from ._policy_views import link_of
from ._queue import served_by

if TYPE_CHECKING:
    from ._fleet import Fleet

__all__ = ["came_back", "left", "of_host", "of_new_sessions", "report_exits"]

Tells = tuple[tuple[Ref[Any], Tell[Any]], ...]


async def report_exits(fleet: Fleet, roster: wire.Roster) -> None:
    """Before the roster is stored: a host that does not know that it was taken sends it again. Sessions that the host
    itself starts again are no news; nor is the end of one that was started anew since, under the same spawn request: whoever
    is on the roster is there."""
    here = {(each.policy_name, each.spawn_request_id) for each in roster.agents}
    for gone in roster.exited_agents:
        if (gone.policy_name, gone.spawn_request_id) in here:
            continue
        if gone.policy_name and gone.spawn_request_id and not gone.restarted:
            why = gone.last_error or f"its session has ended (exit code {gone.exit_code})"
            well = gone.exit_code == 0 and gone.signal is None
            await fleet.policies[gone.policy_name].ask(Exited(gone.spawn_request_id, why, well))


def of_new_sessions(fleet: Fleet, before: list[wire.ManagedAgent], after: list[wire.ManagedAgent]) -> Tells:
    known = {_session(entry) for entry in before}
    return tuple(
        (
            fleet.policies[entry.policy_name],
            Listed(entry.spawn_request_id, entry.agent_id, entry.tmux_session),
        )
        for entry in after
        if entry.policy_name and entry.spawn_request_id and _session(entry) not in known
    )


def _session(entry: wire.ManagedAgent) -> tuple[str | None, ...]:
    return entry.policy_name, entry.spawn_request_id, entry.agent_id, entry.tmux_session


def of_host(fleet: Fleet, store: Store, orchestrator_id: str) -> Tells:
    """That there is no such host any more, to the policies whose agents it ran."""
    sql = "select policy_name from managed_agents where orchestrator_id = ? and status <> 'stopped'"
    names = store.rows(sql, orchestrator_id)
    return tuple((fleet.policies[name], HostRemoved(orchestrator_id)) for (name,) in names)


def left(fleet: Fleet, before: wire.Agent, after: wire.Agent | None) -> Tells:
    """The agent was there, and is not any more. It concerns the policy that its card names, whose link may not be stored
    yet, and those that were given it before its card named another."""
    link = link_of(before)
    named = () if link is None else (link[0],)
    why = "was deleted" if after is None else "is offline: its heartbeat was lost, or it said goodbye"
    gone = AgentGone(before.id, f"agent {before.id} {why}")
    return tuple(
        (fleet.policies[name], gone) for name in dict.fromkeys((*named, *served_by(fleet.store, before.id)))
    )


def came_back(fleet: Fleet, card: wire.Agent) -> Tells:
    link = link_of(card)
    if link is None:
        return ()
    return ((fleet.policies[link[0]], AgentBack(card.id, link[1].spawn_request_id)),)
