"""The maintenance run (messaging-control 19.2)."""

import attrs

__all__ = ["Reaped"]


@attrs.frozen(kw_only=True)
class Reaped:
    """`POST /api/system/reap`: what the run has ended or set free, by id (SYS-11)."""

    ok: bool = True
    reaped_agent_ids: tuple[str, ...] = ()
    reaped_orchestrator_ids: tuple[str, ...] = ()
    released_message_ids: tuple[int, ...] = ()
    released_task_ids: tuple[int, ...] = ()
    released_orphaned_task_ids: tuple[int, ...] = ()
    expired_queued_message_ids: tuple[int, ...] = ()
    expired_command_ids: tuple[str, ...] = ()
