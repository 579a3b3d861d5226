"""Automations: work that is begun by the clock, by an event, or by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from .options import Listing, Target, must_be_one_of, target
from .output import age, one_line, say, show, show_json
from .schedules import action_of, given, local, schedule_of, stated
from .server import ask

if TYPE_CHECKING:
    from relay import wire

__all__ = ["automations"]

key = click.argument("automation")


@click.group(cls=Listing)
def automations() -> None:
    """List what begins by itself; make, change and begin it."""


@automations.command("list")
@target
def list_(target: Target, as_json: bool) -> None:
    """List the automations, the oldest first."""
    from relay import wire

    found = ask(target, lambda client: client.automations())
    if as_json:
        return show_json([wire.to_json(each) for each in found])
    rows = [
        (each.id, _state(each), stated(each), each.action.type, age(each.last_run_at), local(each), each.name)
        for each in found
    ]
    columns = ("automation", "is", "runs", "does", "last", "next", "name")
    return show(columns, rows, empty="no automations")


@automations.command("show")
@key
@target
def show_(target: Target, automation: str, as_json: bool) -> None:
    """Show one automation, as it was given."""
    from relay import wire

    found = ask(target, lambda client: client.automation(automation))
    if as_json:
        return show_json(wire.to_json(found))
    said = [f"{name}: {value}" for name, value in wire.to_json(found.action).items() if name != "type"]
    begins = f"{stated(found)}; next: {local(found) or 'nothing is planned'}"
    return say(
        "\n".join((one_line(f"{found.id} {found.name}: {_state(found)}, {begins}"), found.action.type, *said))
    )


@automations.command("add")
@click.argument("name")
@given
@click.option("--allow-overlap", is_flag=True, help="Begin a run also while an earlier one goes on.")
@click.option("--disabled", is_flag=True, help="Only by hand, until it is enabled.")
@target
def add(
    target: Target,
    name: str,
    allow_overlap: bool,
    disabled: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Make an automation. Without a schedule it runs when `relay automations run` says so.

    \b
    relay automations add nightly --cron "30 2 * * *" --zone Europe/Berlin \\
        --task cap:review --title "look through the day's changes"
    relay automations add watch --every 3600 --spawn claude --prompt "check the build"
    relay automations add alarm --on task.created --where severity=critical \\
        --message user --body "a critical task has come in"
    """
    from relay import wire

    asked = wire.NewAutomation(
        name=name,
        enabled=not disabled,
        schedule=schedule_of(options),
        action=action_of(options),
        overlap=wire.Overlap.ALLOW if allow_overlap else wire.Overlap.SKIP,
    )
    _tell(ask(target, lambda client: client.create_automation(asked)), as_json)


@automations.command("enable")
@key
@target
def enable(target: Target, automation: str, as_json: bool) -> None:
    """Begin runs by its schedule again."""
    _switch(target, automation, as_json, enabled=True)


@automations.command("disable")
@key
@target
def disable(target: Target, automation: str, as_json: bool) -> None:
    """Begin runs by hand only."""
    _switch(target, automation, as_json, enabled=False)


@automations.command("run")
@key
@target
def run_(target: Target, automation: str, as_json: bool) -> None:
    """Begin a run now, whatever its schedule says."""
    from relay import wire

    done = ask(target, lambda client: client.run_automation(automation))
    if as_json:
        return show_json(wire.to_json(done))
    return say(f"run {done.run.id} of {done.automation.name}: {done.run.status}{_made(done.run)}")


@automations.command("runs")
@click.argument("automation", required=False)
@click.option("--status", help="Only those with this status.")
@click.option("--limit", type=click.IntRange(1, 500), default=100, show_default=True)
@target
def runs(target: Target, automation: str | None, status: str | None, limit: int, as_json: bool) -> None:
    """List the runs of AUTOMATION, or of all, the newest first."""
    from relay import wire

    must_be_one_of(wire.RunStatus, status, f"no run can be {status}", command="automations runs")
    found = ask(
        target,
        lambda client: client.automation_runs(automation_id=automation, status=status, limit=limit),
    )
    if as_json:
        return show_json([wire.to_json(run) for run in found])
    rows = [
        (run.id, run.automation_id, run.trigger, run.status, age(run.started_at), _made(run)[2:], run.error)
        for run in found
    ]
    return show(("run", "automation", "begun by", "status", "begun", "made", "why"), rows, empty="no runs")


@automations.command("next")
@key
@click.option("--limit", type=click.IntRange(1, 100), default=5, show_default=True)
@target
def next_(target: Target, automation: str, limit: int, as_json: bool) -> None:
    """Show when it runs next, on the clocks of its time zone."""
    found = ask(target, lambda client: client.automation(automation))
    times = ask(target, lambda client: client.coming_runs(automation, limit=limit))
    if as_json:
        return show_json([round(at * 1000) for at in times])
    return say("\n".join(local(found, at) for at in times) or f"nothing is planned; it runs {stated(found)}")


@automations.command("remove")
@key
@target
def remove(target: Target, automation: str, as_json: bool) -> None:
    """Remove an automation. What its runs have made stays."""
    ask(target, lambda client: client.delete_automation(automation))
    return show_json({"ok": True}) if as_json else say(f"{automation} is removed")


def _switch(target: Target, automation: str, as_json: bool, *, enabled: bool) -> None:
    from relay import wire

    change = wire.ChangeAutomation(enabled=enabled)
    _tell(ask(target, lambda client: client.change_automation(automation, change)), as_json)


def _tell(found: wire.Automation, as_json: bool) -> None:
    from relay import wire

    if as_json:
        return show_json(wire.to_json(found))
    coming = f"; next: {local(found)}" if found.next_run_at is not None else ""
    return say(one_line(f"{found.id} {found.name}: {_state(found)}, runs {stated(found)}{coming}"))


def _state(found: wire.Automation) -> str:
    return "enabled" if found.enabled else "disabled"


def _made(run: wire.AutomationRun) -> str:
    made = {"command": run.command_id, "task": run.task_id, "message": run.message_id}
    return "".join(f", {name} {id_}" for name, id_ in made.items() if id_ is not None)
