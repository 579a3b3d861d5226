"""Audit records: what the server itself writes into the activity (spec section 21).

They belong to the decision they tell of, so they are there exactly when it is. The client id is the identity of a
record: the same one written twice is one record (ACT-2).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from relay import wire
from relay.store import Event, Write

from ._moment import Moment

__all__ = ["Caller", "audit", "record_activity"]

LONGEST = 2 * 240  # bytes of UTF-16: what the record's texts may hold
SHORT = 120  # characters that fit in any case


@attrs.frozen
class Caller:
    """Who asked for what is recorded (2.3). `jti` is None for the root token, which has none."""

    subject: str
    role: str
    jti: str | None = None

    @property
    def known(self) -> dict[str, str]:
        """As the metadata of a record has it; never the token."""
        facts = {"authSub": self.subject, "authRole": self.role, "authJti": self.jti}
        return {name: value for name, value in facts.items() if value is not None}


def audit(
    moment: Moment,
    client_id: str,
    title: str,
    *,
    kind: wire.ActivityKind = wire.ActivityKind.STATE,
    body: str | None = None,
    meta: str | None = None,
    icon: str | None = None,
    view: str | None = None,
    agent_id: str | None = None,
    message_id: int | None = None,
    metadata: Mapping[str, Any] | None = None,
    by: Caller | None = None,
) -> tuple[Write, Event]:
    """The row of one audit record, and its `activity.created`, which is told if there is no such record yet (ACT-4)."""
    record = wire.Activity(
        id=moment.next_id("activity"),
        client_id=_end(client_id),
        kind=kind,
        title=_start(title),
        body=body,
        meta=_start(meta) if meta is not None else None,
        icon=icon,
        view=view,
        agent_id=_start(agent_id) if agent_id is not None else None,
        message_id=message_id,
        metadata=_facts(metadata, by),
        created_at=moment.at,
    )
    return record_activity(record, moment)


def _facts(metadata: Mapping[str, Any] | None, by: Caller | None) -> dict[str, Any] | None:
    return None if metadata is None and by is None else {**(metadata or {}), **(by.known if by else {})}


def record_activity(record: wire.Activity, moment: Moment) -> tuple[Write, Event]:
    known = wire.encode(record)
    write = Write(
        "insert or ignore into activity (id, client_id, kind, view, agent_id, message_id, record, created_at)"
        " values (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            record.id,
            record.client_id,
            record.kind,
            record.view,
            record.agent_id,
            record.message_id,
            known.decode(),
            moment.ms,
        ),
    )
    return write, Event("activity.created", "server", str(record.id), known, of=write)


def _start(text: str) -> str:
    return (
        text
        if len(text) <= SHORT
        else text.encode("utf-16-le", "replace")[:LONGEST].decode("utf-16-le", "ignore")
    )


def _end(text: str) -> str:
    """The end of a client id is what makes it unique."""
    return (
        text
        if len(text) <= SHORT
        else text.encode("utf-16-le", "replace")[-LONGEST:].decode("utf-16-le", "ignore")
    )
