"""Messages (messaging-control 4)."""

from typing import Any

import attrs

from . import _fields as f
from ._json import nested
from .vocabulary import DeliveryStatus, MessageKind

__all__ = [
    "Attachment",
    "Broadcast",
    "Claim",
    "ClaimMessage",
    "Cursor",
    "Delivery",
    "MarkRead",
    "Message",
    "Obligation",
    "React",
    "Reaction",
    "SendMessage",
]

LONGEST_WAIT = 2_592_000  # seconds: 30 days
MOST_ATTACHMENTS = 20


@attrs.frozen(kw_only=True)
class Attachment:
    """What a message refers to, by its id: relay keeps the reference, and not the bytes. `size` is in bytes."""

    id: str = f.text(160, required=True)
    name: str | None = f.text(240)
    size: int | None = f.integer(0)
    digest: str | None = f.text(160)
    kind: str | None = f.text(80)


@attrs.frozen(kw_only=True)
class Reaction:
    """What one agent thinks of a message, in a character or two."""

    agent_id: str = f.text(240, required=True)
    emoji: str = f.text(40, required=True)
    at: f.Instant | None = f.instant()


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
    attachments: list[Attachment] | None = f.items(Attachment, nested, most=MOST_ATTACHMENTS, default=None)
    delivery_status: DeliveryStatus = f.choice(DeliveryStatus, default=DeliveryStatus.AVAILABLE)
    resolved_to_agent: str | None = f.text(240)
    read_by: list[str] = f.texts(most=f.SAFE)
    reactions: list[Reaction] | None = f.items(Reaction, nested, most=f.SAFE, default=None)
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
    attachments: list[Attachment] | None = f.items(Attachment, nested, most=MOST_ATTACHMENTS, default=None)


@attrs.frozen(kw_only=True)
class Broadcast:
    """`POST /api/system/broadcast` (MSG-48)."""

    body: str = f.text(100_000, required=True)
    subject: str | None = f.text(240)
    from_: str = f.text(240, default="system")


@attrs.frozen(kw_only=True)
class React:
    """`POST /api/messages/:id/reactions`. `remove` takes the reaction back."""

    agent_id: str = f.text(240, required=True)
    emoji: str = f.text(40, required=True)
    remove: bool = f.boolean(default=False)


@attrs.frozen(kw_only=True)
class Obligation:
    """A message whose sender waits for an answer of the agent who has read it."""

    message_id: int = f.integer(1, required=True)
    from_: str = f.text(240, required=True)
    subject: str | None = f.text(240)
    kind: MessageKind = f.choice(MessageKind, default=MessageKind.CHAT)
    created_at: f.Instant | None = f.instant()


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
