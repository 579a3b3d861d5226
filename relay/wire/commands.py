"""Commands (messaging-control 13, agents-workspaces 7)."""

from typing import Any

import attrs

from . import _fields as f
from .vocabulary import CommandStatus

__all__ = ["ClaimCommand", "Command", "NewCommand", "PatchCommand"]


@attrs.frozen(kw_only=True)
class Command:
    """The record of a command (13.1). `execution_ms` is how long it may take whoever has begun it; `expires_at` is when
    it must be over as it is now. `outcome_unknown`: it ended while somebody was at it, who may or may not have done it."""

    id: str = f.text(240, required=True)
    type: str = f.text(120, required=True)
    source: str = f.text(240, required=True)
    target: str = f.text(240, required=True)
    params: dict[str, Any] = f.document()
    status: CommandStatus = f.choice(CommandStatus, default=CommandStatus.PENDING)
    correlation_id: str | None = f.text(240)
    ttl_ms: int | None = f.integer(1)
    execution_ms: int | None = f.integer(1)
    expires_at: f.Instant | None = f.instant()
    outcome_unknown: bool | None = f.boolean(default=None)
    result: dict[str, Any] | None = f.document(default=None)
    error: str | None = f.text(4_000)
    claimant: str | None = f.text(240)
    claim_token: int | None = f.integer(1)
    created_at: f.Instant | None = f.instant()
    updated_at: f.Instant | None = f.instant()


@attrs.frozen(kw_only=True)
class NewCommand:
    """`POST /api/commands`."""

    type: str = f.text(120, required=True)
    source: str = f.text(240, required=True)
    target: str = f.text(240, required=True)
    params: dict[str, Any] = f.mapping()
    correlation_id: str | None = f.text(240)
    ttl_ms: int | None = f.integer(1)
    execution_ms: int | None = f.integer(1)


@attrs.frozen(kw_only=True)
class PatchCommand:
    """`PATCH /api/commands/:id`. All members are optional (CMD-7); `token` is that of the reporter's claim."""

    status: CommandStatus | None = f.choice(CommandStatus)
    result: dict[str, Any] | None = f.mapping(default=None)
    error: str | None = f.text(4_000)
    token: int | None = f.integer(1)


@attrs.frozen(kw_only=True)
class ClaimCommand:
    """`POST /api/commands/:id/claim`. A claimant with a name may claim again what it has claimed before (CMD-14)."""

    claimant: str | None = f.text(240)
