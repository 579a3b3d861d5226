"""The versions of configured values as rows, and what a write or a deletion adds to them."""

from __future__ import annotations

from typing import Any

import attrs
import orjson

from relay import wire
from relay.store import Decision, Event, Store, Write

from ._errors import NotFound
from ._moment import Moment

__all__ = ["COLUMNS", "Versions", "decoded", "find_versions", "list_live"]

COLUMNS = "namespace, key, version, deleted, value, updated_by, updated_at"
LIVE = (
    f"select {COLUMNS} from config_versions as live where namespace = ? and deleted = 0 and version ="
    " (select max(version) from config_versions where namespace = live.namespace and key = live.key) order by key"
)
INSERT = f"insert into config_versions ({COLUMNS}) values (?, ?, ?, ?, ?, ?, ?)"


@attrs.frozen
class Versions:
    """How far one key has come: the version that is its newest, 0 for none, and the entry that is live."""

    namespace: str
    key: str
    newest: int = 0
    live: wire.ConfigEntry | None = None

    def written(
        self, value: Any, by: str | None, moment: Moment
    ) -> tuple[Versions, Decision[wire.ConfigEntry]]:
        entry = self._next(value, by, moment)
        return attrs.evolve(self, newest=entry.version, live=entry), _added(entry, moment, entry)

    def deleted(self, by: str | None, moment: Moment) -> tuple[Versions, Decision[None]]:
        """The deletion is a version too (CFG-9). Raises `NotFound` where there is nothing to delete."""
        if self.live is None:
            raise NotFound(f"no such entry: {self.namespace}/{self.key}")
        entry = attrs.evolve(self._next(None, by, moment), deleted=True)
        return attrs.evolve(self, newest=entry.version, live=None), _added(entry, moment, None)

    def _next(self, value: Any, by: str | None, moment: Moment) -> wire.ConfigEntry:
        return wire.ConfigEntry(
            namespace=self.namespace,
            key=self.key,
            value=value,
            version=self.newest + 1,
            updated_by=by,
            updated_at=moment.at,
        )


def _added(entry: wire.ConfigEntry, moment: Moment, reply: Any) -> Decision[Any]:
    """The row, and the event, which never holds the value (CFG-11)."""
    text = orjson.dumps(entry.value).decode()
    row = (
        entry.namespace,
        entry.key,
        entry.version,
        int(bool(entry.deleted)),
        text,
        entry.updated_by,
        moment.ms,
    )
    told = {"namespace": entry.namespace, "key": entry.key, "version": entry.version}
    event = Event("config.changed", "server", f"{entry.namespace}:{entry.key}", told)
    return Decision(reply=reply, writes=(Write(INSERT, row),), events=(event,))


def find_versions(store: Store, namespace: str, key: str) -> Versions:
    sql = (
        f"select {COLUMNS} from config_versions where namespace = ? and key = ? order by version desc limit 1"
    )
    row = store.row(sql, namespace, key)
    if row is None:
        return Versions(namespace, key)
    entry = decoded(row)
    return Versions(namespace, key, entry.version, None if entry.deleted else entry)


def list_live(store: Store, namespace: str) -> list[wire.ConfigEntry]:
    """All live entries of a namespace, by key (CFG-3)."""
    return [decoded(row) for row in store.rows(LIVE, namespace)]


def decoded(row: tuple[Any, ...]) -> wire.ConfigEntry:
    namespace, key, version, deleted, value, updated_by, updated_at = row
    return wire.ConfigEntry(
        namespace=namespace,
        key=key,
        value=orjson.loads(value),
        version=version,
        deleted=True if deleted else None,
        updated_by=updated_by,
        updated_at=wire.Instant(updated_at / 1000),
    )
