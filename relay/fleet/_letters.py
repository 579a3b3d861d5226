"""What happens to a message: one decision each, and what a new message must meet."""

from __future__ import annotations

from typing import Any, TypeVar

import attrs

from relay import wire
from relay.store import Decision, Event, Store, Write

from ._addresses import is_direct
from ._audit import audit
from ._claims import Held, claim_announced
from ._errors import Invalid, Unprocessable
from ._machine import NONE
from ._moment import Moment
from ._post_protocol import Sent
from ._queue import MOVES, Routed, lifetime
from .obligations import reply_expected

__all__ = ["accept", "claimed", "deleted", "destination", "joined", "letter", "sent"]

R = TypeVar("R")

INSERT = (
    "insert into messages (id, sender, address, kind, thread_id, idempotency_key, record, created_at, delivery,"
    " resolved_to, queued_at, expires_at, reply_expected) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)

PAST_OFFLINE = frozenset({wire.MessageKind.SYSTEM, wire.MessageKind.CONTROL, wire.MessageKind.SESSION})
"""Kinds that reach an offline agent's mailbox (MSG-10)."""


def accept(
    asked: wire.SendMessage, parent: wire.Message | None, store: Store, *, even_offline: bool = False
) -> None:
    """Raises unless the message may be stored: it has an address, and a direct target is not offline."""
    to = destination(asked, parent)
    if not to:
        raise Invalid("a message needs `to`, or `replyTo` a message to answer")
    if to.startswith("pool:"):
        raise Invalid("a pool is no address; send to an agent, label:, tag:, cap: or broadcast")
    if to.startswith("channel:"):
        raise Invalid(f"{to} names no channel; GET /api/channels lists those there are")
    if to.startswith("orchestrator:"):
        raise Invalid("an orchestrator takes no messages; send commands to it")
    if not even_offline and is_direct(to) and asked.kind not in PAST_OFFLINE:
        row = store.row("select status from agents where id = ?", to)
        if row is not None and row[0] == wire.AgentStatus.OFFLINE:
            raise Unprocessable(f"{to} is offline")


def destination(asked: wire.SendMessage, parent: wire.Message | None) -> str:
    """The address it goes to: a reply without `to` goes to the parent's sender (MSG-5)."""
    return asked.to or (parent.from_ if parent else "")


def letter(
    asked: wire.SendMessage, parent: wire.Message | None, moment: Moment, routed: Routed
) -> wire.Message:
    """The message as it is stored. A reply is in its parent's thread."""
    number = moment.next_id("messages")
    given = attrs.asdict(asked, recurse=False)
    given["to"] = destination(asked, parent)
    given["channel"] = asked.channel or (parent.channel if parent and asked.to is None else None)
    return wire.Message(
        **given,
        id=number,
        thread_id=(parent.thread_id or parent.id) if parent else number,
        delivery_status=MOVES[NONE]["sent to an unserved policy" if routed.queued else "sent"],
        resolved_to_agent=routed.resolved,
        created_at=moment.at,
    )


def sent(stored: wire.Message, moment: Moment, *, audited: bool = True) -> Decision[Sent]:
    """Stored, announced and audited (MSG-12)."""
    text = wire.encode(stored)  # once, for the row, the event and the answer
    queued = stored.delivery_status is wire.DeliveryStatus.QUEUED
    row = (
        stored.id,
        stored.from_,
        stored.to,
        stored.kind,
        stored.thread_id,
        stored.idempotency_key,
        text.decode(),
        moment.ms,
        stored.delivery_status,
        stored.resolved_to_agent,
        moment.ms if queued else None,
        moment.ms + 1000 * lifetime(stored) if queued else None,
        1 if reply_expected(stored) else None,
    )
    write = Write(INSERT, row)
    event = Event("message.queued" if queued else "message.new", stored.from_, str(stored.id), text)
    told = Decision(reply=Sent(stored, text, new=True), writes=(write,), events=(event,))
    return joined(told.reply, told, _audited(stored, moment)) if audited else told


def _audited(stored: wire.Message, moment: Moment) -> Decision[None]:
    word, kind = _presented(stored)
    write, event = audit(
        moment,
        f"server-message-{stored.id}",
        f"{word} from {stored.from_} to {stored.to}",
        kind=kind,
        message_id=stored.id,
        agent_id=stored.from_,
        view="messages",
    )
    return Decision(reply=None, writes=(write,), events=(event,))


def joined(reply: R, *decisions: Decision[Any]) -> Decision[R]:
    """One decision that causes all that these cause, in their order."""
    return Decision(
        reply=reply,
        writes=tuple(write for each in decisions for write in each.writes),
        events=tuple(event for each in decisions for event in each.events),
        tells=tuple(tell for each in decisions for tell in each.tells),
        timers={key: timer for each in decisions for key, timer in each.timers.items()},
    )


def _presented(stored: wire.Message) -> tuple[str, wire.ActivityKind]:
    """What a person is told that it is: a task is work."""
    if stored.kind is wire.MessageKind.TASK:
        return "work", wire.ActivityKind.TASK
    if stored.reply_to is not None:
        return "reply", wire.ActivityKind.REPLY
    return "message", wire.ActivityKind.MESSAGE


def claimed(number: int, held: Held, write: Write, *, announce: bool) -> Decision[wire.Claim]:
    """The agent holds the message for another term; winning it is announced, renewing is not."""
    events = (claim_announced(number, held),) if announce else ()
    return Decision(
        reply=wire.Claim(ok=True, claim_expires_at=wire.Instant(held.until)), writes=(write,), events=events
    )


def deleted(number: int) -> Decision[None]:
    """Gone, with its read marks and how far it got."""
    writes = tuple(
        Write(f"delete from {table} where {column} = ?", (number,))
        for table, column in (
            ("messages", "id"),
            ("message_reads", "message_id"),
            ("message_reactions", "message_id"),
            ("deliveries", "message_id"),
        )
    )
    event = Event("message.deleted", "server", str(number), {"messageId": number})
    return Decision(reply=None, writes=writes, events=(event,))
