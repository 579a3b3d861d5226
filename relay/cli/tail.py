"""Following the event log."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from .failure import ungrouped
from .options import Target, target
from .output import say
from .server import ask

if TYPE_CHECKING:
    from relay.client import Client, StreamedEvent

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

    def line(event: StreamedEvent) -> str:
        if as_json:
            return json.dumps({"id": event.id, "type": event.type, "data": event.data})
        return f"{event.id:>7}  {event.type:<20} {summary(event.data)}"

    async def follow(client: Client) -> None:
        await client.health()  # whoever is not there at the start is not waited for
        async with aclosing(client.events(agent, after)) as events:
            left = count
            async for event in events:
                say(line(event))
                if left is not None:
                    left -= 1
                    if left == 0:
                        return

    with suppress(KeyboardInterrupt, BrokenPipeError):
        ask(target, partial(_while_read, follow))


async def _while_read(follow: Callable[[Client], Awaitable[None]], client: Client) -> None:
    """Ends `follow` when the pipe it prints into has lost its reader, and not only at the next event."""
    import trio

    async def watch() -> None:
        await trio.lowlevel.wait_readable(
            sys.stdout.fileno()
        )  # the writing end of a pipe never is, until then
        nursery.cancel_scope.cancel()

    with ungrouped():
        async with trio.open_nursery() as nursery:
            if _into_a_pipe():
                nursery.start_soon(watch)
            await follow(client)
            nursery.cancel_scope.cancel()


def _into_a_pipe() -> bool:
    try:
        return stat.S_ISFIFO(os.fstat(sys.stdout.fileno()).st_mode)
    except OSError:
        return False


KNOWN = (
    *(
        "id",
        "policyName",
        "recipeName",
        "name",
        "agentId",
        "messageId",
        "messageIds",
        "rung",
        "label",
        "status",
    ),
    *("orchestratorId", "title", "body", "error", "lastError"),
)
"""The members that most events are told by."""


def summary(data: dict[str, Any]) -> str:
    """The members that tell an event from the next, on one line."""
    match data:
        case {"command": {"id": command_id, "type": kind, "target": to} as command}:
            why = f": {command['error']}" if command.get("error") else ""
            return f"{kind} for {to} ({command_id}){why}"
        case {"from": sender, "to": to, "body": body}:
            return f"{sender} → {to}: {body.splitlines()[0][:100] if body else ''}"
        case {"namespace": namespace, "key": key, "version": version}:
            return f"{namespace}/{key}  version={version}"
        case {"automation": {"name": name}, "run": {} as run}:
            return f"{name}: {summary(run)}"
        case {"automation": {} as inner} | {"instance": {} as inner}:
            return summary(inner)
    return "  ".join(f"{name}={data[name]}" for name in KNOWN if data.get(name) is not None)
