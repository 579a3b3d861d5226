"""Messages: the post office, and the ways to look at what it keeps.

One actor owns messages, read marks and claims. Rules:

1. A message that is accepted is stored before its sender hears so. Ids grow in commit order (M-I2).
2. A sender's idempotency key names one message for ever (M-I1); a repeat is answered with that message.
3. The offline rule is judged once, at acceptance (M-I28): only a direct target that is known to be offline refuses.
4. At most one agent holds an unexpired claim (M-I3). Claims expire by comparison; the next claim replaces them.
5. Reading is by query: a poll finds what matches the agent's card as it is now (4.4).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from relay import wire
from relay.actors import Ask, Context
from relay.store import Decision, Event, Store, Write

from ._actor import FleetActor
from ._addresses import addresses_of, is_direct, matches
from ._audit import audit
from ._errors import Conflict, Forbidden, Invalid, NotFound, Unprocessable
from .agents import find_agent

if TYPE_CHECKING:
    from ._fleet import Fleet
    from ._moment import Moment

__all__ = [
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
    "thread",
]

CLAIM_TERM = 900.0
"""Seconds a claim lasts (O-19)."""

PAST_OFFLINE = frozenset({wire.MessageKind.SYSTEM, wire.MessageKind.CONTROL, wire.MessageKind.SESSION})
"""Kinds that reach an offline agent's mailbox (MSG-10)."""

REMEMBERED_KEYS = 10_000


class Post:
    """What the post office understands."""


@attrs.frozen
class Sent:
    message: wire.Message
    new: bool


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
                self._renew(message, self._existing(number), agent_id, context)
            case MarkRead(number, agent_id):
                self.settle(message, read(self._existing(number), agent_id, self.moment()), context)
            case Delete(number):
                self._delete(message, self._existing(number), context)

    def _send(self, message: Send, asked: wire.SendMessage, context: Context[Post]) -> None:
        earlier = self._earlier(asked)
        if earlier is not None:
            self.settle(message, Decision(reply=Sent(earlier, new=False)), context)
            return
        parent = self._parent(asked)
        accept(asked, parent, self.store)
        moment = self.moment()
        stored = letter(asked, parent, moment)
        self._recent[stored.id] = stored
        if stored.idempotency_key is not None:
            self._keys[stored.from_, stored.idempotency_key] = stored.id
        self._forget_old()
        self.settle(message, sent(stored, moment), context)

    def _earlier(self, asked: wire.SendMessage) -> wire.Message | None:
        """The message that this sender already sent with this key (MSG-13)."""
        key = asked.idempotency_key
        if key is None:
            return None
        number = self._keys.get((asked.from_, key))
        if number is not None and number in self._recent:
            return self._recent[number]
        row = self.store.row(
            "select record from messages where sender = ? and idempotency_key = ?", asked.from_, key
        )
        return wire.decode(wire.Message, row[0]) if row else None

    def _parent(self, asked: wire.SendMessage) -> wire.Message | None:
        if asked.reply_to is None:
            return None
        found = self._recent.get(asked.reply_to) or _find(self.store, asked.reply_to)
        if found is None and asked.to is None:
            raise Invalid("replyTo names no message, and there is no `to`")
        return found

    def _existing(self, number: int) -> wire.Message:
        found = self._recent.get(number) or _find(self.store, number)
        if found is None or number in self._deleted:
            raise NotFound("no such message")
        return found

    def _claim(self, message: Claim, letter_: wire.Message, agent_id: str, context: Context[Post]) -> None:
        agent = find_agent(self.store, agent_id)
        if not letter_.claimable:
            raise Conflict("the message is not claimable")
        if not matches(letter_, agent):
            raise Forbidden("the message is not addressed to this agent")
        holder = self._holder(letter_.id)
        if holder not in (None, agent_id):
            raise Conflict(f"the message is claimed by {holder}")
        self._hold(message, letter_.id, agent_id, context, announce=holder is None)

    def _renew(self, message: Renew, letter_: wire.Message, agent_id: str, context: Context[Post]) -> None:
        last = self._last_claim(letter_.id)
        if last is None or last[0] != agent_id:
            raise Conflict("the agent does not hold a claim on the message")
        self._hold(message, letter_.id, agent_id, context, announce=False)

    def _hold(
        self, message: Claim | Renew, number: int, agent_id: str, context: Context[Post], *, announce: bool
    ) -> None:
        moment = self.moment()
        self._claims[number] = (agent_id, moment.at + CLAIM_TERM)
        self.settle(message, claimed(number, agent_id, moment, announce=announce), context)

    def _holder(self, number: int) -> str | None:
        last = self._last_claim(number)
        return last[0] if last is not None and last[1] > self.fleet.system.wall() else None

    def _last_claim(self, number: int) -> tuple[str, float] | None:
        if number not in self._claims:
            row = self.store.row("select agent_id, expires_at from message_claims where message_id = ?", number)
            if row is None:
                return None
            self._claims[number] = (row[0], row[1] / 1000)
        return self._claims[number]

    def _delete(self, message: Delete, letter_: wire.Message, context: Context[Post]) -> None:
        self._deleted[letter_.id] = None
        self._recent.pop(letter_.id, None)
        if letter_.idempotency_key is not None:
            self._keys.pop((letter_.from_, letter_.idempotency_key), None)
        self.settle(message, deleted(letter_.id), context)

    def _forget_old(self) -> None:
        """What has long been durable is found in the store."""
        for remembered in (self._recent, self._keys, self._claims, self._deleted):
            while len(remembered) > REMEMBERED_KEYS:
                del remembered[next(iter(remembered))]  # type: ignore[attr-defined]


