"""A whole fleet on the in-process store, under virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from trio.testing import MockClock

from relay.actors import System, open_system, virtual_wall
from relay.fleet import Fleet, open_fleet
from relay.store import Store, open_store


@pytest.fixture
async def system(autojump_clock: MockClock) -> AsyncIterator[System]:
    async with open_system(wall=virtual_wall(), seed=1) as system:
        yield system


@pytest.fixture
async def store(system: System) -> AsyncIterator[Store]:
    async with open_store(None, system) as store:
        yield store


@pytest.fixture
async def fleet(system: System, store: Store) -> AsyncIterator[Fleet]:
    async with open_fleet(system, store) as fleet:
        yield fleet


class Log:
    """What the event log and the activity hold, as a test likes to read it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def events(self, *types: str) -> list[dict[str, Any]]:
        """Events as `{type, source, subject, data}`, oldest first; all types, or the given ones."""
        rows = self._store.rows("select type, source, subject, data from events order by id")
        found = [dict(zip(("type", "source", "subject"), row), data=orjson.loads(row[3])) for row in rows]
        return [event for event in found if not types or event["type"] in types]

    def types(self, *, audits: bool = False) -> list[str]:
        """The event types in order, without `activity.created` unless asked for."""
        return [e["type"] for e in self.events() if audits or e["type"] != "activity.created"]

    def audits(self, prefix: str = "") -> list[dict[str, Any]]:
        """Activity records whose clientId starts with `prefix`, oldest first."""
        rows = self._store.rows("select record from activity order by id")
        found: list[dict[str, Any]] = [orjson.loads(row[0]) for row in rows]
        return [record for record in found if record["clientId"].startswith(prefix)]


@pytest.fixture
def log(store: Store) -> Log:
    return Log(store)
