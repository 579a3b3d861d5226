"""How far in the event log each component of the bus has confirmed to be (BUS-6).

The log itself is the outbox: what a component missed is read from there, from where it has confirmed to be. One actor
owns all places. It counts a confirmation at once and stores it soon after, many together: what a crash takes back is told
again, as a delivery at least once may. A place is kept for a day after the component was last there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from relay.actors import Ask, Context, Step, Tell
from relay.store import Decision, Write

from ._actor import FleetActor

if TYPE_CHECKING:
    from ._fleet import Fleet

__all__ = ["Acknowledged", "Begin", "BusProtocol", "BusSessions"]

STORED_WITHIN = 1.0  # seconds
KEPT = 86_400.0  # seconds
MOST_UNSTORED = 10_000  # places

PUT = """
insert into bus_sessions (component_id, acked_event, seen_at) values (?, ?, ?)
on conflict (component_id) do update set acked_event = excluded.acked_event, seen_at = excluded.seen_at
"""
RAISE = PUT.replace("= excluded.acked_event", "= max(acked_event, excluded.acked_event)")
FORGET = "delete from bus_sessions where seen_at < ?"


class BusProtocol:
    """What the keeper of the places understands."""


@attrs.frozen
class Begin(Ask[BusProtocol, int | None]):
    """A component is there. The answer is the event it goes on after: the one that it names itself, else the last that it
    has confirmed. A component that is new gets None, and begins at `now`, the newest event."""

    component_id: str
    after: int | None
    now: int


@attrs.frozen
class Acknowledged(Tell[BusProtocol]):
    """The component is there, and has processed everything up to this event."""

    component_id: str
    event_id: int


@attrs.frozen
class Save(Tell[BusProtocol]):
    """It is time to store what has been confirmed."""


class BusSessions(FleetActor[BusProtocol]):
    """The one actor for all places."""

    def __init__(self, fleet: Fleet) -> None:
        super().__init__(fleet)
        self._unstored: dict[str, int] = {}
        self._saving = False

    def handle(self, message: Any, context: Context[BusProtocol]) -> Step:
        match message:
            case Begin():
                self._begin(message, context)
            case Acknowledged(component, event):
                self._note(component, max(event, self._unstored.get(component, 0)), context)
                if len(self._unstored) >= MOST_UNSTORED:
                    return self._save(context)
            case Save():
                return self._save(context)
        return None

    def _begin(self, message: Begin, context: Context[BusProtocol]) -> None:
        component, at = message.component_id, self.moment().ms
        after = self._place(component, at) if message.after is None else message.after
        place = message.now if after is None else min(after, message.now)
        self._note(component, place, context)
        writes = (
            Write(FORGET, (at - round(KEPT * 1000),)),
            Write(PUT, (component, place, at)),
        )
        self.settle(message, Decision(reply=after, writes=writes), context)

    def _note(self, component: str, place: int, context: Context[BusProtocol]) -> None:
        self._unstored[component] = place
        if not self._saving:
            self._saving = True
            context.set_timer("save", STORED_WITHIN, Save())

    def _place(self, component: str, now: int) -> int | None:
        if component in self._unstored:
            return self._unstored[component]
        row = self.store.row(
            "select acked_event, seen_at from bus_sessions where component_id = ?", component
        )
        return row[0] if row is not None and row[1] >= now - KEPT * 1000 else None

    async def _save(self, context: Context[BusProtocol]) -> None:
        """Until it is stored it stays noted: who comes back in between goes on from there."""
        now = self.moment().ms
        writes = tuple(Write(RAISE, (component, event, now)) for component, event in self._unstored.items())
        await self.commit(Decision(reply=None, writes=writes), context)
        self._unstored, self._saving = {}, False
