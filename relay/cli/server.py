"""One conversation with the server, its failures turned into what a person can act on."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import click

from .failure import Failure
from .options import Listing

if TYPE_CHECKING:
    from relay.client import Client, RelayError

    from .options import Target

__all__ = ["ask", "explained"]

T = TypeVar("T")


def ask(target: Target, question: Callable[[Client], Awaitable[T]], *, public: bool = False) -> T:
    """Runs `question` with a client of the target. Raises `Failure` for whatever the client raises. A `public`
    question needs no token."""
    import trio

    from relay.client import RelayError, open_client

    async def conversation() -> T:
        async with open_client(target.url, "none" if public else target.token()) as client:
            return await question(client)

    try:
        return trio.run(conversation)
    except RelayError as error:
        raise explained(error, target) from error


def explained(error: RelayError, target: Target) -> Failure:
    from relay import client

    match error:
        case client.Unreachable():
            return Failure(
                f"no relay server answers at {target.url}",
                why=str(error),
                then="start one with `relay serve`, or name another with --url",
            )
        case client.Unauthorized(status=401):
            return Failure(
                f"{target.url} does not accept the token",
                why=error.error,
                then="use the token file of that server: --token-file PATH",
                refused=True,
            )
        case client.Overloaded():
            return Failure(
                f"{target.url} has too much to do",
                why=error.error,
                then=f"try again in {max(1, math.ceil(error.retry_after))} s",
                refused=True,
            )
        case client.ServerFailed(status=502) if error.error.startswith("host "):
            return Failure(
                error.error,
                why=f"{target.url} answered 502: it was not answered itself",
                then="look whether that orchestrator runs, and what it prints",
                refused=True,
            )
        case client.ServerFailed():
            return Failure(
                f"{target.url}: relay failed inside",
                why=str(error),
                then="look at the server's log",
                refused=True,
            )
        case client.Garbled():
            return Failure(
                f"something else answers at {target.url}",
                why=str(error),
                then="name the server with --url, or start one with `relay serve --port 0`",
            )
        case client.Refused():
            return Failure(
                error.error,
                why=f"{target.url} answered {error.status}",
                then=_then(error.status),
                refused=True,
            )
        case _:
            return Failure(str(error))


SHOWN_BY = {"merge": "workspaces", "send": "inbox"}
"""For commands that list nothing themselves: the one that lists what they are about. Others are about agents alone."""


def _then(status: int) -> str:
    """Where to look after a refusal that only the request is to blame for."""
    context = click.get_current_context(silent=True)
    path = context.command_path.partition(" ")[2] if context else ""
    verb = path.partition(" ")[0]
    match status:
        case 403:
            return "relay routes names the scope of each call; make a token that may do it: relay tokens create --help"
        case 404 | 409 | 422:
            shown_by = verb if _lists(context, verb) else SHOWN_BY.get(verb)
            if shown_by in (None, "agents"):
                return "relay agents shows who is there"
            return f"relay {shown_by} and relay agents show what there is, and how it is"
        case _:
            return f"relay {path} --help"


def _lists(context: click.Context | None, verb: str) -> bool:
    """Whether the verb alone lists what it is about."""
    root = context.find_root().command if context else None
    return isinstance(root, click.Group) and isinstance(root.commands.get(verb), Listing)
