"""Timelines: what happened to an agent, entry by entry.

1. What its runner reports (`meta.timelineEvent`) is taken out of the card and becomes an entry. The same report twice is
   one entry (R-I22): it is known by its id, else by its time, and by its status.
2. Every change of its status is an entry, too.
3. A timeline keeps the last `KEPT` entries, and the last reports in any case; it goes with its agent.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from relay import wire
from relay.store import Store, Write

from ._agent_protocol import Heartbeat, Register, Update
from ._errors import Invalid
from ._moment import Moment
from ._records import text_of

__all__ = ["KEPT", "Timeline", "list_timeline", "resume_id", "without_report"]

KEPT = 1_000
TRIMMED_EVERY = 100  # entries
LOOKED_BACK = 50  # reports, for a session to resume (AGT-41)
RESUME_ID = re.compile(r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\Z", re.IGNORECASE)
MEMBER = "timelineEvent"


class Timeline:
    """Writes the timeline of one agent. Not a part of the card: what the card was before and is now tells what to write."""

    def __init__(self) -> None:
        self._since_trimmed = TRIMMED_EVERY

    def entries(
        self,
        before: wire.Agent | None,
        after: wire.Agent | None,
        report: wire.TimelineEvent | None,
        moment: Callable[[], Moment],
    ) -> tuple[Write, ...]:
        """The rows for what was reported, and for a change of status. It ends with the agent."""
        if after is None:
            return (_forget(before.id),) if before is not None else ()
        writes = [_reported(after.id, report, moment())] if report is not None else []
        if before is None or before.status is not after.status:
            writes.append(_moved(before, after, moment()))
        self._since_trimmed += len(writes)
        if writes and self._since_trimmed > TRIMMED_EVERY:
            self._since_trimmed = 0
            writes.append(_trim(after.id))
        return tuple(writes)


def without_report(message: Any) -> tuple[Any, wire.TimelineEvent | None]:
    """What is said to the card, without what it reports for the timeline; and that. Raises `Invalid`."""
    match message:
        case Register(card) if card.meta is not None and MEMBER in card.meta:
            rest, report = _divided(card.meta)
            return attrs.evolve(message, card=attrs.evolve(card, meta=rest)), report
        case Heartbeat() | Update() if message.meta is not None and MEMBER in message.meta:
            rest, report = _divided(message.meta)
            return attrs.evolve(message, meta=rest), report
    return message, None


def _divided(meta: Mapping[str, Any]) -> tuple[dict[str, Any], wire.TimelineEvent | None]:
    rest = {name: value for name, value in meta.items() if name != MEMBER}
    if meta[MEMBER] is None:
        return rest, None
    try:
        return rest, wire.decode(wire.TimelineEvent, meta[MEMBER])
    except wire.Invalid as error:
        raise Invalid(f"meta.{MEMBER}: {error}") from None


def _reported(agent_id: str, report: wire.TimelineEvent, moment: Moment) -> Write:
    at = report.timestamp if report.timestamp is not None else moment.at
    known = report.id if report.id is not None else round(at * 1000)
    return _row(
        agent_id, at, report.status, report.metadata, text_of([report.status, known]), moment, reported=True
    )


def _moved(before: wire.Agent | None, after: wire.Agent, moment: Moment) -> Write:
    metadata = {"previous": before.status.value} if before is not None else None
    return _row(after.id, moment.at, after.status.value, metadata, None, moment, reported=False)


def _row(
    agent_id: str,
    at: float,
    status: str,
    metadata: dict[str, Any] | None,
    key: str | None,
    moment: Moment,
    *,
    reported: bool,
) -> Write:
    number = moment.next_id("agent_timeline")
    entry = wire.TimelineEntry(
        id=number, agent_id=agent_id, at=wire.Instant(at), status=status, metadata=metadata
    )
    return Write(
        "insert or ignore into agent_timeline (id, agent_id, at, reported, dedupe, record) values (?, ?, ?, ?, ?, ?)",
        (number, agent_id, round(at * 1000), reported, key or str(number), text_of(wire.to_json(entry))),
    )


def _trim(agent_id: str) -> Write:
    newest = "select id from agent_timeline where agent_id = ?1"
    return Write(
        "delete from agent_timeline where agent_id = ?1"
        f" and id <= ({newest} order by id desc limit 1 offset {KEPT})"
        f" and id not in ({newest} and reported order by id desc limit {LOOKED_BACK})",
        (agent_id,),
    )


def _forget(agent_id: str) -> Write:
    return Write("delete from agent_timeline where agent_id = ?", (agent_id,))


def list_timeline(
    store: Store, agent_id: str, *, before: int | None = None, limit: int = 100
) -> list[wire.TimelineEntry]:
    """The newest entries first; `before` is the id of an entry, exclusive, to go further back."""
    sql = "select record from agent_timeline where agent_id = ? and id < coalesce(?, id + 1) order by id desc limit ?"
    return [wire.decode(wire.TimelineEntry, record) for (record,) in store.rows(sql, agent_id, before, limit)]


def resume_id(store: Store, agent_id: str) -> str | None:
    """The session of Claude that the agent reported last (4.4). Changes of status are not reports: a busy agent would
    push what it reported at its start out of sight within an hour."""
    sql = "select record from agent_timeline where agent_id = ? and reported order by id desc limit ?"
    for (record,) in store.rows(sql, agent_id, LOOKED_BACK):
        metadata = wire.decode(wire.TimelineEntry, record).metadata or {}
        found = metadata.get("claudeResumeId")
        if metadata.get("provider") == "claude" and isinstance(found, str) and RESUME_ID.match(found):
            return found
    return None
