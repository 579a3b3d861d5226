"""Saying at a terminal when an automation runs and what it does, and showing that again."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from .failure import Failure
from .spawning import program_config

if TYPE_CHECKING:
    from relay import wire

__all__ = ["action_of", "given", "local", "schedule_of", "stated"]

HELP = "relay automations add --help"

OPTIONS = (
    click.option("--every", metavar="SECONDS", type=click.IntRange(60), help="Run so often."),
    click.option("--cron", metavar="LINE", help="Run by a cron line of five fields."),
    click.option(
        "--zone", metavar="ZONE", default="UTC", show_default=True, help="Time zone of --cron and --at."
    ),
    click.option("--at", metavar="WHEN", help="Run once, as 2030-01-31T09:00."),
    click.option("--on", metavar="EVENT", help="Run whenever an event of this type happens."),
    click.option("--of", metavar="ID", help="With --on: only if it happens to this."),
    click.option("--where", metavar="PATH=VALUE", multiple=True, help="With --on: only with these data."),
    click.option("--message", metavar="TO", help="Send a message: --body, if wanted --subject."),
    click.option(
        "--task", metavar="TARGET", help="Have something done: --title, if wanted --body and --severity."
    ),
    click.option(
        "--spawn",
        metavar="PROVIDER",
        help="Start an agent: --program, --prompt, --label, --cwd, --host as wanted.",
    ),
    click.option("--body"),
    click.option("--subject"),
    click.option("--title"),
    click.option("--severity", metavar="info|warning|critical"),
    click.option("--program", metavar="LINE", help="With --spawn: its program, as 'python3 agent.py'."),
    click.option("--prompt"),
    click.option("--label"),
    click.option("--cwd"),
    click.option("--host"),
)


def given(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the options of a schedule and an action."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def schedule_of(options: dict[str, Any]) -> wire.AutomationSchedule:
    from relay import wire

    named = _only_one(options, ("every", "cron", "at", "on"), "one schedule")
    if named != "on" and (options["of"] or options["where"]):
        raise Failure("--of and --where are about events", why="there is no --on", then=HELP)
    match named:
        case "every":
            return wire.IntervalSchedule(seconds=options["every"])
        case "cron":
            return wire.CronSchedule(expression=options["cron"], timezone=options["zone"])
        case "at":
            return wire.OnceSchedule(at=_instant(options["at"], options["zone"]))
        case "on":
            where = dict(_condition(text) for text in options["where"])
            return wire.EventSchedule(event=options["on"], subject=options["of"], where=where or None)
    return wire.ManualSchedule()


def action_of(options: dict[str, Any]) -> wire.AutomationAction:
    from relay import wire

    match _only_one(options, ("message", "task", "spawn"), "one of --message, --task and --spawn"):
        case "message":
            body = _needed(options, "body", "--message")
            return wire.MessageAction(to=options["message"], subject=options["subject"], body=body)
        case "task":
            title = _needed(options, "title", "--task")
            severity = _word(wire.TaskSeverity, options["severity"] or "info", "severity")
            return wire.TaskAction(
                target=options["task"], title=title, body=options["body"], severity=severity
            )
        case "spawn":
            return wire.SpawnAction(
                provider=_word(wire.Provider, options["spawn"], "provider"),
                orchestrator_id=options["host"],
                cwd=options["cwd"],
                label=options["label"],
                prompt=options["prompt"],
                provider_config=program_config(options["program"], "automations add"),
            )
    raise Failure("it is not said what to do", why="expected one of --message, --task and --spawn", then=HELP)


def _only_one(options: dict[str, Any], names: tuple[str, ...], what: str) -> str | None:
    found = [name for name in names if options[name] is not None]
    if len(found) > 1:
        raise Failure(f"--{found[0]} and --{found[1]} do not go together", why=f"expected {what}", then=HELP)
    return found[0] if found else None


def _needed(options: dict[str, Any], name: str, with_: str) -> str:
    value: str | None = options[name]
    if not (value or "").strip():
        raise Failure(f"{with_} needs --{name}", then=HELP)
    return str(value)


def _word(kind: Any, word: str, what: str) -> Any:
    try:
        return kind(word)
    except ValueError:
        raise Failure(
            f"there is no {what} {word}", why=f"expected one of {', '.join(kind)}", then=HELP
        ) from None


def _condition(text: str) -> tuple[str, Any]:
    path, equals, value = text.partition("=")
    if not equals or not path.strip():
        raise Failure(f"--where {text} names no member and value", why="expected PATH=VALUE", then=HELP)
    try:
        return path.strip(), json.loads(value)
    except ValueError:
        return path.strip(), value


def _instant(text: str, zone: str) -> float:
    from datetime import datetime
    from zoneinfo import ZoneInfo

    try:
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo is not None else at.replace(tzinfo=ZoneInfo(zone))).timestamp()
    except (ValueError, OSError, KeyError, OverflowError) as error:
        why = f"{error}; expected a date and time as 2030-01-31T09:00, and a zone as Europe/Berlin"
        raise Failure(f"--at {text} is no time", why=why, then=HELP) from None


def stated(found: wire.Automation) -> str:
    """When it runs, in words."""
    from relay import wire

    match found.schedule:
        case wire.IntervalSchedule(seconds=seconds):
            return f"every {seconds} s"
        case wire.CronSchedule(expression=expression, timezone=zone):
            return f"at {expression} ({zone})"
        case wire.OnceSchedule():
            return "once"
        case wire.EventSchedule(event=event, subject=subject):
            return f"on {event}" + (f" of {subject}" if subject else "")
    return "by hand"


def local(found: wire.Automation, at: float | None = None) -> str:
    """An instant, or its next run, on the clocks of its time zone; empty if there is none."""
    from datetime import UTC, datetime
    from zoneinfo import ZoneInfo

    from relay import wire

    at = found.next_run_at if at is None else at
    if at is None:
        return ""
    schedule = found.schedule
    zone = ZoneInfo(schedule.timezone) if isinstance(schedule, wire.CronSchedule) else UTC
    return datetime.fromtimestamp(at, zone).strftime("%a %Y-%m-%d %H:%M:%S %Z")
