"""What can be said to the actor of one pair."""

from __future__ import annotations

import attrs

from relay import wire
from relay.actors import Ask, Tell
from relay.store import Store

from ._post_protocol import Sent

__all__ = ["Accept", "End", "Expire", "Left", "Look", "PairProtocol", "Propose", "Reject", "Say", "pairs_of"]


class PairProtocol:
    """What the actor of one pair understands."""


@attrs.frozen
class Propose(Ask[PairProtocol, wire.Pair]):
    asked: wire.ProposePair


@attrs.frozen
class Accept(Ask[PairProtocol, wire.Pair]):
    """Only the invited agent can, so with `Reject`."""

    agent_id: str


@attrs.frozen
class Reject(Ask[PairProtocol, wire.Pair]):
    agent_id: str


@attrs.frozen
class End(Ask[PairProtocol, wire.Pair]):
    """Either member can."""

    agent_id: str


@attrs.frozen
class Say(Ask[PairProtocol, Sent]):
    """A message from one member to the other."""

    said: wire.PairMessage


@attrs.frozen
class Expire(Ask[PairProtocol, bool]):
    """End an invitation that nobody has answered in time; the answer is whether there was one.

    `held_up`: nobody could have answered it for so many seconds, as the server was not there; it gets them on top.
    """

    held_up: float = 0.0


@attrs.frozen
class Left(Tell[PairProtocol]):
    """A member went offline, or was deleted."""

    agent_id: str


@attrs.frozen
class Look(Tell[PairProtocol]):
    """Make up for what may have been missed: an invitation to send, its end, a member who is gone."""


def pairs_of(store: Store, agent_id: str) -> list[str]:
    """The ids of the pairs that its end, or absence, may concern."""
    sql = (
        "select id from pairs where from_id = ?1 and status in ('pending', 'active') union"
        " select id from pairs where to_id = ?1 and status in ('pending', 'active')"
    )
    return [key for (key,) in store.rows(sql, agent_id)]
