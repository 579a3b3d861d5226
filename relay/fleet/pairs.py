"""Pairs: two agents who have agreed to talk (messaging-control 6, 22.9).

One actor per id owns the row.

    pending   accept, by the invited -> active     reject, by the invited -> rejected
              end, by either -> ended              its lifetime is over -> expired
    active    end, by either -> ended              a member goes offline, or is deleted -> ended
              a message of a member is for the other
    ended, rejected, expired are final: whatever is asked then is a conflict.

1. The row is first, then the invitation, under a key of its own. Whatever comes between them is made up for by the next
   incarnation, so that there is one invitation for a pair, and never two.
2. The invitation is mail: it may be answered by whoever comes back in time. An active pair needs both to be there. An
   acceptance looks once more at both when it is durable: one who went meanwhile has told only the pairs it could see.
3. Messages pass through this actor while the pair is active, one at a time: none can follow its end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import trio

from relay import wire
from relay.actors import ActorError, Context, Step, Unavailable
from relay.store import Decision, Store

from ._actor import FleetActor
from ._errors import Conflict, Forbidden, NotFound, Unprocessable
from ._pair_protocol import Accept, End, Expire, Left, Look, PairProtocol, Propose, Reject, Say
from ._pair_rules import (
    MOVES,
    OPEN,
    absent,
    invitation,
    message as message_of,
    moved,
    other,
    proposed,
    row_of,
)
from ._post_protocol import Send, SendMany

if TYPE_CHECKING:
    from ._fleet import Fleet

__all__ = [
    "MOVES",
    "Accept",
    "End",
    "Expire",
    "Left",
    "Look",
    "Pair",
    "PairProtocol",
    "Propose",
    "Reject",
    "Say",
    "due_pairs",
    "get_pair",
    "list_pairs",
    "open_pairs",
]

Status = wire.PairStatus

POST_WITHIN = 20.0  # seconds that the post office has to take a message
LATE = "not answered in time"
AGAIN = 5.0  # seconds until an invitation is tried again that could not be sent
TROUBLE = (ActorError, Unavailable, trio.TooSlowError)


class Pair(FleetActor[PairProtocol]):
    """The actor of one pair."""

    def __init__(self, fleet: Fleet, key: str) -> None:
        super().__init__(fleet)
        self.id = key
        self.pair = find_pair(self.store, key)

    def started(self, context: Context[PairProtocol]) -> None:
        if self.pair is not None and MOVES[self.pair.status]:
            context.self_ref.tell(Look())

    def handle(self, message: Any, context: Context[PairProtocol]) -> Step:
        match message:
            case Propose(asked):
                return self._propose(message, asked, context)
            case Accept(agent_id):
                self._accept(message, self._invited(agent_id), context)
            case Reject(agent_id):
                self._invited(agent_id)
                self._move(message, "reject", context, ended_by=agent_id, reason="rejected")
            case End(agent_id):
                other(self._known(), agent_id)
                self._move(message, "end", context, ended_by=agent_id, reason="ended")
            case Say(said):
                return self._say(message, said, context)
            case Expire(held_up):
                self._expire(message, held_up, context)
            case Left(agent_id):
                self._leave(message, agent_id, context)
            case Look():
                return self._look(message, context)
        return None

    def _known(self) -> wire.Pair:
        if self.pair is None:
            raise NotFound("no such pair")
        return self.pair

    def _invited(self, agent_id: str) -> wire.Pair:
        pair = self._known()
        if agent_id != pair.to:
            raise Forbidden(f"only {pair.to} was invited")
        return pair

    def _move(self, message: Any, event: str, context: Context[PairProtocol], **given: Any) -> None:
        self.pair, decision = moved(self._known(), event, self.moment(), **given)
        self.settle(message, decision, context)

    def _accept(self, message: Accept, pair: wire.Pair, context: Context[PairProtocol]) -> None:
        after, decision = moved(pair, "accept", self.moment())
        if absent(self.store, pair.from_):
            raise Unprocessable(f"{pair.from_} is offline")
        self.pair = after
        self.settle(message, attrs.evolve(decision, tells=((context.self_ref, Look()),)), context)

    def _expire(self, message: Expire, held_up: float, context: Context[PairProtocol]) -> None:
        decision: Decision[bool] = Decision(reply=False)
        pair = self.pair
        if held_up and pair is not None and pair.status is Status.PENDING:
            later = wire.Instant((pair.expires_at or 0.0) + held_up)
            self.pair = attrs.evolve(pair, expires_at=later)
            decision = Decision(reply=False, writes=(row_of(self.pair),))
        elif pair is not None and self._is_due():
            self.pair, ended = moved(pair, "expire", self.moment(), reason=LATE)
            decision = Decision(reply=True, writes=ended.writes, events=ended.events)
        self.settle(message, decision, context)

    def _is_due(self) -> bool:
        pair = self.pair
        if pair is None or pair.status is not Status.PENDING:
            return False
        return self.fleet.system.wall() >= (pair.expires_at or 0.0)

    def _leave(self, message: Left | Look, agent_id: str, context: Context[PairProtocol]) -> None:
        if self.pair is not None and "leave" in MOVES[self.pair.status]:
            self._move(message, "leave", context, ended_by=agent_id, reason="a member is gone")

    async def _propose(
        self, message: Propose, asked: wire.ProposePair, context: Context[PairProtocol]
    ) -> None:
        if self.pair is not None:
            raise Conflict("there is such a pair")
        pair, decision = proposed(self.id, asked, self.store, self.moment())
        self.pair = await self.commit(decision, context)
        try:
            await self._invite(pair, context)
        finally:  # there is a pair, whatever becomes of its invitation
            context.reply(message, self.pair)

    async def _invite(self, pair: wire.Pair, context: Context[PairProtocol]) -> None:
        """Sends the invitation, now or, if that cannot be, soon."""
        letters = SendMany((invitation(pair),), together=True, even_offline=True)
        try:
            with trio.fail_after(POST_WITHIN):
                (sent,) = await self.fleet.post_office.ask(letters)
        except TROUBLE:
            context.set_timer("invite", AGAIN, Look())
        else:
            assert not isinstance(sent, Exception)
            self.pair = attrs.evolve(pair, message_id=sent.message.id)
            await self.commit(Decision(reply=None, writes=(row_of(self.pair),)), context)

    async def _say(self, message: Say, said: wire.PairMessage, context: Context[PairProtocol]) -> None:
        pair = self._known()
        letter = message_of(pair, said)
        if pair.status is not Status.ACTIVE:
            raise Conflict(f"the pair is {pair.status}")
        try:
            with trio.fail_after(POST_WITHIN):
                sent = await self.fleet.post_office.ask(Send(letter))
        except TROUBLE as trouble:
            context.defer(message).fail(trouble)
        else:
            context.reply(message, sent)

    async def _look(self, message: Look, context: Context[PairProtocol]) -> None:
        pair = self.pair
        if pair is None or not MOVES[pair.status]:
            return
        if pair.status is Status.ACTIVE:
            lost = next((each for each in (pair.from_, pair.to) if absent(self.store, each)), None)
            if lost is not None:
                self._leave(message, lost, context)
        elif self._is_due():
            self._move(message, "expire", context, reason=LATE)
        elif pair.message_id is None:
            await self._invite(pair, context)


def find_pair(store: Store, key: str) -> wire.Pair | None:
    row = store.row("select record from pairs where id = ?", key)
    return wire.decode(wire.Pair, row[0]) if row else None


def get_pair(store: Store, key: str) -> wire.Pair:
    """The pair; raises `NotFound`."""
    pair = find_pair(store, key)
    if pair is None:
        raise NotFound("no such pair")
    return pair


def list_pairs(
    store: Store, *, status: Status | None = None, agent_id: str | None = None, limit: int = 100
) -> list[wire.Pair]:
    """The newest first; those that `agent_id` is a member of, or all."""
    sql = (
        "select record from pairs where (?1 is null or status = ?1) and (?2 is null or ?2 in (from_id, to_id))"
        " order by created_at desc, id desc limit ?3"
    )
    return [wire.decode(wire.Pair, record) for (record,) in store.rows(sql, status, agent_id, limit)]


def open_pairs(store: Store) -> list[str]:
    """The ids of pairs that something can become of: whoever starts the fleet wakes them."""
    sql = f"select id from pairs where status in ({', '.join('?' * len(OPEN))})"
    return [key for (key,) in store.rows(sql, *OPEN)]


def due_pairs(store: Store, at: float) -> list[str]:
    """The ids of invitations whose lifetime is over at `at` (epoch seconds), for the maintenance run to `Expire`."""
    sql = "select id from pairs where status = 'pending' and expires_at <= ? order by expires_at, id"
    return [key for (key,) in store.rows(sql, at * 1000)]
