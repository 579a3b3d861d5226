"""Integrations: programs elsewhere that report events and are called back (messaging-control 9)."""

import re
from typing import Any

import attrs

from . import _fields as f
from .vocabulary import TaskSeverity, TaskStatus

__all__ = ["Integration", "IntegrationEvent", "IntegrationSettings"]

NAME = f.Form("a name of letters, digits, dots, dashes and underscores", re.compile(r"[A-Za-z0-9._-]+$"))
SECRET = f.Form("printable ASCII characters without spaces", re.compile(r"[!-~]+$"))


@attrs.frozen(kw_only=True)
class IntegrationSettings:
    """One integration as the server's file names it (INT-1). No `targets`, or no `channels`: all are allowed."""

    name: str = f.text(120, form=NAME, required=True)
    secret: str = f.text(240, form=SECRET, required=True)
    """What it shows when it calls, and the key that what it is called with is signed with."""
    targets: list[str] = f.texts()
    channels: list[str] = f.texts()
    scopes: list[str] = f.texts()
    """What it may do; reporting events, if nothing is named."""
    callback_url: str | None = f.text(2_000, form=f.HTTP_URL)
    callback_allow: list[str] = f.texts()
    """Hosts, addresses and networks that may be called back although they are not of the public internet."""

    def __repr__(self) -> str:
        """Without the secret, wherever it is printed."""
        return f"IntegrationSettings(name={self.name!r})"


@attrs.frozen(kw_only=True)
class Integration:
    """`GET /api/integrations`: what may be known of one (INT-2)."""

    name: str = f.text(120, required=True)
    targets: list[str] = f.texts()
    channels: list[str] = f.texts()
    scopes: list[str] = f.texts()
    callback_url: str | None = f.text(2_000)


@attrs.frozen(kw_only=True)
class IntegrationEvent:
    """`POST /api/integrations/events` (9.2, step 4). Events of the same key are about the same task (O-35); `externalId`
    and `idempotencyKey` are other names for `key`. Whatever `source` the body names is not looked at (step 5)."""

    title: str = f.text(240, required=True)
    body: str | None = f.text(100_000)
    target: str = f.text(240, required=True)
    severity: TaskSeverity = f.choice(TaskSeverity, default=TaskSeverity.INFO)
    status: TaskStatus | None = f.choice(TaskStatus)
    channel: str | None = f.text(120)
    metadata: dict[str, Any] | None = f.mapping(default=None)
    key: str | None = f.text(240)
    external_id: str | None = f.text(240)
    idempotency_key: str | None = f.text(240)

    @property
    def identity(self) -> str | None:
        """What makes another event one about the same task."""
        return self.key or self.external_id or self.idempotency_key
