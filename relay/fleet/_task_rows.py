"""Tasks as rows: what is written of them, and looking at them. `record` holds the whole task, the columns what is
looked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from relay import wire
from relay.store import Event, Store, Write

from ._addresses import addresses_of
from ._cards import find_participant
from ._errors import NotFound
from ._moment import Moment
from ._records import fitting, text_of

__all__ = [
    "find_task",
    "get_task",
    "holds_any",
    "inserted",
    "is_for_one",
    "list_tasks",
    "noted",
    "task_events",
    "told",
    "updated",
]

FOR_ONE = """(claimed_by in (select value from json_each(?)) or target in (select value from json_each(?))
 or exists (select 1 from messages where messages.id = tasks.message_id
 and messages.resolved_to in (select value from json_each(?))))"""


def find_task(store: Store, number: int) -> wire.Task | None:
    row = store.row("select record from tasks where id = ?", number)
    return wire.decode(wire.Task, row[0]) if row else None


def get_task(store: Store, number: int) -> wire.Task:
    """The task; raises `NotFound`."""
    found = find_task(store, number)
    if found is None:
        raise NotFound("no such task")
    return found


def list_tasks(
    store: Store,
    *,
    status: wire.TaskStatus | None = None,
    source: str | None = None,
    target: str | None = None,
    channel: str | None = None,
    claimed_by: str | None = None,
    for_one_of: Sequence[str] | None = None,
    limit: int = 100,
) -> list[wire.Task]:
    """Those that fit every filter, newest first (TSK-12); `for_one_of`: what one of these agents has, or could."""
    filters = {
        "status = ?": status,
        "source = ?": source,
        "target = ?": target,
        "channel = ?": channel,
        "claimed_by = ?": claimed_by,
        FOR_ONE: None if for_one_of is None else _reaching(store, for_one_of),
    }
    return fitting(store, wire.Task, "tasks", filters, order="id desc", limit=limit)


def is_for_one(store: Store, number: int, agents: Sequence[str]) -> bool:
    """Whether one of these agents has the task, or could have it."""
    sql = f"select 1 from tasks where id = ? and {FOR_ONE}"
    return store.row(sql, number, *_reaching(store, agents)) is not None


def _reaching(store: Store, agents: Sequence[str]) -> tuple[str, str, str]:
    """What `FOR_ONE` asks for: the agents, and the addresses that reach them now."""
    known = [card for name in agents if (card := find_participant(store, name)) is not None]
    reached = [address for card in known for address in addresses_of(card)]
    names = text_of(list(agents))
    return names, text_of(reached), names


def task_events(store: Store, number: int) -> list[wire.TaskEvent]:
    """What happened to the task, oldest first, at most the newest 1 000; raises `NotFound`."""
    get_task(store, number)
    rows = store.rows("select record from task_events where task_id = ? order by id desc limit 1000", number)
    return [wire.decode(wire.TaskEvent, record) for (record,) in reversed(rows)]


def holds_any(store: Store, agent_id: str) -> bool:
    """Whether the agent holds a task, or did when that was orphaned."""
    return store.row("select 1 from tasks where claimed_by = ?", agent_id) is not None


def inserted(task: wire.Task) -> Write:
    return Write(
        "insert into tasks (id, source, key, created_at, target, channel, status, claimed_by, claim_expires_at,"
        " orphaned_at, message_id, record, updated_at) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (task.id, task.source, task.key, _ms(task.created_at), *_columns(task)),
    )


def updated(task: wire.Task) -> Write:
    return Write(
        "update tasks set target = ?, channel = ?, status = ?, claimed_by = ?, claim_expires_at = ?,"
        " orphaned_at = ?, message_id = ?, record = ?, updated_at = ? where id = ?",
        (*_columns(task), task.id),
        rows=1,
    )


def noted(task: wire.Task, change: wire.TaskChange, moment: Moment, **said: Any) -> Write:
    """One entry of the history."""
    entry = wire.TaskEvent(
        id=moment.next_id("task_events"),
        task_id=task.id,
        at=moment.at,
        type=change,
        status=task.status,
        **said,
    )
    return Write(
        "insert into task_events (id, task_id, at, record) values (?, ?, ?, ?)",
        (entry.id, task.id, moment.ms, wire.encode(entry).decode()),
    )


def told(task: wire.Task, *, new: bool = False) -> Event:
    return Event("task.created" if new else "task.updated", "server", str(task.id), wire.encode(task))


def _columns(task: wire.Task) -> tuple[Any, ...]:
    return (
        task.target,
        task.channel,
        task.status,
        task.claimed_by,
        _ms(task.claim_expires_at),
        _ms(task.orphaned_at),
        task.message_id,
        wire.encode(task).decode(),
        _ms(task.updated_at),
    )


def _ms(instant: wire.Instant | None) -> int | None:
    return round(instant * 1000) if instant is not None else None
