"""Reading what a fleet left behind."""

from __future__ import annotations

from typing import Any

import orjson

from relay.store import Store


class Log:
    """What the event log and the activity hold, as a test likes to read it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def events(self, *types: str) -> list[dict[str, Any]]:
        """Events as `{type, source, subject, data}`, oldest first; all types, or the given ones."""
        rows = self._store.rows("select type, source, subject, data from events order by id")
        found = [
            {"type": kind, "source": source, "subject": subject, "data": orjson.loads(data)}
            for kind, source, subject, data in rows
        ]
        return [event for event in found if not types or event["type"] in types]

    def types(self, *, audits: bool = False) -> list[str]:
        """The event types in order, without `activity.created` unless asked for."""
        return [e["type"] for e in self.events() if audits or e["type"] != "activity.created"]

    def audits(self, prefix: str = "") -> list[dict[str, Any]]:
        """Activity records whose clientId starts with `prefix`, oldest first."""
        rows = self._store.rows("select record from activity order by id")
        found: list[dict[str, Any]] = [orjson.loads(row[0]) for row in rows]
        return [record for record in found if record["clientId"].startswith(prefix)]
