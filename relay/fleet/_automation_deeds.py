"""What a run does: a spawn, a message, or a task; and what has become of it.

A spawn is a command, and its row is written with that of the run. Messages and tasks belong to the post office, which is
asked under the run's id: however often it is asked, there is one. If it does not answer that is `NotKnown`, and it is asked again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import trio

from relay import wire
from relay.actors import ActorError, Refusal, Unavailable
from relay.store import Event, Store, Write

from . import integrations
from ._automation_rules import outcome_of_command, outcome_of_task
from ._command_rows import find_command
from ._dispatch import spawn_order
from ._errors import Invalid
from ._moment import Moment
from ._new_command import new_command
from ._outfits import outfitted
from ._post_protocol import Send
from ._task_protocol import Ingest
from ._task_rows import find_task
from ._trigger_rules import RUN_ID

if TYPE_CHECKING:
    from ._fleet import Fleet

__all__ = ["SPAWN_WITHIN", "NotKnown", "Outcome", "Posted", "order", "posted", "sender", "what_came_of"]

SPAWN_WITHIN = 3_600.0
"""Seconds that a host has to start an agent for a run; then the run has failed, and a later one may begin."""
POST_WITHIN = 20.0  # seconds that the post office has for a message or task
TROUBLE = (ActorError, Unavailable, trio.TooSlowError)

Outcome = tuple[str, str | None]
"""Which event of `MOVES` it is for the run, and why."""

HOSTS = "select record from orchestrators where id = ?1 or (?1 is null and status = 'online') order by id"


class NotKnown(Exception):
    """Whether the post office has done it: it gave no answer. Its cause is why."""


@attrs.frozen
class Posted:
    message: wire.Message | None = None
    task: wire.Task | None = None


def sender(automation_id: str) -> str:
    """What its messages are from, and the source of its tasks."""
    return f"automation:{automation_id}"


def order(
    store: Store, action: wire.SpawnAction, run: wire.AutomationRun, moment: Moment
) -> tuple[wire.Command, tuple[Write, ...], tuple[Event, ...]]:
    """The command for an agent, on the host that is named or on the first that fits (AUT-9). Raises a `Refusal` when there
    is none."""
    given = attrs.asdict(action, recurse=False)
    del given["type"], given["orchestrator_id"]
    wished = wire.SpawnAgent(**given, automation_id=run.automation_id, automation_run_id=run.id)
    request = outfitted(store, wished)
    refused: Refusal | None = None
    hosts = [
        wire.decode(wire.Orchestrator, record) for (record,) in store.rows(HOSTS, action.orchestrator_id)
    ]
    for host in hosts:
        try:
            asked = spawn_order(
                host,
                request,
                moment,
                ttl_ms=round(SPAWN_WITHIN * 1000),
                requestedBy="automation",
                **_ids(run),
            )
        except Refusal as refusal:
            refused = refused or refusal
        else:
            return new_command(moment, asked)
    if action.orchestrator_id is not None and not hosts:
        raise Invalid(f"there is no host {action.orchestrator_id}")
    raise refused or Invalid("no host is online")


async def posted(
    fleet: Fleet, action: wire.AutomationAction, run: wire.AutomationRun
) -> tuple[Posted, Outcome | None]:
    """Have the post office do it, or find that it has. There is no outcome yet if it is a task. Raises `NotKnown`."""
    try:
        with trio.fail_after(POST_WITHIN):
            found = await _deliver(fleet, action, run)
    except TROUBLE as trouble:
        raise NotKnown from trouble
    except Refusal as no:
        return Posted(), ("fail", str(no))
    return found, None if found.task is not None else ("succeed", None)


async def _deliver(fleet: Fleet, action: wire.AutomationAction, run: wire.AutomationRun) -> Posted:
    match action:
        case wire.MessageAction():
            sent = await fleet.post_office.ask(Send(_message(action, run)))
            return Posted(message=sent.message)
        case wire.TaskAction():
            source = sender(run.automation_id)
            event = await integrations.resolved(fleet, _task(action, run))
            ingested = await fleet.post_office.ask(Ingest(source, event, once=True))
            return Posted(message=ingested.message, task=ingested.task)
        case wire.SpawnAction():
            raise AssertionError("a spawn is written with its run")


def what_came_of(store: Store, run: wire.AutomationRun) -> tuple[Posted, Outcome | None]:
    """Of what the run has begun: its task, and the end of the run if it has ended."""
    if run.command_id is not None:
        return Posted(), outcome_of_command(find_command(store, run.command_id))
    task = find_task(store, run.task_id or 0)
    return Posted(task=task), outcome_of_task(task)


def _message(action: wire.MessageAction, run: wire.AutomationRun) -> wire.SendMessage:
    return wire.SendMessage(
        from_=sender(run.automation_id),
        to=action.to,
        subject=action.subject,
        body=action.body,
        payload=action.payload,
        meta=_ids(run),
        claimable=action.claimable,
        max_age_seconds=action.max_age_seconds,
        idempotency_key=run.id,
    )


def _task(action: wire.TaskAction, run: wire.AutomationRun) -> wire.IntegrationEvent:
    return wire.IntegrationEvent(
        title=action.title,
        body=action.body,
        target=action.target,
        severity=action.severity,
        channel=action.channel,
        metadata={**(action.metadata or {}), **_ids(run)},
        key=run.id,
    )


def _ids(run: wire.AutomationRun) -> dict[str, Any]:
    """By what the run is known again in whatever it makes, and the event that it was begun by."""
    event = {"automationEvent": wire.to_json(run.event)} if run.event is not None else {}
    return {"automationId": run.automation_id, RUN_ID: run.id, **event}
