"""Dead letters: what agents did not take, and trying again."""

from __future__ import annotations

import click

from .options import Listing, Target, target
from .output import age, say, show, show_json
from .server import ask

__all__ = ["dlq"]


@click.group(cls=Listing)
def dlq() -> None:
    """List the messages that agents did not take; try again with them.

    \b
    relay dlq
    relay dlq redeliver 17           try again, with everybody who did not take it
    relay dlq redeliver 17 planner   with one of them
    """


@dlq.command("list")
@click.option("--agent", help="Only what this agent did not take.")
@click.option("--before", type=click.IntRange(min=1), help="Only messages with a smaller id.")
@click.option("--limit", type=click.IntRange(1, 500), default=100, show_default=True)
@target
def list_(target: Target, agent: str | None, before: int | None, limit: int, as_json: bool) -> None:
    """List the dead letters, newest message first."""
    from relay import wire

    found = ask(target, lambda client: client.dead_letters(agent_id=agent, before=before, limit=limit))
    if as_json:
        return show_json([wire.to_json(letter) for letter in found])
    rows = [
        (
            letter.message_id,
            letter.agent_id,
            letter.message.from_ if letter.message else None,
            letter.attempt,
            age(letter.dead_at),
            letter.error,
        )
        for letter in found
    ]
    return show(("message", "agent", "from", "attempts", "dead", "why"), rows, empty="no dead letters")


@dlq.command()
@click.argument("message", type=click.IntRange(min=1))
@click.argument("agent", required=False)
@target
def redeliver(target: Target, message: int, agent: str | None, as_json: bool) -> None:
    """Try again to hand over MESSAGE, to AGENT or to everybody who did not take it."""
    chosen = ask(target, lambda client: client.redeliver(message, agent))
    if as_json:
        return show_json({"redelivered": chosen})
    return say(f"message {message} is routed to {', '.join(chosen)} again")
