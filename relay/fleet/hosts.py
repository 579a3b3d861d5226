"""Where the host of a workspace can be asked what only it knows."""

from __future__ import annotations

from relay import wire
from relay.store import Store

from ._owners import online, owner_of

__all__ = ["api_of"]


def api_of(store: Store, workspace: wire.Workspace) -> str | None:
    """The API address of the first host that is online, has one, and owns the workspace's place (9.1, step 3)."""
    owner = owner_of(store, workspace, lambda host: online(host) and host.api_url is not None)
    return owner.api_url if owner is not None else None
