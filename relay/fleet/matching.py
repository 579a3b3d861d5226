"""What concerns an agent: which events of the log its streams are sent (SSE-3, SSE-7, TSK-11).

A stream's matcher begins with what the agent was at the place it reads on from, and keeps the card up to date from the
very events it looks at. So each event is judged by what the agent was when it happened (SSE-4), also when it is read
again much later, and nobody reads a row for it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import orjson

from relay import wire
from relay.store import LoggedEvent, Store

from ._addresses import addresses_of
from .agents import find_participant, reserved

__all__ = ["Matcher", "orders"]

CARDS = ("agent.status", "agent.removed")
LAST_CARD = f"select type, data from events where subject = ? and type in {CARDS} and id <= ? order by id desc limit 1"


class Matcher:
    """Says of each event of the log, read in order, whether it goes to a stream bound to this agent."""

    def __init__(self, store: Store, agent_id: str, after: int) -> None:
        self._id = agent_id
        last = store.row(LAST_CARD, agent_id, after)
        self._take(self._told(*last) if last is not None else find_participant(store, agent_id))

    def _told(self, kind: str, data: bytes | str) -> wire.Agent | None:
        """The card that an event about the agent tells of."""
        return wire.decode(wire.Agent, data) if kind == "agent.status" else reserved(self._id)

    def _take(self, card: wire.Agent | None) -> None:
        self._addresses = frozenset(addresses_of(card)) if card is not None else None

    def __call__(self, event: LoggedEvent) -> bool:
        group, _, name = event.type.partition(".")
        if group == "agent":
            return self._own(event)
        if group == "delivery":
            return event.subject == self._id
        if group == "message":
            return self._message(event, name)
        if group == "task":
            return self._addresses is not None and _data(event.data)["target"] in self._addresses
        return group == "command" and bool(_data(event.data)["command"]["target"] == self._id)

    def _own(self, event: LoggedEvent) -> bool:
        if event.subject != self._id:
            return False
        if event.type in CARDS:
            self._take(self._told(event.type, event.data))
        return True

    def _message(self, event: LoggedEvent, name: str) -> bool:
        if self._addresses is None:
            return False
        data = _data(event.data)
        if name == "available":
            return bool(data.get("agentId") == self._id)
        concerned = self._id in (data.get("from"), data.get("resolvedToAgent"))
        return concerned or data.get("to") in self._addresses


def orders(agent_id: str) -> Callable[[LoggedEvent], bool]:
    """What a host is told whose identity this agent is: of commands for it, and of itself (BUS-8)."""

    def concerns(event: LoggedEvent) -> bool:
        if event.type.startswith("command."):
            return bool(_data(event.data)["command"]["target"] == agent_id)
        return event.type.startswith("agent.") and event.subject == agent_id

    return concerns


@lru_cache(maxsize=256)
def _data(text: bytes) -> Any:
    """Parsed once for all streams: they read the same tail of the log at about the same time."""
    return orjson.loads(text)
