"""What becomes of an agent's card: one function per message, from the card before to the card after.

They decide and do nothing else: no actor, no store, no clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from relay import wire
from relay.store import Decision, Event, Write

from ._agent_protocol import (
    Exited,
    Follow,
    Heartbeat,
    Register,
    Registered,
    Remove,
    SetLabel,
    SetReady,
    SetStatus,
    SetTags,
    Update,
)
from ._audit import audit
from ._errors import Conflict, Invalid, NotFound
from ._machine import AS_BEFORE, AS_GIVEN, NONE, Moves
from ._moment import Moment
from ._records import text_of

__all__ = [
    "LIVENESS",
    "LOST",
    "OFFLINE",
    "OFFLINE_AFTER",
    "QUIET",
    "STALE_AFTER",
    "announced",
    "decide",
    "exit_id",
    "guard",
    "row_of",
    "silent",
    "watched",
]

ONLINE, IDLE, BUSY = wire.AgentStatus.ONLINE, wire.AgentStatus.IDLE, wire.AgentStatus.BUSY
STALE, OFFLINE = wire.AgentStatus.STALE, wire.AgentStatus.OFFLINE
LIVE = frozenset({ONLINE, IDLE, BUSY})

STALE_AFTER = 90.0  # seconds without contact
OFFLINE_AFTER = 180.0

QUIET, LOST = "quiet", "lost"  # what the agent's own timer finds, and what a maintenance run does
CONTACT = "contact"  # a heartbeat, or a registration that names no status

_ANY: Mapping[str, Any] = {"status write": AS_GIVEN, "deleted": NONE}
LIVENESS: Moves = {
    NONE: {"registered": ONLINE},
    ONLINE: {CONTACT: ONLINE, QUIET: STALE, LOST: OFFLINE, **_ANY},
    IDLE: {CONTACT: IDLE, QUIET: STALE, LOST: OFFLINE, **_ANY},
    BUSY: {CONTACT: BUSY, QUIET: STALE, LOST: OFFLINE, **_ANY},
    STALE: {CONTACT: AS_BEFORE, LOST: OFFLINE, **_ANY},
    OFFLINE: {CONTACT: AS_BEFORE, **_ANY},
}
"""Spec 22.10: what contact, and the lack of it, do to a status. A registration that names one is a status write, too."""

Outcome = tuple[wire.Agent | None, Decision[Any]]


def decide(card: wire.Agent | None, message: Any, moment: Moment) -> Outcome:
    """What `message` makes of the card, and what follows from it."""
    if isinstance(message, Register):
        return _register(card, message.card, moment)
    if card is None:
        if isinstance(message, Exited | Follow):
            return None, Decision(reply=False)
        raise NotFound("no such agent")
    match message:
        case SetStatus(status, instance):
            guard(card, instance)
            return _set(card, attrs.evolve(_moved(card, status), last_seen=moment.at), moment)
        case SetReady(ready, instance):
            guard(card, instance)
            return _set(card, attrs.evolve(card, ready=ready), moment)
        case Update():
            return _update(card, message, moment)
        case Heartbeat():
            return _heartbeat(card, message, moment)
        case SetLabel(label):
            return _set_label(card, label, moment)
        case SetTags(tags):
            return _set_tags(card, tags, moment)
        case Remove():
            write = Write("delete from agents where id = ?", (card.id,), 1)
            event = Event("agent.removed", "server", card.id, {"agentId": card.id})
            return None, Decision(reply=None, writes=(write,), events=(event,))
        case Exited():
            return _exited(card, message, moment)
        case Follow(status):
            return _follow(card, status, moment)
    raise NotImplementedError(message)


def silent(card: wire.Agent, event: str, moment: Moment) -> Outcome:
    """What silence makes of the agent: `event` is one of `LIVENESS`. The reply is whether it changed anything."""
    status = LIVENESS[card.status].get(event)
    if not isinstance(status, wire.AgentStatus):
        return card, Decision(reply=False)
    after = _moved(card, status)
    if status is not OFFLINE:
        return after, announced(after, True)
    record = audit(
        moment,
        f"server-agent-{card.id}-heartbeat-lost-{moment.ms}",
        f"{_name(card)} lost its heartbeat",
        body="marked offline",
        meta=card.id,
        icon="ti-heart-off",
        view="chat",
        agent_id=card.id,
    )
    return after, announced(after, True, record)


def _register(card: wire.Agent | None, asked: wire.RegisterAgent, moment: Moment) -> Outcome:
    if card is None:
        before = wire.Agent(id=asked.id, created_at=moment.at)
        status: wire.AgentStatus = LIVENESS[NONE]["registered"]
    else:
        before = card
        taken_over = asked.instance_id is not None and asked.instance_id != card.instance_id
        status = ONLINE if taken_over else _alive(card)
        if taken_over:
            before = attrs.evolve(before, ready=False)
    named = attrs.asdict(asked, recurse=False, filter=lambda _, value: value is not None)
    del named["id"]
    after = _moved(attrs.evolve(before, **{**named, "status": before.status}), named.get("status", status))
    after = attrs.evolve(after, last_seen=moment.at)
    record = None if card is not None else _registered(after, moment)
    new = record is not None
    return after, announced(after, Registered(after, new), *([record] if record else []))


def _heartbeat(card: wire.Agent, beat: Heartbeat, moment: Moment) -> Outcome:
    guard(card, beat.instance)
    meta = _merged(card.meta, beat.meta) if beat.meta else card.meta
    after = attrs.evolve(card, last_seen=moment.at, meta=meta)
    if card.status in LIVE:
        return after, Decision(reply=after) if meta == card.meta else announced(after, after)
    after = _moved(after, beat.status or _alive(card))
    return after, announced(after, after)


def _update(card: wire.Agent, update: Update, moment: Moment) -> Outcome:
    guard(card, update.instance)
    meta = _merged(card.meta, update.meta) if update.meta else card.meta
    ready = card.ready if update.ready is None else update.ready
    status = update.status or (card.status if card.status in LIVE else _alive(card))
    after = attrs.evolve(_moved(card, status), ready=ready, meta=meta, last_seen=moment.at)
    if meta != card.meta and (card.status, card.ready) == (after.status, ready):
        return after, announced(after, after)
    return _set(card, after, moment)


def _merged(before: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The members of both; together they are bound by the limit of one."""
    merged = {**before, **given}
    try:
        wire.decode(wire.Heartbeat, {"meta": merged})
    except wire.Invalid as error:
        raise Invalid(str(error)) from None
    return merged


