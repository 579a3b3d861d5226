"""Whom an agent owes an answer: what a session is asked to see to before it stops.

An answer is owed for a direct message (to the agent's id, or resolved to it) that says `replyExpected: true` in its
payload or meta, once the agent has read it, until the agent sends a message with `replyTo` that one.
"""

from __future__ import annotations

from relay import wire
from relay.store import Store

from ._cards import find_participant
from ._errors import NotFound

__all__ = ["list_obligations", "reply_expected"]

KINDS = frozenset(
    {
        wire.MessageKind.CHAT,
        wire.MessageKind.TASK,
        wire.MessageKind.PAIR,
        wire.MessageKind.CHANNEL_EVENT,
    }
)

OWED = """
select record from messages as asked
where {column} = ?1 and reply_expected = 1 and sender <> ?1
  and exists (select 1 from message_reads where agent_id = ?1 and message_id = asked.id)
  and not exists (
    select 1 from messages as answer
    where answer.thread_id = asked.thread_id and answer.id > asked.id and answer.sender = ?1
      and answer.record ->> '$.replyTo' = asked.id)
order by id limit ?2
"""


def reply_expected(message: wire.Message) -> bool:
    """Whether the sender waits for an answer."""
    said = ((message.payload or {}).get("replyExpected"), (message.meta or {}).get("replyExpected"))
    return message.kind in KINDS and any(each is True for each in said)


def list_obligations(store: Store, agent_id: str, *, limit: int = 100) -> list[wire.Obligation]:
    """The oldest first; raises `NotFound` for an agent that nobody knows."""
    if find_participant(store, agent_id) is None:
        raise NotFound("no such agent")
    found = [
        wire.decode(wire.Message, record)
        for column in ("address", "resolved_to")
        for (record,) in store.rows(OWED.format(column=column), agent_id, limit)
    ]
    owed = {
        each.id: wire.Obligation(
            message_id=each.id,
            from_=each.from_,
            subject=each.subject,
            kind=each.kind,
            created_at=each.created_at,
        )
        for each in found
    }
    return [owed[number] for number in sorted(owed)][:limit]
