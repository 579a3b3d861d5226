"""The end of a run: what is taken back, and who is shut down."""

from __future__ import annotations

from typing import Any

import attrs

from relay import wire
from relay.store import Decision, Event, Write

from ._audit import audit
from ._errors import Invalid
from ._letters import joined
from ._moment import Moment
from ._new_command import new_command
from ._recipe_protocol import Stop
from ._recipe_rows import kept
from ._recipe_rules import MOVES, halted, living

__all__ = ["late", "stopped"]

Run = wire.RecipeInstance
Order = tuple[wire.Command, tuple[Write, ...], tuple[Event, ...]]


def stopped(run: Run, message: Stop, moment: Moment) -> tuple[Run, Decision[wire.RecipeStarted]]:
    """The run, and an order for each agent that it may have. Raises `Invalid` when it is over, or about to be (REC-11)."""
    status = MOVES[run.status].get("stop")
    if status is None:
        raise Invalid(f"the run is {run.status} already")
    orders = [_order(run, step, message.stopped_by, moment) for step in living(run)]
    after = attrs.evolve(
        halted(run, moment),
        status=status,
        stopped_by=message.stopped_by,
        stops=[
            *run.stops,
            *(_noted(step, order) for step, order in zip(living(run), orders, strict=True)),
        ],
        updated_at=moment.at,
    )
    commands = [command for command, _, _ in orders]
    note, told = audit(
        moment,
        f"server-recipe-stop-{run.id}-{moment.ms}",
        f"the recipe {run.recipe_name} was stopped by {message.stopped_by}",
        body=run.recipe_name,
        meta=run.id,
        icon="ti-player-stop",
        view="activity",
        metadata={"recipeInstanceId": run.id, "commands": [command.id for command in commands]},
        by=message.by,
    )
    reply = wire.RecipeStarted(instance=after, commands=commands)
    audited: Decision[None] = Decision(reply=None, writes=(note,), events=(told,))
    return after, joined(reply, *map(_made, orders), kept(run, after, None), audited)


def late(run: Run, step: wire.RunningStep, moment: Moment) -> tuple[Run, Decision[None]]:
    """An agent has come to a run that is being stopped: it is shut down, too."""
    order = _order(run, step, run.stopped_by or "relay", moment)
    return attrs.evolve(run, stops=[*run.stops, _noted(step, order)]), _made(order)


def _order(run: Run, step: wire.RunningStep, by: str, moment: Moment) -> Order:
    params: dict[str, Any] = {
        "action": "shutdown",
        "spawnRequestId": step.spawn_request_id,
        "reason": f"recipe stopped by {by}",
        "orchestratorId": run.orchestrator_id,
        "recipeInstanceId": run.id,
        "recipeRole": step.role,
        "requestedBy": "recipe",
        "requestedAt": moment.ms,
    }
    if step.agent_id is not None:
        params["agentId"] = step.agent_id
    asked = wire.NewCommand(
        type="agent.shutdown",
        source="system",
        target=f"orchestrator-{run.orchestrator_id}",
        params=params,
        correlation_id=step.spawn_request_id,
    )
    return new_command(moment, asked)


def _noted(step: wire.RunningStep, order: Order) -> wire.RecipeStop:
    return wire.RecipeStop(role=step.role, command_id=order[0].id)


def _made(order: Order) -> Decision[None]:
    _, writes, events = order
    return Decision(reply=None, writes=writes, events=events)
