"""Pairs: two agents, or a person and an agent, who have agreed to talk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .failure import Failure
from .mail import ME
from .options import Listing, Target, must_be_one_of, target
from .output import age, one_line, say, show, show_json
from .server import ask

if TYPE_CHECKING:
    from relay import wire

__all__ = ["pairs"]

member = click.option("--as", "agent", default=ME, show_default=True, help="Id of the member who does it.")


@click.group(cls=Listing)
def pairs() -> None:
    """List who works as a pair; invite, answer and part."""


@pairs.command("list")
@click.option("--status", help="Only those with this status.")
@click.option("--agent", help="Only those that this agent is a member of.")
@click.option("--limit", type=click.IntRange(1, 500), default=100, show_default=True)
@target
def list_(target: Target, status: str | None, agent: str | None, limit: int, as_json: bool) -> None:
    """List the pairs, the newest first."""
    from relay import wire

    must_be_one_of(wire.PairStatus, status, f"no pair can be {status}", command="pairs list")
    found = ask(target, lambda client: client.pairs(status=status, agent_id=agent, limit=limit))
    if as_json:
        return show_json([wire.to_json(pair) for pair in found])
    rows = [(row.id, row.status, row.from_, row.to, row.topic, age(row.updated_at)) for row in found]
    return show(("pair", "status", "from", "to", "topic", "changed"), rows, empty="no pairs")


@pairs.command("show")
@click.argument("pair")
@target
def show_(target: Target, pair: str, as_json: bool) -> None:
    """Show one pair."""
    found = ask(target, lambda client: client.pair(pair))
    _tell(found, as_json)


@pairs.command("invite")
@click.argument("to")
@click.option("--topic")
@click.option(
    "--ttl", type=click.IntRange(1, 86_400), default=900, show_default=True, help="Seconds to answer in."
)
@member
@target
def invite(target: Target, to: str, topic: str | None, ttl: int, agent: str, as_json: bool) -> None:
    """Invite the agent TO to work as a pair."""
    from relay import wire

    proposal = wire.ProposePair(from_=agent, to=to, topic=topic, ttl_seconds=ttl)
    _tell(ask(target, lambda client: client.propose_pair(proposal)), as_json)


@pairs.command("accept")
@click.argument("pair")
@member
@target
def accept(target: Target, pair: str, agent: str, as_json: bool) -> None:
    """Accept an invitation."""
    _tell(ask(target, lambda client: client.accept_pair(pair, agent)), as_json)


@pairs.command("reject")
@click.argument("pair")
@member
@target
def reject(target: Target, pair: str, agent: str, as_json: bool) -> None:
    """Reject an invitation."""
    _tell(ask(target, lambda client: client.reject_pair(pair, agent)), as_json)


@pairs.command("end")
@click.argument("pair")
@member
@target
def end(target: Target, pair: str, agent: str, as_json: bool) -> None:
    """End a pair, or take an invitation back."""
    _tell(ask(target, lambda client: client.end_pair(pair, agent)), as_json)


@pairs.command("say")
@click.argument("pair")
@click.argument("body")
@click.option("--key", help="Idempotency key: repeating the command with it sends nothing new.")
@member
@target
def say_(target: Target, pair: str, body: str, key: str | None, agent: str, as_json: bool) -> None:
    """Write to the other member."""
    from relay import wire

    if not body.strip():
        raise Failure("there is nothing to send", then="relay pairs say --help")
    message = wire.PairMessage(from_=agent, body=body, idempotency_key=key)
    sent = ask(target, lambda client: client.send_in_pair(pair, message))
    if as_json:
        return show_json(wire.to_json(sent))
    return say(f"message {sent.id} to {sent.to} is stored")


def _tell(pair: wire.Pair, as_json: bool) -> None:
    from relay import wire

    if as_json:
        return show_json(wire.to_json(pair))
    about = f" about {pair.topic}" if pair.topic else ""
    why = f" ({pair.reason}, {pair.ended_by or 'relay'})" if pair.reason else ""
    return say(one_line(f"{pair.id} {pair.from_} and {pair.to}{about}: {pair.status}{why}"))
