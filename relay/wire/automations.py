"""Automations: work that is begun by the clock, by an event, or by hand (messaging-control 11)."""

import re
from collections.abc import Mapping
from typing import Any, TypeAlias

import attrs

from . import _fields as f
from ._json import nested
from .commands import Command
from .messages import Message
from .tasks import Task
from .vocabulary import (
    ApprovalMode,
    Effort,
    Overlap,
    Provider,
    RunStatus,
    RunTrigger,
    TaskSeverity,
    WorkspaceMode,
)

__all__ = [
    "Automation",
    "AutomationAction",
    "AutomationRun",
    "AutomationSchedule",
    "ChangeAutomation",
    "ComingRuns",
    "CronSchedule",
    "EventSchedule",
    "HeldAction",
    "IntervalSchedule",
    "ManualSchedule",
    "MessageAction",
    "NewAutomation",
    "OnceSchedule",
    "RunDispatch",
    "RunEvent",
    "SpawnAction",
    "TaskAction",
]

SHORTEST_INTERVAL = 60  # seconds
LONGEST_INTERVAL = 366 * 86_400
MOST_CONDITIONS = 20
EVENT_TYPE = f.Form("the type of an event, as task.created", re.compile(r"[a-z]+(\.[A-Za-z_]+)+$"))
SCALAR = (str, int, float, bool, type(None))


def _kind(word: str) -> Any:
    """The member that says which of several kinds an object is."""

    def read(value: Any) -> str:
        if value != word:
            raise ValueError(f"expected {word}")
        return word

    return attrs.field(default=word, metadata={"read": read})


def _one_of(kinds: Mapping[str, type[Any]]) -> Any:
    """Reads an object of the kind that its `type` names."""

    def read(value: Any, _: Any) -> Any:
        if not isinstance(value, dict):
            raise ValueError("expected an object")
        word = value.get("type")
        if not isinstance(word, str) or word not in kinds:
            raise ValueError(f"type: expected one of {', '.join(kinds)}")
        return nested(value, kinds[word])

    return read


def _conditions() -> Any:
    """Which data of an event fit: by the path of a member, its value, or a list of values any of which will do."""

    def read(value: Any) -> Any:
        if value is None:
            return f.ABSENT
        if not isinstance(value, dict) or len(value) > MOST_CONDITIONS:
            raise ValueError(f"expected an object of at most {MOST_CONDITIONS} members")
        for path, wanted in value.items():
            if not all(map(str.strip, path.split("."))) or f.length(path) > 240:
                raise ValueError(f"{path[:240]!r} is no path of a member, as command.type")
            if wanted == []:
                raise ValueError(f"{path}: is equal to none of no values")
            for each in wanted if isinstance(wanted, list) else [wanted]:
                if not isinstance(each, SCALAR) or (isinstance(each, str) and f.length(each) > 240):
                    raise ValueError(
                        f"{path}: expected a text, a number, true, false or null, or a list of such"
                    )
        return value

    return attrs.field(default=None, metadata={"read": read})


@attrs.frozen(kw_only=True)
class ManualSchedule:
    """Only when somebody says so."""

    type: str = _kind("manual")


@attrs.frozen(kw_only=True)
class IntervalSchedule:
    """Every so many seconds."""

    type: str = _kind("interval")
    seconds: int = f.integer(SHORTEST_INTERVAL, LONGEST_INTERVAL, required=True)


@attrs.frozen(kw_only=True)
class CronSchedule:
    """By a cron line of five fields, on the clocks of a time zone."""

    type: str = _kind("cron")
    expression: str = f.text(240, required=True)
    timezone: str = f.text(120, default="UTC")


@attrs.frozen(kw_only=True)
class OnceSchedule:
    """At one instant."""

    type: str = _kind("once")
    at: f.Instant = f.instant(required=True)


@attrs.frozen(kw_only=True)
class EventSchedule:
    """Whenever an event of exactly this type happens, to this subject and with these data, if they are named."""

    type: str = _kind("event")
    event: str = f.text(120, form=EVENT_TYPE, required=True)
    subject: str | None = f.text(240)
    where: dict[str, Any] | None = _conditions()


AutomationSchedule: TypeAlias = (
    ManualSchedule | IntervalSchedule | CronSchedule | OnceSchedule | EventSchedule
)


@attrs.frozen(kw_only=True)
class MessageAction:
    """Send a message."""

    type: str = _kind("message")
    to: str = f.text(240, required=True)
    subject: str | None = f.text(240)
    body: str = f.text(100_000, required=True)
    payload: dict[str, Any] | None = f.mapping(default=None)
    claimable: bool | None = f.boolean()
    max_age_seconds: int | None = f.integer(0, 2_592_000)


@attrs.frozen(kw_only=True)
class TaskAction:
    """Have something done, by whoever the target reaches."""

    type: str = _kind("task")
    target: str = f.text(240, required=True)
    title: str = f.text(240, required=True)
    body: str | None = f.text(100_000)
    severity: TaskSeverity = f.choice(TaskSeverity, default=TaskSeverity.INFO)
    channel: str | None = f.text(120)
    metadata: dict[str, Any] | None = f.mapping(default=None)


