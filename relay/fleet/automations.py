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

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import attrs

from relay import wire
from relay.actors import Context, Step
from relay.store import Decision, Write

from . import _automation_rules as rules
from ._actor import FleetActor
from ._audit import Caller
from ._automation_decisions import Begun, Run, begun, changed, gathered, gone, kept, made, moved, planned
from ._automation_deeds import NotKnown, Outcome, Posted, posted, what_came_of
from ._automation_pace import Pace
from ._automation_protocol import (
    AutomationProtocol,
    Change,
    Create,
    Ended,
    Happened,
    Look,
    Remove,
    RunNow,
)
from ._automation_rows import (
    Row,
    find_row,
    get_automation,
    going_on,
    how_many,
    inserted,
    list_automations,
    list_runs,
    overdue,
    updated,
    wakeable,
)
from ._automation_rules import MOST_COMING, MOVES, coming
from ._errors import Conflict, Invalid, NotFound
from ._moment import Moment
from .commands import Adopt
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
    "coming",
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

AGAIN = 5.0  # seconds until the post office is asked again


class Automation(FleetActor[AutomationProtocol]):
    """The actor of one automation."""

    def __init__(self, fleet: Fleet, key: str) -> None:
        super().__init__(fleet)
        self.id = key
        self.row = find_row(self.store, key)
        self._runs = {run.id: Run(run, action) for run, action in going_on(self.store, key)}
        self._pace = Pace(fleet.system)

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
        moment = self.moment()
        row = made(self.id, message, self._wall(), self.store.events.last_id, moment)
        await self._keep(row, inserted(row, moment), "created", moment, message.by, context)
        context.reply(message, row.record)

    async def _change(self, message: Change, context: Context[AutomationProtocol]) -> None:
        moment = self.moment()
        row = changed(self._known(), message.asked, self._wall(), self.store.events.last_id, moment)
        await self._keep(row, updated(row), "updated", moment, message.by, context)
        context.reply(message, row.record)

    async def _keep(
        self,
        row: Row,
        write: Write,
        what: str,
        moment: Moment,
        by: Caller | None,
        context: Context[AutomationProtocol],
    ) -> None:
        await self._commit(kept(row, write, what, moment, by), context)
        self.row = row
        self._arm(context)

    async def _commit(self, decision: Decision[None], context: Context[AutomationProtocol]) -> None:
        """Whoever tells of events hears that the automation may wait for others."""
        tells = ((self.fleet.triggers, Changed(self.id)),)
        await self.commit(attrs.evolve(decision, tells=tells), context)

    async def _remove(self, message: Remove, context: Context[AutomationProtocol]) -> None:
        decision = gone(self._known().record, self._runs.values(), self.moment(), message.by)
        await self._commit(decision, context)
        self.row = None
        self._runs.clear()
        self._arm(context)
        context.reply(message, None)

    # -- begun

    async def _run_now(self, message: RunNow, context: Context[AutomationProtocol]) -> None:
        self._known()
        if len(self._runs) >= MOST_GOING_ON:
            raise Invalid(f"{MOST_GOING_ON} runs of it are going on; wait until one has ended")
        begun_ = await self._begin(Trigger.MANUAL, self._known(), context, by=message.by)
        run, found = begun_.run, Posted()
        if run.action is not None:
            try:
                run, found = await self._dispatch(run, context)
            except NotKnown as trouble:
                context.defer(message).fail(trouble.__cause__ or trouble)
                return
        if run.record.status is S.FAILED:
            raise Invalid(run.record.error or "it cannot be dispatched")
        dispatch = wire.RunDispatch(
            automation=self._known().record,
            run=run.record,
            command=begun_.command,
            message=found.message,
            task=found.task,
        )
        context.reply(message, dispatch)

    async def _begin(
        self,
        trigger: wire.RunTrigger,
        row: Row,
        context: Context[AutomationProtocol],
        **given: Any,
    ) -> Begun:
        """Begin a run; the automation is as `row` from now on."""
        skip = trigger is not Trigger.MANUAL and self._is_to_skip(row.record)
        found = begun(self.store, row, trigger, self.moment(), skip=skip, **given)
        command = found.command
        tells = ((self.fleet.commands[command.id], Adopt()),) if command is not None else ()
        await self.commit(attrs.evolve(found.decision, tells=tells), context)
        self.row = found.row
        if not found.run.record.status.final:
            self._runs[found.run.record.id] = found.run
        return found

    def _is_to_skip(self, record: wire.Automation) -> bool:
        if len(self._runs) >= MOST_GOING_ON:
            return True
        return record.overlap is wire.Overlap.SKIP and bool(self._runs)

    # -- dispatched, ended

    async def _dispatch(self, run: Run, context: Context[AutomationProtocol]) -> tuple[Run, Posted]:
        """Have the post office do what the run is for. Raises `NotKnown` when it may have or not; then it is asked again."""
        assert run.action is not None
        try:
            found, outcome = await posted(self.fleet, run.action, run.record)
        except NotKnown:
            context.set_timer("again", AGAIN, Look())
            raise
        return await self._move(run, found, outcome, context), found

    async def _move(
        self, run: Run, found: Posted, outcome: Outcome | None, context: Context[AutomationProtocol]
    ) -> Run:
        after, decision = moved(self._known().record, run, found, outcome, self.moment())
        await self.commit(decision, context)
        if after.record.status.final:
            del self._runs[after.record.id]
        else:
            self._runs[after.record.id] = after
        return after

    async def _ended(self, message: Ended, context: Context[AutomationProtocol]) -> None:
        run = self._runs.get(message.run_id)
        if run is not None and run.action is None:
            await self._settle(run, context)
        context.reply(message, None)

    async def _settle(self, run: Run, context: Context[AutomationProtocol]) -> None:
        """End the run, if what it has begun has ended."""
        found, outcome = what_came_of(self.store, run.record)
        if outcome is not None:
            await self._move(run, found, outcome, context)

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
            row = planned(record, now, self.store.events.last_id)
            await self.commit(Decision(reply=None, writes=(updated(row),)), context)
            self.row = row
        elif self._pace.is_due(record.next_run_at):
            following = rules.following(record.schedule, record.next_run_at, now)
            after = attrs.evolve(row, record=attrs.evolve(record, next_run_at=following), planned_at=now)
            await self._begin(Trigger.SCHEDULE, after, context, due_at=record.next_run_at)

    # -- begun by events

    async def _happened(self, message: Happened, context: Context[AutomationProtocol]) -> None:
        row = self.row
        if row is not None and row.record.enabled and row.record.schedule == message.schedule:
            for occurrence in message.occurrences:
                if occurrence.id > row.cursor:
                    row = attrs.evolve(row, cursor=occurrence.id, waiting=gathered(row.waiting, occurrence))
                    if self._pace.may_begin():
                        row = await self._begin_by(row, context)
            if row is not self.row:
                await self.commit(Decision(reply=None, writes=(updated(row),)), context)
                self.row = row
        context.reply(message, None)
        context.self_ref.tell(Look())

    async def _begin_waiting(self, context: Context[AutomationProtocol]) -> None:
        if self.row is not None and self.row.waiting is not None and self._pace.may_begin():
            await self._begin_by(self.row, context)

    async def _begin_by(self, row: Row, context: Context[AutomationProtocol]) -> Row:
        """A run for all that waits."""
        waiting = row.waiting
        await self._begin(Trigger.EVENT, attrs.evolve(row, waiting=None), context, waiting=waiting)
        self._pace.begins()
        return self._known()

    # -- timers

    def _arm(self, context: Context[AutomationProtocol]) -> None:
        """Be woken when there is something to begin."""
        delay = self._pace.delay(self.row)
        if delay is None:
            context.cancel_timer("due")
        else:
            context.set_timer("due", delay, Look())