def accept(asked: wire.SendMessage, parent: wire.Message | None, store: Store) -> None:
    """Raises unless the message may be stored: it has an address, and a direct target is not offline."""
    to = asked.to or (parent.from_ if parent else None)
    if to is None:
        raise Invalid("a message needs `to`, or `replyTo` a message to answer")
    if to.startswith("pool:"):
        raise Invalid("a pool is no address; send to an agent, label:, tag:, cap: or broadcast")
    if is_direct(to) and asked.kind not in PAST_OFFLINE:
        row = store.row("select status from agents where id = ?", to)
        if row is not None and row[0] == wire.AgentStatus.OFFLINE:
            raise Unprocessable(f"{to} is offline")


def letter(asked: wire.SendMessage, parent: wire.Message | None, moment: Moment) -> wire.Message:
    """The message as it is stored. A reply without `to` goes to the parent's sender, in its thread (MSG-5)."""
    number = moment.next_id("messages")
    given = attrs.asdict(asked, recurse=False)
    routed = parent is not None and asked.to is None
    given["to"] = asked.to or (parent.from_ if parent else "")
    given["channel"] = asked.channel or (parent.channel if parent and routed else None)
    waits = given["to"].startswith("policy:")
    return wire.Message(
        **given,
        id=number,
        thread_id=(parent.thread_id or parent.id) if parent else number,
        delivery_status=wire.DeliveryStatus.QUEUED if waits else wire.DeliveryStatus.AVAILABLE,
        created_at=moment.at,
    )


def sent(stored: wire.Message, moment: Moment) -> Decision[Sent]:
    """Stored, announced and audited (MSG-12)."""
    row = (
        stored.id,
        stored.from_,
        stored.to,
        stored.kind,
        stored.thread_id,
        stored.idempotency_key,
        wire.encode(stored).decode(),
        moment.ms,
    )
    write = Write(
        "insert into messages (id, sender, address, kind, thread_id, idempotency_key, record, created_at)"
        " values (?, ?, ?, ?, ?, ?, ?, ?)",
        row,
    )
    queued = stored.delivery_status is wire.DeliveryStatus.QUEUED
    event = Event(
        "message.queued" if queued else "message.new", stored.from_, str(stored.id), wire.to_json(stored)
    )
    is_task, is_reply = stored.kind is wire.MessageKind.TASK, stored.reply_to is not None
    kind = (
        wire.ActivityKind.TASK
        if is_task
        else wire.ActivityKind.REPLY
        if is_reply
        else wire.ActivityKind.MESSAGE
    )
    record = audit(
        moment,
        f"server-message-{stored.id}",
        f"{'work' if is_task else 'reply' if is_reply else 'message'} from {stored.from_} to {stored.to}"[:240],
        kind=kind,
        message_id=stored.id,
        agent_id=stored.from_,
        view="messages",
    )
    return Decision(reply=Sent(stored, new=True), writes=(write, record[0]), events=(event, record[1]))


def claimed(number: int, agent_id: str, moment: Moment, *, announce: bool) -> Decision[wire.Claim]:
    """The agent holds the message for another term; winning it is announced, renewing is not."""
    until = moment.at + CLAIM_TERM
    row = (number, agent_id, round(until * 1000))
    write = Write("insert or replace into message_claims (message_id, agent_id, expires_at) values (?, ?, ?)", row)
    data = {"messageId": number, "agentId": agent_id, "claimExpiresAt": row[2]}
    events = (Event("message.claimed", agent_id, str(number), data),) if announce else ()
    return Decision(
        reply=wire.Claim(ok=True, claim_expires_at=wire.Instant(until)), writes=(write,), events=events
    )


