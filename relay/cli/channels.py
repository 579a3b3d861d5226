"""Channels: what comes in from outside, and whom it goes to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .failure import Failure
from .options import Listing, Target, target
from .output import say, show, show_json
from .server import ask

if TYPE_CHECKING:
    from relay import wire

__all__ = ["channels"]


@click.group(cls=Listing)
def channels() -> None:
    """List channels to the outside; lead what comes in on them to agents."""


@channels.command("list")
@target
def list_(target: Target, as_json: bool) -> None:
    """List the channels, and for each where it leads."""
    from relay import wire

    found = ask(target, lambda client: client.channels())
    if as_json:
        return show_json([wire.to_json(channel) for channel in found])
    rows = [row for channel in found for row in _rows(channel)]
    return show(
        ("channel", "status", "leads to", "mode", "held by", "binding"),
        rows,
        empty="no channels; an agent that registers with the kind channel is one",
    )


@channels.command("bind")
@click.argument("channel")
@click.argument("to")
@click.option("--beside", is_flag=True, help="Beside the others that are; without this, in their place.")
@target
def bind(target: Target, channel: str, to: str, beside: bool, as_json: bool) -> None:
    """Lead CHANNEL to an agent's id, label:NAME, tag:NAME, cap:NAME, broadcast, policy:NAME or pool:NAME.

    A pool leads to one agent at a time: one that is there and has the pool's name among its tags or capabilities.

    \b
    relay channels bind ops planner
    relay channels bind ops pool:on-call --beside
    """
    from relay import wire

    mode = wire.BindingMode.BROADCAST if beside else wire.BindingMode.EXCLUSIVE
    asked = wire.NewBinding(channel_id=channel, target=wire.target_at(to.strip()), mode=mode)
    made = ask(target, lambda client: client.bind_channel(asked))
    if as_json:
        return show_json(wire.to_json(made))
    return say(f"{made.channel_id} leads to {_leads_to(made)} ({made.id})")


@channels.command("unbind")
@click.argument("binding")
@target
def unbind(target: Target, binding: str, as_json: bool) -> None:
    """Delete BINDING, whose id `relay channels list` shows."""
    ask(target, lambda client: client.unbind_channel(binding))
    if as_json:
        return show_json({"ok": True})
    return say(f"{binding} is deleted")


@channels.command("send")
@click.argument("channel")
@click.argument("body")
@click.option("--subject")
@click.option("--key", help="Idempotency key: repeating the command with it sends nothing new.")
@target
def send(
    target: Target, channel: str, body: str, subject: str | None, key: str | None, as_json: bool
) -> None:
    """Let BODY come in on CHANNEL: everybody whom it leads to gets a message, or nobody does.

    \b
    relay channels send ops "disk is full on db1" --key alert-117
    """
    from relay import wire

    if not body.strip():
        raise Failure("there is nothing to send", then="relay channels send --help")
    event = wire.ChannelEvent(body=body, subject=subject, idempotency_key=key)
    sent = ask(target, lambda client: client.channel_event(channel, event))
    if as_json:
        return show_json(wire.to_json(sent))
    lines = [f"message {each.id} to {each.to} ({each.delivery_status})" for each in sent.messages]
    return say("\n".join(lines if sent.created else ["nothing new; this was sent before:", *lines]))


def _rows(channel: wire.Channel) -> list[tuple[object, ...]]:
    if not channel.bindings:
        return [(channel.id, channel.status, "nobody", None, None, None)]
    return [
        (channel.id, channel.status, each.target.address, each.mode, each.pool_agent_id, each.id)
        for each in channel.bindings
    ]


def _leads_to(binding: wire.Binding) -> str:
    if binding.target.type != "pool":
        return binding.target.address
    return f"{binding.target.address}, held by {binding.pool_agent_id or 'nobody'}"