def _set(card: wire.Agent, after: wire.Agent, moment: Moment) -> Outcome:
    """A status or ready flag was written: announced and audited when it changed something (AGT-14)."""
    if (card.status, card.ready) == (after.status, after.ready):
        return after, Decision(reply=after)
    readiness = "ready" if after.ready else "not ready"
    title = f"{_name(after)} is {after.status if after.status is not card.status else readiness}"
    client_id = f"server-agent-{card.id}-status-{moment.ms}"
    return after, announced(after, after, audit(moment, client_id, title, meta=card.id, agent_id=card.id))


def _follow(card: wire.Agent, status: wire.AgentStatus, moment: Moment) -> Outcome:
    if card.status is status:
        return card, Decision(reply=None)
    return _set(card, _moved(card, status), moment)


def _set_label(card: wire.Agent, label: str | None, moment: Moment) -> Outcome:
    after = attrs.evolve(card, label=label)
    if label == card.label:
        return after, announced(after, after)
    record = audit(
        moment,
        f"server-agent-{card.id}-label-{moment.ms}",
        f"{card.id} is labelled {label}" if label else f"{card.id} has no label any more",
        body=label or card.label or "",
        meta=card.id,
        icon="ti-tag",
        view="chat",
        agent_id=card.id,
        metadata={"field": "label", "previous": card.label, "next": label},
    )
    return after, announced(after, after, record)


