"""How far messages got, computed from evidence: rows of hand-overs, read marks, replies, and whom an address reaches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs
import orjson

from relay import wire
from relay.store import Store

from ._delivery_rows import load
from ._delivery_rules import Row
from ._errors import NotFound
from ._mailboxes import find_message, messages_of

__all__ = ["agent_progress", "dead_letters", "message_progress", "over", "reached"]

FACTS = "select id, created_at, coalesce(available_at, created_at) from messages where id in (select value from json_each(?))"
READS = (
    "select message_id, agent_id, at from message_reads where message_id in (select value from json_each(?1))"
    " and (?2 is null or agent_id = ?2)"
)
REPLIES = (
    "select p.id, r.sender, min(r.id), r.created_at from messages p"
    " join messages r on r.thread_id = p.thread_id and r.id > p.id and json_extract(r.record, '$.replyTo') = p.id"
    " where p.id in (select value from json_each(?1)) and (?2 is null or r.sender = ?2) group by p.id, r.sender"
)
HERE = "select id from agents where status <> 'offline'"
REACHED = {
    "label": f"{HERE} and label = ?",
    "tag": f"{HERE} and exists (select 1 from json_each(record, '$.tags') where value = ?)",
    "cap": f"{HERE} and exists (select 1 from json_each(record, '$.capabilities') where value = ?)",
}

Key = tuple[int, str]


@attrs.frozen
class _Evidence:
    """What is known of some messages, all instants in epoch milliseconds."""

    times: dict[int, tuple[int, int]]
    reads: dict[Key, int]
    replies: dict[Key, tuple[int, int]]
    rows: dict[Key, Row]

    @classmethod
    def of(cls, store: Store, numbers: Iterable[int], agent_id: str | None = None) -> _Evidence:
        ids = orjson.dumps(list(numbers)).decode()
        rows = load(
            store,
            "message_id in (select value from json_each(?1)) and (?2 is null or agent_id = ?2)",
            ids,
            agent_id,
        )
        return cls(
            {number: (stored, routed) for number, stored, routed in store.rows(FACTS, ids)},
            {(number, agent): at for number, agent, at in store.rows(READS, ids, agent_id)},
            {(number, agent): (reply, at) for number, agent, reply, at in store.rows(REPLIES, ids, agent_id)},
            {(row.message_id, row.agent_id): row for row in rows},
        )

    def progress(self, number: int, agent_id: str) -> wire.Progress:
        key = (number, agent_id)
        row = self.rows.get(key) or Row(agent_id=agent_id, message_id=number)
        stored, routed = self.times[number]
        read = self.reads.get(key)
        reply, replied = self.replies.get(key, (row.reply_id, row.replied_at))
        rung = row.rung if read is None else max(row.rung, wire.Rung.CONFIRMED, key=lambda each: each.height)
        return wire.Progress(
            message_id=number,
            agent_id=agent_id,
            rung=rung if reply is None else wire.Rung.REPLIED,
            attempt=row.attempt,
            stored_at=_instant(stored),
            routed_at=_instant(routed),
            handed_at=_instant(row.handed_at),
            confirmed_at=_instant(row.confirmed_at or read),
            evidence=row.evidence or (None if read is None else "read"),
            replied_at=_instant(replied),
            reply_id=reply,
            dead_at=_instant(row.dead_at),
            error=row.error,
        )


def agent_progress(store: Store, agent_id: str, numbers: Sequence[int]) -> list[wire.Progress]:
    """How far each of these messages, as far as they exist, got with the agent; in the order given."""
    evidence = _Evidence.of(store, numbers, agent_id)
    return [evidence.progress(number, agent_id) for number in numbers if number in evidence.times]


def message_progress(store: Store, number: int) -> list[wire.Progress]:
    """How far the message got with each recipient that there is, by their ids; raises `NotFound`.

    Of whom a shared address reaches, those who are offline count only once they were handed it or have read it.
    """
    message = find_message(store, number)
    if message is None:
        raise NotFound("no such message")
    evidence = _Evidence.of(store, [number])
    known = [agent for _, agent in (*evidence.rows, *evidence.reads)]
    agents = {*known, *_recipients(store, message)} - {message.from_}
    return [evidence.progress(number, agent) for agent in sorted(agents)]


def dead_letters(
    store: Store, *, agent_id: str | None = None, before: int | None = None, limit: int = 100
) -> list[wire.Progress]:
    """What is dead, newest message first, with the messages. `before` is the id of a message, exclusive."""
    rows = load(
        store,
        "rung = 'dead' and (?1 is null or agent_id = ?1) and (?2 is null or message_id < ?2)"
        " order by message_id desc, agent_id limit ?3",
        agent_id,
        before,
        limit,
    )
    numbers = list(dict.fromkeys(row.message_id for row in rows))
    evidence = _Evidence.of(store, numbers)
    messages = {message.id: message for message in messages_of(store, numbers)}
    return [
        attrs.evolve(evidence.progress(row.message_id, row.agent_id), message=messages[row.message_id])
        for row in rows
        if row.message_id in messages
    ]


def reached(progress: Sequence[wire.Progress], rung: wire.Rung, *, one: bool) -> bool:
    """Whether all recipients there are, or at least `one`, came as far as `rung`."""
    if rung is wire.Rung.STORED:
        return True
    so_far = [each.rung.height >= rung.height for each in progress]
    return any(so_far) if one else bool(so_far) and all(so_far)


def over(progress: Sequence[wire.Progress], rung: wire.Rung) -> bool:
    """Whether it is dead or expired with all who have not come as far as `rung`: it will not go on by itself."""
    short = [each for each in progress if each.rung.height < rung.height]
    return bool(progress) and all(each.rung in (wire.Rung.DEAD, wire.Rung.EXPIRED) for each in short)


def _recipients(store: Store, message: wire.Message) -> list[str]:
    """Whom the message reaches now."""
    never = message.kind is wire.MessageKind.SESSION
    if never or message.delivery_status is not wire.DeliveryStatus.AVAILABLE:
        return []
    if message.resolved_to_agent is not None:
        return [message.resolved_to_agent]
    kind, _, name = message.to.partition(":")
    if message.to == "broadcast":
        return [agent for (agent,) in store.rows(HERE)]
    if kind in REACHED:
        return [agent for (agent,) in store.rows(REACHED[kind], name)]
    known = message.to in wire.RESERVED or store.row("select 1 from agents where id = ?", message.to)
    return [message.to] if known else []


def _instant(ms: int | None) -> float | None:
    return None if ms is None else wire.Instant(ms / 1000)
