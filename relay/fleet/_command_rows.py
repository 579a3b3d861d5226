"""Commands as rows."""

from __future__ import annotations

from relay import wire
from relay.store import Store

from ._command_rules import OPEN
from ._errors import Invalid, NotFound

__all__ = ["IMPATIENT", "adoptable", "due", "find_command", "get_command", "impatient", "list_commands"]

IMPATIENT = ("workspace.merge",)
"""Types that do not wait for a host that is away (W-I18)."""

LARGEST_LIST = 4 * 2**20  # bytes of records; the one that a list ends with may go beyond


def find_command(store: Store, key: str) -> wire.Command | None:
    row = store.row("select record from commands where id = ?", key)
    return wire.decode(wire.Command, row[0]) if row else None


def get_command(store: Store, key: str) -> wire.Command:
    """The command; raises `NotFound`."""
    command = find_command(store, key)
    if command is None:
        raise NotFound("no such command")
    return command


def list_commands(
    store: Store,
    *,
    target: str | None = None,
    status: wire.CommandStatus | None = None,
    type: str | None = None,  # noqa: A002 - the name of the query's member
    since: int | None = None,
    after: str | None = None,
    limit: int = 100,
) -> list[wire.Command]:
    """Commands that fit all filters, oldest first, as many as `limit` and `LARGEST_LIST` allow. `since` is epoch
    milliseconds, inclusive (CMD-4, O-24); `after` is the id of the command that a list before this one ended with."""
    filters = {"target = ?": target, "status = ?": status, "type = ?": type, "created_at >= ?": since}
    given = {sql: value for sql, value in filters.items() if value is not None}
    if after is not None:
        given["seq > ?"] = _place(store, after)
    where = f"where {' and '.join(given)} " if given else ""
    sql = (
        "select record from (select seq, record, sum(length(record)) over (order by seq) - length(record) as before"
        f" from (select seq, record from commands {where}order by seq limit ?)) where before < ? order by seq"
    )
    return [
        wire.decode(wire.Command, record)
        for (record,) in store.rows(sql, *given.values(), limit, LARGEST_LIST)
    ]


def _place(store: Store, key: str) -> int:
    row = store.row("select seq from commands where id = ?", key)
    if row is None:
        raise Invalid(f"after: there is no command {key}")
    place: int = row[0]
    return place


def impatient(store: Store, target: str) -> list[str]:
    """The ids of pending commands that do not wait for a target that is away."""
    marks = ", ".join("?" * len(IMPATIENT))
    sql = (
        f"select id from commands where target = ? and status = 'pending' and type in ({marks}) order by seq"
    )
    return [key for (key,) in store.rows(sql, target, *IMPATIENT)]


def adoptable(store: Store) -> list[str]:
    """The ids of open commands that have a deadline: whoever starts the fleet wakes them."""
    marks = ", ".join("?" * len(OPEN))
    sql = f"select id from commands where expires_at is not null and status in ({marks})"
    return [key for (key,) in store.rows(sql, *OPEN)]


def due(store: Store, at: float) -> list[str]:
    """The ids of open commands whose time is over by the wall clock (`at`, epoch seconds), oldest first."""
    sql = "select id from commands where expires_at <= ? and status in ('pending', 'accepted', 'running') order by seq"
    return [key for (key,) in store.rows(sql, at * 1000)]
