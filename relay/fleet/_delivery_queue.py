"""What may be handed to an agent next: due, unread, nobody else's, in the order of ids."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from relay import wire
from relay.store import Store

from ._addresses import addresses_of
from ._delivery_rules import Row

__all__ = ["Candidate", "Queue", "fill"]

OPEN = """
from messages m left join deliveries d on d.agent_id = ?1 and d.message_id = m.id
where m.{column} = ?2 and m.id > ?3 and m.sender <> ?1 and m.kind <> 'session' and m.delivery = 'available'
  and (d.rung is null or d.rung in ('handed', 'routed'))
  and not exists (select 1 from message_reads r where r.agent_id = ?1 and r.message_id = m.id)
"""
FIRST = "select m.id {open} order by m.id limit 1"
NEXT = """
select m.id, length(cast(m.record as blob)), d.alone {open}
  and not exists (select 1 from message_claims c where c.message_id = m.id and c.agent_id <> ?1 and c.expires_at > ?4)
order by m.id limit ?5
"""
QUERIES = {
    column: (FIRST.format(open=OPEN.format(column=column)), NEXT.format(open=OPEN.format(column=column)))
    for column in ("address", "resolved_to")
}
STILL_QUEUED = "select min(id) from messages indexed by messages_queued where delivery = 'queued'"

Source = tuple[str, str]


class Candidate(NamedTuple):
    """A message that may be handed over; `size` in bytes of JSON. `alone`: not together with others."""

    number: int
    size: int
    alone: bool


class Queue:
    """The way to one agent. What waits for a better time is kept in memory only: after a restart it is due at once.

    Up to its floor nothing that an address ever brought is open any more, so that a look costs no more for a long history.
    """

    def __init__(self, store: Store, agent_id: str) -> None:
        self._store = store
        self._id = agent_id
        self._not_before: dict[int, float] = {}
        self._floors: dict[Source, int] = {}

    def put_off(self, number: int, until: float) -> None:
        """Not before this instant of the system's clock."""
        self._not_before[number] = until

    def reopen(self) -> None:
        """Something that was over is open again."""
        self._floors.clear()

    def next_at(self, now: float) -> float | None:
        """When the next of those that wait is due."""
        self._not_before = {number: at for number, at in self._not_before.items() if at > now}
        return min(self._not_before.values(), default=None)

    def due(
        self, card: wire.Agent, handed: Mapping[int, Row], limit: int, *, now: float, wall: float
    ) -> list[Candidate]:
        """The first `limit` that are due, oldest first; `handed` are in somebody's hands."""
        waiting = {number for number, at in self._not_before.items() if at > now} | handed.keys()
        sources = [("resolved_to", card.id), *(("address", name) for name in addresses_of(card))]
        found: set[Candidate] = set()
        for source in sources:
            _, query = QUERIES[source[0]]
            floor, most = self._floor(source), limit + len(waiting)
            rows = self._store.rows(query, self._id, source[1], floor, round(wall * 1000), most)
            found.update(
                Candidate(number, size, bool(alone)) for number, size, alone in rows if number not in waiting
            )
        return sorted(found)[:limit]

    def _floor(self, source: Source) -> int:
        """Raised to just below the first that is open, or that may yet be released to this agent."""
        column, name = source
        query, _ = QUERIES[column]
        newest = self._number("select max(id) from messages") or 0
        first = self._number(query, self._id, name, self._floors.get(source, 0))
        queued = self._number(STILL_QUEUED) if column == "resolved_to" else None
        ends = [number - 1 for number in (first, queued) if number is not None]
        self._floors[source] = max(self._floors.get(source, 0), min(ends, default=newest))
        return self._floors[source]

    def _number(self, query: str, *params: object) -> int | None:
        row = self._store.row(query, *params)
        return row[0] if row is not None else None


def fill(candidates: Iterable[Candidate], limit: int, most_bytes: int) -> list[int]:
    """The first of them that may go together."""
    batch: list[int] = []
    room = most_bytes
    for each in candidates:
        if batch and (each.alone or each.size > room or len(batch) >= limit):
            break
        batch.append(each.number)
        room -= each.size
        if each.alone:
            break
    return batch
