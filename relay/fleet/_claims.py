"""Claims on messages: who holds which one, until when.

1. A message has one holder at a time (M-I3). A claim whose time is over counts no more, and stays on record until
   the next one takes its place or maintenance releases it.
2. A claim may be one on a task, too. All claims that stand for one task have one holder and one end (M-I6).
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from relay.store import Event, Store, Write

from ._machine import Moves
from ._staged import Added, Durability, Staged

__all__ = [
    "CLAIM_TERM",
    "FREE",
    "MINE",
    "MOVES",
    "PUT_OFF_BY",
    "Claims",
    "Held",
    "claim_announced",
    "claim_released",
]

CLAIM_TERM = 900.0
"""Seconds a claim lasts (O-19)."""

PUT_OFF_BY = "release_claims"
"""The step of maintenance that puts their ends off by what was missed. Until it has, `Absence.wall_for` makes up for it."""

FREE, MINE, OTHERS = "free", "mine", "another's"
MINE_OVER, OTHERS_OVER = "mine but over", "another's but over"

MOVES: Moves = {
    FREE: {"claim": MINE},
    MINE: {"claim": MINE, "renew": MINE, "task ends": FREE},
    MINE_OVER: {"claim": MINE, "renew": MINE, "maintenance": FREE, "task ends": FREE},
    OTHERS: {"task ends": FREE},
    OTHERS_OVER: {"claim": MINE, "maintenance": FREE, "task ends": FREE},
}
"""Spec 22.2, as whoever asks sees it. `over` is a claim whose time is over and that maintenance has not released yet."""

COLUMNS = "message_id, agent_id, expires_at, task_id"


@attrs.frozen
class Held:
    """A claim on a message; `until` is epoch seconds."""

    agent_id: str
    until: float
    task_id: int | None = None


class Claims:
    """All claims, as the decisions of the post office made them so far, durable or not."""

    def __init__(self, store: Store, durability: Durability) -> None:
        self._store = store
        self._staged: Staged[int, Held] = Staged(durability)
        self._of_tasks: Staged[int, frozenset[int]] = Staged(durability)  # by task: some that stood for it
        self._added = Added(durability)

    def of(self, number: int) -> Held | None:
        """The last claim on the message, over or not."""
        if number in self._staged:
            return self._staged[number]
        found = self._read("message_id = ?", number)
        return found.get(number)

    def standing(self, number: int, agent_id: str, now: float) -> str:
        """How the message's claim stands to this agent at this instant: a state of `MOVES`."""
        held = self.of(number)
        if held is None:
            return FREE
        if held.agent_id == agent_id:
            return MINE if held.until > now else MINE_OVER
        return OTHERS if held.until > now else OTHERS_OVER

    def on_task(self, task_id: int) -> dict[int, Held]:
        """The claims that stand for the task, by message."""
        found: dict[int, Held | None] = {**self._read("task_id = ?", task_id)}
        for number in (*found, *(self._of_tasks.get(task_id) or ())):
            if number in self._staged:
                found[number] = self._staged[number]
        return {
            number: held
            for number, held in sorted(found.items())
            if held is not None and held.task_id == task_id
        }

    def over(self, now: float, most: int) -> list[int]:
        """The messages on which a claim is over, a bounded number of them."""
        staged = dict(self._staged)
        sql = "select message_id from message_claims where expires_at <= ? order by expires_at, message_id limit ?"
        rows = self._store.rows(sql, round((now - self._added.seconds) * 1000), most + len(staged))
        found = [number for (number,) in rows if number not in staged]
        found += [number for number, held in staged.items() if held is not None and held.until <= now]
        return sorted(found)[:most]

    def prolong(self, seconds: float) -> Write:
        """Give every claim so much more time."""
        for number, held in self._staged:
            if held is not None:
                self._staged.put(number, attrs.evolve(held, until=round(held.until + seconds, 3)))
        self._added.add(seconds)
        return Write("update message_claims set expires_at = expires_at + ?", (round(seconds * 1000),))

    def hold(self, number: int, held: Held) -> Write:
        self._staged.put(number, held)
        if held.task_id is not None:
            self._stands_for(held.task_id, number)
        return Write(
            f"insert or replace into message_claims ({COLUMNS}) values (?, ?, ?, ?)",
            (number, held.agent_id, round(held.until * 1000), held.task_id),
        )

    def _stands_for(self, task_id: int, number: int) -> None:
        self._of_tasks.put(task_id, (self._of_tasks.get(task_id) or frozenset()) | {number})

    def free(self, numbers: Iterable[int]) -> tuple[Write, ...]:
        """End these claims."""
        return tuple(map(self._free, numbers))

    def _free(self, number: int) -> Write:
        self._staged.put(number, None)
        return Write("delete from message_claims where message_id = ?", (number,))

    def _read(self, condition: str, value: int) -> dict[int, Held]:
        rows = self._store.rows(f"select {COLUMNS} from message_claims where {condition}", value)
        added = round(self._added.seconds * 1000)
        return {
            number: Held(agent_id, (until + added) / 1000, task) for number, agent_id, until, task in rows
        }


def claim_announced(number: int, held: Held) -> Event:
    """The agent has won the message."""
    data = {"messageId": number, "agentId": held.agent_id, "claimExpiresAt": round(held.until * 1000)}
    return Event("message.claimed", held.agent_id, str(number), data)


def claim_released(number: int) -> Event:
    """Nobody holds the message any more."""
    return Event("message.claim.released", "server", str(number), {"messageId": number})
