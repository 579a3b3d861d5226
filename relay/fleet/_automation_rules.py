"""What becomes of an automation and its runs. No actor, no store, no clock.

A run's moves are `MOVES`. When a schedule comes round next is decided when one time of it is taken up (`following`), and
anew when the schedule changes or the clock was set back by hours (`is_set_back`).
"""

from __future__ import annotations

from difflib import get_close_matches

import attrs

from relay import wire

from ._calendar import BadLine, BadZone, Line, shown
from ._errors import Invalid
from ._event_types import EVENT_TYPES
from ._machine import NONE, Moves

__all__ = [
    "FARTHEST",
    "MOST_COMING",
    "MOVES",
    "PER_MINUTE",
    "SET_BACK",
    "changed",
    "check",
    "coming",
    "first",
    "following",
    "is_set_back",
    "outcome_of_command",
    "outcome_of_task",
]

S = wire.RunStatus

MOVES: Moves = {
    NONE: {"begin": S.RUNNING, "skip": S.SKIPPED, "refuse": S.FAILED},
    S.RUNNING: {"succeed": S.SUCCEEDED, "fail": S.FAILED},
    S.SUCCEEDED: {},
    S.FAILED: {},
    S.SKIPPED: {},
}
"""Spec 22.7. It is skipped when an earlier run still goes on and the automation says so, and refused when what it is to do
cannot be dispatched."""

FARTHEST = 50 * 366 * 86_400.0  # seconds ahead that anything can be planned for
SET_BACK = 3 * 3_600.0  # seconds by which a clock that is set back counts as corrected, as for Debian's cron
PER_MINUTE = 10  # runs that events may begin; what is more is gathered into one
MOST_COMING = 100


def check(schedule: wire.AutomationSchedule, now: float) -> None:
    """Raises `Invalid` for a schedule that can never come round; `now` is epoch seconds."""
    match schedule:
        case wire.CronSchedule():
            if _line(schedule).after(now) is None:
                raise Invalid("schedule.expression: it comes round at no time within fifty years")
        case wire.OnceSchedule(at=at):
            _check_instant(at, now)
        case wire.EventSchedule(event=event):
            if event not in EVENT_TYPES:
                alike = get_close_matches(event, EVENT_TYPES, 1) or sorted(EVENT_TYPES)
                raise Invalid(f"schedule.event: there is no event {event}; {_hint(alike)}")


def _hint(alike: list[str]) -> str:
    return f"did you mean {alike[0]}?" if len(alike) == 1 else f"the events are {', '.join(alike)}"


def _check_instant(at: float, now: float) -> None:
    if at <= now:
        seconds = now < at * 1000 <= now + FARTHEST
        hint = "; it is expected in milliseconds since 1970, these look like seconds" if seconds else ""
        raise Invalid(f"schedule.at: {shown(at)} is over{hint}")
    if at > now + FARTHEST:
        raise Invalid(
            f"schedule.at: {shown(at)} is more than fifty years ahead; expected milliseconds since 1970"
        )


def _line(schedule: wire.CronSchedule) -> Line:
    try:
        return Line(schedule.expression, schedule.timezone)
    except BadLine as error:
        raise Invalid(f"schedule.expression: {error}") from None
    except BadZone as error:
        raise Invalid(f"schedule.timezone: {error}") from None


def first(schedule: wire.AutomationSchedule, now: float) -> wire.Instant | None:
    """When a schedule that begins now comes round."""
    match schedule:
        case wire.IntervalSchedule(seconds=seconds):
            return wire.Instant(now + seconds)
        case wire.CronSchedule():
            return _line(schedule).after(now)
        case wire.OnceSchedule(at=at):
            return at if at > now else None
    return None


def following(schedule: wire.AutomationSchedule, due: float, now: float) -> wire.Instant | None:
    """When it comes round after `due`, which is taken up now. What was missed in between is left out (AUT-12)."""
    match schedule:
        case wire.IntervalSchedule(seconds=seconds):
            return wire.Instant(due + seconds if due <= now < due + seconds else now + seconds)
        case wire.CronSchedule():
            return _line(schedule).after(max(due, now))
    return None


def coming(record: wire.Automation, most: int) -> list[wire.Instant]:
    """The next times, as far as they are known now. For lines that come round in few years that takes most of a second."""
    times: list[wire.Instant] = []
    at = record.next_run_at
    while at is not None and len(times) < most:
        times.append(at)
        at = following(record.schedule, at, at)
    return times


def is_set_back(schedule: wire.AutomationSchedule, planned_at: float, now: float) -> bool:
    """Whether the clock has been set back so far since the next time was decided on that it has to be decided anew. By less,
    times that have come round are not repeated."""
    return isinstance(schedule, wire.CronSchedule) and now < planned_at - SET_BACK


def changed(before: wire.Automation, asked: wire.ChangeAutomation) -> wire.Automation:
    """The automation with what is asked for."""
    given = attrs.asdict(asked, recurse=False, filter=lambda _, value: value is not None)
    return attrs.evolve(before, **given)


def outcome_of_command(command: wire.Command | None) -> tuple[str, str | None] | None:
    """Which event of `MOVES` it is for the run that made it, and why; None while it is under way."""
    if command is None:
        return "fail", "its command is not there any more"
    if not command.status.final:
        return None
    if command.status is wire.CommandStatus.SUCCEEDED:
        return "succeed", None
    return "fail", command.error or f"its command was {command.status}"


def outcome_of_task(task: wire.Task | None) -> tuple[str, str | None] | None:
    """As `outcome_of_command`."""
    if task is None:
        return "fail", "its task is not there any more"
    if not task.status.final:
        return None
    return (
        ("succeed", None) if task.status is wire.TaskStatus.DONE else ("fail", f"its task was {task.status}")
    )
