"""The maintenance run (messaging-control 19.2)."""

import attrs

from . import _fields as f

__all__ = ["Reaped"]


@attrs.frozen(kw_only=True)
class Reaped:
    """`POST /api/system/reap`: what the run has ended or set free, by id (SYS-11)."""

    ok: bool = f.boolean(default=True)
    reaped_agent_ids: tuple[str, ...] = f.ids(str)
    reaped_orchestrator_ids: tuple[str, ...] = f.ids(str)
    released_message_ids: tuple[int, ...] = f.ids(int)
    released_task_ids: tuple[int, ...] = f.ids(int)
    released_orphaned_task_ids: tuple[int, ...] = f.ids(int)
    expired_queued_message_ids: tuple[int, ...] = f.ids(int)
    expired_command_ids: tuple[str, ...] = f.ids(str)
