"""Looking at what the post office keeps. A mailbox is a query: what matches the agent's card as it is now (4.4)."""

from __future__ import annotations

import attrs

from relay import wire
from relay.store import Store

from ._addresses import addresses_of
from ._errors import NotFound
from .agents import find_participant

__all__ = ["delivery", "find_message", "get_message", "latest_id", "list_messages", "thread"]

POLL = "select id from messages where address = ? and id > ? and sender <> ? order by id limit ?"
POLL_UNREAD = (
    "select id from messages where address = ?1 and id > ?2 and sender <> ?3 and not exists"
    " (select 1 from message_reads where agent_id = ?3 and message_id = id) order by id limit ?4"
)


def find_message(store: Store, number: int) -> wire.Message | None:
    row = store.row("select record from messages where id = ?", number)
    return wire.decode(wire.Message, row[0]) if row else None


def get_message(store: Store, number: int) -> wire.Message:
    """The message with its claim and its read marks; raises `NotFound`."""
    found = find_message(store, number)
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
    agent = find_participant(store, for_)
    if agent is None:
        return []
    ids: set[int] = set()
    for address in addresses_of(agent):
        ids.update(
            number for (number,) in store.rows(POLL_UNREAD if unread else POLL, address, since, for_, limit)
        )
    chosen = sorted(ids)[:limit]
    return _dressed(store, [found for number in chosen if (found := find_message(store, number)) is not None])


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
