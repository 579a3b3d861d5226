"""Automations and their runs as rows. `record` holds the whole record, the columns what is looked for and what only the
automation's own actor knows."""

from __future__ import annotations

from typing import Any

import attrs
import orjson

from relay import wire
from relay.store import Event, Store, Write

from ._automation_protocol import Occurrence
from ._automation_rules import SET_BACK
from ._errors import NotFound
from ._moment import Moment
from ._records import fitting, text_of

__all__ = [
    "MOST_RUNS",
    "Row",
    "Waiting",
    "find_row",
    "find_run",
    "get_automation",
    "going_on",
    "how_many",
    "inserted",
    "list_automations",
    "list_runs",
    "overdue",
    "removed",
    "run_changed",
    "run_event",
    "run_inserted",
    "triggered_by_events",
    "updated",
    "wakeable",
]

MOST_RUNS = 1_000
"""Runs of one automation that are kept: the newest, and all that are going on."""

RUN = "insert into automation_runs (id, seq, automation_id, status, command_id, task_id, action, record, started_at)"
OLD_RUNS = (
    "delete from automation_runs where automation_id = ? and status <> 'running' and seq <= (select seq from automation_runs"
    " where automation_id = ? order by seq desc limit 1 offset ?)"
)
WAKEABLE = (
    "select id from automations where next_run_at is not null or waiting is not null"
    " union select automation_id from automation_runs where status = 'running'"
)


@attrs.frozen
class Waiting:
    """Events that no run could be begun for yet: how many, and the last of them."""

    occurrence: Occurrence
    count: int


@attrs.frozen(kw_only=True)
class Row:
    """An automation with what its actor keeps of it. `planned_at` is when its next run was decided on, in epoch seconds;
    events up to `cursor` need not be told to it."""

    record: wire.Automation
    planned_at: float
    cursor: int
    waiting: Waiting | None = None


def find_row(store: Store, key: str) -> Row | None:
    found = store.row("select record, planned_at, event_cursor, waiting from automations where id = ?", key)
    if found is None:
        return None
    record, planned_at, cursor, waiting = found
    return Row(
        record=wire.decode(wire.Automation, record),
        planned_at=planned_at / 1000,
        cursor=cursor,
        waiting=_waiting(waiting),
    )


def _waiting(text: str | None) -> Waiting | None:
    if text is None:
        return None
    number, kind, subject, chain, count = orjson.loads(text)
    return Waiting(Occurrence(number, kind, subject, tuple(chain)), count)


def _waiting_text(waiting: Waiting | None) -> str | None:
    if waiting is None:
        return None
    event = waiting.occurrence
    return orjson.dumps([event.id, event.type, event.subject, event.chain, waiting.count]).decode()


def _columns(row: Row) -> tuple[Any, ...]:
    schedule = row.record.schedule
    listens = isinstance(schedule, wire.EventSchedule) and row.record.enabled
    return (
        _ms(row.record.next_run_at),
        round(row.planned_at * 1000),
        schedule.event if listens and isinstance(schedule, wire.EventSchedule) else None,
        row.cursor,
        _waiting_text(row.waiting),
        text_of(wire.to_json(row.record)),
        _ms(row.record.updated_at),
    )


def inserted(row: Row, moment: Moment) -> Write:
    return Write(
        "insert into automations (id, seq, created_at, next_run_at, planned_at, event, event_cursor, waiting, record,"
        " updated_at) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (row.record.id, moment.next_id("automations"), moment.ms, *_columns(row)),
    )


def updated(row: Row) -> Write:
    return Write(
        "update automations set next_run_at = ?, planned_at = ?, event = ?, event_cursor = ?, waiting = ?, record = ?,"
        " updated_at = ? where id = ?",
        (*_columns(row), row.record.id),
        rows=1,
    )


def removed(key: str) -> Write:
    return Write("delete from automations where id = ?", (key,), rows=1)


