"""Pairs: conversations of two agents (messaging-control 6)."""

from typing import Any

import attrs

from . import _fields as f
from .vocabulary import PairStatus

__all__ = ["LIFETIME", "Member", "Pair", "PairMessage", "ProposePair"]

LIFETIME = 900
"""Seconds that an invitation stands unless its sender says otherwise."""

LONGEST_LIFETIME = 86_400


@attrs.frozen(kw_only=True)
class ProposePair:
    """`POST /api/pairs`: `from_` invites `to`."""

    from_: str = f.text(240, required=True)
    to: str = f.text(240, required=True)
    topic: str | None = f.text(240)
    ttl_seconds: int = f.integer(1, LONGEST_LIFETIME, default=LIFETIME)


@attrs.frozen(kw_only=True)
class Pair:
    """The record of a pair. `expires_at` is when the invitation lapses; `message_id` is the invitation, once it is sent.

    `ended_by` is the member who rejected or ended it, or is not there any more; `reason` says which.
    """

    id: str = f.text(240, required=True)
    from_: str = f.text(240, required=True)
    to: str = f.text(240, required=True)
    topic: str | None = f.text(240)
    status: PairStatus = f.choice(PairStatus, default=PairStatus.PENDING)
    ttl_seconds: int = f.integer(1, default=LIFETIME)
    expires_at: f.Instant | None = f.instant()
    message_id: int | None = f.integer(1)
    ended_by: str | None = f.text(240)
    reason: str | None = f.text(240)
    created_at: f.Instant | None = f.instant()
    updated_at: f.Instant | None = f.instant()


@attrs.frozen(kw_only=True)
class Member:
    """`POST /api/pairs/:id/accept`, `/reject` and `/end`: who does it."""

    agent_id: str = f.text(240, required=True)


@attrs.frozen(kw_only=True)
class PairMessage:
    """`POST /api/pairs/:id/messages`: to the other member."""

    from_: str = f.text(240, required=True)
    body: str = f.text(100_000, required=True)
    subject: str | None = f.text(240)
    payload: dict[str, Any] | None = f.mapping(default=None)
    idempotency_key: str | None = f.text(240)
