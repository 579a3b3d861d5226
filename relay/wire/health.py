"""Health (messaging-control 19.1)."""

import attrs

from . import _fields as f
from ._json import nested

__all__ = ["Counts", "Health", "Stats"]


@attrs.frozen(kw_only=True)
class Counts:
    """How much of what there is."""

    agents: int = f.integer(0, default=0)
    orchestrators: int = f.integer(0, default=0)
    messages: int = f.integer(0, default=0)
    queued_messages: int = f.integer(0, default=0)
    dead_letters: int = f.integer(0, default=0)
    tasks: int = f.integer(0, default=0)
    workspaces: int = f.integer(0, default=0)
    pending_commands: int = f.integer(0, default=0)
    sse_connections: int = f.integer(0, default=0)
    bus_connections: int = f.integer(0, default=0)


@attrs.frozen(kw_only=True)
class Health:
    """`GET /api/health` (O-56). `backup_at` is when the last backup was made; `alarms` say what needs somebody's care."""

    status: str = f.text(80, required=True)
    version: str = f.text(80, required=True)
    uptime_ms: int = f.integer(0, default=0)
    counts: Counts = f.item(Counts, nested, required=True)
    backup_at: f.Instant | None = f.instant()
    alarms: list[str] = f.texts()


@attrs.frozen(kw_only=True)
class Stats:
    """`GET /api/stats`: the counts of health, and how they divide. Every status is named, also when nothing has it."""

    counts: Counts = f.item(Counts, nested, required=True)
    agents_by_status: dict[str, int] = f.document()
    messages_by_delivery_status: dict[str, int] = f.document()
    tasks_by_status: dict[str, int] = f.document()
    commands_by_status: dict[str, int] = f.document()
