"""What becomes of an automation and of its runs: one decision each, with what is told of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs

from relay import wire
from relay.actors import Refusal
from relay.store import Decision, Event, Store, Write

from . import _automation_rules as rules
from ._audit import Caller, audit
from ._automation_deeds import Outcome, Posted, order
from ._automation_protocol import Create, Occurrence
from ._automation_rows import Row, Waiting, removed, run_changed, run_event, run_inserted, updated
from ._automation_rules import MOVES
from ._machine import NONE
from ._moment import Moment

__all__ = ["Begun", "Run", "begun", "changed", "gathered", "gone", "kept", "made", "moved", "planned"]


@attrs.frozen
class Run:
    """A run that is going on; `action` is what is still to be dispatched for it."""

    record: wire.AutomationRun
    action: wire.AutomationAction | None


@attrs.frozen
class Begun:
    """A run, the automation from then on, and the command if it is a spawn that could be made."""

    run: Run
    row: Row
    command: wire.Command | None
    decision: Decision[None]


def made(key: str, message: Create, now: float, seen: int, moment: Moment) -> Row:
    """A new automation. Raises `Invalid` if its schedule never comes round."""
    rules.check(message.asked.schedule, now)
    record = wire.Automation(
        **attrs.asdict(message.asked, recurse=False),
        id=key,
        created_by=message.by.subject if message.by is not None else None,
        created_at=moment.at,
        updated_at=moment.at,
    )
    return planned(record, now, seen)


def changed(before: Row, asked: wire.ChangeAutomation, now: float, seen: int, moment: Moment) -> Row:
    """The automation with what is asked for; if that is about when, from now on. Raises `Invalid` as `made`."""
    record = attrs.evolve(rules.changed(before.record, asked), updated_at=moment.at)
    enabled = record.enabled and not before.record.enabled
    if asked.schedule is not None or enabled:
        rules.check(record.schedule, now)
    if (record.schedule, record.enabled) != (before.record.schedule, before.record.enabled):
        return planned(record, now, seen)
    return attrs.evolve(before, record=record)


def planned(record: wire.Automation, now: float, seen: int) -> Row:
    """The automation, from `now` on (epoch seconds): with the next time of its schedule, and none of the events that were `seen`."""
    at = rules.first(record.schedule, now) if record.enabled else None
    return Row(record=attrs.evolve(record, next_run_at=at), planned_at=now, cursor=seen)


def kept(row: Row, write: Write, what: str, moment: Moment, by: Caller | None) -> Decision[None]:
    """It was `created`, or `updated`."""
    event = Event(f"automation.{what}", "server", row.record.id, {"automation": wire.to_json(row.record)})
    note, told = _audited(row.record, what, moment, by)
    return Decision(reply=None, writes=(write, note), events=(event, told))


def gone(record: wire.Automation, runs: Iterable[Run], moment: Moment, by: Caller | None) -> Decision[None]:
    """It was removed, and with it end the runs that go on."""
    ended = [_ended(run.record, "fail", "the automation was removed", moment) for run in runs]
    event = Event("automation.deleted", "server", record.id, {"automationId": record.id})
    note, told = _audited(record, "removed", moment, by)
    return Decision(
        reply=None,
        writes=(*(run_changed(run) for run in ended), removed(record.id), note),
        events=(*(run_event(record, run) for run in ended), event, told),
    )


def begun(
    store: Store,
    row: Row,
    trigger: wire.RunTrigger,
    moment: Moment,
    *,
    skip: bool,
    due_at: wire.Instant | None = None,
    waiting: Waiting | None = None,
    by: Caller | None = None,
) -> Begun:
    """A run of the automation, which is as `row` from then on."""
    run = _new(row.record.id, trigger, moment, due_at, waiting)
    if skip:
        run = attrs.evolve(run, status=MOVES[NONE]["skip"], finished_at=moment.at)
    else:
        row = attrs.evolve(row, record=attrs.evolve(row.record, last_run_at=moment.at))
    action, command = row.record.action, None
    writes: tuple[Write, ...] = ()
    events: tuple[Event, ...] = ()
    if not skip and isinstance(action, wire.SpawnAction):
        try:
            command, writes, events = order(store, action, run, moment)
            run = attrs.evolve(run, command_id=command.id)
        except Refusal as no:
            run = attrs.evolve(run, status=MOVES[NONE]["refuse"], error=str(no), finished_at=moment.at)
    left = None if run.status.final or command is not None else action
    if left is None:
        events += (run_event(row.record, run),)
    if by is not None:
        note, told = _audited(row.record, "run", moment, by, automationRunId=run.id)
        writes, events = (*writes, note), (*events, told)
    writes = (*run_inserted(run, left, moment), *writes, updated(row))
    return Begun(Run(run, left), row, command, Decision(reply=None, writes=writes, events=events))


def _new(
    key: str,
    trigger: wire.RunTrigger,
    moment: Moment,
    due_at: wire.Instant | None,
    waiting: Waiting | None,
) -> wire.AutomationRun:
    event = waiting.occurrence if waiting is not None else None
    named = None
    if waiting is not None and event is not None:
        named = wire.RunEvent(id=event.id, type=event.type, subject=event.subject, count=waiting.count)
    return wire.AutomationRun(
        id=moment.new_id("run"),
        automation_id=key,
        trigger=trigger,
        status=MOVES[NONE]["begin"],
        due_at=due_at,
        event=named,
        chain=list(event.chain) if event is not None else [],
        started_at=moment.at,
    )


def moved(
    record: wire.Automation,
    run: Run,
    posted: Posted,
    outcome: Outcome | None,
    moment: Moment,
) -> tuple[Run, Decision[None]]:
    """The one way a run changes; without an outcome it has only been dispatched."""
    after = attrs.evolve(
        run.record,
        message_id=posted.message.id if posted.message is not None else run.record.message_id,
        task_id=posted.task.id if posted.task is not None else run.record.task_id,
    )
    if outcome is not None:
        after = _ended(after, *outcome, moment)
    told = run_event(record, after, posted.task)
    return Run(after, None), Decision(reply=None, writes=(run_changed(after),), events=(told,))


def _ended(run: wire.AutomationRun, event: str, error: str | None, moment: Moment) -> wire.AutomationRun:
    return attrs.evolve(run, status=MOVES[run.status][event], error=error, finished_at=moment.at)


def gathered(waiting: Waiting | None, occurrence: Occurrence) -> Waiting:
    """What waits, with one event more, which it is from now on."""
    if waiting is None:
        return Waiting(occurrence, 1)
    chain = tuple(dict.fromkeys((*waiting.occurrence.chain, *occurrence.chain)))
    return Waiting(attrs.evolve(occurrence, chain=chain), waiting.count + 1)


def _audited(
    record: wire.Automation, what: str, moment: Moment, by: Caller | None, **facts: Any
) -> tuple[Write, Event]:
    return audit(
        moment,
        f"server-automation-{record.id}-{what}-{moment.ms}",
        f"automation {record.name} was {what}",
        body=record.action.type,
        meta=record.id,
        icon="ti-clock-play",
        view="activity",
        metadata={"automationId": record.id, **facts},
        by=by,
    )
