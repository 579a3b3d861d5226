"""Tasks: work that integrations ask for, and who does it.

A part of the post office, which owns claims and messages: whatever concerns both is one decision.

1. A task comes with the message that hands it over (TSK-2). Whoever claims one claims the other, for the same time, and
   what ends one claim ends the other (M-I6). So it is with every message whose `payload.taskId` is that of a task.
2. What may become of a task when is in `_task_rules`. Every change is in its history, and announced; renewals are not.
3. What integrations are to hear is written with the change itself, and sent by others (M-I38).
4. A task whose holder goes offline or is deleted is orphaned. Its former holder may take it back, until it is opened again.
   What was missed on the way is found when the post office starts, and by maintenance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from relay import wire
from relay.actors import Context
from relay.store import Decision

from . import _task_rules as rules
from ._addresses import addresses_of
from ._bystanders import gone
from ._errors import Forbidden, NotFound
from ._post_protocol import Post
from ._staged import Durability
from ._task_book import TaskBook
from ._task_draft import Draft
from ._task_protocol import (
    CancelTasks,
    ClaimTask,
    Compare,
    Ingest,
    Left,
    Released,
    ReleaseExpired,
    ReleaseOrphaned,
    SetTaskStatus,
)
from ._task_rows import find_task, get_task, is_for_one, list_tasks, task_events
from .agents import find_agent, find_participant, reserved

if TYPE_CHECKING:
    from .messages import PostOffice

__all__ = [
    "ClaimTask",
    "Compare",
    "Ingest",
    "Left",
    "ReleaseExpired",
    "ReleaseOrphaned",
    "Released",
    "SetTaskStatus",
    "Tasks",
    "find_task",
    "get_task",
    "is_for_one",
    "list_tasks",
    "task_events",
]

R = TypeVar("R")

AT_ONCE = 200  # claims or tasks in one decision
LOOK_AGAIN = {"abandoned tasks": (0.0, Compare())}

NOT_A_STEP = "source not glob 'recipe:*'"
IS_OPEN = "status not in ('done', 'failed', 'canceled')"
IS_HELD = "+status in ('claimed', 'in_progress', 'blocked')"
IS_OVER = "claim_expires_at <= ?"
NOT_THERE = (
    "claimed_by not in ('user', 'system')"
    " and not exists (select 1 from agents where agents.id = claimed_by and agents.status <> 'offline')"
)
HOLDER_NOT_THERE = f"claimed_by is not null and {NOT_THERE}"
GIVEN_UP = f"status = 'orphaned' and {NOT_A_STEP} and (claim_expires_at <= ?2 or (orphaned_at <= ?1 and {NOT_THERE}))"
CHANGE = wire.TaskChange


class Tasks:
    """The post office's part for tasks. Its methods decide; the post office settles."""

    def __init__(self, office: PostOffice, durability: Durability) -> None:
        self._office = office
        self._store = office.store
        self.book = TaskBook(office.store, durability)

    def handle(self, message: Any, context: Context[Post]) -> None:
        self._office.settle(message, self._decide(message), context)

    def _decide(self, message: Any) -> Decision[Any]:
        match message:
            case Ingest(source, event, once):
                return self._ingest(source, event, once=once)
            case ClaimTask(number, agent_id):
                return self._claim(self._existing(number), agent_id)
            case SetTaskStatus(number, asked):
                return self._report(self._existing(number), asked)
            case CancelTasks(source, why):
                return self._cancel_all(source, why)
            case Left(agent_id):
                return self._orphan("claimed_by = ?", agent_id, reply=None)
            case Compare():
                return self._orphan(HOLDER_NOT_THERE, reply=None)
            case ReleaseExpired(missed):
                return self._release_expired(missed)
            case ReleaseOrphaned():
                return self._release_orphaned()
        raise NotImplementedError(message)

    def _existing(self, number: int) -> wire.Task:
        found = self.book.find(number)
        if found is None:
            raise NotFound("no such task")
        return found

    def _draft(self) -> Draft:
        return Draft(self._office, self._office.moment())

    # -- reported by integrations

    def _ingest(self, source: str, event: wire.IntegrationEvent, *, once: bool) -> Decision[wire.Ingested]:
        before = self.book.of_source(source, event.identity)
        if before is not None and once:
            return Decision(reply=wire.Ingested(task=before, created=False))
        draft = self._draft()
        if before is None:
            number = draft.moment.next_id("tasks")
            task = rules.created(number, source, event, draft.moment)
        else:
            task = rules.reported_again(before, event, draft.moment)
        message = self._hand_over(task, draft) if _to_hand_over(before, task) else None
        if message is not None:
            task = attrs.evolve(task, message_id=message.id)
        if before is None:
            draft.create(task)
        else:
            draft.change(task, CHANGE.UPDATED, called=True, metadata=event.metadata)
        return draft.decision(wire.Ingested(task=task, message=message, created=before is None))

    def _hand_over(self, task: wire.Task, draft: Draft) -> wire.Message:
        """The message that whoever is to do the task gets, be it offline (TSK-2)."""
        asked = wire.SendMessage(
            from_=task.source,
            to=task.target,
            kind=wire.MessageKind.TASK,
            subject=task.title,
            body=task.body or task.title,
            payload={"taskId": task.id, "severity": task.severity.value},
            channel=task.channel,
            claimable=True,
        )
        decision = self._office.compose(asked, draft.moment, even_offline=True)
        draft.letter(decision)
        return decision.reply.message

    # -- held by agents

    def _claim(self, task: wire.Task, agent_id: str) -> Decision[wire.TaskClaim]:
        if task.claimed_by != agent_id:
            self._must_reach(task, agent_id)
        draft = self._draft()
        after = self._taken(task, agent_id, draft)
        return draft.decision(wire.TaskClaim(ok=True, claim_expires_at=after.claim_expires_at, task=after))

    def claim_with(self, message: wire.Message, agent_id: str) -> Decision[wire.Claim] | None:
        """What it causes that the agent, who may, claims this message or renews its claim; None if that concerns no task.
        Raises `Conflict` if the task cannot be had."""
        task = self._handed_over_by(message)
        if task is None:
            return None
        draft = self._draft()
        after = self._taken(task, agent_id, draft, message.id)
        return draft.decision(wire.Claim(ok=True, claim_expires_at=after.claim_expires_at))

    def _taken(self, task: wire.Task, agent_id: str, draft: Draft, *messages: int) -> wire.Task:
        """The task as the agent holds it from now on; to hold it for longer is nobody else's business."""
        now = self._office.wall_of_claims()
        held_already = rules.holder(task, now) == agent_id
        after = rules.claimed(task, agent_id, draft.moment, now)
        if held_already:
            after = attrs.evolve(after, updated_at=task.updated_at)
            draft.extend(after, messages)
        else:
            draft.change(after, CHANGE.CLAIMED, claimed=messages, agent_id=agent_id)
        return after

    def _must_reach(self, task: wire.Task, agent_id: str) -> None:
        """Raises `Forbidden` unless the task is for this agent."""
        agent = find_participant(self._store, agent_id)
        resolved = None
        if task.message_id is not None and agent is not None:
            message = self._office.find(task.message_id)
            resolved = message.resolved_to_agent if message is not None else None
        if agent is None or (resolved != agent_id and task.target not in addresses_of(agent)):
            raise Forbidden("the task is not for this agent")

    def _handed_over_by(self, message: wire.Message) -> wire.Task | None:
        """The task that the message names, if there was one when it was sent. Instants do not say so of what the source
        itself sent: the wall clock may have been set back in between."""
        number = (message.payload or {}).get("taskId")
        task = self.book.find(number) if isinstance(number, int) and not isinstance(number, bool) else None
        if task is None or (message.kind is wire.MessageKind.TASK and message.from_ == task.source):
            return task
        return None if (task.created_at or 0.0) > (message.created_at or 0.0) else task

    def _report(self, task: wire.Task, asked: wire.SetTaskStatus) -> Decision[wire.Task]:
        known = asked.agent_id is not None and find_participant(self._store, asked.agent_id) is not None
        draft = self._draft()
        after = rules.reported(task, asked, draft.moment, self._office.wall_of_claims(), known=known)
        if after is None:
            return Decision(reply=task)
        draft.change(
            after,
            CHANGE.STATUS,
            called=True,
            agent_id=asked.agent_id,
            body=asked.body,
            metadata=asked.metadata,
        )
        return draft.decision(after)

    def _cancel_all(self, source: str, why: str) -> Decision[int]:
        draft, canceled = self._draft(), wire.TaskStatus.CANCELED
        found = self.book.those(
            lambda task: task.source == source and not task.status.final,
            f"source = ? and {IS_OPEN}",
            source,
            most=AT_ONCE,
        )
        for task in found:
            after = rules.reported(task, wire.SetTaskStatus(status=canceled), draft.moment, 0.0, known=False)
            if after is not None:
                draft.change(after, CHANGE.STATUS, called=True, body=why)
        return draft.decision(len(found))

    # -- left behind

    def _orphan(self, condition: str, *values: Any, reply: R) -> Decision[R]:
        """Tasks whose holders are gone have nobody who does them. What is too much at once is seen to next."""
        draft = self._draft()

        def fits(task: wire.Task) -> bool:
            return rules.abandoned(task) and self._is_gone(task.claimed_by)

        left = self.book.those(fits, f"{IS_HELD} and {condition}", *values, most=AT_ONCE)
        for task in left:
            draft.change(rules.orphaned(task, draft.moment), CHANGE.ORPHANED, agent_id=task.claimed_by)
        decision = draft.decision(reply)
        return attrs.evolve(decision, timers=LOOK_AGAIN) if len(left) == AT_ONCE else decision

    def _is_gone(self, agent_id: str | None) -> bool:
        return agent_id is not None and gone(find_agent(self._store, agent_id) or reserved(agent_id))

    def _release_expired(self, missed: float) -> Decision[Released]:
        draft, now = self._draft(), self._office.fleet.system.wall()
        if missed > 0:
            draft.write([self._office.claims.prolong(missed), self.book.prolong(missed)])
        draft.release(self._office.claims.over(now, AT_ONCE))
        ms = round((now - missed) * 1000)
        due = self.book.those(
            lambda task: rules.over(task, now), f"{IS_HELD} and {IS_OVER}", ms, most=AT_ONCE
        )
        self._open(due, draft)
        return draft.decision(Released(tuple(draft.freed), tuple(task.id for task in due)))

    def _release_orphaned(self) -> Decision[tuple[int, ...]]:
        draft, now = self._draft(), self._office.fleet.system.wall()

        def fits(task: wire.Task) -> bool:
            return rules.given_up(task, now, back=not self._is_gone(task.claimed_by))

        ms = round(now * 1000)
        due = self.book.those(fits, GIVEN_UP, ms - round(rules.GRACE * 1000), ms, most=AT_ONCE)
        if not due:
            return self._orphan(HOLDER_NOT_THERE, reply=())
        self._open(due, draft)
        return draft.decision(tuple(task.id for task in due))

    def _open(self, due: list[wire.Task], draft: Draft) -> None:
        for task in due:
            if rules.is_done_once(task):
                after, change = rules.orphaned(task, draft.moment), CHANGE.ORPHANED
            else:
                after, change = rules.opened(task, draft.moment), CHANGE.RELEASED
            draft.change(after, change, agent_id=task.claimed_by)


def _to_hand_over(before: wire.Task | None, task: wire.Task) -> bool:
    """Whether somebody is to get it who has not got it."""
    if task.status.final:
        return False
    return before is None or before.message_id is None or before.status.final or before.target != task.target
