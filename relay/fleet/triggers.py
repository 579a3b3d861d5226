"""Triggers: telling automations of events that they wait for, and of the ends of what their runs have begun.

One actor reads the event log. Every event that it has passed was taken by whoever waits for it; how far it is it keeps now
and then, so after a crash some are told again, and each automation knows how far it was itself.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import attrs
import orjson
import trio

from relay import wire
from relay.actors import ActorError, Ask, Context, Step, Tell, Unavailable
from relay.store import Decision, LoggedEvent, Write

from ._actor import FleetActor
from ._automation_protocol import AutomationProtocol, Ended, Happened, Look, Occurrence
from ._automation_rows import find_row, triggered_by_events
from ._trigger_rules import LONGEST_CHAIN, fits, origin

if TYPE_CHECKING:
    from ._fleet import Fleet

__all__ = ["Changed", "TriggerProtocol", "Triggers"]

log = logging.getLogger(__name__)

KEPT_EVERY = 1_000  # events
AT_ONCE = 64  # automations that are told at the same time
TAKEN_WITHIN = 20.0  # seconds
PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)  # seconds between the tries of one that fails
KEY = "automations.seen"
ENDS = {
    **{f"command.{status}": "command_id" for status in wire.CommandStatus if status.final},
    "task.updated": "task_id",
}
RUNS = "select id, automation_id from automation_runs where {} = ? and status = 'running'"


class TriggerProtocol:
    """What the actor of the triggers understands."""


@attrs.frozen
class Changed(Tell[TriggerProtocol]):
    """The automation may wait for something else now."""

    automation_id: str


@attrs.frozen
class Seen(Tell[TriggerProtocol]):
    """These events are next in the log."""

    events: tuple[LoggedEvent, ...]


class Triggers(FleetActor[TriggerProtocol]):
    """Reads the log, and tells."""

    def __init__(self, fleet: Fleet) -> None:
        super().__init__(fleet)
        self._waiting: dict[
            str, dict[str, wire.EventSchedule]
        ] = {}  # type of event -> id -> what it waits for
        self._cursor = self._kept = self._first()

    def _first(self) -> int:
        """Where whoever waits for events may have been, and not before where all of them were."""
        row = self.store.row("select value from meta where key = ?", KEY)
        (cursor,) = self.store.rows("select min(event_cursor) from automations where event is not null")[0]
        last = self.store.events.last_id
        return max(int(row[0]) if row is not None else 0, min(cursor, last) if cursor is not None else last)

    def started(self, context: Context[TriggerProtocol]) -> None:
        for key in triggered_by_events(self.store):
            self._note(key)
        for (key,) in self.store.rows(
            "select distinct automation_id from automation_runs where status = 'running'"
        ):
            self.fleet.automations[key].tell(Look())
        missed = self.store.events.oldest_id - 1 - self._cursor
        if missed > 0 and self._waiting:
            log.warning("%d events were forgotten before automations could be told of them", missed)
        self._read(context)

    def handle(self, message: Seen | Changed, context: Context[TriggerProtocol]) -> Step:
        match message:
            case Seen(events):
                return self._pass(events, context)
            case Changed(key):
                return self._catch_up(key)
        return None

    def _read(self, context: Context[TriggerProtocol]) -> None:
        context.pipe(self.store.events.read_after, self._cursor, then=_seen)

    async def _pass(self, events: tuple[LoggedEvent, ...], context: Context[TriggerProtocol]) -> None:
        found: dict[str, list[Occurrence]] = {}
        for event in events:
            if event.type in ENDS:
                await self._end(event)
            for key, occurrence in self._concerned(event, self._waiting.get(event.type, {})):
                found.setdefault(key, []).append(occurrence)
        keys = list(found)
        for first in range(0, len(keys), AT_ONCE):
            async with trio.open_nursery() as nursery:
                for key in keys[first : first + AT_ONCE]:
                    nursery.start_soon(self._tell, key, tuple(found[key]))
        self._cursor = events[-1].id
        if self._cursor >= self._kept + KEPT_EVERY:
            await self._keep(context)
        self._read(context)

    async def _keep(self, context: Context[TriggerProtocol]) -> None:
        write = Write(
            "insert into meta (key, value) values (?, ?) on conflict (key) do update set value = excluded.value",
            (KEY, str(self._cursor)),
        )
        await self.commit(Decision(reply=None, writes=(write,)), context)
        self._kept = self._cursor

    async def _end(self, event: LoggedEvent) -> None:
        """Tell the run that its command or task may have ended."""
        for run_id, key in self.store.rows(RUNS.format(ENDS[event.type]), event.subject):
            await self._until(key, Ended(run_id), event.type)

    def _concerned(
        self, event: LoggedEvent, waiting: dict[str, wire.EventSchedule]
    ) -> Iterator[tuple[str, Occurrence]]:
        """The automations among these that wait for the event."""
        if not waiting:
            return
        data: Any = orjson.loads(event.data)
        fitting = [key for key, schedule in waiting.items() if fits(schedule, event.subject, data)]
        chain = origin(self.store, event.type, event.subject, data) if fitting else ()
        if len(chain) >= LONGEST_CHAIN:
            log.warning("event %d ends a chain of %d automations", event.id, len(chain))
            return
        for key in fitting:
            if key not in chain and not (key == event.subject and event.type.startswith("automation.")):
                yield key, Occurrence(event.id, event.type, event.subject, chain)

    async def _tell(self, key: str, occurrences: tuple[Occurrence, ...]) -> None:
        """Until they are taken. One that only ever fails is given up."""
        schedule = self._schedule(key)
        if schedule is None:
            return
        await self._until(key, Happened(schedule, occurrences), schedule.event)

    async def _until(self, key: str, message: Ask[AutomationProtocol, None], what: str) -> None:
        """Ask until it is done. One that only ever fails is given up."""
        for pause in (*PAUSES, None):
            try:
                with trio.fail_after(TAKEN_WITHIN):
                    await self.fleet.automations[key].ask(message)
                return
            except (ActorError, Unavailable, trio.TooSlowError) as error:
                if pause is None:
                    log.error("automation %s could not be told of %s: %s", key, what, error)
                else:
                    await trio.sleep(pause)

    def _schedule(self, key: str) -> wire.EventSchedule | None:
        return next((known[key] for known in self._waiting.values() if key in known), None)

    def _note(self, key: str) -> wire.EventSchedule | None:
        """What the automation waits for now."""
        for known in self._waiting.values():
            known.pop(key, None)
        row = find_row(self.store, key)
        schedule = row.record.schedule if row is not None and row.record.enabled else None
        if not isinstance(schedule, wire.EventSchedule):
            return None
        self._waiting.setdefault(schedule.event, {})[key] = schedule
        return schedule

    async def _catch_up(self, key: str) -> None:
        """What the automation waits for may have been passed before this was heard of it."""
        schedule = self._note(key)
        row = find_row(self.store, key)
        if schedule is None or row is None:
            return
        cursor = row.cursor
        while cursor < self._cursor and (events := self.store.events.since(cursor)):
            passed = [event for event in events if event.id <= self._cursor and event.type == schedule.event]
            found = [each for event in passed for _, each in self._concerned(event, {key: schedule})]
            if found:
                await self._tell(key, tuple(found))
            cursor = events[-1].id
            await trio.lowlevel.checkpoint()


def _seen(events: list[LoggedEvent]) -> Seen:
    return Seen(tuple(events))
