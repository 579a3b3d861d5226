"""Following the event log."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from .options import Target, target
from .server import ask

if TYPE_CHECKING:
    from relay.client import Client

__all__ = ["summary", "tail"]


@click.command()
@click.option("--agent", help="Only what concerns this agent.")
@click.option(
    "--after",
    type=click.IntRange(min=0),
    help="Begin after this event id; 0 is the beginning.  [default: now]",
)
@click.option("--count", type=click.IntRange(min=1), help="Stop after so many events.")
@target
def tail(target: Target, agent: str | None, after: int | None, count: int | None, as_json: bool) -> None:
    """Show events as they happen, until Ctrl-C. A lost connection is resumed where it was."""
    import contextlib

    async def follow(client: Client) -> None:
        left = count
        async with contextlib.aclosing(client.events(agent, after)) as events:
            async for event in events:
                line = {"id": event.id, "type": event.type, "data": event.data}
                click.echo(
                    json.dumps(line) if as_json else f"{event.id:>7}  {event.type:<20} {summary(event.data)}"
                )
                sys.stdout.flush()
                if left is not None:
                    left -= 1
                    if left == 0:
                        return

    with contextlib.suppress(KeyboardInterrupt):
        ask(target, follow)


def summary(data: dict[str, Any]) -> str:
    """The members that tell an event from the next, on one line."""
    match data:
        case {"command": {"id": command_id, "type": kind, "target": to} as command}:
            why = f": {command['error']}" if command.get("error") else ""
            return f"{kind} for {to} ({command_id}){why}"
        case {"from": sender, "to": to, "body": body}:
            return f"{sender} → {to}: {body.splitlines()[0][:100] if body else ''}"
    known = ("id", "agentId", "messageId", "label", "status", "title", "body")
    return "  ".join(f"{name}={data[name]}" for name in known if data.get(name) is not None)
