"""Channels, as the cards of agents tell of them.

A channel is an agent that says so: by its kind, by `meta.kind`, or by a tag (CHN-1). Its id is `meta.channelId`, or
else the agent's. Of several that claim one id, the agent of that very id is the channel, or else the first by id.
"""

from __future__ import annotations

import attrs

from relay import wire
from relay.store import Store

from ._bindings import list_bindings
from ._errors import NotFound
from .agents import find_agent

__all__ = ["find_channel", "get_channel", "list_channels", "through_channel"]

ADDRESS = "channel:"
CHANNEL = "channel"
LONGEST_ID = 120  # what a message's `channel` may be
DIRECTIONS = ("in", "out")

# A text that the card of every channel has, and hardly another: an index finds them among thousands of agents.
CLAIMS_TO_BE_ONE = "select record from agents where instr(record, '\"channel\"') > 0 order by id"


def list_channels(store: Store) -> list[wire.Channel]:
    """All channels, by id."""
    bound: dict[str, list[wire.Binding]] = {}
    for binding in list_bindings(store):
        bound.setdefault(binding.channel_id, []).append(binding)
    found = _by_id(store)
    return [_channel(key, found[key], bound.get(key, [])) for key in sorted(found)]


def get_channel(store: Store, key: str) -> wire.Channel:
    """The channel with its bindings; raises `NotFound`."""
    channel = find_channel(store, key)
    if channel is None:
        raise NotFound("no such channel")
    return channel


def find_channel(store: Store, key: str) -> wire.Channel | None:
    card = find_agent(store, key)
    if card is None or _channel_id(card) != key:
        card = _by_id(store).get(key)
    return _channel(key, card, list_bindings(store, key)) if card is not None else None


def through_channel(asked: wire.SendMessage, store: Store) -> wire.SendMessage:
    """Mail for a channel, out into the world, goes to the agent that the channel is; all other mail is left as it is."""
    if asked.to is None or not asked.to.startswith(ADDRESS):
        return asked
    channel = find_channel(store, asked.to.removeprefix(ADDRESS).strip())
    if channel is None:
        return asked
    return attrs.evolve(asked, to=channel.agent_id, channel=asked.channel or channel.id)


def _by_id(store: Store) -> dict[str, wire.Agent]:
    found: dict[str, wire.Agent] = {}
    for (record,) in store.rows(CLAIMS_TO_BE_ONE):
        card = wire.decode(wire.Agent, record)
        key = _channel_id(card)
        if key is not None and (key not in found or card.id == key):
            found[key] = card
    return found


def _channel_id(card: wire.Agent) -> str | None:
    """What the channel that this agent is goes by; None if it is none, or has no id that messages can carry."""
    if card.kind != CHANNEL and card.meta.get("kind") != CHANNEL and CHANNEL not in card.tags:
        return None
    given = card.meta.get("channelId")
    key = given.strip() if isinstance(given, str) and given.strip() else card.id
    return key if wire.length(key) <= LONGEST_ID else None


def _channel(key: str, card: wire.Agent, bindings: list[wire.Binding]) -> wire.Channel:
    given = card.meta.get("directions")
    directions = [each for each in DIRECTIONS if not isinstance(given, list) or each in given]
    return wire.Channel(
        id=key,
        agent_id=card.id,
        label=card.label,
        status=card.status,
        directions=directions,
        bindings=bindings,
    )