def read(letter_: wire.Message, agent_id: str, moment: Moment) -> Decision[None]:
    """The agent has read it; saying so twice is harmless (MSG-25)."""
    write = Write(
        "insert or ignore into message_reads (agent_id, message_id, at) values (?, ?, ?)",
        (agent_id, letter_.id, moment.ms),
    )
    event = Event("message.read", agent_id, str(letter_.id), {"messageId": letter_.id, "agentId": agent_id})
    return Decision(reply=None, writes=(write,), events=(event,))


def deleted(number: int) -> Decision[None]:
    """Gone, with its read marks and its claim."""
    writes = tuple(
        Write(f"delete from {table} where {column} = ?", (number,))
        for table, column in (
            ("messages", "id"),
            ("message_reads", "message_id"),
            ("message_claims", "message_id"),
        )
    )
    event = Event("message.deleted", "server", str(number), {"messageId": number})
    return Decision(reply=None, writes=writes, events=(event,))


# -- looking at what is kept


def _find(store: Store, number: int) -> wire.Message | None:
    row = store.row("select record from messages where id = ?", number)
    return wire.decode(wire.Message, row[0]) if row else None


def get_message(store: Store, number: int) -> wire.Message:
    """The message with its claim and its read marks; raises `NotFound`."""
    found = _find(store, number)
    if found is None:
        raise NotFound("no such message")
    return _dressed(store, [found])[0]


def latest_id(store: Store) -> int:
    """The newest message's id, 0 when there is none (MSG-22)."""
    row = store.row("select max(id) from messages")
    return (row[0] if row else None) or 0


def thread(store: Store, number: int) -> list[wire.Message]:
    """The thread a message belongs to, oldest first; raises `NotFound`."""
    root = get_message(store, number).thread_id
    rows = store.rows("select record from messages where thread_id = ? order by id limit 1000", root)
    return _dressed(store, [wire.decode(wire.Message, record) for (record,) in rows])


def list_messages(
    store: Store, *, for_: str | None = None, since: int = 0, unread: bool = False, limit: int = 100
) -> list[wire.Message]:
    """What reaches agent `for_`, its own messages apart, oldest first; without `for_` the newest, newest first.

    An agent nobody knows is reached by nothing. `since` is an id, exclusive (MSG-21).
    """
    if for_ is None:
        rows = store.rows("select record from messages where id > ? order by id desc limit ?", since, limit)
        return _dressed(store, [wire.decode(wire.Message, record) for (record,) in rows])
    agent = find_agent(store, for_)
    if agent is None:
        return []
    ids: set[int] = set()
    for address in addresses_of(agent):
        ids.update(number for (number,) in store.rows(POLL_UNREAD if unread else POLL, address, since, for_, limit))
    chosen = sorted(ids)[:limit]
    return _dressed(store, [found for number in chosen if (found := _find(store, number)) is not None])


POLL = "select id from messages where address = ? and id > ? and sender <> ? order by id limit ?"
POLL_UNREAD = (
    "select id from messages where address = ?1 and id > ?2 and sender <> ?3 and not exists"
    " (select 1 from message_reads where agent_id = ?3 and message_id = id) order by id limit ?4"
)


def delivery(store: Store, number: int) -> wire.Delivery:
    """How far a message got (MSG-35); raises `NotFound`."""
    found = get_message(store, number)
    queued = found.delivery_status is wire.DeliveryStatus.QUEUED
    return wire.Delivery(
        id=found.id,
        to=found.to,
        delivery_status=found.delivery_status,
        resolved_to_agent=found.resolved_to_agent,
        queued_at=found.created_at if queued else None,
        available_at=None if queued else found.created_at,
        read_by=found.read_by,
        claimed_by=found.claimed_by,
        claim_expires_at=found.claim_expires_at,
    )


def _dressed(store: Store, found: list[wire.Message]) -> list[wire.Message]:
    """The messages with what happened to them since: read marks and claims have rows of their own."""
    dressed = []
    for each in found:
        readers = store.rows("select agent_id from message_reads where message_id = ? order by at", each.id)
        claim = (
            store.row("select agent_id, expires_at from message_claims where message_id = ?", each.id)
            if each.claimable
            else None
        )
        dressed.append(
            attrs.evolve(
                each,
                read_by=[agent_id for (agent_id,) in readers],
                claimed_by=claim[0] if claim else None,
                claim_expires_at=wire.Instant(claim[1] / 1000) if claim else None,
            )
        )
    return dressed
