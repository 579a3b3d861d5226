"""Spawn policies (messaging-control 16)."""

from typing import Any

import attrs

from . import _fields as f
from ._json import nested
from .vocabulary import PolicyStatus, Provider

__all__ = ["PolicyReport", "PolicyState"]


@attrs.frozen(kw_only=True)
class PolicyState:
    """What is known of the agent that a policy manages (16.2). `spawn_request_id` is what it must register with.

    `quarantined`: it failed too often, and waits for a person. `retry_at`: when relay starts it again by itself.
    """

    policy_name: str = f.text(240, required=True)
    status: PolicyStatus = f.choice(PolicyStatus, default=PolicyStatus.STOPPED)
    orchestrator_id: str | None = f.text(240)
    provider: Provider | None = f.choice(Provider)
    agent_id: str | None = f.text(240)
    tmux_session: str | None = f.text(240)
    spawn_request_id: str | None = f.text(240)
    last_spawn_at: f.Instant | None = f.instant()
    last_stop_at: f.Instant | None = f.instant()
    healthy_since: f.Instant | None = f.instant()
    restart_count: int = f.integer(0, default=0)
    consecutive_failures: int = f.integer(0, default=0)
    last_error: str | None = f.text(4_000)
    quarantined: bool | None = f.boolean()
    retry_at: f.Instant | None = f.instant()
    updated_at: f.Instant | None = f.instant()


@attrs.frozen(kw_only=True)
class PolicyReport:
    """A policy as it was written, and how its agent is (POL-1)."""

    policy: dict[str, Any] = f.document()
    state: PolicyState = f.item(PolicyState, nested, required=True)