def run_inserted(
    run: wire.AutomationRun, action: wire.AutomationAction | None, moment: Moment
) -> tuple[Write, Write]:
    """A new run, with what is still to be dispatched for it; the oldest make room."""
    values = (
        run.id,
        moment.next_id("automation_runs"),
        run.automation_id,
        run.status,
        run.command_id,
        run.task_id,
        wire.encode(action).decode() if action is not None else None,
        wire.encode(run).decode(),
        moment.ms,
    )
    row = Write(f"{RUN} values (?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
    return row, Write(OLD_RUNS, (run.automation_id, run.automation_id, MOST_RUNS))


def run_changed(run: wire.AutomationRun) -> Write:
    """A run that was dispatched, or has ended: one that was going on, and nothing else."""
    return Write(
        "update automation_runs set status = ?, command_id = ?, task_id = ?, action = null, record = ?"
        " where id = ? and status = 'running'",
        (run.status, run.command_id, run.task_id, wire.encode(run).decode(), run.id),
        rows=1,
    )


def run_event(record: wire.Automation, run: wire.AutomationRun, task: wire.Task | None = None) -> Event:
    """`automation.run` (AUT-6)."""
    data = {"automation": wire.to_json(record), "run": wire.to_json(run)}
    return Event(
        "automation.run", "server", run.id, {**data, "task": wire.to_json(task)} if task is not None else data
    )


def going_on(store: Store, key: str) -> list[tuple[wire.AutomationRun, wire.AutomationAction | None]]:
    """The runs of the automation that are going on, the oldest first, and what is still to be dispatched for each."""
    sql = "select record, action from automation_runs where automation_id = ? and status = 'running' order by seq"
    return [
        (wire.decode(wire.AutomationRun, record), _action(action)) for record, action in store.rows(sql, key)
    ]


def _action(text: str | None) -> wire.AutomationAction | None:
    return wire.decode(wire.HeldAction, f'{{"action":{text}}}').action if text is not None else None


def find_run(store: Store, key: str) -> wire.AutomationRun | None:
    row = store.row("select record from automation_runs where id = ?", key)
    return wire.decode(wire.AutomationRun, row[0]) if row else None


def get_automation(store: Store, key: str) -> wire.Automation:
    """The automation; raises `NotFound`."""
    row = find_row(store, key)
    if row is None:
        raise NotFound("no such automation")
    return row.record


def list_automations(store: Store) -> list[wire.Automation]:
    """In the order in which they were made."""
    return [
        wire.decode(wire.Automation, record)
        for (record,) in store.rows("select record from automations order by seq")
    ]


def list_runs(
    store: Store, *, automation_id: str | None = None, status: str | None = None, limit: int = 100
) -> list[wire.AutomationRun]:
    """Those that fit both filters, the newest first (AUT-7)."""
    filters = {"automation_id = ?": automation_id, "status = ?": status}
    return fitting(store, wire.AutomationRun, "automation_runs", filters, order="seq desc", limit=limit)


def how_many(store: Store) -> int:
    ((count,),) = store.rows("select count(*) from automations")
    return int(count)


def wakeable(store: Store) -> list[str]:
    """The ids of automations that have something to begin or to finish: whoever starts the fleet wakes them."""
    return [key for (key,) in store.rows(WAKEABLE)]


def overdue(store: Store, now: float) -> list[str]:
    """The ids of automations that are to `Look`: by the wall clock (`now`, epoch seconds) one is due, or what it had planned is
    not right any more."""
    sql = (
        "select id from automations where next_run_at <= ?1 or (next_run_at is not null and planned_at > ?2)"
    )
    return [key for (key,) in store.rows(sql, round(now * 1000), round((now + SET_BACK) * 1000))]


def triggered_by_events(store: Store) -> list[str]:
    """The ids of automations that wait for events."""
    return [key for (key,) in store.rows("select id from automations where event is not null order by seq")]


def _ms(instant: wire.Instant | None) -> int | None:
    return round(instant * 1000) if instant is not None else None
