"""What becomes of a task: one function per event, from the task before to the task after (spec 22.3).

They decide and do nothing else: no actor, no store, no clock. `MOVES` says what may become of a task in which status;
its source may also name a status when it reports the task, within the same bounds, and another agent takes over a task
only once the claim on it is over. *Held* is claimed, in progress or blocked, with a holder.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from relay import wire

from ._claims import CLAIM_TERM
from ._errors import Conflict, Invalid, Over
from ._machine import AS_BEFORE, NONE, Moves
from ._moment import Moment
from ._recipe_protocol import instance_of

__all__ = [
    "GRACE",
    "HELD",
    "MOVES",
    "abandoned",
    "claimed",
    "created",
    "given_up",
    "holder",
    "is_done_once",
    "opened",
    "orphaned",
    "over",
    "prolonged",
    "reported",
    "reported_again",
]

S = wire.TaskStatus
ENDS = (S.DONE, S.FAILED, S.CANCELED)
HELD = frozenset({S.CLAIMED, S.IN_PROGRESS, S.BLOCKED})

CLAIM, GONE, FREED, AGAIN = "claimed", "holder gone", "maintenance", "reported again"


def _reports(*statuses: S) -> dict[str, S]:
    return {reports(status): status for status in statuses}


def reports(status: S) -> str:
    """The event that somebody reports this status of a task."""
    return f"report {status}"


_HELD: Mapping[str, Any] = {GONE: S.ORPHANED, FREED: S.OPEN}
_ENDED: Mapping[str, Any] = {AGAIN: S.OPEN}
MOVES: Moves = {
    NONE: {"ingested": S.OPEN},
    S.OPEN: {**_reports(*ENDS, S.OPEN, S.CLAIMED, S.IN_PROGRESS), CLAIM: S.CLAIMED, AGAIN: S.OPEN},
    S.CLAIMED: {
        **_reports(*ENDS, S.OPEN, S.CLAIMED, S.IN_PROGRESS),
        CLAIM: S.CLAIMED,
        AGAIN: S.CLAIMED,
        **_HELD,
    },
    S.IN_PROGRESS: {
        **_reports(*ENDS, S.OPEN, S.IN_PROGRESS, S.BLOCKED),
        CLAIM: S.IN_PROGRESS,
        AGAIN: S.IN_PROGRESS,
        **_HELD,
    },
    S.BLOCKED: {
        **_reports(*ENDS, S.OPEN, S.IN_PROGRESS, S.BLOCKED),
        CLAIM: S.BLOCKED,
        AGAIN: S.BLOCKED,
        **_HELD,
    },
    S.ORPHANED: {
        **_reports(*ENDS, S.OPEN, S.CLAIMED, S.IN_PROGRESS, S.BLOCKED),
        CLAIM: AS_BEFORE,
        FREED: S.OPEN,
        AGAIN: S.ORPHANED,
    },
    S.DONE: {reports(S.DONE): S.DONE, **_ENDED},
    S.FAILED: {reports(S.FAILED): S.FAILED, **_ENDED},
    S.CANCELED: {reports(S.CANCELED): S.CANCELED, **_ENDED},
}
"""Spec 22.3. `claimed` is by whoever holds it, or by anybody if nobody does, or the claim is over: that one begins anew."""

GRACE = 300.0
"""Seconds after which an orphaned task is opened again (O-28)."""


def created(number: int, source: str, event: wire.IntegrationEvent, moment: Moment) -> wire.Task:
    """A new task, as its source reports it."""
    status = event.status or MOVES[NONE]["ingested"]
    if reports(status) not in MOVES[S.OPEN] or status is S.CLAIMED:
        raise Invalid(
            f"status: a new task cannot be {status}; expected open, in_progress, done, failed or canceled"
        )
    return wire.Task(
        id=number,
        source=source,
        key=event.identity,
        target=event.target,
        channel=event.channel,
        status=status,
        severity=event.severity,
        title=event.title,
        body=event.body,
        metadata=event.metadata,
        created_at=moment.at,
        updated_at=moment.at,
    )


def reported_again(task: wire.Task, event: wire.IntegrationEvent, moment: Moment) -> wire.Task:
    """The source reports the task again: what it names now holds. After an end, that opens it again (O-35)."""
    status = event.status or MOVES[task.status][AGAIN]
    known = S.OPEN if task.status.final and status is not task.status else task.status
    if status is not known and (reports(status) not in MOVES[known] or status is S.CLAIMED):
        raise Invalid(
            f"status: a task that is {task.status} cannot become {status} by a report of its source"
        )
    return attrs.evolve(
        _as_reported(task, status),
        target=event.target,
        channel=event.channel or task.channel,
        severity=event.severity,
        title=event.title,
        body=event.body or task.body,
        metadata=task.metadata if event.metadata is None else event.metadata,
        updated_at=moment.at,
    )


def _as_reported(task: wire.Task, status: S) -> wire.Task:
    """A source cannot bring back the holder of an orphaned task: it is what the source says once it is taken back."""
    if status is task.status:
        return task
    if task.status is S.ORPHANED and status in HELD:
        return attrs.evolve(task, orphaned_from=status)
    return _with_status(task, status)


def claimed(task: wire.Task, agent_id: str, moment: Moment, now: float) -> wire.Task:
    """The agent holds the task for another term. Raises `Conflict` if it may not: `now` is what the ends of claims are
    compared with."""
    if CLAIM not in MOVES[task.status]:
        raise Over(f"task {task.id} is {task.status}")
    if task.status is S.ORPHANED and task.claimed_by != agent_id:
        raise Conflict(
            f"task {task.id} is orphaned; it is opened again if {task.claimed_by} does not come back"
        )
    other = holder(task, now)
    if other not in (None, agent_id):
        raise Conflict(f"task {task.id} is claimed by {other}")
    if is_done_once(task) and task.claimed_by not in (None, agent_id):
        raise Conflict(f"{task.claimed_by} may have done task {task.id}; whoever runs the recipe is asked")
    until = max(moment.at + CLAIM_TERM, (task.claim_expires_at or 0.0) if other == agent_id else 0.0)
    status = MOVES[task.status if task.claimed_by == agent_id else S.OPEN][CLAIM]
    if status is AS_BEFORE:
        status = task.orphaned_from or task.status
    return attrs.evolve(
        task,
        status=status,
        claimed_by=agent_id,
        claim_expires_at=wire.Instant(round(until, 3)),
        orphaned_at=None,
        orphaned_from=None,
        updated_at=moment.at,
    )


def reported(
    task: wire.Task, asked: wire.SetTaskStatus, moment: Moment, now: float, *, known: bool
) -> wire.Task | None:
    """What a report makes of the task; None if it says what is known of an end (TSK-7). Raises `Conflict`.

    Whoever begins to work on a task that nobody holds holds it from then on, if it is a participant that is `known`.
    """
    if asked.status is task.status and task.status.final:
        return None
    if reports(asked.status) not in MOVES[task.status]:
        raise Conflict(f"task {task.id} is {task.status} and cannot become {asked.status}")
    _may_report(task, asked.agent_id, now)
    if asked.agent_id is not None and asked.status in HELD and (known or asked.agent_id == task.claimed_by):
        if asked.status is S.CLAIMED or holder(task, now) != asked.agent_id:
            task = claimed(task, asked.agent_id, moment, now)
    elif asked.status is S.CLAIMED and task.claimed_by is None:
        raise Invalid("agentId: a task is claimed by an agent; name one that is registered")
    return attrs.evolve(_with_status(task, asked.status), updated_at=moment.at)


def _may_report(task: wire.Task, agent_id: str | None, now: float) -> None:
    """Only its holder may, if it has one (TSK-6); of an orphaned task the former one. Whoever runs relay always may."""
    vanished = task.claimed_by if task.status is S.ORPHANED else None
    holding = vanished or holder(task, now)
    if agent_id is not None and holding not in (None, agent_id):
        raise Conflict(f"task {task.id} is claimed by {holding}")


def orphaned(task: wire.Task, moment: Moment) -> wire.Task:
    """The holder is gone (TSK-13)."""
    return attrs.evolve(
        task,
        status=MOVES[task.status][GONE],
        orphaned_at=moment.at,
        orphaned_from=task.status,
        updated_at=moment.at,
    )


def opened(task: wire.Task, moment: Moment) -> wire.Task:
    """Nobody holds the task, and anybody may."""
    return attrs.evolve(_with_status(task, MOVES[task.status][FREED]), updated_at=moment.at)


def holder(task: wire.Task, now: float) -> str | None:
    """Who holds the task at this instant (epoch seconds)."""
    return task.claimed_by if task.status in HELD and (task.claim_expires_at or 0.0) > now else None


def over(task: wire.Task, now: float) -> bool:
    """Whether the task is held by a claim whose time is over."""
    return task.status in HELD and task.claim_expires_at is not None and task.claim_expires_at <= now


def abandoned(task: wire.Task) -> bool:
    """Whether it is a task to orphan once its holder is gone."""
    return task.status in HELD and task.claimed_by is not None


def given_up(task: wire.Task, now: float, *, back: bool) -> bool:
    """Whether an orphaned task is to be opened: the grace is over, or the claim. One whose former holder is `back` is its
    own while its claim lasts (M-I39)."""
    if task.status is not S.ORPHANED or task.orphaned_at is None or is_done_once(task):
        return False
    ended = task.claim_expires_at is None or task.claim_expires_at <= now
    return ended or (not back and task.orphaned_at + GRACE <= now)


def is_done_once(task: wire.Task) -> bool:
    """Whether it is a step of a recipe: nobody else does it again when its holder is gone, and it stays orphaned."""
    return instance_of(task) is not None


def prolonged(task: wire.Task, seconds: float) -> wire.Task:
    """The claim, and the grace after it, end so much later."""
    return attrs.evolve(
        task,
        claim_expires_at=_later(task.claim_expires_at, seconds),
        orphaned_at=_later(task.orphaned_at, seconds),
    )


def _later(instant: wire.Instant | None, seconds: float) -> wire.Instant | None:
    return None if instant is None else wire.Instant(round(instant + seconds, 3))


def _with_status(task: wire.Task, status: S) -> wire.Task:
    """The task in another status. Where nobody can hold it, nobody does."""
    if status in HELD:
        return attrs.evolve(task, status=status, orphaned_at=None, orphaned_from=None)
    return attrs.evolve(
        task, status=status, claimed_by=None, claim_expires_at=None, orphaned_at=None, orphaned_from=None
    )
