"""Which hosts own a workspace (10.3): those whose base directory contains the place it was made from.

The order is that of their ids, but that the host that made the worktree comes first: two machines may well have base
directories of the same name, and only one of them has the worktree.
"""

from __future__ import annotations

from collections.abc import Callable

from relay import wire
from relay.store import Store

from ._errors import Conflict
from ._paths import within

__all__ = ["is_online", "must_be_online", "online", "owner_of", "owners_of"]


def owners_of(store: Store, workspace: wire.Workspace) -> list[wire.Orchestrator]:
    """All hosts that own the workspace, the one to prefer first."""
    place = workspace.source_cwd
    if not place:
        return []
    rows = store.rows(
        "select record from orchestrators order by id <> coalesce(?, ''), id", workspace.orchestrator_id
    )
    hosts = (wire.decode(wire.Orchestrator, record) for (record,) in rows)
    return [host for host in hosts if within(host.base_dir, place)]


def owner_of(
    store: Store, workspace: wire.Workspace, suits: Callable[[wire.Orchestrator], bool] | None = None
) -> wire.Orchestrator | None:
    """The first owner that suits; by default, that is online."""
    return next((host for host in owners_of(store, workspace) if (suits or online)(host)), None)


def online(host: wire.Orchestrator) -> bool:
    return host.status is wire.OrchestratorStatus.ONLINE


def must_be_online(host: wire.Orchestrator) -> None:
    """For what does not wait for its host, as a spawn (O-43). Raises `Conflict`."""
    if not online(host):
        raise Conflict(f"host {host.id} is offline: start its orchestrator, then ask again")


def is_online(store: Store, agent_id: str) -> bool:
    """Whether the host that takes part as this agent is there."""
    return (
        store.row("select 1 from orchestrators where agent_id = ? and status = 'online'", agent_id)
        is not None
    )
