"""What can be said to the post office about tasks, and about claims that are over."""

from __future__ import annotations

import attrs

from relay import wire
from relay.actors import Ask, Tell

from ._post_protocol import Post, TaskMessage

__all__ = [
    "CancelTasks",
    "ClaimTask",
    "Compare",
    "Ingest",
    "Left",
    "ReleaseExpired",
    "ReleaseOrphaned",
    "Released",
    "SetTaskStatus",
]


@attrs.frozen
class Ingest(TaskMessage, Ask[Post, wire.Ingested]):
    """What integration `source` reports: a new task, or news of the one that it has reported with this key (O-35). `once`:
    it has no news; of a task that is there nothing changes."""

    source: str
    event: wire.IntegrationEvent
    once: bool = False


@attrs.frozen
class ClaimTask(TaskMessage, Ask[Post, wire.TaskClaim]):
    """Take a task, and the message that hands it over, for one agent; whoever holds them extends the claim."""

    task_id: int
    agent_id: str


@attrs.frozen
class SetTaskStatus(TaskMessage, Ask[Post, wire.Task]):
    """What an agent says of a task, or whoever runs relay (TSK-4)."""

    task_id: int
    asked: wire.SetTaskStatus


@attrs.frozen
class CancelTasks(TaskMessage, Ask[Post, int]):
    """Cancel all tasks of this source that have not ended; the answer is how many. `why` is for their history."""

    source: str
    why: str


@attrs.frozen
class Left(TaskMessage, Tell[Post]):
    """The agent went offline, or was deleted."""

    agent_id: str


@attrs.frozen
class Compare(TaskMessage, Tell[Post]):
    """Find the tasks whose holders are gone, whoever failed to tell."""


@attrs.frozen
class Released:
    """The claims that have ended, by the ids of their messages and tasks."""

    message_ids: tuple[int, ...] = ()
    task_ids: tuple[int, ...] = ()


@attrs.frozen
class ReleaseExpired(TaskMessage, Ask[Post, Released]):
    """End the claims whose time is over (step 1 of 19.2), a bounded number; ask again until none is left.

    `missed`: seconds that the server was not there. They are added to every claim first, for nobody could renew any.
    """

    missed: float = 0.0


@attrs.frozen
class ReleaseOrphaned(TaskMessage, Ask[Post, tuple[int, ...]]):
    """Open the tasks whose holders have been gone for too long (step 2 of 19.2), a bounded number; ask again until none
    is left. When none is, tasks whose holders turn out to be gone are orphaned: a later run may open those (M-I40)."""
