"""The queue of a policy: mail to `policy:<name>` waits for the policy's agent (messaging-control 4.7).

A policy is *served* when its state is `running` and the agent linked to it is not offline. What is sent to a served
policy goes to that agent at once, unless older mail still waits: then that is released first. A message takes one
way out of the queue (M-I7): `MOVES` has one from each state, and the row's fence sees to it.

Whether a policy is served is read from the rows of its state and its agent each time, so a release can never be for
somebody who was linked before (M-I12). A release or an expiry takes `AT_ONCE` messages at most; there may be more.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs
import orjson

from relay import wire
from relay.store import Decision, Event, Store, Write

from ._machine import NONE, Moves, states_with
from ._moment import Moment
from ._post_protocol import ResumeQueue
from ._recent import Recent
from ._staged import Durability, Staged

__all__ = ["AT_ONCE", "MOVES", "POLICY", "PolicyQueue", "Routed", "lifetime", "resume", "served_by"]

POLICY = "policy:"
LIFETIME = 86_400
"""Seconds that a message waits unless it says otherwise (O-20)."""

AT_ONCE = 500  # messages in one release or expiry
BYTES_AT_ONCE = 4 * 1024 * 1024  # of messages in one release or expiry, if it is more than one

QUEUED, AVAILABLE = wire.DeliveryStatus.QUEUED, wire.DeliveryStatus.AVAILABLE
EXPIRED = wire.DeliveryStatus.EXPIRED

MOVES: Moves = {
    NONE: {"sent": AVAILABLE, "sent to an unserved policy": QUEUED},
    QUEUED: {"released": AVAILABLE, "expired": EXPIRED, "deleted": NONE},
    AVAILABLE: {"deleted": NONE},
    EXPIRED: {"deleted": NONE},
}
"""Spec 22.1."""

IS_QUEUED = f"delivery in ({', '.join(repr(each.value) for each in states_with('released', MOVES))})"

SERVED = (
    "select managed.agent_id from managed_agents managed join agents on agents.id = managed.agent_id"
    " where managed.policy_name = ? and managed.status = 'running' and agents.status <> 'offline'"
)
RUNNING = "select policy_name from managed_agents where status = 'running'"
# A life time of 0 is over, but for the next sweep only: until then the message can be released (MSG-30).
WAITING = (
    "select id from messages where address = ?1 and delivery = 'queued'"
    " and (expires_at > ?2 or expires_at = queued_at) order by id limit ?3"
)
DUE = (
    "select id from messages where delivery = 'queued' and expires_at <= ?1"
    " and (expires_at <= ?2 or expires_at = queued_at) order by expires_at, id limit ?3"
)
EXTEND = (
    "update messages set expires_at = expires_at + ? where delivery = 'queued' and expires_at > queued_at"
)
RELEASE = (
    f"update messages set delivery = '{MOVES[QUEUED]['released']}', resolved_to = ?, available_at = ?"
    f" where {IS_QUEUED} and id in (select value from json_each(?))"
)
EXPIRE = (
    f"update messages set delivery = '{MOVES[QUEUED]['expired']}', expired_at = ?"
    f" where {IS_QUEUED} and id in (select value from json_each(?))"
)


@attrs.frozen
class Waiting:
    """A message that was queued and may not be durable yet. `due` is in epoch milliseconds."""

    address: str
    due: int
    for_sweep: bool

    def alive(self, now: int) -> bool:
        return self.due > now or self.for_sweep

    def over(self, now: int) -> bool:
        return self.due <= now or self.for_sweep


@attrs.frozen
class Routed:
    """Where a new message goes: `queued`, or `resolved` to an agent, after what was `released` first."""

    queued: bool = False
    resolved: str | None = None
    released: Decision[bool] | None = None


class PolicyQueue:
    """What waits for all policies. Its methods decide; the post office settles."""

    def __init__(self, store: Store, recent: Recent, durability: Durability) -> None:
        self._store = store
        self._recent = recent
        self._moved: Staged[int, Waiting] = Staged(durability)  # None: it has left

    def route(self, address: str, moment: Moment, now: int) -> Routed:
        """Where a message to `address` goes now (MSG-31). `now` is the wall clock in epoch milliseconds."""
        if not address.startswith(POLICY):
            return Routed()
        policy = address.removeprefix(POLICY)
        agent_id = self._served_by(policy)
        if agent_id is None:
            return Routed(queued=True)
        released = self._release(policy, agent_id, moment, now)
        return Routed(queued=True, released=released) if released.reply else Routed(False, agent_id, released)

    def enter(self, stored: wire.Message, moment: Moment) -> None:
        """The message is stored as queued."""
        due = moment.ms + 1000 * lifetime(stored)
        self._moved.put(stored.id, Waiting(stored.to, due, due == moment.ms))

    def leave(self, number: int) -> None:
        self._moved.put(number, None)

    def release(self, policy: str, moment: Moment, now: int) -> Decision[bool]:
        """What waits goes to the agent that serves the policy, if one does (MSG-40). The reply: whether more waits."""
        agent_id = self._served_by(policy)
        return Decision(reply=False) if agent_id is None else self._release(policy, agent_id, moment, now)

    def _release(self, policy: str, agent_id: str, moment: Moment, now: int) -> Decision[bool]:
        waiting = self._waiting(POLICY + policy, now)
        chosen = self._leaving(waiting, "released", resolved_to_agent=agent_id)
        if not chosen:
            return Decision(reply=False)
        ids = [number for number, _, _ in chosen]
        write = Write(RELEASE, (agent_id, moment.ms, orjson.dumps(ids).decode()), rows=len(ids))
        data = {"policyName": policy, "agentId": agent_id, "messageIds": ids, "count": len(ids)}
        events = [Event("message.new", sender, str(number), text) for number, sender, text in chosen]
        available = Event("message.available", "server", POLICY + policy, data)
        more = len(ids) < len(waiting)
        key, delay, message = resume(policy)
        timers = {key: (delay, message)} if more else {}
        return Decision(reply=more, writes=(write,), events=(available, *events), timers=timers)

    def expire(self, moment: Moment, now: int, missed: int) -> Decision[tuple[int, ...]]:
        """What has waited too long (MSG-43), once all life times are `missed` ms longer. The reply: which, ascending."""
        extended = self._extended(missed) if missed else ()
        chosen = self._leaving(self._due(moment, now, missed), "expired")
        ids = tuple(number for number, _, _ in chosen)
        writes = (Write(EXPIRE, (moment.ms, orjson.dumps(ids).decode()), rows=len(ids)),) if ids else ()
        events = [Event("message.expired", "server", str(number), text) for number, _, text in chosen]
        return Decision(reply=ids, writes=extended + writes, events=tuple(events))

    def _extended(self, missed: int) -> tuple[Write, ...]:
        for number, waiting in list(self._moved):
            if waiting is not None and not waiting.for_sweep:
                self._moved.put(number, attrs.evolve(waiting, due=waiting.due + missed))
        return (Write(EXTEND, (missed,)),)

    def _served_by(self, policy: str) -> str | None:
        row = self._store.row(SERVED, policy)
        return row[0] if row else None

    def _waiting(self, address: str, now: int) -> list[int]:
        """The oldest that wait at the address and may still be released: more than one release takes, if there are."""
        moved = list(self._moved)
        rows = self._store.rows(WAITING, address, now, AT_ONCE + 1 + len(moved))
        entered = [
            number
            for number, waiting in moved
            if waiting is not None and waiting.address == address and waiting.alive(now)
        ]
        return sorted({number for (number,) in rows} - dict(moved).keys() | set(entered))

    def _due(self, moment: Moment, now: int, missed: int) -> list[int]:
        """Those whose life time is over, a bounded number; the rows do not have the `missed` ms on top yet."""
        moved = list(self._moved)
        rows = self._store.rows(DUE, moment.ms, now - missed, AT_ONCE + len(moved))
        entered = [number for number, waiting in moved if waiting is not None and waiting.over(now)]
        return sorted(({number for (number,) in rows} - dict(moved).keys()) | set(entered))

    def _leaving(self, numbers: Iterable[int], event: str, **changes: Any) -> list[tuple[int, str, bytes]]:
        """As many as go at once, after the event: number, sender and JSON text of each."""
        chosen: list[tuple[int, str, bytes]] = []
        size = 0
        for number in numbers:
            found = self._recent.find(number)
            assert found is not None, "what waits is stored"
            changed = attrs.evolve(found, delivery_status=MOVES[QUEUED][event], **changes)
            text = wire.encode(changed)
            size += len(text)
            if len(chosen) == AT_ONCE or (chosen and size > BYTES_AT_ONCE):
                break
            self._recent.remember(changed)
            self.leave(number)
            chosen.append((number, changed.from_, text))
        return chosen


def served_by(store: Store, agent_id: str | None = None) -> list[str]:
    """The policies that this agent is linked to, or all that have an agent: if that is there, their mail can go out."""
    rows = store.rows(RUNNING) if agent_id is None else store.rows(f"{RUNNING} and agent_id = ?", agent_id)
    return [policy for (policy,) in rows]


def resume(policy: str) -> tuple[str, float, ResumeQueue]:
    """The timer by which the release of a policy's mail goes on."""
    return f"queue/{policy}", 0.0, ResumeQueue(policy)


def lifetime(asked: wire.Message) -> int:
    """Seconds that the message may wait."""
    return LIFETIME if asked.max_age_seconds is None else asked.max_age_seconds
