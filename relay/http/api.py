"""All routes of the HTTP API, in one table."""

from itertools import chain

from . import (
    activity,
    agents,
    automations,
    channels,
    commands,
    config,
    connectors,
    deliveries,
    directories,
    events,
    hosts,
    integrations,
    maintenance,
    merges,
    messages,
    orchestrators,
    orphans,
    pairs,
    policies,
    providers,
    reactions,
    recipes,
    system,
    tasks,
    terminals,
    tokens,
    workspaces,
)
from .bus import plain as bus
from .routing import Table

__all__ = ["routes", "table"]

MODULES = (
    activity,
    agents,
    automations,
    bus,
    channels,
    commands,
    config,
    connectors,
    deliveries,
    directories,
    events,
    hosts,
    integrations,
    maintenance,
    merges,
    messages,
    orchestrators,
    orphans,
    pairs,
    policies,
    providers,
    reactions,
    recipes,
    system,
    tasks,
    terminals,
    tokens,
    workspaces,
)


def table() -> Table:
    return Table(chain.from_iterable(module.route for module in MODULES))


def routes() -> list[dict[str, str]]:
    """Method, path and scope of every route, by path; `public` is the scope of routes that need no token."""
    return [{"method": route.method, "path": route.path, "scope": route.scope} for route in table().routes]
