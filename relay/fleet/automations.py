"""Automations: work that is begun by the clock, by an event, or by hand (messaging-control 11, 22.7).

One actor per automation owns its row and the rows of its runs.

1. That a time of the schedule, or an event, is taken up, and the run that it begins, are one decision: there is one run for
   it, whatever breaks. A spawn is made in the same decision; messages and tasks are asked for under the run's id until there
   is an answer, by the next incarnation if need be.
2. The wall clock says what is due, so that a schedule means the same after a suspend or a restart; an interval is measured on
   the server's own. Times that were missed are made up for by one run (AUT-12).
3. A run that begins while an earlier one goes on is skipped, unless the automation allows for both. By hand it always begins.
4. A run ends with its message, or with the end of its command or task.
5. Events begin some runs in a minute; what is more waits, and is gathered into one run. How they get here: `triggers`.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import attrs
import trio

from relay import wire
from relay.actors import ActorError, Context, Refusal, Step, Unavailable
from relay.store import Decision, Event, Store, Write

from . import _automation_rules as rules
from ._actor import FleetActor
from ._audit import Caller, audit
from ._automation_deeds import Delivered, deliver, order
from ._automation_protocol import (
    AutomationProtocol,
    Change,
    Create,
    Ended,
    Happened,
    Look,
    Occurrence,
    Remove,
    RunNow,
)
from ._automation_rows import (
    Row,
    Waiting,
    due,
    find_row,
    get_automation,
    going_on,
    how_many,
    inserted,
    list_automations,
    list_runs,
    removed,
    run_changed,
    run_event,
    run_inserted,
    updated,
    wakeable,
)
from ._automation_rules import MOST_COMING, MOVES
from ._errors import Conflict, Invalid, NotFound
from ._machine import NONE
from ._moment import Moment
from ._task_rows import find_task
from .commands import Adopt, find_command
from .triggers import Changed

if TYPE_CHECKING:
    from ._fleet import Fleet

__all__ = [
    "MOST_COMING",
    "MOVES",
    "Automation",
    "AutomationProtocol",
    "Change",
    "Create",
    "Look",
    "Remove",
    "RunNow",
    "coming_runs",
    "get_automation",
    "list_automations",
    "list_runs",
    "overdue",
    "wakeable",
]

Trigger = wire.RunTrigger
S = wire.RunStatus

MOST = 1_000
"""Automations at the same time."""

MOST_GOING_ON = 100
"""Runs of one automation at the same time; what would be more is skipped, or refused."""

POST_WITHIN = 20.0  # seconds that the post office has for a message or task
AGAIN = 5.0  # seconds until it is asked again
MINUTE = 60.0
CLOSE = 0.0005  # seconds: half of what instants are kept with
TROUBLE = (ActorError, Unavailable, trio.TooSlowError)


class NotKnown(Exception):
    """Whether the post office has done it: it gave no answer. Its cause is why."""


@attrs.define
class Run:
    """A run that is going on; `action` is what is still to be dispatched for it."""

    record: wire.AutomationRun
    action: wire.AutomationAction | None


class Automation(FleetActor[AutomationProtocol]):
    """The actor of one automation."""

    def __init__(self, fleet: Fleet, key: str) -> None:
        super().__init__(fleet)
        self.id = key
        self.row = find_row(self.store, key)
        self._runs = {run.id: Run(run, action) for run, action in going_on(self.store, key)}
        self._begun: deque[float] = deque()  # by events within the last minute, in seconds of the system
        self._rings = (
            float("nan"),
            0.0,
        )  # which next time is measured by the own clock, and when it is there

    def started(self, context: Context[AutomationProtocol]) -> None:
        if self.row is not None or self._runs:
            context.self_ref.tell(Look())

    def handle(self, message: Any, context: Context[AutomationProtocol]) -> Step:
        match message:
            case Create():
                return self._create(message, context)
            case Change():
                return self._change(message, context)
            case Remove():
                return self._remove(message, context)
            case RunNow():
                return self._run_now(message, context)
            case Happened():
                return self._happened(message, context)
            case Ended():
                return self._ended(message, context)
            case Look():
                return self._look(context)
        return None

    def _known(self) -> Row:
        if self.row is None:
            raise NotFound("no such automation")
        return self.row

    def _wall(self) -> float:
        return self.fleet.system.wall()

    # -- made, changed, removed

    async def _create(self, message: Create, context: Context[AutomationProtocol]) -> None:
        if self.row is not None:
            raise Conflict("there is such an automation")
        if how_many(self.store) >= MOST:
            raise Conflict(f"there are {MOST} automations; remove one first")
        rules.check(message.asked.schedule, self._wall())
        moment = self.moment()
        record = wire.Automation(
            **attrs.asdict(message.asked, recurse=False),
            id=self.id,
            created_by=message.by.subject if message.by is not None else None,
            created_at=moment.at,
            updated_at=moment.at,
        )
        row = self._planned(record)
        await self._keep(row, inserted(row, moment), "created", moment, message.by, context)
        context.reply(message, row.record)

    async def _change(self, message: Change, context: Context[AutomationProtocol]) -> None:
        before = self._known()
        now = self._wall()
        if message.asked.schedule is not None:
            rules.check(message.asked.schedule, now)
        moment = self.moment()
        record = attrs.evolve(rules.changed(before.record, message.asked), updated_at=moment.at)
        row = attrs.evolve(before, record=record)
        if (record.schedule, record.enabled) != (before.record.schedule, before.record.enabled):
            if record.enabled and not before.record.enabled:
                rules.check(record.schedule, now)
            row = self._planned(record)
        await self._keep(row, updated(row), "updated", moment, message.by, context)
        context.reply(message, row.record)

    def _planned(self, record: wire.Automation) -> Row:
        """The automation, from now on: with the next time of its schedule, and nothing that happened before."""
        now = self._wall()
        at = rules.first(record.schedule, now) if record.enabled else None
        record = attrs.evolve(record, next_run_at=at)
        return Row(record=record, planned_at=now, cursor=self.store.events.last_id)

    async def _keep(
        self,
        row: Row,
        write: Write,
        what: str,
        moment: Moment,
        by: Caller | None,
        context: Context[AutomationProtocol],
    ) -> None:
        known = wire.to_json(row.record)
        event = Event(f"automation.{what}", "server", self.id, {"automation": known})
        note, told = self._audited(row.record, what, moment, by)
        tells = ((self.fleet.triggers, Changed(self.id)),)
        decision = Decision(reply=None, writes=(write, note), events=(event, told), tells=tells)
        await self.commit(decision, context)
        self.row = row
        self._arm(context)

    def _audited(
        self, record: wire.Automation, what: str, moment: Moment, by: Caller | None, **facts: Any
    ) -> tuple[Write, Event]:
        return audit(
            moment,
            f"server-automation-{self.id}-{what}-{moment.ms}",
            f"automation {record.name} was {what}",
            body=record.action.type,
            meta=self.id,
            icon="ti-clock-play",
            view="activity",
            metadata={"automationId": self.id, **facts},
            by=by,
        )

    async def _remove(self, message: Remove, context: Context[AutomationProtocol]) -> None:
        record = self._known().record
        moment = self.moment()
        left = [
            attrs.evolve(
                run.record, status=S.FAILED, error="the automation was removed", finished_at=moment.at
            )
            for run in self._runs.values()
        ]
        note, told = self._audited(record, "removed", moment, message.by)
        gone = Event("automation.deleted", "server", self.id, {"automationId": self.id})
        decision = Decision(
            reply=None,
            writes=(*(run_changed(run) for run in left), removed(self.id), note),
            events=(*(run_event(record, run) for run in left), gone, told),
            tells=((self.fleet.triggers, Changed(self.id)),),
        )
        await self.commit(decision, context)
        self.row = None
        self._runs.clear()
        self._arm(context)
        context.reply(message, None)

    # -- begun

    async def _run_now(self, message: RunNow, context: Context[AutomationProtocol]) -> None:
        record = self._known().record
        if len(self._runs) >= MOST_GOING_ON:
            raise Invalid(f"{MOST_GOING_ON} runs of it are going on; wait until one has ended")
        run, command = await self._begin(Trigger.MANUAL, self._known(), context, by=message.by)
        delivered = Delivered()
        if run.action is not None:
            try:
                run, delivered = await self._dispatch(run, context)
            except NotKnown as trouble:
                context.defer(message).fail(trouble.__cause__ or trouble)
                return
        if run.record.status is S.FAILED:
            raise Invalid(run.record.error or "it cannot be dispatched")
        record = self._known().record
        dispatch = wire.RunDispatch(
            automation=record,
            run=run.record,
            command=command,
            message=delivered.message,
            task=delivered.task,
        )
        context.reply(message, dispatch)

    async def _begin(
        self,
        trigger: wire.RunTrigger,
        row: Row,
        context: Context[AutomationProtocol],
        *,
        due_at: wire.Instant | None = None,
        waiting: Waiting | None = None,
        by: Caller | None = None,
    ) -> tuple[Run, wire.Command | None]:
        """A run, and the automation as `row` from now on; and the command, if it is a spawn that could be made."""
        moment = self.moment()
        run = wire.AutomationRun(
            id=moment.new_id("run"),
            automation_id=self.id,
            trigger=trigger,
            status=MOVES[NONE]["begin"],
            due_at=due_at,
            event=_event_of(waiting),
            chain=list(waiting.occurrence.chain) if waiting is not None else [],
            started_at=moment.at,
        )
        action, command = row.record.action, None
        writes: tuple[Write, ...] = ()
        events: tuple[Event, ...] = ()
        if trigger is not Trigger.MANUAL and self._is_to_skip(row.record):
            run = attrs.evolve(run, status=MOVES[NONE]["skip"], finished_at=moment.at)
        else:
            row = attrs.evolve(row, record=attrs.evolve(row.record, last_run_at=moment.at))
            if isinstance(action, wire.SpawnAction):
                try:
                    command, writes, events = order(self.store, action, run, moment)
                    run = attrs.evolve(run, command_id=command.id)
                except Refusal as no:
                    run = attrs.evolve(
                        run, status=MOVES[NONE]["refuse"], error=str(no), finished_at=moment.at
                    )
        open_ = Run(run, None if run.status.final or command is not None else action)
        if open_.action is None:
            events += (run_event(row.record, run),)
        if by is not None:
            note, told = self._audited(row.record, "run", moment, by, automationRunId=run.id)
            writes, events = (*writes, note), (*events, told)
        decision = Decision(
            reply=None,
            writes=(*run_inserted(run, open_.action, moment), *writes, updated(row)),
            events=events,
            tells=((self.fleet.commands[command.id], Adopt()),) if command is not None else (),
        )
        await self.commit(decision, context)
        self.row = row
        if not run.status.final:
            self._runs[run.id] = open_
        return open_, command

    def _is_to_skip(self, record: wire.Automation) -> bool:
        if len(self._runs) >= MOST_GOING_ON:
            return True
        return record.overlap is wire.Overlap.SKIP and bool(self._runs)

    # -- dispatched, ended

    async def _dispatch(self, run: Run, context: Context[AutomationProtocol]) -> tuple[Run, Delivered]:
        """Have the post office do what the run is for. Raises `NotKnown` when it may have or not; then it is asked again."""
        assert run.action is not None
        delivered = Delivered()
        try:
            with trio.fail_after(POST_WITHIN):
                delivered = await deliver(self.fleet, run.action, run.record)
        except TROUBLE as trouble:
            context.set_timer("again", AGAIN, Look())
            raise NotKnown from trouble
        except Refusal as no:
            return await self._move(run, "fail", str(no), delivered, context), delivered
        event = "succeed" if delivered.task is None else None
        return await self._move(run, event, None, delivered, context), delivered

    async def _move(
        self,
        run: Run,
        event: str | None,
        error: str | None,
        delivered: Delivered,
        context: Context[AutomationProtocol],
    ) -> Run:
        """The one way a run changes; without an event it has only been dispatched."""
        moment = self.moment()
        before = run.record
        after = attrs.evolve(
            before,
            status=MOVES[before.status][event] if event is not None else before.status,
            message_id=delivered.message.id if delivered.message is not None else before.message_id,
            task_id=delivered.task.id if delivered.task is not None else before.task_id,
            error=error,
            finished_at=moment.at if event is not None else None,
        )
        told = run_event(self._known().record, after, delivered.task)
        await self.commit(Decision(reply=None, writes=(run_changed(after),), events=(told,)), context)
        run = Run(after, None)
        if after.status.final:
            del self._runs[after.id]
        else:
            self._runs[after.id] = run
        return run

    async def _ended(self, message: Ended, context: Context[AutomationProtocol]) -> None:
        run = self._runs.get(message.run_id)
        if run is not None and run.action is None:
            await self._settle(run, context)
        context.reply(message, None)

    async def _settle(self, run: Run, context: Context[AutomationProtocol]) -> None:
        """End the run, if what it has begun has ended."""
        task = None
        if run.record.command_id is not None:
            outcome = rules.outcome_of_command(find_command(self.store, run.record.command_id))
        else:
            task = find_task(self.store, run.record.task_id or 0)
            outcome = rules.outcome_of_task(task)
        if outcome is not None:
            await self._move(run, *outcome, Delivered(task=task), context)

    # -- due

    async def _look(self, context: Context[AutomationProtocol]) -> None:
        await self._finish(context)
        if self.row is not None:
            await self._begin_due(self.row, context)
            await self._begin_waiting(context)
        await self._finish(context)
        self._arm(context)

    async def _finish(self, context: Context[AutomationProtocol]) -> None:
        """Dispatch what is not dispatched, and end what has ended."""
        for run in list(self._runs.values()):
            if run.action is None:
                await self._settle(run, context)
                continue
            with suppress(NotKnown):
                await self._dispatch(run, context)

    async def _begin_due(self, row: Row, context: Context[AutomationProtocol]) -> None:
        record, now = row.record, self._wall()
        if record.next_run_at is None:
            return
        if rules.is_set_back(record.schedule, row.planned_at, now):
            row = self._planned(record)
            await self.commit(Decision(reply=None, writes=(updated(row),)), context)
            self.row = row
        elif self._is_due(record.next_run_at, now):
            following = rules.following(record.schedule, record.next_run_at, now)
            after = attrs.evolve(row, record=attrs.evolve(record, next_run_at=following), planned_at=now)
            await self._begin(Trigger.SCHEDULE, after, context, due_at=record.next_run_at)

    def _is_due(self, at: float, now: float) -> bool:
        known, ring = self._rings
        return now >= at - CLOSE or (known == at and self.fleet.system.now() >= ring)

    # -- begun by events

    async def _happened(self, message: Happened, context: Context[AutomationProtocol]) -> None:
        row = self.row
        if row is not None and row.record.enabled and row.record.schedule == message.schedule:
            for occurrence in message.occurrences:
                if occurrence.id > row.cursor:
                    row = attrs.evolve(row, cursor=occurrence.id, waiting=_gathered(row.waiting, occurrence))
                    if self._may_begin():
                        row = await self._begin_by(row, context)
            if row is not self.row:
                await self.commit(Decision(reply=None, writes=(updated(row),)), context)
                self.row = row
        context.reply(message, None)
        context.self_ref.tell(Look())

    async def _begin_waiting(self, context: Context[AutomationProtocol]) -> None:
        if self.row is not None and self.row.waiting is not None and self._may_begin():
            await self._begin_by(self.row, context)

    async def _begin_by(self, row: Row, context: Context[AutomationProtocol]) -> Row:
        """A run for all that waits."""
        waiting = row.waiting
        await self._begin(Trigger.EVENT, attrs.evolve(row, waiting=None), context, waiting=waiting)
        self._begun.append(self.fleet.system.now())
        return self._known()

    def _may_begin(self) -> bool:
        now = self.fleet.system.now()
        while self._begun and self._begun[0] + MINUTE <= now:
            self._begun.popleft()
        return len(self._begun) < rules.PER_MINUTE

    # -- timers

    def _arm(self, context: Context[AutomationProtocol]) -> None:
        """Be woken when there is something to begin."""
        delay = self._delay()
        if delay is None:
            context.cancel_timer("due")
        else:
            context.set_timer("due", max(0.0, delay), Look())

    def _delay(self) -> float | None:
        row, now = self.row, self.fleet.system.now()
        if row is None:
            return None
        if row.waiting is not None and self._begun:
            return self._begun[0] + MINUTE - now
        at = row.record.next_run_at
        if at is None:
            return None
        left = at - self._wall()
        if isinstance(row.record.schedule, wire.IntervalSchedule):
            if self._rings[0] != at:
                self._rings = (at, now + min(left, row.record.schedule.seconds))
            left = min(left, self._rings[1] - now)
        return left


def _gathered(waiting: Waiting | None, occurrence: Occurrence) -> Waiting:
    """What waits, with one event more, which it is from now on."""
    if waiting is None:
        return Waiting(occurrence, 1)
    chain = tuple(dict.fromkeys((*waiting.occurrence.chain, *occurrence.chain)))
    return Waiting(attrs.evolve(occurrence, chain=chain), waiting.count + 1)


def _event_of(waiting: Waiting | None) -> wire.RunEvent | None:
    if waiting is None:
        return None
    event = waiting.occurrence
    return wire.RunEvent(id=event.id, type=event.type, subject=event.subject, count=waiting.count)


def overdue(store: Store, now: float) -> list[str]:
    """The ids of automations that are to `Look`: by the wall clock (`now`, epoch seconds) one is due, or what it had planned is
    not right any more."""
    return due(store, now, rules.SET_BACK)


def coming_runs(store: Store, key: str, limit: int) -> wire.ComingRuns:
    """When the automation runs next; raises `NotFound`."""
    times = rules.coming(get_automation(store, key), limit)
    return wire.ComingRuns(times=[round(at * 1000) for at in times])
