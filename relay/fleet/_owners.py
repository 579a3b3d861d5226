"""Which host owns a path (10.3): the first, by id, whose base directory contains it."""

from __future__ import annotations

from collections.abc import Callable

from relay import wire
from relay.store import Store

from ._paths import within

__all__ = ["owner_of", "owners_of"]


def owners_of(store: Store, path: str | None) -> list[wire.Orchestrator]:
    """All hosts whose base directory contains `path`, in the order of their ids."""
    if not path:
        return []
    rows = store.rows("select record from orchestrators order by id")
    hosts = (wire.decode(wire.Orchestrator, record) for (record,) in rows)
    return [host for host in hosts if within(host.base_dir, path)]


def owner_of(
    store: Store, path: str | None, suits: Callable[[wire.Orchestrator], bool] | None = None
) -> wire.Orchestrator | None:
    """The first owner of `path` that suits; by default, that is online."""
    return next((host for host in owners_of(store, path) if (suits or online)(host)), None)


def online(host: wire.Orchestrator) -> bool:
    return host.status is wire.OrchestratorStatus.ONLINE
