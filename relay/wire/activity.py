"""Activity: what happened, for people to read (messaging-control 7)."""

from typing import Any

import attrs

from . import _fields as f
from .vocabulary import ActivityKind

__all__ = ["Activity", "NewActivity"]


@attrs.frozen(kw_only=True)
class NewActivity:
    """`POST /api/activity`. The same `client_id` written twice is one record (ACT-2)."""

    client_id: str = f.text(240, required=True)
    kind: ActivityKind = f.choice(ActivityKind, required=True)
    title: str = f.text(240, required=True)
    body: str | None = f.text(100_000)
    meta: str | None = f.text(240)
    icon: str | None = f.text(80)
    view: str | None = f.text(80)
    message_id: int | None = f.integer(1)
    agent_id: str | None = f.text(240)
    metadata: dict[str, Any] | None = f.mapping(default=None)


@attrs.frozen(kw_only=True)
class Activity(NewActivity):
    """The record of an activity."""

    id: int = f.integer(1, required=True)
    metadata: dict[str, Any] | None = f.document(default=None)
    created_at: f.Instant | None = f.instant()
