"""What concerns an agent: which events of the log its streams are sent (SSE-3, SSE-7, TSK-11).

A stream's matcher begins with what the agent was at the place it reads on from, and keeps the card up to date from the
very events it looks at. So each event is judged by what the agent was when it happened (SSE-4), also when it is read
again much later, and nobody reads a row for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import orjson

from relay import wire
from relay.store import LoggedEvent, Store

from ._addresses import addresses_of
from .agents import find_participant, reserved

__all__ = ["Concerned", "Matcher", "orders"]

CARDS = ("agent.status", "agent.removed")
LAST_CARD = f"select type, data from events where subject = ? and type in {CARDS} and id <= ? order by id desc limit 1"
READ = "message.read"  # names nobody whom the message is for; a burst to many agents has one for each message and agent
REMEMBERED = 4_096  # events: more than streams read at a time


@attrs.frozen
class Concern:
    """Whom an event is about: whoever an address reaches, and agents by their ids."""

    address: str | None
    agents: tuple[str | None, ...]


class Concerned:
    """Reads of each event whom it concerns, once for all streams: they read the same events at about the same time."""

    def __init__(self) -> None:
        self._known: dict[int, Concern] = {}

    def by(self, event: LoggedEvent) -> Concern:
        found = self._known.get(event.id)
        if found is None:
            found = self._known[event.id] = _concern(event.type, orjson.loads(event.data))
            if len(self._known) > REMEMBERED:
                del self._known[next(iter(self._known))]
        return found


def _concern(kind: str, data: Any) -> Concern:
    if kind.startswith("command."):
        return Concern(None, (data["command"]["target"],))
    if kind.startswith("task."):
        return Concern(data["target"], ())
    if kind == "message.available":
        return Concern(None, (data.get("agentId"),))
    return Concern(data.get("to"), (data.get("from"), data.get("resolvedToAgent")))


class Matcher:
    """Says of each event of the log, read in order, whether it goes to a stream bound to this agent."""

    def __init__(self, store: Store, concerned: Concerned, agent_id: str, after: int) -> None:
        self._id = agent_id
        self._concerned = concerned
        last = store.row(LAST_CARD, agent_id, after)
        self._take(self._told(*last) if last is not None else find_participant(store, agent_id))

    def _told(self, kind: str, data: bytes | str) -> wire.Agent | None:
        """The card that an event about the agent tells of."""
        return wire.decode(wire.Agent, data) if kind == "agent.status" else reserved(self._id)

    def _take(self, card: wire.Agent | None) -> None:
        self._addresses = frozenset(addresses_of(card)) if card is not None else None

    def __call__(self, event: LoggedEvent) -> bool:
        if event.type == READ:
            return False
        group = event.type.partition(".")[0]
        if group == "agent":
            return self._own(event)
        if group == "delivery":
            return event.subject == self._id
        if group == "command":
            return self._id in self._concerned.by(event).agents
        if self._addresses is None or group not in ("message", "task"):
            return False
        concern = self._concerned.by(event)
        return concern.address in self._addresses or self._id in concern.agents

    def _own(self, event: LoggedEvent) -> bool:
        if event.subject != self._id:
            return False
        if event.type in CARDS:
            self._take(self._told(event.type, event.data))
        return True


def orders(concerned: Concerned, agent_id: str) -> Callable[[LoggedEvent], bool]:
    """What a host is told whose identity this agent is: of commands for it, and of itself (BUS-8)."""

    def concerns(event: LoggedEvent) -> bool:
        if event.type.startswith("command."):
            return agent_id in concerned.by(event).agents
        return event.type.startswith("agent.") and event.subject == agent_id

    return concerns