@attrs.frozen(kw_only=True)
class SpawnAction:
    """Start an agent, on that host or on the first that fits (AUT-9)."""

    type: str = _kind("spawn")
    provider: Provider = f.choice(Provider, required=True)
    orchestrator_id: str | None = f.text(120)
    cwd: str | None = f.text(500, form=f.ABSOLUTE_PATH)
    label: str | None = f.text(120)
    prompt: str | None = f.text(4_000)
    tags: list[str] = f.texts()
    capabilities: list[str] = f.texts()
    approval_mode: ApprovalMode | None = f.choice(ApprovalMode)
    provider_args: list[str] = f.texts()
    model: str | None = f.text(120)
    effort: Effort | None = f.choice(Effort)
    workspace_mode: WorkspaceMode | None = f.choice(WorkspaceMode)
    provider_config: dict[str, Any] | None = f.mapping(default=None)
    profile: str | None = f.text(120)
    env: dict[str, str] | None = f.environment()


AutomationAction: TypeAlias = MessageAction | TaskAction | SpawnAction

_SCHEDULES = _one_of(
    {
        "manual": ManualSchedule,
        "interval": IntervalSchedule,
        "cron": CronSchedule,
        "once": OnceSchedule,
        "event": EventSchedule,
    }
)
_ACTIONS = _one_of({"message": MessageAction, "task": TaskAction, "spawn": SpawnAction})


@attrs.frozen(kw_only=True)
class NewAutomation:
    """`POST /api/automations`."""

    name: str = f.text(120, required=True)
    enabled: bool = f.boolean(default=True)
    schedule: AutomationSchedule = f.item(ManualSchedule, _SCHEDULES, required=True)
    action: AutomationAction = f.item(MessageAction, _ACTIONS, required=True)
    overlap: Overlap = f.choice(Overlap, default=Overlap.SKIP)


@attrs.frozen(kw_only=True)
class ChangeAutomation:
    """`PATCH /api/automations/:id`. What is absent stays as it is."""

    name: str | None = f.text(120)
    enabled: bool | None = f.boolean()
    schedule: AutomationSchedule | None = f.item(ManualSchedule, _SCHEDULES)
    action: AutomationAction | None = f.item(MessageAction, _ACTIONS)
    overlap: Overlap | None = f.choice(Overlap)


@attrs.frozen(kw_only=True)
class Automation:
    """The record of an automation (O-37). `last_run_at` is when a run was last begun, `next_run_at` when one is due."""

    id: str = f.text(240, required=True)
    name: str = f.text(120, required=True)
    enabled: bool = f.boolean(default=True)
    schedule: AutomationSchedule = f.item(ManualSchedule, _SCHEDULES, required=True)
    action: AutomationAction = f.item(MessageAction, _ACTIONS, required=True)
    overlap: Overlap = f.choice(Overlap, default=Overlap.SKIP)
    created_by: str | None = f.text(240)
    last_run_at: f.Instant | None = f.instant()
    next_run_at: f.Instant | None = f.instant()
    created_at: f.Instant | None = f.instant()
    updated_at: f.Instant | None = f.instant()


@attrs.frozen(kw_only=True)
class RunEvent:
    """The event that a run was begun by. `count` is more than one if the run stands for several, this being the last."""

    id: int = f.integer(1, required=True)
    type: str = f.text(120, required=True)
    subject: str | None = f.text(240)
    count: int = f.integer(1, default=1)


@attrs.frozen(kw_only=True)
class AutomationRun:
    """The record of one run (AUT-10). `due_at` is the time of the schedule that it is for. `chain` names the automations by
    whose runs it was caused, the first first."""

    id: str = f.text(240, required=True)
    automation_id: str = f.text(240, required=True)
    trigger: RunTrigger = f.choice(RunTrigger, required=True)
    status: RunStatus = f.choice(RunStatus, required=True)
    due_at: f.Instant | None = f.instant()
    event: RunEvent | None = f.item(RunEvent, nested)
    chain: list[str] = f.texts()
    command_id: str | None = f.text(240)
    message_id: int | None = f.integer(1)
    task_id: int | None = f.integer(1)
    error: str | None = f.text(4_000)
    started_at: f.Instant | None = f.instant()
    finished_at: f.Instant | None = f.instant()


@attrs.frozen(kw_only=True)
class RunDispatch:
    """The answer to `POST /api/automations/:id/run` (AUT-5)."""

    automation: Automation = f.item(Automation, nested, required=True)
    run: AutomationRun = f.item(AutomationRun, nested, required=True)
    command: Command | None = f.item(Command, nested)
    message: Message | None = f.item(Message, nested)
    task: Task | None = f.item(Task, nested)


@attrs.frozen(kw_only=True)
class ComingRuns:
    """`GET /api/automations/:id/next`: when it runs next, in epoch milliseconds. Empty if nothing is planned."""

    times: list[int] | None = f.integers(0, most=100)


@attrs.frozen(kw_only=True)
class HeldAction:
    """What is still to be dispatched for a run, as a row holds it."""

    action: AutomationAction = f.item(MessageAction, _ACTIONS, required=True)
