"""What a database needs that was restored from a backup: nothing that was given after the backup is given twice.

Hosts, agents and listeners remember numbers that this database has never heard of: fencing tokens, ids of messages and
tasks, places in the log of events. So the restored one goes on `FURTHER` on. Its log begins anew, with one event that
tells why; who resumes from an older place is told of the gap. A record in the audit tells of it, too.
"""

from __future__ import annotations

from typing import Any

import apsw

from relay import wire
from relay.store.witnesses import RESTORED

__all__ = ["FLOOR", "FURTHER", "prepare"]

FURTHER = 1_000_000

SEQUENCES = ("messages", "tasks", "callbacks")
FLOOR = "fences.floor"
"""Key in `meta`: what no fencing token may be below, of a lease that nobody has had before."""


def prepare(connection: apsw.Connection, backup: str, made_at: float, at: float) -> None:
    """Within a transaction on the copy, before it takes the place of the database. Instants are epoch seconds."""
    execute = connection.execute
    ((floor,),) = execute("select coalesce(max(token), 0) from fences")
    ((before,),) = execute(
        "select coalesce((select cast(value as integer) from meta where key = ?), 0)", (FLOOR,)
    )
    floor = max(floor, before) + FURTHER
    execute("update fences set token = token + ?", (FURTHER,))
    execute("insert or replace into meta (key, value) values (?, ?)", (FLOOR, str(floor)))
    for name in SEQUENCES:
        _leap(connection, name)
    ((last,),) = execute("select coalesce(max(id), 0) from events")
    execute("delete from events")
    known = {"backup": backup, "backupAt": round(made_at * 1000)}
    _tell(connection, last + FURTHER, "system.restored", None, known, at)
    _record(connection, last + FURTHER + 1, backup, known, at)


def _leap(connection: apsw.Connection, name: str) -> None:
    """SQLite has a row for the table only once it had one itself."""
    connection.execute("update sqlite_sequence set seq = seq + ? where name = ?", (FURTHER, name))
    if not connection.changes():
        connection.execute("insert into sqlite_sequence (name, seq) values (?, ?)", (name, FURTHER))


def _record(connection: apsw.Connection, event: int, backup: str, known: dict[str, Any], at: float) -> None:
    ((number,),) = connection.execute("select coalesce(max(id), 0) + 1 from activity")
    ms = round(at * 1000)
    record = wire.Activity(
        id=number,
        client_id=f"{RESTORED}{ms}",
        kind=wire.ActivityKind.STATE,
        title="the database was restored from a backup",
        body=backup,
        icon="ti-history",
        view="security",
        metadata=known,
        created_at=wire.Instant(at),
    )
    connection.execute(
        "insert into activity (id, client_id, kind, view, record, created_at) values (?, ?, ?, ?, ?, ?)",
        (number, record.client_id, record.kind, record.view, wire.encode(record).decode(), ms),
    )
    _tell(connection, event, "activity.created", str(number), wire.to_json(record), at)


def _tell(
    connection: apsw.Connection, number: int, kind: str, subject: str | None, data: dict[str, Any], at: float
) -> None:
    connection.execute(
        "insert into events (id, at, type, source, subject, data) values (?, ?, ?, 'server', ?, ?)",
        (number, round(at * 1000), kind, subject, wire.encode(data).decode()),
    )
