"""What can be said to the actor that hands messages to one agent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from relay import wire
from relay.actors import Ask, Ref, Tell

if TYPE_CHECKING:
    from ._fleet import Fleet

__all__ = [
    "Ack",
    "Confirmed",
    "DeliveryProtocol",
    "Handed",
    "Look",
    "Redeliver",
    "Replied",
    "Take",
    "tell_of_reading",
    "tell_of_reply",
]

Tells = tuple[tuple[Ref[Any], Tell[Any]], ...]


class DeliveryProtocol:
    """What the actor of one recipient understands."""


@attrs.frozen
class Handed:
    """`again_in`: seconds until more may be taken though nothing happens; None when only an event can bring more."""

    deliveries: tuple[wire.HandOver, ...]
    again_in: float | None = None


@attrs.frozen
class Take(Ask[DeliveryProtocol, Handed]):
    """Hand over what is due, oldest first. `holding` as in `wire.TakeDeliveries`."""

    instance: str | None = None
    limit: int = 100
    most_bytes: int = 262_144
    holding: frozenset[int] | None = None


@attrs.frozen
class Ack(Ask[DeliveryProtocol, tuple[wire.AckResult, ...]]):
    """Settle hand-overs, each by its token; the results are in the order of `acks`."""

    acks: tuple[wire.Ack, ...]


@attrs.frozen
class Redeliver(Ask[DeliveryProtocol, None]):
    """A dead message starts afresh. Raises `Conflict` unless it is dead."""

    message_id: int


@attrs.frozen
class Confirmed(Tell[DeliveryProtocol]):
    """The agent has marked the message as read."""

    message_id: int


@attrs.frozen
class Replied(Tell[DeliveryProtocol]):
    """The agent has answered the message."""

    message_id: int
    reply_id: int


@attrs.frozen
class Look(Tell[DeliveryProtocol]):
    """It is time to see which hand-overs have lasted too long."""


ROW = "select 1 from deliveries where agent_id = ? and message_id = ?"


def tell_of_reading(fleet: Fleet, number: int, agent_id: str) -> Tells:
    """Whom the post office tells that the agent has read the message: nobody, if it was never handed over."""
    if fleet.store.row(ROW, agent_id, number) is None:
        return ()
    return ((fleet.deliveries[agent_id], Confirmed(number)),)


def tell_of_reply(fleet: Fleet, reply: wire.Message) -> Tells:
    """Whom the post office tells of a reply: nobody, if what it answers was never handed over."""
    if reply.reply_to is None or fleet.store.row(ROW, reply.from_, reply.reply_to) is None:
        return ()
    return ((fleet.deliveries[reply.from_], Replied(reply.reply_to, reply.id)),)
