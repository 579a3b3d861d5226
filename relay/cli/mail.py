"""Messages: sending them, and reading what came."""

from __future__ import annotations

from textwrap import indent
from typing import TYPE_CHECKING

import click

from .failure import Failure
from .options import Target, target
from .output import age, one_line, say, show_json
from .rungs import RUNGS, tell, wait_for
from .server import ask
from .terminal import visible

if TYPE_CHECKING:
    from relay import wire
    from relay.client import Client

__all__ = ["ME", "inbox", "send"]

ME = "user"  # who a person at a terminal is, for relay


@click.command()
@click.argument("to")
@click.argument("body")
@click.option("--from", "sender", default=ME, show_default=True, help="Id of the sender.")
@click.option("--subject")
@click.option("--reply-to", type=click.IntRange(min=1), help="Id of the message this answers.")
@click.option("--key", help="Idempotency key: repeating the command with it sends nothing new.")
@click.option("--wait", type=click.Choice(RUNGS), help="Wait until the message has come so far.")
@click.option(
    "--timeout", type=click.FloatRange(min=0.0), default=60.0, show_default=True, help="Seconds to wait."
)
@click.option("--any", "one", is_flag=True, help="Wait for one recipient, not for all.")
@target
def send(
    target: Target,
    to: str,
    body: str,
    sender: str,
    subject: str | None,
    reply_to: int | None,
    key: str | None,
    wait: str | None,
    timeout: float,
    one: bool,
    as_json: bool,
) -> None:
    """Send a message to an agent's id, label:NAME, tag:NAME, cap:NAME, channel:NAME or broadcast.

    \b
    relay send planner "the tests are green"
    relay send planner "is it done?" --wait replied --timeout 600
    relay send cap:review "please look at branch x" --subject review

    With --wait it tells how far the message got with its recipients: stored by relay, handed to the agent's runner, confirmed
    by the agent, replied to. It ends with exit code 7 when the time is over before.
    """
    from relay import wire

    message = wire.SendMessage(
        from_=sender, to=to, body=body, subject=subject, reply_to=reply_to, idempotency_key=key
    )

    async def deliver(client: Client) -> tuple[wire.Message, str | None]:
        return await client.send(message), await _missing(client, to)

    sent, missing = ask(target, deliver)
    if wait is not None:
        _warn(missing)
        reached = ask(target, lambda client: wait_for(client, sent, wait, within=timeout, one=one))
        return tell(reached, within=timeout, as_json=as_json)
    if as_json:
        show_json(wire.to_json(sent))
    else:
        say(f"message {sent.id} to {sent.to} is stored ({sent.delivery_status})")
    return _warn(missing)


def _warn(missing: str | None) -> None:
    if missing:
        click.echo(
            visible(f"nobody has the {missing} yet; whoever registers with it gets the message"), err=True
        )


async def _missing(client: Client, to: str) -> str | None:
    """What an agent would have to have for mail to that address to reach it, if none has it."""
    kind, _, name = to.partition(":")
    match kind:
        case "broadcast" | "policy" | "pool" | "channel":
            return None
        case "label":
            found = any(name == agent.label for agent in await client.agents())
        case "tag":
            found = any(name in agent.tags for agent in await client.agents())
        case "cap":
            found = any(name in agent.capabilities for agent in await client.agents())
        case _:
            return None if await _exists(client, to) else f"id {to}"
    return None if found else f"{'capability' if kind == 'cap' else kind} {name}"


async def _exists(client: Client, participant: str) -> bool:
    """Whether mail for that id has somebody to read it."""
    from relay import wire
    from relay.client import Refused

    if participant in wire.RESERVED:
        return True
    try:
        await client.agent(participant)
    except Refused as refusal:
        if refusal.status == 404:
            return False
        raise
    return True


@click.command()
@click.argument("agent", default=ME)
@click.option("--unread", is_flag=True, help="Only what the agent has not read.")
@click.option("--since", type=click.IntRange(min=0), help="Only messages with a greater id.")
@click.option("--limit", type=click.IntRange(1, 500), default=100, show_default=True)
@click.option("--mark-read", is_flag=True, help="Mark what is shown as read by the agent.")
@target
def inbox(
    target: Target, agent: str, unread: bool, since: int | None, limit: int, mark_read: bool, as_json: bool
) -> None:
    """Show the messages for AGENT, oldest first."""
    from relay import wire

    async def read(client: Client) -> list[tuple[wire.Message, wire.Rung]]:
        found = await client.messages(for_=agent, since=since, unread=unread, limit=limit)
        if not found and not await _exists(client, agent):
            raise Failure(f"nobody has the id {agent}", then="relay agents shows who is there")
        rungs = await _rungs(client, agent, found, unread=unread)
        for message in found if mark_read else ():
            await client.mark_read(message.id, agent)
        return [(message, rungs.get(message.id, wire.Rung.STORED)) for message in found]

    found = ask(target, read)
    if as_json:
        return show_json([{**wire.to_json(message), "rung": rung} for message, rung in found])
    return say("\n\n".join(_letter(*each) for each in found) or f"no messages for {agent}")


async def _rungs(
    client: Client, agent: str, found: list[wire.Message], *, unread: bool
) -> dict[int, wire.Rung]:
    """How far each of them had got with the agent."""
    if not found:
        return {}
    progress = await client.mailbox_progress(agent, since=found[0].id - 1, unread=unread, limit=len(found))
    return {each.message_id: each.rung for each in progress}


def _letter(message: wire.Message, rung: wire.Rung) -> str:
    """A message whole: who wrote it, when, and how far it got on the first line, the text below."""
    head = [f"{message.id}", f"{message.from_} → {message.to}", age(message.created_at), rung]
    if message.subject:
        head.append(message.subject)
    return "\n".join(["  ".join(map(one_line, head)), indent(message.body, "    ")])
