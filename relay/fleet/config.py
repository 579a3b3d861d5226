"""The config store: values under a namespace and a key, each with all versions it ever had (messaging-control 15).

One actor per key owns its versions; the actor of a policy owns those of its own value (`spawn-policy`).

1. Versions of a key are 1, 2, 3 … without gap or repeat (CFG-12). Every write is one, also of an equal value (CFG-7), and
   so is a deletion; a later write goes on with the next number (CFG-9).
2. Every version is announced with its number, never with its value (CFG-11).
3. A value of a namespace that relay itself reads is checked before it is stored (`_config_values`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from relay import wire
from relay.actors import Ask, Context, Step
from relay.store import Store

from . import policies
from ._actor import FleetActor
from ._config_rows import COLUMNS, decoded, find_versions, list_live as list_entries
from ._config_values import AGENT_PROFILE, SPAWN_POLICY, STEWARD, STEWARD_KEY, checked, wrapped
from ._errors import NotFound

if TYPE_CHECKING:
    from ._fleet import Fleet

__all__ = [
    "AGENT_PROFILE",
    "SPAWN_POLICY",
    "STEWARD",
    "STEWARD_KEY",
    "ConfigProtocol",
    "Configured",
    "Delete",
    "Set",
    "delete_value",
    "find_entry",
    "get_entry",
    "history",
    "list_entries",
    "set_value",
    "steward_entry",
    "wrapped",
]


class ConfigProtocol:
    """What the actor of one configured key understands."""


@attrs.frozen
class Set(Ask[ConfigProtocol, wire.ConfigEntry]):
    value: Any
    updated_by: str | None


@attrs.frozen
class Delete(Ask[ConfigProtocol, None]):
    updated_by: str | None


class Configured(FleetActor[ConfigProtocol]):
    """The actor of one configured key."""

    def __init__(self, fleet: Fleet, key: tuple[str, str]) -> None:
        super().__init__(fleet)
        self._versions = find_versions(self.store, *key)

    def handle(self, message: Any, context: Context[ConfigProtocol]) -> Step:
        match message:
            case Set(value, by):
                self._versions, decision = self._versions.written(value, by, self.moment())
                self.settle(message, decision, context)
            case Delete(by):
                self._versions, gone = self._versions.deleted(by, self.moment())
                self.settle(message, gone, context)
        return None


async def set_value(
    fleet: Fleet, namespace: str, key: str, value: Any, updated_by: str | None
) -> wire.ConfigEntry:
    """The entry as it is stored. Raises `wire.Invalid` when the namespace does not take such a value."""
    value = checked(namespace, key, value)
    if namespace == SPAWN_POLICY:
        return await fleet.policies[key].ask(policies.SetPolicy(value, updated_by))
    return await fleet.config[namespace, key].ask(Set(value, updated_by))


async def delete_value(fleet: Fleet, namespace: str, key: str, updated_by: str | None) -> None:
    """Raises `NotFound`. With a policy its agent goes too (POL-6)."""
    if namespace == SPAWN_POLICY:
        await fleet.policies[key].ask(policies.Delete(updated_by))
    else:
        await fleet.config[namespace, key].ask(Delete(updated_by))


def find_entry(store: Store, namespace: str, key: str) -> wire.ConfigEntry | None:
    return find_versions(store, namespace, key).live


def get_entry(store: Store, namespace: str, key: str) -> wire.ConfigEntry:
    """The live entry; raises `NotFound`."""
    entry = find_entry(store, namespace, key)
    if entry is None:
        raise NotFound(f"no such entry: {namespace}/{key}")
    return entry


def history(store: Store, namespace: str, key: str, limit: int = 100) -> list[wire.ConfigEntry]:
    """The versions of a key, newest first, deletions among them (CFG-10). Nobody knows of the key: none."""
    sql = (
        f"select {COLUMNS} from config_versions where namespace = ? and key = ? order by version desc limit ?"
    )
    return [decoded(row) for row in store.rows(sql, namespace, key, limit)]


def steward_entry(store: Store) -> wire.ConfigEntry:
    """How stewards work; version 0, with what holds by itself, as long as nobody has said (agents-workspaces 14)."""
    entry = find_entry(store, STEWARD, STEWARD_KEY)
    usual = wire.to_json(wire.StewardConfig())
    return entry or wire.ConfigEntry(namespace=STEWARD, key=STEWARD_KEY, value=usual, version=0)
