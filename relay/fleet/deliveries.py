"""Deliveries: messages on their way to one recipient, rung by rung, each step with its evidence.

One actor per recipient owns its rows in `deliveries`; the moves are those of `_delivery_rules`. Rules:

1. A row begins with the first hand-over. Before it, a mailbox is a query, and how far a message got can be computed.
2. A hand-over has a token that no other hand-over of the message has. Only with the last one can it be settled, so at
   most one taker holds a message; what a former one says is refused as stale.
3. A hand-over lasts `VISIBLE` seconds. Then the agent's contact is judged: one that is busy, or whose session has been
   heard of, has it for longer, and its claim on it, too; nothing is held against the message. Time spent while nobody
   could be heard, because the server was away or held up, does not count.
4. A session that took the place of another is handed at once what that one had.
5. Whatever is `confirmed` is marked as read first, so a crash leaves nothing that is read and handed over again. What
   the post office tells (`Confirmed`, `Replied`) and a crash loses is made up for at the next look.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from relay import wire
from relay.actors import Context, Refusal
from relay.store import Conflict as FenceLost, Decision

from ._actor import FleetActor
from ._agent_rules import guard
from ._claims import PUT_OFF_BY
from ._delivery_protocol import (
    Ack,
    Confirmed,
    DeliveryProtocol,
    Handed,
    Look,
    Redeliver,
    Replied,
    Take,
)
from ._delivery_queue import Queue, fill
from ._delivery_rows import (
    Change,
    announced,
    audits,
    find_row,
    find_rows,
    handed_over,
    judged_late,
    made_up,
    open_rows,
    saved,
)
from ._delivery_rules import (
    HANDED,
    MOST_IN_HAND,
    MOVES,
    Row,
    acked,
    fresh,
    judged,
    moved,
    pause_after,
    replaced,
    taken,
)
from ._delivery_terms import Terms
from ._errors import Conflict, NotFound, Over
from ._mailboxes import dressed, letters_of
from ._moment import Moment
from ._post_protocol import Claim, MarkAllRead, RenewAll
from ._rungs import agent_progress, dead_letters, message_progress, over, reached
from ._waiting import concerns, happened
from .agents import find_participant

if TYPE_CHECKING:
    from ._fleet import Fleet

__all__ = [
    "Ack",
    "Confirmed",
    "Deliveries",
    "DeliveryProtocol",
    "Handed",
    "Look",
    "Redeliver",
    "Replied",
    "Take",
    "agent_progress",
    "concerns",
    "dead_letters",
    "happened",
    "message_progress",
    "over",
    "reached",
]

TRIES = 5  # of a decision that lost a fence: a message was deleted while it was made
NOT_OURS = 60.0  # seconds until a claim that was refused is asked for again

Decide = Callable[[Moment], list[Change]]


class Deliveries(FleetActor[DeliveryProtocol]):
    """The actor of one recipient."""

    def __init__(self, fleet: Fleet, key: str) -> None:
        super().__init__(fleet)
        self.id = key
        self._queue = Queue(self.store, key)
        self._terms = Terms(fleet.system)

    def started(self, context: Context[DeliveryProtocol]) -> None:
        """Every hand-over begins anew: nobody could settle it while this was away."""
        rows = open_rows(self.store, self.id)
        self._terms.begin(row.message_id for row in rows.values() if row.rung is HANDED)
        if rows:
            context.self_ref.tell(Look())

    async def handle(self, message: Any, context: Context[DeliveryProtocol]) -> None:
        match message:
            case Take():
                context.reply(message, await self._take(message, context))
            case Ack(acks):
                context.reply(message, await self._ack(acks, context))
            case Redeliver(number):
                await self._redeliver(number, context)
                context.reply(message, None)
            case Confirmed(number):
                await self._heard(number, "confirmed", None, context)
            case Replied(number, reply):
                await self._heard(number, "replied", reply, context)
            case Look():
                await self._look(context)
        self._terms.watch(context)

    # -- handing over

    async def _take(self, asked: Take, context: Context[DeliveryProtocol]) -> Handed:
        card = find_participant(self.store, self.id)
        if card is None:
            raise NotFound("no such agent")
        guard(card, asked.instance)
        await self._put_back(asked, context)
        mine: list[wire.Message] = []
        while not mine and (batch := self._next_batch(card, asked)):
            over: dict[int, str] = {}
            mine = [each for each in letters_of(self.store, batch) if await self._is_mine(each, over)]
            await self._lapse(over, context)
        return await self._hand_over(mine, asked, context)

    async def _put_back(self, asked: Take, context: Context[DeliveryProtocol]) -> None:
        """What has not arrived, or is in the hands of a session that is over."""

        def lost(row: Row) -> bool:
            named = asked.holding is not None and row.instance_id == asked.instance
            return replaced(row, asked.instance) or (named and row.message_id not in (asked.holding or ()))

        def decide(moment: Moment) -> list[Change]:
            rows = open_rows(self.store, self.id).values()
            gone = [row for row in rows if row.rung is HANDED and lost(row)]
            return [Change("returned", row, moved(row, "returned", moment)) for row in gone]

        await self._carry_out(decide, context)

    def _next_batch(self, card: wire.Agent, asked: Take) -> list[int]:
        rows = open_rows(self.store, self.id)
        handed = {number: row for number, row in rows.items() if row.rung is HANDED}
        wall = self.fleet.absence.wall_for(PUT_OFF_BY)
        limit = min(asked.limit, MOST_IN_HAND - len(handed))
        due = self._queue.due(card, handed, limit, now=self._now(), wall=wall) if limit > 0 else []
        return fill(due, limit, asked.most_bytes)

    async def _is_mine(self, letter: wire.Message, over: dict[int, str]) -> bool:
        """A message that only one may work on is claimed with the hand-over. If nobody is to work on it any more, it is
        noted in `over`, and why."""
        if not letter.claimable:
            return True
        try:
            await self.fleet.post_office.ask(Claim(letter.id, self.id, to_hand_over=True))
        except Over as no:
            over[letter.id] = str(no)
            return False
        except Refusal:
            self._queue.put_off(letter.id, self._now() + NOT_OURS)
            return False
        return True

    async def _lapse(self, over: Mapping[int, str], context: Context[DeliveryProtocol]) -> None:
        def decide(moment: Moment) -> list[Change]:
            there = [each.id for each in letters_of(self.store, list(over))]
            rows = find_rows(self.store, self.id, there)
            known = [(number, rows.get(number)) for number in there]
            return [
                Change(
                    "lapsed", row, moved(row or fresh(self.id, number), "lapsed", moment, error=over[number])
                )
                for number, row in known
                if row is None or row.rung in MOVES["lapsed"]
            ]

        await self._carry_out(decide, context)

    async def _hand_over(
        self, letters: Sequence[wire.Message], asked: Take, context: Context[DeliveryProtocol]
    ) -> Handed:
        numbers = [each.id for each in letters]

        def decide(moment: Moment) -> list[Change]:
            there = [each.id for each in letters_of(self.store, numbers)]
            rows = find_rows(self.store, self.id, there)
            return [
                Change("taken", row, taken(row or fresh(self.id, number), asked.instance, moment, len(there)))
                for number, row in [(number, rows.get(number)) for number in there]
            ]

        changes = await self._carry_out(decide, context)
        rows = {change.after.message_id: change.after for change in changes}
        again_at = self._queue.next_at(self._now())
        handed = dressed(self.store, [each for each in letters if each.id in rows])
        return Handed(
            tuple(handed_over(rows[each.id], each) for each in handed),
            again_in=None if again_at is None else again_at - self._now(),
        )

    # -- settling

    async def _ack(
        self, acks: Sequence[wire.Ack], context: Context[DeliveryProtocol]
    ) -> tuple[wire.AckResult, ...]:
        numbers = [ack.message_id for ack in acks]
        known = find_rows(self.store, self.id, numbers)
        good = [ack for ack in acks if judged(known.get(ack.message_id), ack)[1] is None]
        read = [ack.message_id for ack in good if ack.outcome is wire.Outcome.CONFIRMED]
        if read:
            await self.fleet.post_office.ask(MarkAllRead(tuple(read), self.id))
        results: list[wire.AckResult] = []

        def decide(moment: Moment) -> list[Change]:
            rows: dict[int, Row | None] = {**find_rows(self.store, self.id, numbers)}
            changes: list[Change] = []
            results.clear()
            for ack in acks:
                before = rows.get(ack.message_id)
                step, error = judged(before, ack)
                after = (
                    acked(before, ack, step, moment) if before is not None and step is not None else before
                )
                if step is not None and after is not None:
                    changes.append(Change(step, before, after))
                rows[ack.message_id] = after
                results.append(_result(ack, after, error))
            return changes

        changes = await self._carry_out(decide, context)
        self._pause(changes, {ack.message_id: ack.retry_ms for ack in acks})
        return tuple(results)

    def _pause(self, changes: Iterable[Change], wishes: Mapping[int, int | None]) -> None:
        """Between two attempts, for as long as whoever took it wishes."""
        for row in (change.after for change in changes if change.step == "failed"):
            wish = wishes.get(row.message_id)
            self._queue.put_off(
                row.message_id, self._now() + (pause_after(row) if wish is None else wish / 1000)
            )

    async def _redeliver(self, number: int, context: Context[DeliveryProtocol]) -> None:
        def decide(moment: Moment) -> list[Change]:
            row = find_row(self.store, self.id, number)
            if row is None or row.rung is not wire.Rung.DEAD:
                raise Conflict(f"the message is not dead with {self.id}")
            return [Change("redelivered", row, moved(row, "redelivered", moment))]

        await self._carry_out(decide, context)
        self._queue.reopen()

    # -- what others say, and time

    async def _heard(
        self, number: int, step: str, reply: int | None, context: Context[DeliveryProtocol]
    ) -> None:
        def decide(moment: Moment) -> list[Change]:
            row = find_row(self.store, self.id, number)
            if row is None or row.rung not in MOVES[step]:
                return []
            return [Change(step, row, moved(row, step, moment, evidence="read", reply=reply))]

        await self._carry_out(decide, context)

    async def _look(self, context: Context[DeliveryProtocol]) -> None:
        """See to hand-overs that have lasted too long, unless it was the server that was held up."""
        self._terms.rang()
        card = find_participant(self.store, self.id)

        def decide(moment: Moment) -> list[Change]:
            rows = open_rows(self.store, self.id)
            self._terms.keep(rows)
            evidence = agent_progress(self.store, self.id, list(rows))
            changes = [made_up(rows[each.message_id], each, moment) for each in evidence]
            known = {change.after.message_id for change in changes if change is not None}
            late = [row for row in rows.values() if self._is_late(row) and row.message_id not in known]
            return [*filter(None, changes), *(judged_late(row, card, moment) for row in late)]

        changes = await self._carry_out(decide, context)
        self._pause(changes, {})

    def _is_late(self, row: Row) -> bool:
        return row.rung is HANDED and self._terms.over(row.message_id)

    # -- helpers

    async def _carry_out(self, decide: Decide, context: Context[DeliveryProtocol]) -> list[Change]:
        """Commit what `decide` makes of the rows as they are; once more when a message is deleted meanwhile."""
        for attempt in range(1, TRIES + 1):
            moment = self.moment()
            changes = decide(moment)
            records = audits(changes, moment)
            kept = tuple(change.after.message_id for change in changes if change.step == "busy")
            decision = Decision(
                reply=None,
                writes=(*saved(changes), *(write for write, _ in records)),
                events=(*announced(changes), *(event for _, event in records)),
                tells=((self.fleet.post_office, RenewAll(kept, self.id)),) if kept else (),
            )
            try:
                await self.commit(decision, context)
            except FenceLost:
                if attempt == TRIES:
                    raise
            else:
                break
        for row in (change.after for change in changes):
            self._terms.end(row.message_id)
            if row.rung is HANDED:
                self._terms.begin([row.message_id])
        return changes

    def _now(self) -> float:
        return self.fleet.system.now()


def _result(ack: wire.Ack, row: Row | None, error: str | None) -> wire.AckResult:
    rung = row.rung if row is not None else None
    return wire.AckResult(message_id=ack.message_id, ok=error is None, rung=rung, error=error)
