"""Claims on messages: who holds which one, until when.

1. A message has one holder at a time (M-I3). A claim whose time is over counts no more, and stays on record until
   the next one takes its place or maintenance releases it.
2. A claim may be one on a task, too. All claims that stand for one task have one holder and one end (M-I6).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import attrs

from relay.store import Event, Store, Write

from ._staged import Staged

__all__ = ["CLAIM_TERM", "Claims", "Held", "claim_announced", "claim_released"]

CLAIM_TERM = 900.0
"""Seconds a claim lasts (O-19)."""

COLUMNS = "message_id, agent_id, expires_at, task_id"


@attrs.frozen
class Held:
    """A claim on a message; `until` is epoch seconds."""

    agent_id: str
    until: float
    task_id: int | None = None


class Claims:
    """All claims, as the decisions of the post office made them so far, durable or not."""

    def __init__(self, store: Store, progress: Callable[[], tuple[int, int]]) -> None:
        self._store = store
        self._staged: Staged[int, Held] = Staged(progress)

    def of(self, number: int) -> Held | None:
        """The last claim on the message, over or not."""
        if number in self._staged:
            return self._staged[number]
        found = self._read("message_id = ?", number)
        return found.get(number)

    def holder(self, number: int, now: float) -> str | None:
        """Who holds the message at this instant (epoch seconds)."""
        held = self.of(number)
        return held.agent_id if held is not None and held.until > now else None

    def on_task(self, task_id: int) -> dict[int, Held]:
        """The claims that stand for the task, by message."""
        return self._fitting(lambda held: held.task_id == task_id, "task_id = ?", task_id)

    def over(self, now: float) -> dict[int, Held]:
        """The claims whose time is over, by message."""
        return self._fitting(lambda held: held.until <= now, "expires_at <= ?", round(now * 1000))

    def prolong(self, seconds: float) -> tuple[Write, ...]:
        """Give every claim so much more time."""
        known = self._fitting(lambda _: True, "expires_at >= ?", 0).items()
        return tuple(
            self.hold(number, attrs.evolve(held, until=round(held.until + seconds, 3)))
            for number, held in known
        )

    def hold(self, number: int, held: Held) -> Write:
        self._staged.put(number, held)
        return Write(
            f"insert or replace into message_claims ({COLUMNS}) values (?, ?, ?, ?)",
            (number, held.agent_id, round(held.until * 1000), held.task_id),
        )

    def free(self, numbers: Iterable[int]) -> tuple[Write, ...]:
        """End these claims."""
        return tuple(map(self._free, numbers))

    def _free(self, number: int) -> Write:
        self._staged.put(number, None)
        return Write("delete from message_claims where message_id = ?", (number,))

    def _read(self, condition: str, value: int) -> dict[int, Held]:
        rows = self._store.rows(f"select {COLUMNS} from message_claims where {condition}", value)
        return {number: Held(agent_id, until / 1000, task) for number, agent_id, until, task in rows}

    def _fitting(self, fits: Callable[[Held], bool], condition: str, value: int) -> dict[int, Held]:
        """Those that fit, by message in the order of ids; `condition` finds the durable ones among them."""
        found = self._read(condition, value)
        for number, held in self._staged:
            found.pop(number, None)
            if held is not None:
                found[number] = held
        return {number: held for number, held in sorted(found.items()) if fits(held)}


def claim_announced(number: int, held: Held) -> Event:
    """The agent has won the message."""
    data = {"messageId": number, "agentId": held.agent_id, "claimExpiresAt": round(held.until * 1000)}
    return Event("message.claimed", held.agent_id, str(number), data)


def claim_released(number: int) -> Event:
    """Nobody holds the message any more."""
    return Event("message.claim.released", "server", str(number), {"messageId": number})
