"""A new command: what any actor inserts in its own decision. From then on the command's own actor owns the row."""

from __future__ import annotations

from typing import Any

from relay import wire
from relay.store import Event, Store, Write

from ._moment import Moment
from ._records import text_of

__all__ = ["COLUMNS", "command_event", "deadline", "is_asked", "new_command"]

LATEST = 8_640_000_000_000.0  # seconds since 1970: the year 275760, when calendars of programs end
COLUMNS = "id, seq, type, source, target, status, correlation_id, created_at, expires_at, record"

OURS = ("system", "dashboard")
"""Sources that relay names in commands of its own."""

EXECUTION_MS = {"agent": 1_800_000, "prompt": 1_800_000, "workspace": 1_800_000}
"""How long whoever has begun one of relay's own commands may take, by the first word of the type: long, as a spawn waits
for those before it at its host."""


def new_command(
    moment: Moment,
    asked: wire.NewCommand,
    *,
    id: str | None = None,  # noqa: A002 - as everywhere
) -> tuple[wire.Command, tuple[Write, ...], tuple[Event, ...]]:
    """The command, pending, with its row and its `command.requested` (CMD-1).

    If it has a life time, the decision must also tell `fleet.commands[command.id]` to `Adopt` it.
    """
    ttl_ms = asked.ttl_ms
    command = wire.Command(
        id=id or moment.new_id("cmd"),
        type=asked.type,
        source=asked.source,
        target=asked.target,
        status=wire.CommandStatus.PENDING,
        params=asked.params or {},
        correlation_id=asked.correlation_id,
        ttl_ms=ttl_ms,
        execution_ms=asked.execution_ms or _usual_execution(asked),
        expires_at=deadline(moment.at, ttl_ms),
        created_at=moment.at,
        updated_at=moment.at,
    )
    known = wire.to_json(command)
    row = (
        command.id,
        moment.next_id("commands"),
        command.type,
        command.source,
        command.target,
        command.status,
        command.correlation_id,
        moment.ms,
        command.expires_at and round(command.expires_at * 1000),
        text_of(known),
    )
    write = Write(f"insert into commands ({COLUMNS}) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
    return command, (write,), (command_event(command, known),)


def deadline(at: float, ms: int | None) -> wire.Instant | None:
    """When so many milliseconds from `at` are over. None: never, also when that is later than any instant on the wire."""
    end = at + (ms or 0) / 1000
    return None if ms is None or end > LATEST else wire.Instant(end)


def _usual_execution(asked: wire.NewCommand) -> int | None:
    """Whoever begins a command of relay's own that never expires, and is not heard of again, does not keep it open."""
    ours = asked.source in OURS and asked.ttl_ms is None
    return EXECUTION_MS.get(asked.type.partition(".")[0]) if ours else None


def is_asked(store: Store, kind: str, correlation_id: str) -> bool:
    """Whether a command of this type about this is still open."""
    ends = [status for status in wire.CommandStatus if status.final]
    sql = f"select 1 from commands where correlation_id = ? and type = ? and status not in ({', '.join('?' * len(ends))})"
    return store.row(sql, correlation_id, kind, *ends) is not None


def command_event(command: wire.Command, known: Any) -> Event:
    """`command.requested` while it is pending, else `command.<status>` (CMD-2, CMD-3). `known` is it as JSON."""
    pending = command.status is wire.CommandStatus.PENDING
    name = "requested" if pending else command.status.value
    return Event(f"command.{name}", command.source, command.id, {"command": known})
