"""Reactions to messages: a part of the post office, which knows whether a message is still there."""

from __future__ import annotations

import attrs

from relay import wire
from relay.actors import Ask
from relay.store import Decision, Event, Store, Write

from ._errors import Unprocessable
from ._moment import Moment
from ._post_protocol import Post
from ._staged import Durability, Staged

__all__ = ["MOST_REACTIONS", "React", "Reactions"]

MOST_REACTIONS = 500  # to one message: every view of it shows them


@attrs.frozen
class React(Ask[Post, bool]):
    """An agent reacts to a message, or takes that back; the answer is whether it is a new reaction.

    Saying the same twice is harmless.
    """

    message_id: int
    asked: wire.React


class Reactions:
    """Who reacted to what, durable or not."""

    def __init__(self, store: Store, durability: Durability) -> None:
        self._store = store
        self._staged: Staged[tuple[int, str, str], bool] = Staged(durability)

    def react(self, number: int, asked: wire.React, moment: Moment) -> Decision[bool]:
        """Raises `Unprocessable` when the message has as many as it can have."""
        key = (number, asked.agent_id, asked.emoji)
        if self._there(key) is not asked.remove:
            return Decision(reply=False)
        if not asked.remove and self._count(number) >= MOST_REACTIONS:
            raise Unprocessable(f"the message has {MOST_REACTIONS} reactions, and takes no more")
        self._staged.put(key, None if asked.remove else True)
        return _changed(key, removed=asked.remove, moment=moment)

    def _there(self, key: tuple[int, str, str]) -> bool:
        if key in self._staged:
            return self._staged[key] is not None
        sql = "select 1 from message_reactions where message_id = ? and agent_id = ? and emoji = ?"
        return self._store.row(sql, *key) is not None

    def _count(self, number: int) -> int:
        """What is durable: a few on their way more or less do no harm."""
        row = self._store.row("select count(*) from message_reactions where message_id = ?", number)
        return row[0] if row else 0


def _changed(key: tuple[int, str, str], *, removed: bool, moment: Moment) -> Decision[bool]:
    number, agent_id, emoji = key
    if removed:
        sql = "delete from message_reactions where message_id = ? and agent_id = ? and emoji = ?"
        write = Write(sql, key, 1)
    else:
        sql = "insert into message_reactions (message_id, agent_id, emoji, at) values (?, ?, ?, ?)"
        write = Write(sql, (*key, moment.ms))
    data = {"messageId": number, "agentId": agent_id, "emoji": emoji, "removed": removed}
    event = Event("message.reaction", "server", str(number), data)
    return Decision(reply=not removed, writes=(write,), events=(event,))
