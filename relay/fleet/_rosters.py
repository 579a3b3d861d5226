"""What a host's roster tells others, before it is stored: whoever misses it is told again, and takes the same news twice (14.3).

Of agents that run elsewhere a host has nothing to say: that one has ended which another host, that is there, has in its
roster, is no news of the agent's. One that has moved is the other host's from its first report there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from relay import wire
from relay.store import Store

from . import agents
from ._orchestrator_rows import runs_elsewhere
from ._orchestrator_rules import news, vacated
from ._policy_reports import report_exits
from ._workspace_protocol import Report, Vacate

if TYPE_CHECKING:
    from ._fleet import Fleet

__all__ = ["tell_owners"]


async def tell_owners(fleet: Fleet, host: wire.Orchestrator, roster: wire.Roster) -> None:
    """Workspaces hear who is in them, policies and agents of sessions that have ended. `host` is as it was before."""
    live = {entry.agent_id for entry in roster.agents}
    for entry in news(host.managed_agents, roster.agents):
        await _made(fleet, host.id, entry)
    await report_exits(fleet, roster)
    for gone in roster.exited_agents:
        if _is_elsewhere(fleet.store, host, gone.agent_id):
            continue
        exited = agents.Exited(gone, succeeded=gone.agent_id in live)
        unheard = await fleet.agents[gone.agent_id].ask(exited)
        if unheard and any(news(host.managed_agents, [gone])):
            await _made(fleet, host.id, gone)
    for workspace, agent in vacated(host.managed_agents, roster).items():
        await fleet.workspaces[workspace].ask(Vacate(agent, host.id))


async def _made(fleet: Fleet, host: str, entry: wire.ManagedAgent | wire.ExitedAgent) -> None:
    """Its owner hears of a workspace that the host has made for this agent."""
    assert entry.workspace is not None
    report = Report(entry.workspace, agent_id=entry.agent_id, orchestrator_id=host)
    await fleet.workspaces[entry.workspace.id].ask(report)


def _is_elsewhere(store: Store, host: wire.Orchestrator, agent_id: str) -> bool:
    """Whether another host that is there runs this agent, and this one has not."""
    if any(entry.agent_id == agent_id for entry in host.managed_agents):
        return False
    return runs_elsewhere(store, host.id, agent_id) is not None
