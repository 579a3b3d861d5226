"""What becomes of a pair: its moves, and the decision for each. No actor, no clock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from relay import wire
from relay.store import Decision, Event, Store, Write

from ._addresses import is_agent_id
from ._audit import audit
from ._bystanders import gone
from ._errors import Conflict, Forbidden, Invalid, Unprocessable
from ._moment import Moment
from ._records import text_of
from .agents import find_participant

__all__ = ["MOVES", "OPEN", "absent", "invitation", "message", "moved", "other", "proposed", "row_of"]

Status = wire.PairStatus

MOVES: Mapping[Status, Mapping[str, Status]] = {
    Status.PENDING: {
        "accept": Status.ACTIVE,
        "reject": Status.REJECTED,
        "end": Status.ENDED,
        "expire": Status.EXPIRED,
    },
    Status.ACTIVE: {"end": Status.ENDED, "leave": Status.ENDED},
    Status.ENDED: {},
    Status.REJECTED: {},
    Status.EXPIRED: {},
}
"""Spec 22.9. The invited agent accepts or rejects; either ends; the maintenance run lets expire; who is gone leaves."""

OPEN = tuple(status for status, moves in MOVES.items() if moves)

TITLES: Mapping[Status, str] = {
    Status.PENDING: "{} invites {} to work as a pair",
    Status.ACTIVE: "{} and {} work as a pair",
    Status.ENDED: "{} and {} are no pair any more",
    Status.REJECTED: "{}'s invitation was rejected by {}",
    Status.EXPIRED: "{}'s invitation was not answered by {}",
}

Outcome = tuple[wire.Pair, Decision[wire.Pair]]


def proposed(key: str, asked: wire.ProposePair, store: Store, moment: Moment) -> Outcome:
    """The pair that is proposed; raises unless both are there to be asked (PAR-2)."""
    if asked.from_ == asked.to:
        raise Invalid("to: an agent cannot pair up with itself")
    for name, agent_id in (("from", asked.from_), ("to", asked.to)):
        if not is_agent_id(agent_id):
            raise Invalid(f"{name}: expected the id of one agent")
        if find_participant(store, agent_id) is None:
            raise Invalid(f"{name}: no agent has the id {agent_id}")
    if absent(store, asked.to):
        raise Unprocessable(f"{asked.to} is offline")
    pair = wire.Pair(
        **attrs.asdict(asked, recurse=False),
        id=key,
        expires_at=wire.Instant(moment.at + asked.ttl_seconds),
        created_at=moment.at,
        updated_at=moment.at,
    )
    known = wire.to_json(pair)
    write = Write(
        "insert into pairs (id, from_id, to_id, status, expires_at, record, created_at, updated_at)"
        " values (?, ?, ?, ?, ?, ?, ?, ?)",
        (key, pair.from_, pair.to, pair.status, _ms(pair), text_of(known), moment.ms, moment.ms),
    )
    return pair, _told(pair, known, write, "pair.created", moment)


def moved(pair: wire.Pair, event: str, moment: Moment, **given: Any) -> Outcome:
    """The pair after `event`; raises `Conflict` where the table has none. `given` changes other members of it."""
    status = MOVES[pair.status].get(event)
    if status is None:
        raise Conflict(f"the pair is {pair.status}")
    after = attrs.evolve(pair, status=status, updated_at=moment.at, **given)
    return after, _told(after, wire.to_json(after), row_of(after, pair.status), "pair.updated", moment)


def row_of(pair: wire.Pair, before: Status | None = None) -> Write:
    """The row of a pair that was in status `before`, or is as it was; anything else is a lost fence."""
    return Write(
        "update pairs set status = ?, expires_at = ?, record = ?, updated_at = ? where id = ? and status = ?",
        (
            pair.status,
            _ms(pair),
            text_of(wire.to_json(pair)),
            round((pair.updated_at or 0.0) * 1000),
            pair.id,
            before or pair.status,
        ),
        1,
    )


def _told(pair: wire.Pair, known: Any, write: Write, event: str, moment: Moment) -> Decision[wire.Pair]:
    record = audit(
        moment,
        f"server-pair-{pair.id}-{pair.status}",
        TITLES[pair.status].format(pair.from_, pair.to),
        kind=wire.ActivityKind.PAIR,
        body=pair.topic,
        meta=pair.id,
        icon="ti-users",
        view="messages",
        agent_id=pair.ended_by or (pair.to if pair.status is Status.ACTIVE else pair.from_),
        metadata={"pairId": pair.id, "from": pair.from_, "to": pair.to, "status": pair.status.value},
    )
    return Decision(
        reply=pair,
        writes=(write, record[0]),
        events=(Event(event, "server", pair.id, known), record[1]),
    )


def absent(store: Store, agent_id: str) -> bool:
    """Nothing can be expected of this member."""
    return gone(find_participant(store, agent_id))


def other(pair: wire.Pair, agent_id: str) -> str:
    """The other member; raises `Forbidden` for whoever is none."""
    if agent_id not in (pair.from_, pair.to):
        raise Forbidden(f"{agent_id} is no member of the pair")
    return pair.to if agent_id == pair.from_ else pair.from_


def invitation(pair: wire.Pair) -> wire.SendMessage:
    """The message that asks the invited agent; its key makes sure that there is one (M-I1)."""
    about = f" about {pair.topic}" if pair.topic else ""
    payload = {"pairId": pair.id, "pairStatus": Status.PENDING.value, "expiresAt": _ms(pair)}
    return wire.SendMessage(
        from_=pair.from_,
        to=pair.to,
        kind=wire.MessageKind.PAIR,
        subject=pair.topic,
        body=f"{pair.from_} asks you to work as a pair{about}."
        f" POST /api/pairs/{pair.id}/accept or …/reject with your agentId.",
        payload=payload,
        idempotency_key=f"pair:{pair.id}:invite",
    )


def message(pair: wire.Pair, said: wire.PairMessage) -> wire.SendMessage:
    """What a member says, as a message to the other one (PAR-4)."""
    return wire.SendMessage(
        from_=said.from_,
        to=other(pair, said.from_),
        kind=wire.MessageKind.PAIR,
        subject=said.subject,
        body=said.body,
        payload={**(said.payload or {}), "pairId": pair.id},
        idempotency_key=said.idempotency_key,
    )


def _ms(pair: wire.Pair) -> int:
    return round((pair.expires_at or 0.0) * 1000)
