"""Tasks: work that an integration asks for (messaging-control 5)."""

from typing import Any

import attrs

from . import _fields as f
from ._json import nested
from .messages import Message
from .vocabulary import TaskChange, TaskSeverity, TaskStatus

__all__ = ["ClaimTask", "Ingested", "SetTaskStatus", "Task", "TaskClaim", "TaskEvent"]


@attrs.frozen(kw_only=True)
class Task:
    """The record of a task (5.1).

    `claimed_by` names the holder; of an orphaned task the one that vanished. `orphaned_from` is the status it had then,
    and `key` what its source knows it by.
    """

    id: int = f.integer(1, required=True)
    source: str = f.text(240, required=True)
    key: str | None = f.text(240)
    target: str = f.text(240, required=True)
    channel: str | None = f.text(120)
    status: TaskStatus = f.choice(TaskStatus, default=TaskStatus.OPEN)
    severity: TaskSeverity = f.choice(TaskSeverity, default=TaskSeverity.INFO)
    title: str = f.text(240, required=True)
    body: str | None = f.text(100_000)
    metadata: dict[str, Any] | None = f.document(default=None)
    message_id: int | None = f.integer(1)
    claimed_by: str | None = f.text(240)
    claim_expires_at: f.Instant | None = f.instant()
    orphaned_at: f.Instant | None = f.instant()
    orphaned_from: TaskStatus | None = f.choice(TaskStatus)
    created_at: f.Instant | None = f.instant()
    updated_at: f.Instant | None = f.instant()


@attrs.frozen(kw_only=True)
class TaskEvent:
    """One entry of a task's history: what changed it, and the status it had from then on."""

    id: int = f.integer(1, required=True)
    task_id: int = f.integer(1, required=True)
    at: f.Instant | None = f.instant()
    type: TaskChange = f.choice(TaskChange, required=True)
    status: TaskStatus = f.choice(TaskStatus, required=True)
    agent_id: str | None = f.text(240)
    body: str | None = f.text(100_000)
    metadata: dict[str, Any] | None = f.document(default=None)


@attrs.frozen(kw_only=True)
class Ingested:
    """What became of it: the task, whether it is `created`, and the message that hands it over if there is a new one."""

    task: Task = f.item(Task, nested, required=True)
    message: Message | None = f.item(Message, nested)
    created: bool = f.boolean(required=True)


@attrs.frozen(kw_only=True)
class ClaimTask:
    """`POST /api/tasks/:id/claim`."""

    agent_id: str = f.text(240, required=True)


@attrs.frozen(kw_only=True)
class TaskClaim:
    """The answer to a claim."""

    ok: bool = f.boolean(required=True)
    claim_expires_at: f.Instant | None = f.instant()
    task: Task = f.item(Task, nested, required=True)


@attrs.frozen(kw_only=True)
class SetTaskStatus:
    """`POST /api/tasks/:id/status` (TSK-4). Without `agent_id` it is the word of whoever runs relay."""

    status: TaskStatus = f.choice(TaskStatus, required=True)
    agent_id: str | None = f.text(240)
    body: str | None = f.text(100_000)
    metadata: dict[str, Any] | None = f.mapping(default=None)
