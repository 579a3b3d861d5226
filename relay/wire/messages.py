"""Messages (messaging-control 4)."""

from typing import Any

import attrs

from . import _fields as f
from .vocabulary import DeliveryStatus, MessageKind

__all__ = ["Claim", "ClaimMessage", "Cursor", "Delivery", "MarkRead", "Message", "SendMessage"]

LONGEST_WAIT = 2_592_000  # seconds: 30 days


@attrs.frozen(kw_only=True)
class Message:
    """The record of a message (4.1)."""

    id: int = f.integer(1, required=True)
    from_: str = f.text(240, required=True)
    to: str = f.text(240, required=True)
    kind: MessageKind = f.choice(MessageKind, default=MessageKind.CHAT)
    subject: str | None = f.text(240)
    body: str = f.text(100_000, required=True)
    payload: dict[str, Any] | None = f.document(default=None)
    meta: dict[str, Any] | None = f.document(default=None)
    channel: str | None = f.text(120)
    reply_to: int | None = f.integer(1)
    thread_id: int | None = f.integer(1)
    claimable: bool | None = f.boolean()
    claimed_by: str | None = f.text(240)
    claim_expires_at: f.Instant | None = f.instant()
    idempotency_key: str | None = f.text(240)
    max_age_seconds: int | None = f.integer(0, LONGEST_WAIT)
    delivery_status: DeliveryStatus = f.choice(DeliveryStatus, default=DeliveryStatus.AVAILABLE)
    resolved_to_agent: str | None = f.text(240)
    read_by: list[str] = f.texts(most=f.SAFE)
    created_at: f.Instant | None = f.instant()


@attrs.frozen(kw_only=True)
class SendMessage:
    """`POST /api/messages`."""

    from_: str = f.text(240, required=True)
    to: str | None = f.text(240)
    kind: MessageKind = f.choice(MessageKind, default=MessageKind.CHAT)
    subject: str | None = f.text(240)
    body: str = f.text(100_000, required=True)
    payload: dict[str, Any] | None = f.mapping(default=None)
    meta: dict[str, Any] | None = f.mapping(default=None)
    channel: str | None = f.text(120)
    reply_to: int | None = f.integer(1)
    claimable: bool | None = f.boolean()
    idempotency_key: str | None = f.text(240)
    max_age_seconds: int | None = f.integer(0, LONGEST_WAIT)


@attrs.frozen(kw_only=True)
class ClaimMessage:
    """`POST /api/messages/:id/claim` and `…/claim/renew`."""

    agent_id: str = f.text(240, required=True)


@attrs.frozen(kw_only=True)
class MarkRead:
    """`POST /api/messages/:id/read`."""

    agent_id: str = f.text(240, required=True)


@attrs.frozen(kw_only=True)
class Claim:
    """The answer to a claim or its renewal."""

    ok: bool = f.boolean(required=True)
    claim_expires_at: f.Instant | None = f.instant()


@attrs.frozen(kw_only=True)
class Cursor:
    """`GET /api/messages/cursor`: the newest message's id, 0 when there is none."""

    latest_id: int = f.integer(0, required=True)


@attrs.frozen(kw_only=True)
class Delivery:
    """`GET /api/messages/:id/status` (MSG-35)."""

    id: int = f.integer(1, required=True)
    to: str = f.text(240, required=True)
    delivery_status: DeliveryStatus = f.choice(DeliveryStatus, required=True)
    resolved_to_agent: str | None = f.text(240)
    queued_at: f.Instant | None = f.instant()
    available_at: f.Instant | None = f.instant()
    expires_at: f.Instant | None = f.instant()
    expired_at: f.Instant | None = f.instant()
    read_by: list[str] = f.texts(most=f.SAFE)
    claimed_by: str | None = f.text(240)
    claim_expires_at: f.Instant | None = f.instant()
