"""The maintenance run (messaging-control 19.2), jobs, and whether the audit is as it was written."""

from typing import Any

import attrs

from . import _fields as f
from ._json import nested
from .vocabulary import JobOutcome

__all__ = ["AuditDamage", "AuditVerdict", "Job", "JobRun", "Reaped", "Retention"]


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


@attrs.frozen(kw_only=True)
class Job:
    """A maintenance job. `last_good_at` is when it last did what it is for; `report` is what the last run did, by number."""

    name: str = f.text(80, required=True)
    about: str = f.text(240, required=True)
    every_ms: int = f.integer(1, required=True)
    running: bool = f.boolean(default=False)
    last_run_at: f.Instant | None = f.instant()
    last_duration_ms: int | None = f.integer(0)
    last_outcome: JobOutcome | None = f.choice(JobOutcome)
    last_error: str | None = f.text(1_000)
    last_good_at: f.Instant | None = f.instant()
    report: dict[str, Any] | None = f.document(default=None)
    next_run_at: f.Instant | None = f.instant()


@attrs.frozen(kw_only=True)
class JobRun:
    """`POST /api/maintenance/jobs/:name/run`: `ok` unless the run failed, and the job after it."""

    ok: bool = f.boolean(default=True)
    job: Job = f.item(Job, nested, required=True)


@attrs.frozen(kw_only=True)
class Retention:
    """How long what is over is kept: the entry `retention` of the namespace `maintenance`."""

    event_days: int = f.integer(1, 3_650, default=30)
    audit_days: int = f.integer(1, 36_500, default=400)
    automation_run_days: int = f.integer(1, 3_650, default=90)
    cleaned_workspace_hours: int = f.integer(1, 8_760, default=24)


@attrs.frozen(kw_only=True)
class AuditDamage:
    """What is wrong with the audit; `link` is the place in the chain, `record` the id of the activity."""

    kind: str = f.text(80, required=True)
    what: str = f.text(1_000, required=True)
    link: int | None = f.integer(0)
    record: int | None = f.integer(0)


@attrs.frozen(kw_only=True)
class AuditVerdict:
    """`GET /api/audit/verify`. `anchor` is the link before the first that is kept, `head` the last, each as `number:digest`."""

    ok: bool = f.boolean(required=True)
    records: int = f.integer(0, required=True)
    anchor: str = f.text(120, required=True)
    head: str = f.text(120, required=True)
    damages: list[AuditDamage] = f.items(AuditDamage, nested)
