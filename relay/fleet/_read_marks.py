"""Read marks: which agent has read which message, once and for good (MSG-25)."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from relay.store import Decision, Event, Store, Write

from ._moment import Moment
from ._staged import Durability, Staged

__all__ = ["ReadMarks"]

NEW = (
    "select value from json_each(?1) where not exists"
    " (select 1 from message_reads where agent_id = ?2 and message_id = value)"
)
INSERT = "insert or ignore into message_reads (agent_id, message_id, at) select ?, value, ? from json_each(?)"


class ReadMarks:
    """All read marks, as the decisions of the post office made them so far, durable or not."""

    def __init__(self, store: Store, durability: Durability) -> None:
        self._store = store
        self._staged: Staged[tuple[str, int], bool] = Staged(durability)

    def read(self, numbers: Sequence[int], agent_id: str, moment: Moment) -> Decision[None]:
        """The agent has read these. Each is told of once; one write is enough for all."""
        new = self._new(numbers, agent_id)
        if not new:
            return Decision(reply=None)
        for number in new:
            self._staged.put((agent_id, number), True)
        write = Write(INSERT, (agent_id, moment.ms, orjson.dumps(new).decode()))
        return Decision(reply=None, writes=(write,), events=tuple(_told(number, agent_id) for number in new))

    def _new(self, numbers: Sequence[int], agent_id: str) -> list[int]:
        rows = self._store.rows(NEW, orjson.dumps(numbers).decode(), agent_id)
        return [
            number for number in dict.fromkeys(n for (n,) in rows) if (agent_id, number) not in self._staged
        ]


def _told(number: int, agent_id: str) -> Event:
    return Event("message.read", agent_id, str(number), {"messageId": number, "agentId": agent_id})