def _set_tags(card: wire.Agent, tags: list[str], moment: Moment) -> Outcome:
    after = attrs.evolve(card, tags=tags)
    if tags == card.tags:
        return after, announced(after, after)
    record = audit(
        moment,
        f"server-agent-{card.id}-tags-{moment.ms}",
        f"{_name(card)} has other tags",
        body=", ".join(tags),
        meta=card.id,
        icon="ti-tags",
        view="chat",
        agent_id=card.id,
        metadata={"field": "tags", "previous": card.tags, "next": tags},
    )
    return after, announced(after, after, record)


def _exited(card: wire.Agent, message: Exited, moment: Moment) -> Outcome:
    report = message.report
    goes_on = message.succeeded or not _same_session(card, report)
    after = card if goes_on else _moved(card, OFFLINE)
    how = f"signal {report.signal}" if report.signal else f"exit code {report.exit_code}"
    record = audit(
        moment,
        exit_id(report) or f"server-agent-{card.id}-exited-{moment.ms}",
        f"the session of {_name(card)} ended",
        body=report.last_error or how,
        meta=card.id,
        icon="ti-plug-x",
        view="agents",
        agent_id=card.id,
        metadata=wire.to_json(report),
    )
    if after is card:
        return card, Decision(reply=True, writes=(record[0],), events=(record[1],))
    return after, announced(after, True, record)


def exit_id(report: wire.ExitedAgent) -> str | None:
    """The audit id of this very end of a session, if the report says when it was."""
    ended = report.detected_at or report.started_at
    return f"server-agent-{report.agent_id}-exited-{round(ended * 1000)}" if ended else None


def _same_session(card: wire.Agent, report: wire.ExitedAgent) -> bool:
    """Whether what ended is what the card describes, and not what ran before it. Both clocks are the host's."""
    request = card.meta.get("spawnRequestId")
    if report.spawn_request_id and request and report.spawn_request_id != request:
        return False
    began = card.meta.get("startedAt")
    return not (report.detected_at and isinstance(began, int | float) and began / 1000 > report.detected_at)


def _registered(card: wire.Agent, moment: Moment) -> tuple[Write, Event]:
    client_id = f"server-agent-{card.id}-registered-{moment.ms}"
    return audit(moment, client_id, f"{_name(card)} registered", meta=card.id, agent_id=card.id)


def guard(card: wire.Agent, instance: str | None) -> None:
    if instance is not None and card.instance_id is not None and instance != card.instance_id:
        raise Conflict("the agent is bound to another session")


def _moved(card: wire.Agent, status: wire.AgentStatus) -> wire.Agent:
    live = status if status in LIVE else card.last_live_status
    return attrs.evolve(card, status=status, last_live_status=live)


def _alive(card: wire.Agent) -> wire.AgentStatus:
    """The status to be in after contact."""
    status = LIVENESS[card.status][CONTACT]
    return status if isinstance(status, wire.AgentStatus) else card.last_live_status or ONLINE


def announced(card: wire.Agent, reply: Any, *records: tuple[Write, Event]) -> Decision[Any]:
    """The card is stored and everybody hears of it."""
    known = wire.to_json(card)
    event = Event("agent.status", "server", card.id, known)
    return Decision(
        reply=reply,
        writes=(row_of(card, known), *(write for write, _ in records)),
        events=(event, *(event for _, event in records)),
    )


def row_of(card: wire.Agent, known: Any = None) -> Write:
    """The card's row. `known` is the card as JSON, for whoever has it already."""
    seen = round((card.last_seen or card.created_at or 0.0) * 1000)
    values = (card.id, card.status, card.kind, card.label, text_of(known or wire.to_json(card)), seen)
    return Write(
        "insert into agents (id, status, kind, label, record, updated_at) values (?, ?, ?, ?, ?, ?)"
        " on conflict (id) do update set status = excluded.status, kind = excluded.kind, label = excluded.label,"
        " record = excluded.record, updated_at = excluded.updated_at",
        values,
    )


def watched(card: wire.Agent) -> bool:
    """Whether silence means anything."""
    follows = card.id in wire.RESERVED or card.kind is wire.AgentKind.ORCHESTRATOR
    return not follows and card.status is not OFFLINE


def _name(card: wire.Agent) -> str:
    return card.label or card.id
