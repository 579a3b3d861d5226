"""Messages: the post office.

One actor owns messages, read marks and claims. Rules:

1. A message that is accepted is stored before its sender hears so. Ids grow in commit order (M-I2).
2. A sender's idempotency key names one message as long as that is kept (M-I1); a repeat is answered with it.
3. The offline rule is judged once, at acceptance (M-I28): only a direct target that is known to be offline refuses.
4. At most one agent holds an unexpired claim (M-I3). Claims expire by comparison; the next claim replaces them.
5. Reading is by query (`list_messages` and its neighbours); it wakes nobody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from relay import wire
from relay.actors import Ask, Context
from relay.store import Decision

from ._actor import FleetActor
from ._addresses import matches
from ._errors import Conflict, Forbidden, Invalid, NotFound
from ._letters import CLAIM_TERM, Sent, accept, claimed, deleted, letter, read, sent
from ._mailboxes import delivery, find_message, get_message, latest_id, list_messages, thread
from ._post_protocol import Post
from .agents import find_participant

if TYPE_CHECKING:
    from ._fleet import Fleet

__all__ = [
    "CLAIM_TERM",
    "Claim",
    "Delete",
    "MarkRead",
    "Post",
    "PostOffice",
    "Renew",
    "Send",
    "Sent",
    "delivery",
    "get_message",
    "latest_id",
    "list_messages",
    "matches",
    "thread",
]

LETTERS_BETWEEN_SWEEPS = 256  # until those that have become durable are forgotten: they may be large
REMEMBERED_NUMBERS = 10_000  # more than the store takes in before it closes its gate


@attrs.frozen
class Send(Ask[Post, Sent]):
    message: wire.SendMessage


@attrs.frozen
class Claim(Ask[Post, wire.Claim]):
    """Take a claimable message for one agent."""

    message_id: int
    agent_id: str


@attrs.frozen
class Renew(Ask[Post, wire.Claim]):
    """Extend the claim that the agent holds."""

    message_id: int
    agent_id: str


@attrs.frozen
class MarkRead(Ask[Post, None]):
    """The agent has read it; saying so twice is harmless (MSG-25)."""

    message_id: int
    agent_id: str


@attrs.frozen
class Delete(Ask[Post, None]):
    message_id: int


class PostOffice(FleetActor[Post]):
    """The one actor for all messages. Its handlers never wait; many messages share one commit."""

    def __init__(self, fleet: Fleet) -> None:
        super().__init__(fleet)
        # What is staged and not yet durable, or was just now: reading sees only what is durable.
        self._recent: dict[int, wire.Message] = {}
        self._sweep_at = LETTERS_BETWEEN_SWEEPS
        self._keys: dict[tuple[str, str], int] = {}
        self._claims: dict[int, tuple[str, float]] = {}
        self._deleted: dict[int, None] = {}

    def handle(self, message: Any, context: Context[Post]) -> None:
        match message:
            case Send(asked):
                self._send(message, asked, context)
            case Claim(number, agent_id):
                self._claim(message, self._existing(number), agent_id, context)
            case Renew(number, agent_id):
                self._renew(message, self._existing(number).id, agent_id, context)
            case MarkRead(number, agent_id):
                self._mark(message, self._existing(number).id, agent_id, context)
            case Delete(number):
                self._delete(message, self._existing(number), context)

    def _send(self, message: Send, asked: wire.SendMessage, context: Context[Post]) -> None:
        earlier = self._earlier(asked)
        if earlier is not None:
            self.settle(message, Decision(reply=Sent(earlier, wire.encode(earlier), new=False)), context)
            return
        parent = self._parent(asked)
        accept(asked, parent, self.store)
        moment = self.moment()
        stored = letter(asked, parent, moment)
        self._remember(stored)
        self.settle(message, sent(stored, moment), context)

    def _earlier(self, asked: wire.SendMessage) -> wire.Message | None:
        """The message that this sender already sent with this key (MSG-13)."""
        if asked.idempotency_key is None:
            return None
        key = (asked.from_, asked.idempotency_key)
        number = self._keys.get(key)
        if number is None:
            row = self.store.row("select id from messages where sender = ? and idempotency_key = ?", *key)
            number = row[0] if row else None
        return self._find(number) if number is not None else None

    def _parent(self, asked: wire.SendMessage) -> wire.Message | None:
        if asked.reply_to is None:
            return None
        found = self._find(asked.reply_to)
        if found is None and asked.to is None:
            raise Invalid("replyTo names no message, and there is no `to`")
        return found

    def _existing(self, number: int) -> wire.Message:
        found = self._find(number)
        if found is None:
            raise NotFound("no such message")
        return found

    def _find(self, number: int) -> wire.Message | None:
        if number in self._deleted:
            return None
        return self._recent.get(number) or find_message(self.store, number)

    def _claim(self, message: Claim, claimable: wire.Message, agent_id: str, context: Context[Post]) -> None:
        if not claimable.claimable:
            raise Conflict("the message is not claimable")
        if not matches(claimable, find_participant(self.store, agent_id)):
            raise Forbidden("the message is not addressed to this agent")
        last = self._last_claim(claimable.id)
        holder = last[0] if last is not None and last[1] > self.fleet.system.wall() else None
        if holder not in (None, agent_id):
            raise Conflict(f"the message is claimed by {holder}")
        self._hold(message, claimable.id, agent_id, context, announce=holder is None)

    def _renew(self, message: Renew, number: int, agent_id: str, context: Context[Post]) -> None:
        last = self._last_claim(number)
        if last is None or last[0] != agent_id:
            raise Conflict("the agent does not hold a claim on the message")
        self._hold(message, number, agent_id, context, announce=False)

    def _hold(
        self, message: Claim | Renew, number: int, agent_id: str, context: Context[Post], *, announce: bool
    ) -> None:
        moment = self.moment()
        self._claims.pop(number, None)
        self._claims[number] = (agent_id, moment.at + CLAIM_TERM)
        _bound(self._claims)
        self.settle(message, claimed(number, agent_id, moment, announce=announce), context)

    def _last_claim(self, number: int) -> tuple[str, float] | None:
        if number in self._claims:
            return self._claims[number]
        row = self.store.row("select agent_id, expires_at from message_claims where message_id = ?", number)
        return (row[0], row[1] / 1000) if row else None

    def _mark(self, message: MarkRead, number: int, agent_id: str, context: Context[Post]) -> None:
        known = self.store.row(
            "select 1 from message_reads where agent_id = ? and message_id = ?", agent_id, number
        )
        decision = read(number, agent_id, self.moment()) if known is None else Decision(reply=None)
        self.settle(message, decision, context)

    def _delete(self, message: Delete, gone: wire.Message, context: Context[Post]) -> None:
        self._forget(gone)
        self._deleted[gone.id] = None
        _bound(self._deleted)
        self.settle(message, deleted(gone.id), context)

    def _remember(self, stored: wire.Message) -> None:
        self._recent[stored.id] = stored
        if stored.idempotency_key is not None:
            self._keys[stored.from_, stored.idempotency_key] = stored.id
        if len(self._recent) >= self._sweep_at:
            durable = latest_id(self.store)
            for old in [each for each in self._recent.values() if each.id <= durable]:
                self._forget(old)
            self._sweep_at = len(self._recent) + LETTERS_BETWEEN_SWEEPS

    def _forget(self, old: wire.Message) -> None:
        self._recent.pop(old.id, None)
        if old.idempotency_key is not None:
            self._keys.pop((old.from_, old.idempotency_key), None)


def _bound(remembered: dict[int, Any]) -> None:
    """What has long been durable is found in the store."""
    while len(remembered) > REMEMBERED_NUMBERS:
        del remembered[next(iter(remembered))]
