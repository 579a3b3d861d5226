"""Commands: what hosts and runners are asked to do, and what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .options import Listing, Target, must_be_one_of, target
from .output import age, one_line, say, show, show_json
from .server import ask

if TYPE_CHECKING:
    from relay import wire

__all__ = ["commands"]


@click.group(cls=Listing)
def commands() -> None:
    """List what hosts and runners are asked to do; call it off."""


@commands.command("list")
@click.option("--target", "to", help="Only those for this agent; a host's is orchestrator-ID.")
@click.option("--status", help="Only those with this status.")
@click.option("--type", "kind", help="Only those of this type, such as agent.spawn.")
@click.option("--after", help="Only those made after this one: goes on where a list ended.")
@click.option("--limit", type=click.IntRange(1, 500), default=100, show_default=True)
@target
def list_(
    target: Target,
    to: str | None,
    status: str | None,
    kind: str | None,
    after: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """List commands, the oldest first."""
    from relay import wire

    must_be_one_of(wire.CommandStatus, status, f"no command can be {status}", command="commands list")
    found = ask(
        target,
        lambda client: client.commands(target=to, status=status, type=kind, after=after, limit=limit),
    )
    if as_json:
        return show_json([wire.to_json(command) for command in found])
    rows = [(row.id, row.type, row.target, _status(row), age(row.updated_at)) for row in found]
    return show(("command", "type", "for", "status", "changed"), rows, empty="no commands")


@commands.command("show")
@click.argument("command")
@target
def show_(target: Target, command: str, as_json: bool) -> None:
    """Show one command."""
    from relay import wire

    found = ask(target, lambda client: client.command(command))
    if as_json:
        return show_json(wire.to_json(found))
    why = f": {one_line(found.error)}" if found.error else ""
    return say(f"{found.id}  {found.type} for {found.target}: {_status(found)}{why}")


@commands.command("cancel")
@click.argument("command")
@target
def cancel(target: Target, command: str, as_json: bool) -> None:
    """Call off a command that has not ended. Whoever is at it hears of that with its next report."""
    ask(target, lambda client: client.cancel_command(command))
    if as_json:
        return show_json({"ok": True})
    return say(f"{command} is canceled")


def _status(command: wire.Command) -> str:
    unknown = ", whether it was done is unknown" if command.outcome_unknown else ""
    return f"{command.status.value.replace('_', ' ')}{unknown}"
