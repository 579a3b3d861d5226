"""Tasks: what integrations have asked for, who does it, and how it goes."""

from __future__ import annotations

from textwrap import indent
from typing import TYPE_CHECKING

import click

from .mail import ME
from .options import Listing, Target, must_be_one_of, target
from .output import age, one_line, say, show, show_json
from .server import ask

if TYPE_CHECKING:
    from relay import wire
    from relay.client import Client

__all__ = ["tasks"]

number = click.argument("task", type=click.IntRange(min=1))


@click.group(cls=Listing)
def tasks() -> None:
    """List what integrations have asked for; take it, and say how it goes."""


@tasks.command("list")
@click.option("--status", help="Only those with this status.")
@click.option("--source", help="Only those of this integration.")
@click.option("--target", "address", help="Only those for this address.")
@click.option("--claimed-by", metavar="AGENT", help="Only those that this agent holds.")
@click.option("--limit", type=click.IntRange(1, 500), default=100, show_default=True)
@target
def list_(
    target: Target,
    status: str | None,
    source: str | None,
    address: str | None,
    claimed_by: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """List the tasks, newest first."""
    from relay import wire

    _check_status(status)
    found = ask(
        target,
        lambda client: client.tasks(
            status=status, source=source, target=address, claimed_by=claimed_by, limit=limit
        ),
    )
    if as_json:
        return show_json([wire.to_json(task) for task in found])
    rows = [
        (task.id, task.status, task.severity, task.target, task.claimed_by, age(task.updated_at), task.title)
        for task in found
    ]
    return show(("task", "status", "severity", "for", "held by", "changed", "title"), rows, empty="no tasks")


@tasks.command("show")
@number
@target
def show_(target: Target, task: int, as_json: bool) -> None:
    """Show TASK and what happened to it."""
    from relay import wire

    async def read(client: Client) -> tuple[wire.Task, list[wire.TaskEvent]]:
        return await client.task(task), await client.task_events(task)

    found, history = ask(target, read)
    if as_json:
        return show_json({**wire.to_json(found), "events": [wire.to_json(each) for each in history]})
    return say("\n".join([_summary(found), *map(_line, history)]))


@tasks.command("claim")
@number
@click.option("--as", "agent", default=ME, show_default=True, help="Id of the agent that takes it.")
@target
def claim(target: Target, task: int, agent: str, as_json: bool) -> None:
    """Take TASK, and the message that hands it over, for 15 minutes; or hold them for longer."""
    from relay import wire

    held = ask(target, lambda client: client.claim_task(task, agent))
    if as_json:
        return show_json(wire.to_json(held))
    return say(f"task {task} is {held.task.status}, held by {held.task.claimed_by}")


@tasks.command("status")
@number
@click.argument("status")
@click.argument("body", required=False)
@click.option(
    "--as", "agent", help="Id of the agent that says so; only the holder of a task that is held may."
)
@target
def status_(
    target: Target, task: int, status: str, body: str | None, agent: str | None, as_json: bool
) -> None:
    """Say how TASK is: open, in_progress, blocked, done, failed or canceled; BODY is for its history.

    \b
    relay tasks status 7 done "fixed in 3f2c1a"
    relay tasks status 7 blocked "waiting for the token" --as scout
    """
    from relay import wire

    _check_status(status)
    said = wire.SetTaskStatus(status=wire.TaskStatus(status), agent_id=agent, body=body)
    changed = ask(target, lambda client: client.set_task_status(task, said))
    if as_json:
        return show_json(wire.to_json(changed))
    return say(f"task {task} is {changed.status}")


def _check_status(status: str | None) -> None:
    from relay import wire

    must_be_one_of(wire.TaskStatus, status, f"no task can be {status}", command="tasks")


def _summary(task: wire.Task) -> str:
    whose = one_line(f"{task.source} → {task.target}")
    lines = [f"task {task.id}  {task.status}  {task.severity}  {whose}", one_line(task.title)]
    if task.body:
        lines.append(indent(task.body, "    "))
    if task.claimed_by:
        lines.append(one_line(f"held by {task.claimed_by}"))
    return "\n".join(lines)


def _line(event: wire.TaskEvent) -> str:
    """One entry of the history: when, what, who and what was said of it."""
    change = event.type.value if event.type.value == event.status.value else f"{event.type}: {event.status}"
    words = [f"  {age(event.at):>4}", change, event.agent_id or "", one_line(event.body or "")]
    return "  ".join(word for word in words if word)
