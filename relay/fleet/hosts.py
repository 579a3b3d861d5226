"""Which host can be asked what only it knows, of a workspace, of an agent or of a repository, and what of that are orphans."""

from __future__ import annotations

from relay import wire
from relay.store import Store

from ._controllers import controller
from ._errors import Conflict, Unprocessable
from ._owners import must_be_online, online, owner_of
from ._paths import within
from ._reclaim import Orphan, must_be_orphan, orphans, repositories

__all__ = [
    "Orphan",
    "controller",
    "host_of",
    "host_of_agent",
    "must_be_online",
    "must_be_orphan",
    "online_hosts",
    "online_owner",
    "orphans",
    "repositories",
]


def online_hosts(store: Store) -> list[wire.Orchestrator]:
    """The hosts that are there, by id."""
    rows = store.rows("select record from orchestrators where status = 'online' order by id")
    return [wire.decode(wire.Orchestrator, record) for (record,) in rows]


def online_owner(store: Store, repo_root: str) -> wire.Orchestrator:
    """The first host that is there and whose base directory contains the repository; raises `Conflict`."""
    for host in online_hosts(store):
        if within(host.base_dir, repo_root):
            return host
    raise Conflict(f"no host that is online owns {repo_root}: start its orchestrator, then ask again")


def host_of(store: Store, workspace: wire.Workspace) -> wire.Orchestrator | None:
    """The first host that is online, has an API, and owns the workspace's place (9.1, step 3)."""
    return owner_of(store, workspace, lambda host: online(host) and host.api_url is not None)


def host_of_agent(store: Store, card: wire.Agent) -> wire.Orchestrator:
    """The host that runs the agent; raises `Unprocessable` when none that is online does."""
    host = controller(store, card)
    if host is None:
        raise Unprocessable(f"no host that is online runs {card.id}")
    return host
