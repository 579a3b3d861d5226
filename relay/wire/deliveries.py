"""How far messages get, and handing them over: the delivery ladder beside the contract's own members."""

import attrs

from . import _fields as f
from ._json import nested
from .messages import Message
from .vocabulary import Outcome, Rung

__all__ = [
    "Ack",
    "AckDeliveries",
    "AckResult",
    "AckResults",
    "HandOver",
    "HandOvers",
    "Progress",
    "Redeliver",
    "Redelivered",
    "TakeDeliveries",
]

MOST_BYTES = 262_144  # of JSON in one hand-over; a larger message goes alone


@attrs.frozen(kw_only=True)
class TakeDeliveries:
    """`POST /api/agents/:id/deliveries`.

    `holding`: what this instance has taken and not settled; all else that it was handed has not arrived, and is handed
    over again. Absent: nothing is said of that. `wait_ms`: how long to wait for something to take.
    """

    instance_id: str | None = f.text(160)
    limit: int = f.integer(1, 100, default=100)
    bytes_: int = f.integer(1, MOST_BYTES, default=MOST_BYTES)
    wait_ms: int = f.integer(0, 25_000, default=0)
    holding: list[int] | None = f.integers(1, most=1_000)


@attrs.frozen(kw_only=True)
class HandOver:
    """One message in the hands of a runner until `visible_until`, unless it is settled with the `token` before."""

    message_id: int = f.integer(1, required=True)
    token: int = f.integer(1, required=True)
    attempt: int = f.integer(1, required=True)
    handed_at: f.Instant = f.instant(required=True)
    visible_until: f.Instant = f.instant(required=True)
    message: Message = f.item(Message, nested, required=True)


@attrs.frozen(kw_only=True)
class HandOvers:
    """The answer to a take: in the order of ids."""

    deliveries: list[HandOver] = f.items(HandOver, nested, required=True)


@attrs.frozen(kw_only=True)
class Ack:
    """What became of one hand-over. `retry_ms`: when to try again after a refusal; relay chooses if it is absent."""

    message_id: int = f.integer(1, required=True)
    token: int = f.integer(1, required=True)
    outcome: Outcome = f.choice(Outcome, required=True)
    evidence: str | None = f.text(240)
    error: str | None = f.text(4_000)
    retry_ms: int | None = f.integer(0, 300_000)


@attrs.frozen(kw_only=True)
class AckDeliveries:
    """`POST /api/agents/:id/deliveries/ack`."""

    acks: list[Ack] = f.items(Ack, nested, most=500, required=True)


@attrs.frozen(kw_only=True)
class AckResult:
    """`rung` is where the message is now; absent when relay knows of no such hand-over. `error`: `stale` for a token that
    counts no more, `unknown` for a message that was not handed over or is deleted."""

    message_id: int = f.integer(1, required=True)
    ok: bool = f.boolean(required=True)
    rung: Rung | None = f.choice(Rung)
    error: str | None = f.text(240)


@attrs.frozen(kw_only=True)
class AckResults:
    results: list[AckResult] = f.items(AckResult, nested, required=True)


@attrs.frozen(kw_only=True)
class Progress:
    """How far a message got with one recipient, and since when (`GET /api/messages/:id/deliveries`).

    `attempt` counts hand-overs that count against it, up to 8. `message` is there in the list of dead letters.
    """

    message_id: int = f.integer(1, required=True)
    agent_id: str = f.text(240, required=True)
    rung: Rung = f.choice(Rung, required=True)
    attempt: int = f.integer(0, default=0)
    stored_at: f.Instant | None = f.instant()
    routed_at: f.Instant | None = f.instant()
    handed_at: f.Instant | None = f.instant()
    confirmed_at: f.Instant | None = f.instant()
    evidence: str | None = f.text(240)
    replied_at: f.Instant | None = f.instant()
    reply_id: int | None = f.integer(1)
    dead_at: f.Instant | None = f.instant()
    error: str | None = f.text(4_000)
    message: Message | None = f.item(Message, nested)


@attrs.frozen(kw_only=True)
class Redeliver:
    """`POST /api/messages/:id/redeliver`: to that agent, or to all with whom it is dead."""

    agent_id: str | None = f.text(240)


@attrs.frozen(kw_only=True)
class Redelivered:
    redelivered: list[str] = f.texts(most=f.SAFE, required=True)
