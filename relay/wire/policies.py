"""Spawn policies (messaging-control 16)."""

import attrs

from . import _fields as f
from .vocabulary import PolicyStatus, Provider

__all__ = ["PolicyState"]


@attrs.frozen(kw_only=True)
class PolicyState:
    """What is known of the agent that a policy manages (16.2). `spawn_request_id` is what it must register with."""

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
    updated_at: f.Instant | None = f.instant()
