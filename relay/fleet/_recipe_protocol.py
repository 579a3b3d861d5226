"""What can be said to the actor of one run of a recipe, and who else says it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from relay import wire
from relay.actors import Ask, Ref, Tell

from ._audit import Caller

if TYPE_CHECKING:
    from ._fleet import Fleet

__all__ = [
    "CommandMoved",
    "Decide",
    "Look",
    "RecipeProtocol",
    "Start",
    "Stop",
    "TaskMoved",
    "instance_of",
    "source_of",
    "tells_of_task",
]

PREFIX = "recipe:"


class RecipeProtocol:
    """What the actor of one run understands."""


@attrs.frozen
class Start(Ask[RecipeProtocol, wire.RecipeStarted]):
    """Begin the run on the host `orchestrator_id`. Saying so again is answered with what there is."""

    recipe: wire.Recipe
    asked: wire.StartRecipe
    orchestrator_id: str
    by: Caller | None = None


@attrs.frozen
class Stop(Ask[RecipeProtocol, wire.RecipeStarted]):
    """Shut down whatever the run has started (REC-10)."""

    stopped_by: str
    by: Caller | None = None


@attrs.frozen
class Decide(Ask[RecipeProtocol, wire.RecipeInstance]):
    """A person says what has become of a step that is held."""

    step: str
    asked: wire.DecideStep
    by: Caller | None = None


@attrs.frozen
class CommandMoved(Ask[RecipeProtocol, None]):
    """A command is about to be seen as it is here (REC-12). What is not the run's own changes nothing."""

    command: wire.Command


@attrs.frozen
class TaskMoved(Tell[RecipeProtocol]):
    """A task of the run has changed."""

    task_id: int


@attrs.frozen
class Look(Tell[RecipeProtocol]):
    """Do what is due, and make up for what may have been missed."""


def source_of(instance_id: str) -> str:
    """As the source of a run's tasks. No integration can have such a name."""
    return f"{PREFIX}{instance_id}"


def instance_of(task: wire.Task) -> str | None:
    """The run that the task is of."""
    return task.source.removeprefix(PREFIX) if task.source.startswith(PREFIX) else None


def tells_of_task(fleet: Fleet, task: wire.Task) -> tuple[tuple[Ref[Any], Tell[Any]], ...]:
    """Who is to hear that the task has changed."""
    instance = instance_of(task)
    return () if instance is None else ((fleet.recipes[instance], TaskMoved(task.id)),)
