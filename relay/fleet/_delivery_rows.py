"""The rows of the delivery ladder, and what is announced of their changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Any

import attrs
import orjson

from relay import wire
from relay.store import Event, Store, Write

from ._audit import audit
from ._delivery_rules import VISIBLE, Row, moved, overdue
from ._moment import Moment

__all__ = [
    "Change",
    "announced",
    "audits",
    "find_row",
    "find_rows",
    "handed_over",
    "judged_late",
    "load",
    "made_up",
    "open_rows",
    "saved",
    "taken_by",
]

NAMES = tuple(field.name for field in attrs.fields(Row))
COLUMNS = ", ".join(NAMES)
KEY = ("agent_id", "message_id")
REST = tuple(name for name in NAMES if name not in KEY)
LONGEST_REASON = 2_000  # characters, of an audit record
INSERT = (
    f"insert into deliveries (message_id, agent_id, {', '.join(REST)}) select value, ?, {', '.join('?' * len(REST))}"
    " from json_each(?) where exists (select 1 from messages where id = value)"
)
UPDATE = (
    f"update deliveries set {', '.join(f'{name} = ?' for name in REST)}"
    " where agent_id = ? and message_id in (select value from json_each(?)) and token = ? and rung = ?"
)
TOLD = {
    "taken": "handed",
    "confirmed": "confirmed",
    "returned": "returned",
    "failed": "returned",
    "spent": "dead",
    "replied": "replied",
    "redelivered": "redelivered",
    "lapsed": "expired",
}
"""Step -> the event that tells of it. What stays where it is, is not announced."""


@attrs.frozen
class Change:
    """One step of one row; `before` None when the row is new."""

    step: str
    before: Row | None
    after: Row


Known = tuple[int, wire.Rung] | None
"""Token and rung of a row when it was looked at; None when there was none."""

_rest: Callable[[Row], tuple[Any, ...]] = attrgetter(*REST)


def load(store: Store, condition: str, *params: object, index: str | None = None) -> list[Row]:
    """Those that fit, found by the index that is named: of its own accord SQLite takes the whole history of the agent."""
    source = f"deliveries indexed by {index}" if index else "deliveries"
    rows = store.rows(f"select {COLUMNS} from {source} where {condition}", *params)
    return [Row(**dict(zip(NAMES, row, strict=True))) for row in rows]


def find_row(store: Store, agent_id: str, number: int) -> Row | None:
    found = load(store, "agent_id = ? and message_id = ?", agent_id, number)
    return found[0] if found else None


def find_rows(store: Store, agent_id: str, numbers: Iterable[int]) -> dict[int, Row]:
    ids = orjson.dumps(list(numbers)).decode()
    found = load(store, "agent_id = ? and message_id in (select value from json_each(?))", agent_id, ids)
    return {row.message_id: row for row in found}


def taken_by(store: Store, number: int, other_than: str) -> str | None:
    """An agent that has confirmed the message."""
    sql = "select agent_id from deliveries where message_id = ? and agent_id <> ? and rung in ('confirmed', 'replied')"
    row = store.row(sql, number, other_than)
    return row[0] if row else None


def open_rows(store: Store, agent_id: str) -> dict[int, Row]:
    """What was handed to the agent, or came back and is due some time."""
    condition = "agent_id = ? and rung in ('handed', 'routed') order by message_id"
    found = load(store, condition, agent_id, index="deliveries_open")
    return {row.message_id: row for row in found}


def saved(changes: Iterable[Change]) -> tuple[Write, ...]:
    """One write for all that went the same way. Fenced: it fails when a message has been deleted meanwhile, or a row is not
    what was looked at."""
    befores: dict[int, Row | None] = {}
    afters: dict[int, Row] = {}
    for change in changes:
        befores.setdefault(change.after.message_id, change.before)
        afters[change.after.message_id] = change.after
    groups: dict[tuple[Known, str, tuple[Any, ...]], list[int]] = {}
    for number, after in afters.items():
        before = befores[number]
        known = None if before is None else (before.token, before.rung)
        groups.setdefault((known, after.agent_id, _rest(after)), []).append(number)
    return tuple(_saved(*group, numbers) for group, numbers in groups.items())


def _saved(known: Known, agent_id: str, rest: tuple[Any, ...], numbers: list[int]) -> Write:
    ids = orjson.dumps(numbers).decode()
    if known is None:
        return Write(INSERT, (agent_id, *rest, ids), len(numbers))
    return Write(UPDATE, (*rest, agent_id, ids, *known), len(numbers))


def announced(changes: Sequence[Change]) -> tuple[Event, ...]:
    """One event for all that went the same way."""
    groups: dict[tuple[str, str | None], list[Row]] = {}
    for change in changes:
        if change.step in TOLD:
            failed = change.step in ("failed", "spent", "returned", "lapsed")
            error = change.after.error if failed else None
            groups.setdefault((TOLD[change.step], error), []).append(change.after)
    return tuple(_event(name, error, rows) for (name, error), rows in groups.items())


def _event(name: str, error: str | None, rows: list[Row]) -> Event:
    agent_id = rows[0].agent_id
    data = {"agentId": agent_id, "messageIds": [row.message_id for row in rows], "rung": rows[0].rung}
    if error is not None:
        data["error"] = error
    if name == "replied":
        data["replyIds"] = [row.reply_id for row in rows]
    source = "server" if name in ("dead", "expired", "redelivered") else agent_id
    return Event(f"delivery.{name}", source, agent_id, orjson.dumps(data))


def audits(changes: Iterable[Change], moment: Moment) -> tuple[tuple[Write, Event], ...]:
    """Dead letters are on record where people look."""
    return tuple(
        audit(
            moment,
            f"server-message-{row.message_id}-dead-{row.agent_id}-{row.token}",
            f"message {row.message_id} is dead: {row.agent_id} does not take it",
            body=f"{(row.error or 'no reason given')[:LONGEST_REASON]}. `relay dlq redeliver {row.message_id} {row.agent_id}` tries again.",
            icon="ti-mail-off",
            view="messages",
            agent_id=row.agent_id,
            message_id=row.message_id,
        )
        for row in (change.after for change in changes if change.step == "spent")
    )


def made_up(row: Row, evidence: wire.Progress, moment: Moment) -> Change | None:
    """What nobody told of, because the server crashed on the way."""
    if evidence.rung is wire.Rung.REPLIED:
        return Change("replied", row, moved(row, "replied", moment, reply=evidence.reply_id))
    if evidence.rung is wire.Rung.CONFIRMED:
        return Change("confirmed", row, moved(row, "confirmed", moment, evidence="read"))
    return None


def judged_late(row: Row, card: wire.Agent | None, moment: Moment) -> Change:
    step = overdue(row, card)
    error = f"not settled within {VISIBLE:g} s" if step in {"failed", "spent"} else None
    return Change(step, row, moved(row, step, moment, error=error))


def handed_over(row: Row, message: wire.Message) -> wire.HandOver:
    return wire.HandOver(
        message_id=row.message_id,
        token=row.token,
        attempt=row.attempt,
        handed_at=wire.Instant((row.handed_at or 0) / 1000),
        visible_until=wire.Instant((row.visible_at or 0) / 1000),
        message=message,
    )
