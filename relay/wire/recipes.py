"""Recipes: which agents work together on what, and the runs of them (messaging-control 12)."""

import re
from typing import Any

import attrs

from . import _fields as f
from ._json import nested
from .commands import Command
from .vocabulary import (
    ApprovalMode,
    Effort,
    Provider,
    RecipeStatus,
    StepDecision,
    StepKind,
    StepStatus,
    WorkspaceMode,
)

__all__ = [
    "DecideStep",
    "LoadedRecipe",
    "Recipe",
    "RecipeInput",
    "RecipeInstance",
    "RecipeRole",
    "RecipeStarted",
    "RecipeStep",
    "RecipeStop",
    "RunningStep",
    "StartRecipe",
    "StopRecipe",
]

NAME = f.Form(
    "a name that begins with a letter or digit, of letters, digits, dots, dashes and underscores",
    re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z"),
)
WORD = f.Form(
    "a word that begins with a small letter, of small letters, digits, dashes and underscores",
    re.compile(r"[a-z][a-z0-9_-]*\Z"),
)


@attrs.frozen(kw_only=True)
class RecipeInput:
    """What whoever starts the recipe may say. Without a `default` it must be said."""

    about: str = f.text(500, required=True)
    default: str | None = f.text(2_000)


@attrs.frozen(kw_only=True)
class RecipeRole:
    """One agent. `cwd` is below that of the run, unless it is absolute. `profile` is a name; what it says counts where this says
    nothing."""

    role: str = f.text(40, form=WORD, required=True)
    provider: Provider = f.choice(Provider, required=True)
    label: str | None = f.text(120)
    tags: list[str] = f.texts(most=50)
    capabilities: list[str] = f.texts(most=50)
    profile: str | None = f.text(120)
    approval_mode: ApprovalMode | None = f.choice(ApprovalMode)
    prompt: str | None = f.text(4_000)
    cwd: str | None = f.text(500)
    model: str | None = f.text(120)
    effort: Effort | None = f.choice(Effort)
    workspace_mode: WorkspaceMode | None = f.choice(WorkspaceMode)
    provider_args: list[str] = f.texts()
    provider_config: dict[str, Any] | None = f.mapping(default=None)

    @property
    def approval(self) -> ApprovalMode | None:
        """None: as its profile says."""
        return self.approval_mode or (None if self.profile else ApprovalMode.GUARDED)


@attrs.frozen(kw_only=True)
class RecipeStep:
    """What a role is asked to do, once all agents run and the steps in `after` are done."""

    id: str = f.text(40, form=WORD, required=True)
    to: str = f.text(40, required=True)
    kind: StepKind = f.choice(StepKind, default=StepKind.TASK)
    subject: str | None = f.text(240)
    body: str = f.text(20_000, required=True)
    after: list[str] = f.texts()


@attrs.frozen(kw_only=True)
class Recipe:
    """The content of a recipe file (O-38)."""

    name: str = f.text(120, form=NAME, required=True)
    description: str = f.text(2_000, required=True)
    input: RecipeInput | None = f.item(RecipeInput, nested)
    roles: list[RecipeRole] = f.items(RecipeRole, nested, most=20, required=True)
    steps: list[RecipeStep] = f.items(RecipeStep, nested, most=100)


@attrs.frozen(kw_only=True)
class LoadedRecipe:
    """A recipe and the file it was read from; `source` is `bundled`, or `user` for one of whoever runs the server (REC-1)."""

    name: str = f.text(120, required=True)
    source: str = f.text(40, required=True)
    path: str = f.text(4_096, required=True)
    recipe: Recipe = f.item(Recipe, nested, required=True)


@attrs.frozen(kw_only=True)
class StartRecipe:
    """`POST /api/recipes/start`. `recipe` is another name for `name`, which goes first (REC-4)."""

    name: str | None = f.text(120)
    recipe: str | None = f.text(120)
    input: str | None = f.text(2_000)
    cwd: str | None = f.text(500)
    orchestrator_id: str | None = f.text(120)
    started_by: str = f.text(120, default="api")

    @property
    def called(self) -> str | None:
        """The name of the recipe."""
        return self.name or self.recipe


@attrs.frozen(kw_only=True)
class StopRecipe:
    """`POST /api/recipes/instances/:id/stop`."""

    stopped_by: str = f.text(120, default="api")


@attrs.frozen(kw_only=True)
class DecideStep:
    """`POST /api/recipes/instances/:id/steps/:step`: what becomes of a step that is held."""

    decision: StepDecision = f.choice(StepDecision, required=True)
    decided_by: str = f.text(120, default="api")


@attrs.frozen(kw_only=True)
class RunningStep:
    """One step of a run. The start of a role's agent is one, too: `spawn:<role>`.

    `attempt` grows when a person has it done again; `earlier_task_id` is then the task of the attempt before. `agent_id` is
    the agent that came of a start, or has the task. `outcome_unknown`: it ended while somebody was at it.
    """

    id: str = f.text(60, required=True)
    kind: StepKind = f.choice(StepKind, required=True)
    role: str = f.text(40, required=True)
    status: StepStatus = f.choice(StepStatus, default=StepStatus.WAITING)
    after: list[str] = f.texts()
    subject: str | None = f.text(240)
    body: str | None = f.text(100_000)
    attempt: int = f.integer(1, default=1)
    agent_id: str | None = f.text(240)
    spawn_request_id: str | None = f.text(160)
    command_id: str | None = f.text(240)
    message_id: int | None = f.integer(1)
    task_id: int | None = f.integer(1)
    earlier_task_id: int | None = f.integer(1)
    outcome_unknown: bool | None = f.boolean()
    error: str | None = f.text(4_000)
    decided_by: str | None = f.text(120)
    updated_at: f.Instant | None = f.instant()


@attrs.frozen(kw_only=True)
class RecipeStop:
    """An order to shut down the agent of a role."""

    role: str = f.text(40, required=True)
    command_id: str = f.text(240, required=True)
    ended: bool = f.boolean(default=False)
    error: str | None = f.text(4_000)


@attrs.frozen(kw_only=True)
class RecipeInstance:
    """A run of a recipe, with the content that the recipe had when it was started. `withdrawn`: it was stopped, and what its
    agents had still to do is taken back."""

    id: str = f.text(240, required=True)
    recipe_name: str = f.text(120, required=True)
    status: RecipeStatus = f.choice(RecipeStatus, default=RecipeStatus.STARTING)
    orchestrator_id: str = f.text(120, required=True)
    cwd: str = f.text(500, required=True)
    input: str | None = f.text(2_000)
    started_by: str = f.text(120, required=True)
    stopped_by: str | None = f.text(120)
    withdrawn: bool | None = f.boolean()
    error: str | None = f.text(4_000)
    steps: list[RunningStep] = f.items(RunningStep, nested)
    stops: list[RecipeStop] = f.items(RecipeStop, nested)
    created_at: f.Instant | None = f.instant()
    updated_at: f.Instant | None = f.instant()


@attrs.frozen(kw_only=True)
class RecipeStarted:
    """The run, and the commands that this very request has made (REC-7, REC-10)."""

    instance: RecipeInstance = f.item(RecipeInstance, nested, required=True)
    commands: list[Command] = f.items(Command, nested)
