"""What may be handed to an agent next: due, unread, nobody else's, in the order of ids."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import attrs

from relay import wire
from relay.store import Store

from ._addresses import addresses_of
from ._delivery_rules import Row

__all__ = ["Candidate", "Queue", "fill"]

OPEN = """
select m.id, length(cast(m.record as blob)), d.alone
from messages m left join deliveries d on d.agent_id = ?1 and d.message_id = m.id
where {source} and m.id > ?3 and m.sender <> ?1 and m.kind <> 'session' and m.delivery = 'available'
  and (d.rung is null or d.rung in ('handed', 'routed'))
  and not exists (select 1 from message_reads r where r.agent_id = ?1 and r.message_id = m.id)
  and not exists (select 1 from message_claims c where c.message_id = m.id and c.agent_id <> ?1 and c.expires_at > ?4)
order by m.id limit ?5
"""
BY_ADDRESS = OPEN.format(source="m.address = ?2")
BY_RESOLUTION = OPEN.format(source="m.resolved_to = ?2")


@attrs.frozen(order=True)
class Candidate:
    """A message that may be handed over; `size` in bytes of JSON. `alone`: not together with others."""

    number: int
    size: int
    alone: bool


class Queue:
    """The way to one agent. What waits for a better time is kept in memory only: after a restart it is due at once."""

    def __init__(self, store: Store, agent_id: str) -> None:
        self._store = store
        self._id = agent_id
        self._not_before: dict[int, float] = {}

    def put_off(self, number: int, until: float) -> None:
        """Not before this instant of the system's clock."""
        self._not_before[number] = until

    def forget(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            self._not_before.pop(number, None)

    def next_at(self, now: float) -> float | None:
        """When the next of those that wait is due."""
        self._not_before = {number: at for number, at in self._not_before.items() if at > now}
        return min(self._not_before.values(), default=None)

    def due(
        self, card: wire.Agent, handed: Mapping[int, Row], limit: int, *, now: float, wall: float
    ) -> list[Candidate]:
        """The first `limit` that are due, oldest first; `handed` are in somebody's hands."""
        waiting = {number for number, at in self._not_before.items() if at > now} | handed.keys()
        sources = [(BY_ADDRESS, address) for address in addresses_of(card)] + [(BY_RESOLUTION, card.id)]
        found: set[Candidate] = set()
        for query, name in sources:
            rows = self._store.rows(query, self._id, name, 0, round(wall * 1000), limit + len(waiting))
            found.update(
                Candidate(number, size, bool(alone)) for number, size, alone in rows if number not in waiting
            )
        return sorted(found)[:limit]


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
