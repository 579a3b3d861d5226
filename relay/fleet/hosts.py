"""Which host can be asked what only it knows: of a workspace, and of an agent."""

from __future__ import annotations

from relay import wire
from relay.store import Store

from ._controllers import controller
from ._errors import Unprocessable
from ._owners import online, owner_of

__all__ = ["controller", "host_of", "host_of_agent"]


def host_of(store: Store, workspace: wire.Workspace) -> wire.Orchestrator | None:
    """The first host that is online, has an API, and owns the workspace's place (9.1, step 3)."""
    return owner_of(store, workspace, lambda host: online(host) and host.api_url is not None)


def host_of_agent(store: Store, card: wire.Agent) -> wire.Orchestrator:
    """The host that runs the agent; raises `Unprocessable` when none that is online does."""
    host = controller(store, card)
    if host is None:
        raise Unprocessable(f"no host that is online runs {card.id}")
    return host
