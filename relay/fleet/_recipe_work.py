"""What a run asks of the post office: that a step is given out as a message or as a task, and that a task is ended or taken back.

The key of a message or task is the step's own, so that there is one however often it is given out; a person who has a step done
again gives it a new one. The post office may not answer in time, and have done it all the same: that is `Later`, and then it is
asked the same again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import attrs
import trio

from relay import wire
from relay.actors import ActorError, Ask, Refusal, Unavailable
from relay.store import Store

from ._errors import Conflict, NotFound
from ._post_protocol import Post, Send
from ._recipe_protocol import source_of
from ._recipe_rules import cut
from ._recipe_start import address_of
from ._task_protocol import CancelTasks, Ingest, SetTaskStatus
from ._task_rows import find_task, task_events

if TYPE_CHECKING:
    from ._fleet import Fleet

__all__ = ["Later", "end_task", "given_out", "last_word", "was_done_after_all", "withdraw_tasks"]

T = TypeVar("T")
Run = wire.RecipeInstance
S = wire.StepStatus

POST_WITHIN = 20.0  # seconds that the post office has
TROUBLE = (ActorError, Unavailable, trio.TooSlowError)


class Later(Exception):
    """The post office has not answered: what it was asked is asked again."""

    def __init__(self, trouble: Exception) -> None:
        super().__init__(str(trouble))
        self.trouble = trouble


async def given_out(fleet: Fleet, run: Run, step: wire.RunningStep) -> wire.RunningStep:
    """The step once its agent has it, or failed if that is refused. Raises `Later`."""
    if step.earlier_task_id is not None and await was_done_after_all(fleet, step.earlier_task_id):
        return attrs.evolve(step, task_id=step.earlier_task_id, status=S.SUCCEEDED)
    try:
        if step.kind is wire.StepKind.MESSAGE:
            sent = await _asked(fleet, Send(letter_of(run, step)))
            return attrs.evolve(step, status=S.SUCCEEDED, message_id=sent.message.id)
        made = await _asked(fleet, Ingest(source_of(run.id), event_of(run, step), once=True))
    except Refusal as no:
        return attrs.evolve(step, status=S.FAILED, error=cut(str(no), 4_000))
    return attrs.evolve(step, status=S.ASKED, task_id=made.task.id)


async def was_done_after_all(fleet: Fleet, number: int) -> bool:
    """Whether the task of the attempt before has been done. If not, nobody will do it any more. Raises `Later`."""
    try:
        await _set_task(fleet, number, wire.TaskStatus.CANCELED, "a person has it done again")
    except (Conflict, NotFound):
        task = find_task(fleet.store, number)
        return task is not None and task.status is wire.TaskStatus.DONE
    return False


async def end_task(fleet: Fleet, number: int, asked: wire.DecideStep) -> None:
    """The task is as a person says that its step is. Raises `Later`."""
    succeeded = asked.decision is wire.StepDecision.SUCCEEDED
    status = wire.TaskStatus.DONE if succeeded else wire.TaskStatus.FAILED
    await _set_task(fleet, number, status, f"{asked.decided_by} decided so")


async def withdraw_tasks(fleet: Fleet, run: Run) -> None:
    """Nobody is to go on with the tasks of the run. Raises `Later`."""
    why = f"the recipe was stopped by {run.stopped_by}"
    while await _asked(fleet, CancelTasks(source_of(run.id), why)):
        pass


def last_word(store: Store, task: wire.Task) -> str | None:
    """What was said of it last, if it ended otherwise than by being done."""
    if task.status not in (wire.TaskStatus.FAILED, wire.TaskStatus.CANCELED):
        return None
    history = task_events(store, task.id)
    return history[-1].body if history else None


async def _set_task(fleet: Fleet, number: int, status: wire.TaskStatus, why: str) -> None:
    await _asked(fleet, SetTaskStatus(number, wire.SetTaskStatus(status=status, body=why)))


async def _asked(fleet: Fleet, message: Ask[Post, T]) -> T:
    try:
        with trio.fail_after(POST_WITHIN):
            return await fleet.post_office.ask(message)
    except TROUBLE as trouble:
        raise Later(trouble) from trouble


def letter_of(run: Run, step: wire.RunningStep) -> wire.SendMessage:
    """In the name of the user, who gets the answers."""
    return wire.SendMessage(
        from_="user",
        to=address_of(run.id, step.role),
        subject=step.subject,
        body=step.body or step.id,
        payload={"recipeInstanceId": run.id, "recipeStep": step.id},
        idempotency_key=_key(run, step),
    )


def event_of(run: Run, step: wire.RunningStep) -> wire.IntegrationEvent:
    return wire.IntegrationEvent(
        title=step.subject or f"{run.recipe_name}: {step.id}",
        body=step.body,
        target=address_of(run.id, step.role),
        key=_key(run, step),
        metadata={"recipeInstanceId": run.id, "recipeName": run.recipe_name, "recipeStep": step.id},
    )


def _key(run: Run, step: wire.RunningStep) -> str:
    return f"{run.id}:{step.id}:{step.attempt}"
