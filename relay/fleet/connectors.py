"""Connectors: adapters installed beside the server, each a program that relay runs for single actions.

One actor per id owns the row. Rules:

1. A connector is known when its program is found, or when it has a row from when it was. What it is asked to do without
   its program is refused as unknown (CON-3).
2. One thing at a time: an action runs in the handler, so that whatever is asked meanwhile is queued behind it. Who asked
   may stop waiting: the action neither ends nor is it repeated. What has not begun when its asker has gone never does.
3. The answer comes once the result is stored, or cannot be; the next thing is begun when nothing of the run is alive any more.
4. Secrets of the configuration reach the program, and are masked in everything else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs
import orjson

from relay import wire
from relay.actors import Ask, Context
from relay.store import Store

from ._actor import FleetActor
from ._connector_rules import acted, configured, result_of, shown
from ._errors import NotFound
from ._programs import Ended, NoPrograms, ProgramGone, Programs
from ._secrets import restored

if TYPE_CHECKING:
    from ._fleet import Fleet

__all__ = [
    "Act",
    "Configure",
    "Connector",
    "ConnectorProtocol",
    "Ended",
    "NoPrograms",
    "ProgramGone",
    "Programs",
    "get_connector",
    "list_connectors",
]


class ConnectorProtocol:
    """What the actor of one connector understands."""


@attrs.frozen
class Act(Ask[ConnectorProtocol, wire.ConnectorResult]):
    """Run its program for one action; a failure of that is an answer, too."""

    action: wire.ConnectorVerb


@attrs.frozen
class Configure(Ask[ConnectorProtocol, wire.Connector]):
    """Replace its configuration. A mask in it stands for what it hides."""

    config: Mapping[str, Any] = attrs.field(repr=False)


class Connector(FleetActor[ConnectorProtocol]):
    """The actor of one connector."""

    def __init__(self, fleet: Fleet, key: str) -> None:
        super().__init__(fleet)
        self.id = key
        self.row = find_row(self.store, key)

    async def handle(self, message: Act | Configure, context: Context[ConnectorProtocol]) -> None:
        path = self.fleet.programs.find(self.id)
        if path is None and (self.row is None or isinstance(message, Act)):
            raise missing(self.id)
        if isinstance(message, Configure):
            await self._configure(message, path, context)
        else:
            await self._act(message, path or "", context)

    async def _configure(
        self, message: Configure, path: str | None, context: Context[ConnectorProtocol]
    ) -> None:
        before = self._known()
        config = restored(message.config, before.config)
        self.row, decision = configured(before, config, self.moment())
        reply = await self.commit(decision, context)
        context.reply(message, attrs.evolve(reply, path=path))

    async def _act(self, message: Act, path: str, context: Context[ConnectorProtocol]) -> None:
        before = self._known()
        given = orjson.dumps({"connector": self.id, "action": message.action, "config": before.config})
        try:
            async with self.fleet.programs.run(self.id, path, message.action, given) as ended:
                self.row, decision = acted(before, result_of(message.action, ended), self.moment())
                try:
                    await self.commit(decision, context)
                finally:  # it has been done, whatever becomes of the record
                    context.reply(message, decision.reply)
        except ProgramGone:
            raise missing(self.id) from None

    def _known(self) -> wire.Connector:
        return self.row or wire.Connector(id=self.id)


def missing(key: str) -> NotFound:
    return NotFound(f"no such connector: there is no program relay-connector-{key}")


def find_row(store: Store, key: str) -> wire.Connector | None:
    row = store.row("select record, config from connectors where id = ?", key)
    return _connector(*row) if row else None


def _connector(record: str, config: str) -> wire.Connector:
    return attrs.evolve(wire.decode(wire.Connector, record), config=orjson.loads(config))


def get_connector(fleet: Fleet, key: str) -> wire.Connector:
    """The connector, its secrets masked; raises `NotFound`."""
    row, path = find_row(fleet.store, key), fleet.programs.find(key)
    if row is None and path is None:
        raise missing(key)
    return attrs.evolve(shown(row or wire.Connector(id=key)), path=path)


def list_connectors(fleet: Fleet) -> list[wire.Connector]:
    """All that are known, by id, their secrets masked."""
    paths = fleet.programs.all()
    rows = fleet.store.rows("select record, config from connectors")
    known = {connector.id: connector for connector in (_connector(*row) for row in rows)}
    ids = sorted({*known, *paths})
    return [attrs.evolve(shown(known.get(key) or wire.Connector(id=key)), path=paths.get(key)) for key in ids]
