"""Looking at what the post office keeps. A mailbox is a query: what matches the agent's card as it is now (4.4)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import attrs
import orjson

from relay import wire
from relay.store import Store

from ._addresses import addresses_of
from ._cards import find_participant
from ._errors import NotFound

__all__ = [
    "delivery",
    "dressed",
    "find_message",
    "get_message",
    "latest_id",
    "letters_of",
    "list_messages",
    "list_queued",
    "messages_of",
    "thread",
]

READ_AGAIN = 2_048  # characters of a record that is kept in memory for a while
COLUMNS = "record, delivery, resolved_to"
POLL = "select id from messages where {column} = ?1 and id > ?2 and sender <> ?3 order by id limit ?4"
POLL_UNREAD = (
    "select id from messages where {column} = ?1 and id > ?2 and sender <> ?3 and kind <> 'session' and not exists"
    " (select 1 from message_reads where agent_id = ?3 and message_id = id) order by id limit ?4"
)
QUEUED = (
    "select id from messages where address = ?1 and delivery = 'queued'"
    " and (expires_at > ?2 or expires_at = queued_at) order by id limit ?3"
)
READS = (
    "select message_id, agent_id from message_reads where message_id in (select value from json_each(?))"
    " order by message_id, at"
)
REACTIONS = (
    "select message_id, agent_id, emoji, at from message_reactions"
    " where message_id in (select value from json_each(?)) order by message_id, at"
)
CLAIMS = (
    "select message_id, agent_id, expires_at from message_claims"
    " where message_id in (select value from json_each(?))"
)


def find_message(store: Store, number: int) -> wire.Message | None:
    """The message without its claim and its read marks."""
    row = store.row(f"select {COLUMNS} from messages where id = ?", number)
    return _message(row) if row else None


def get_message(store: Store, number: int) -> wire.Message:
    """The message with its claim and its read marks; raises `NotFound`."""
    found = find_message(store, number)
    if found is None:
        raise NotFound("no such message")
    return dressed(store, [found])[0]


def latest_id(store: Store) -> int:
    """The newest message's id, 0 when there is none (MSG-22)."""
    row = store.row("select max(id) from messages")
    return (row[0] if row else None) or 0


def thread(store: Store, number: int) -> list[wire.Message]:
    """The thread a message belongs to, oldest first; raises `NotFound`."""
    root = get_message(store, number).thread_id
    rows = store.rows(f"select {COLUMNS} from messages where thread_id = ? order by id limit 1000", root)
    return dressed(store, map(_message, rows))


def list_messages(
    store: Store, *, for_: str | None = None, since: int = 0, unread: bool = False, limit: int = 100
) -> list[wire.Message]:
    """What reaches agent `for_`, its own messages apart, oldest first; without `for_` the newest, newest first.

    An agent nobody knows is reached by nothing. `since` is an id, exclusive (MSG-21). What is `unread` is there to be
    delivered, which a turn of a session never is (MSG-17).
    """
    if for_ is None:
        rows = store.rows(
            f"select {COLUMNS} from messages where id > ? order by id desc limit ?", since, limit
        )
        return dressed(store, map(_message, rows))
    agent = find_participant(store, for_)
    if agent is None:
        return []
    poll = POLL_UNREAD if unread else POLL
    ids: set[int] = set()
    for column, value in [("resolved_to", for_), *(("address", each) for each in addresses_of(agent))]:
        ids.update(n for (n,) in store.rows(poll.format(column=column), value, since, for_, limit))
    return messages_of(store, sorted(ids)[:limit])


def list_queued(store: Store, for_: str, *, now: float, limit: int = 100) -> list[wire.Message]:
    """What waits for `for_`, an address or the bare name of a policy, and may still be released; oldest first."""
    ids: set[int] = set()
    for address in (for_, f"policy:{for_}"):
        ids.update(number for (number,) in store.rows(QUEUED, address, int(now * 1000), limit))
    return messages_of(store, sorted(ids)[:limit])


def delivery(store: Store, number: int) -> wire.Delivery:
    """How far a message got (MSG-35); raises `NotFound`."""
    found = get_message(store, number)
    row = store.row(
        "select queued_at, available_at, expires_at, expired_at, created_at from messages where id = ?",
        number,
    )
    assert row is not None
    queued_at, available_at, expires_at, expired_at, created_at = row
    return wire.Delivery(
        id=found.id,
        to=found.to,
        delivery_status=found.delivery_status,
        resolved_to_agent=found.resolved_to_agent,
        queued_at=_instant(queued_at),
        available_at=_instant(available_at if queued_at is not None else created_at),
        expires_at=_instant(expires_at),
        expired_at=_instant(expired_at),
        read_by=found.read_by,
        claimed_by=found.claimed_by,
        claim_expires_at=found.claim_expires_at,
    )


def _instant(ms: int | None) -> wire.Instant | None:
    return wire.Instant(ms / 1000) if ms is not None else None


def messages_of(store: Store, numbers: Sequence[int]) -> list[wire.Message]:
    """Those that there are, in the order of ids."""
    return dressed(store, letters_of(store, numbers))


def letters_of(store: Store, numbers: Sequence[int]) -> list[wire.Message]:
    """As `messages_of`, without their claims and their read marks."""
    rows = store.rows(
        f"select {COLUMNS} from messages where id in (select value from json_each(?)) order by id",
        orjson.dumps(numbers).decode(),
    )
    return [_message(row) for row in rows]


@lru_cache(maxsize=1_024)
def _read_again(record: str) -> wire.Message:
    """What goes to many agents is read for each of them, at about the same time."""
    return wire.decode(wire.Message, record)


def _message(row: Sequence[Any]) -> wire.Message:
    """The record as it was stored, with what the queue made of it."""
    record, status, resolved = row
    found = _read_again(record) if len(record) <= READ_AGAIN else wire.decode(wire.Message, record)
    if found.delivery_status == status and found.resolved_to_agent == resolved:
        return found
    return attrs.evolve(found, delivery_status=wire.DeliveryStatus(status), resolved_to_agent=resolved)


def dressed(store: Store, found: Iterable[wire.Message]) -> list[wire.Message]:
    """The messages with what happened to them since: read marks and claims have rows of their own."""
    page = list(found)
    numbers = orjson.dumps([each.id for each in page]).decode()
    readers: dict[int, list[str]] = defaultdict(list)
    for number, agent_id in store.rows(READS, numbers):
        readers[number].append(agent_id)
    claims = {number: (agent_id, until) for number, agent_id, until in store.rows(CLAIMS, numbers)}
    reactions: dict[int, list[wire.Reaction]] = defaultdict(list)
    for number, agent_id, emoji, at in store.rows(REACTIONS, numbers):
        reactions[number].append(wire.Reaction(agent_id=agent_id, emoji=emoji, at=_instant(at)))
    return [
        attrs.evolve(
            each,
            read_by=readers[each.id],
            reactions=reactions.get(each.id),
            **_claimed(*claims.get(each.id, (None, None))),
        )
        for each in page
    ]


def _claimed(holder: str | None, until: int | None) -> dict[str, Any]:
    return {"claimed_by": holder, "claim_expires_at": _instant(until)}
