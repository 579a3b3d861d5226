"""Messages: the post office.

One actor owns messages, read marks and claims. Rules:

1. A message that is accepted is stored before its sender hears so. Ids grow in commit order (M-I2).
2. A sender's idempotency key names one message as long as that is kept (M-I1); a repeat is answered with it.
3. The offline rule is judged once, at acceptance (M-I28): only a direct target that is known to be offline refuses.
4. At most one agent holds an unexpired claim (M-I3). Claims expire by comparison; the next claim replaces them.
5. Reading is by query (`list_messages` and its neighbours); it wakes nobody.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import attrs

from relay import wire
from relay.actors import Context, Refusal
from relay.store import Decision

from ._actor import FleetActor
from ._addresses import matches
from ._channel_cards import through_channel
from ._claims import CLAIM_TERM, MINE, MOVES as CLAIM_MOVES, PUT_OFF_BY, Claims, Held
from ._delivery_protocol import tell_of_reading, tell_of_reply
from ._delivery_rows import taken_by
from ._errors import Conflict, Forbidden, Invalid, NotFound, Over
from ._letters import accept, claimed, deleted, destination, joined, letter, sent
from ._mailboxes import delivery, get_message, latest_id, list_messages, list_queued, thread
from ._moment import Moment
from ._post_protocol import (
    Claim,
    Delete,
    ExpireQueued,
    MarkAllRead,
    MarkRead,
    Post,
    ReleaseQueue,
    Renew,
    RenewAll,
    ResumeQueue,
    Send,
    SendMany,
    Sent,
    TaskMessage,
)
from ._queue import PolicyQueue, resume, served_by
from ._reactions import React, Reactions
from ._read_marks import ReadMarks
from ._recent import Recent
from .agents import find_participant
from .tasks import Compare, Tasks

if TYPE_CHECKING:
    from ._fleet import Fleet

__all__ = [
    "CLAIM_TERM",
    "Claim",
    "Delete",
    "ExpireQueued",
    "MarkRead",
    "Post",
    "PostOffice",
    "React",
    "ReleaseQueue",
    "Renew",
    "ResumeQueue",
    "Send",
    "SendMany",
    "Sent",
    "delivery",
    "get_message",
    "latest_id",
    "list_messages",
    "list_queued",
    "matches",
    "thread",
]


class PostOffice(FleetActor[Post]):
    """The one actor for all messages. Its handlers never wait; many messages share one commit."""

    def __init__(self, fleet: Fleet) -> None:
        super().__init__(fleet)
        self._recent = Recent(self.store, self.durability)
        self.queue = PolicyQueue(self.store, self._recent, self.durability)
        self._read_marks = ReadMarks(self.store, self.durability)
        self._reactions = Reactions(self.store, self.durability)
        self.claims = Claims(self.store, self.durability)
        self.tasks = Tasks(self, self.durability)

    def started(self, context: Context[Post]) -> None:
        self._resume(served_by(self.store), context)
        context.self_ref.tell(Compare())

    def handle(self, message: Any, context: Context[Post]) -> None:
        match message:
            case Send(asked):
                self.settle(message, self.compose(asked, self.moment()), context)
            case SendMany():
                self._send_many(message, context)
            case Claim(number):
                self._claim(message, self.existing(number), context)
            case Renew(number, agent_id):
                self.settle(message, self._renewed(self.existing(number), agent_id), context)
            case RenewAll(numbers, agent_id):
                self._renew_all(message, numbers, agent_id, context)
            case MarkRead(number, agent_id):
                self._mark(message, self.existing(number).id, agent_id, context)
            case MarkAllRead():
                self._mark_all(message, context)
            case React(number, reaction):
                decided = self._reactions.react(self.existing(number).id, reaction, self.moment())
                self.settle(message, decided, context)
            case Delete(number):
                self._delete(message, self.existing(number), context)
            case TaskMessage():
                self.tasks.handle(message, context)
            case ReleaseQueue(policy) | ResumeQueue(policy):
                self.settle(message, self.queue.release(policy, self.moment(), self._now()), context)
            case ExpireQueued():
                self._expire(message, context)

    def _send_many(self, message: SendMany, context: Context[Post]) -> None:
        if message.together:
            self._judge_all(message)
        moment = self.moment()
        decisions = [self._attempt(asked, moment, message) for asked in message.messages]
        replies = tuple(decision.reply for decision in decisions)
        self.settle(message, joined(replies, *decisions), context)

    def _judge_all(self, message: SendMany) -> None:
        """Raises the first refusal. What repeats a key of another one in the batch is that one."""
        keys: set[tuple[str, str]] = set()
        for asked in message.messages:
            key = (asked.from_, asked.idempotency_key) if asked.idempotency_key is not None else None
            if key is None or key not in keys:
                self._judge(through_channel(asked, self.store), even_offline=message.even_offline)
            if key is not None:
                keys.add(key)

    def _attempt(
        self, asked: wire.SendMessage, moment: Moment, options: SendMany
    ) -> Decision[Sent] | Decision[Refusal]:
        try:
            return self.compose(asked, moment, even_offline=options.even_offline, audited=options.audited)
        except Refusal as no:
            return Decision(reply=no)

    def compose(
        self, asked: wire.SendMessage, moment: Moment, *, even_offline: bool = False, audited: bool = True
    ) -> Decision[Sent]:
        """What sending it causes; raises a `Refusal`. From now on it counts as sent: the decision must be settled."""
        asked = through_channel(asked, self.store)
        earlier, parent = self._judge(asked, even_offline=even_offline)
        if earlier is not None:
            return Decision(reply=Sent(earlier, wire.encode(earlier), new=False))
        routed = self.queue.route(destination(asked, parent), moment, self._now())
        stored = letter(asked, parent, moment, routed)
        self._recent.remember(stored)
        if routed.queued:
            self.queue.enter(stored, moment)
        decision = sent(stored, moment, audited=audited)
        if stored.reply_to is not None:
            decision = attrs.evolve(decision, tells=tell_of_reply(self.fleet, stored))
        if routed.released is None:
            return decision
        return joined(decision.reply, routed.released, decision)

    def _judge(
        self, asked: wire.SendMessage, *, even_offline: bool
    ) -> tuple[wire.Message | None, wire.Message | None]:
        """The message that this one repeats, or else the one that it answers; raises unless it may be stored."""
        earlier = self._recent.earlier(asked)
        if earlier is not None:
            return earlier, None
        parent = self._parent(asked)
        accept(asked, parent, self.store, even_offline=even_offline)
        return None, parent

    def _parent(self, asked: wire.SendMessage) -> wire.Message | None:
        if asked.reply_to is None:
            return None
        found = self._recent.find(asked.reply_to)
        if found is None and asked.to is None:
            raise Invalid("replyTo names no message, and there is no `to`")
        return found

    def find(self, number: int) -> wire.Message | None:
        """The message, durable or not."""
        return self._recent.find(number)

    def existing(self, number: int) -> wire.Message:
        """As `find`; raises `NotFound`."""
        found = self.find(number)
        if found is None:
            raise NotFound("no such message")
        return found

    def _claim(self, message: Claim, claimable: wire.Message, context: Context[Post]) -> None:
        agent_id = message.agent_id
        if not claimable.claimable:
            raise Conflict("the message is not claimable")
        if not matches(claimable, find_participant(self.store, agent_id)):
            raise Forbidden("the message is not addressed to this agent")
        standing = self.claims.standing(claimable.id, agent_id, self.wall_of_claims())
        if "claim" not in CLAIM_MOVES[standing]:
            held = self.claims.of(claimable.id)
            raise Conflict(f"the message is claimed by {held.agent_id if held is not None else 'somebody'}")
        with_task = self.tasks.claim_with(claimable, agent_id)
        if with_task is None and message.to_hand_over:
            self._must_be_free(claimable.id, agent_id)
        decision = with_task or self._held(claimable.id, agent_id, announce=standing is not MINE)
        self.settle(message, decision, context)

    def _must_be_free(self, number: int, agent_id: str) -> None:
        """Raises `Over` if another agent has taken the message: the work goes on there, or is done."""
        taker = taken_by(self.store, number, agent_id)
        if taker is not None:
            raise Over(f"{taker} has taken it")

    def _renewed(self, message: wire.Message, agent_id: str) -> Decision[wire.Claim]:
        standing = self.claims.standing(message.id, agent_id, self.wall_of_claims())
        if "renew" not in CLAIM_MOVES[standing]:
            raise Conflict("the agent does not hold a claim on the message")
        with_task = self.tasks.claim_with(message, agent_id)
        return with_task or self._held(message.id, agent_id, announce=False)

    def _renew_all(
        self, message: RenewAll, numbers: tuple[int, ...], agent_id: str, context: Context[Post]
    ) -> None:
        renewed = []
        for number in numbers:
            with suppress(Refusal):
                renewed.append(self._renewed(self.existing(number), agent_id))
        self.settle(message, joined(None, *renewed), context)

    def _held(self, number: int, agent_id: str, *, announce: bool) -> Decision[wire.Claim]:
        """The agent holds the message for another term, or as long as it does already."""
        before = self.claims.of(number)
        mine = before.until if before is not None and before.agent_id == agent_id else 0.0
        held = Held(agent_id, max(mine, self.moment().at + CLAIM_TERM))
        return claimed(number, held, self.claims.hold(number, held), announce=announce)

    def _mark(self, message: MarkRead, number: int, agent_id: str, context: Context[Post]) -> None:
        decision = self._read_marks.read([number], agent_id, self.moment())
        tells = tell_of_reading(self.fleet, number, agent_id)
        self.settle(message, attrs.evolve(decision, tells=tells), context)

    def _mark_all(self, message: MarkAllRead, context: Context[Post]) -> None:
        there = self._recent.there(message.message_ids)
        self.settle(message, self._read_marks.read(there, message.agent_id, self.moment()), context)

    def _delete(self, message: Delete, gone: wire.Message, context: Context[Post]) -> None:
        self._recent.delete(gone)
        self.queue.leave(gone.id)
        freed = Decision(reply=None, writes=self.claims.free([gone.id]))
        self.settle(message, joined(None, deleted(gone.id), freed), context)

    def _expire(self, message: ExpireQueued, context: Context[Post]) -> None:
        decision = self.queue.expire(self.moment(), self._now(), round(message.missed * 1000))
        self.settle(message, decision, context)
        self._resume(served_by(self.store), context)

    def _resume(self, policies: list[str], context: Context[Post]) -> None:
        for policy in policies:
            context.set_timer(*resume(policy))

    def _now(self) -> int:
        """The wall clock, in epoch milliseconds. A moment may be ahead of it."""
        return int(self.fleet.system.wall() * 1000)

    def wall_of_claims(self) -> float:
        """What the ends of claims are compared with (epoch seconds)."""
        return self.fleet.absence.wall_for(PUT_OFF_BY)
