"""Agents (messaging-control 3)."""

from typing import Any

import attrs

from . import _fields as f
from .vocabulary import AgentKind, AgentStatus, AgentVerb, PermissionAnswer

__all__ = [
    "ActOnAgent",
    "Agent",
    "DecidePermission",
    "Heartbeat",
    "OpenTerminal",
    "PromptAgent",
    "RegisterAgent",
    "SetLabel",
    "SetReady",
    "SetStatus",
    "SetTags",
    "TimelineEntry",
    "TimelineEvent",
]


@attrs.frozen(kw_only=True)
class Agent:
    """The record of an agent (3.1)."""

    id: str = f.text(240, required=True)
    kind: AgentKind = f.choice(AgentKind, default=AgentKind.PROVIDER)
    status: AgentStatus = f.choice(AgentStatus, default=AgentStatus.ONLINE)
    ready: bool = f.boolean(default=False)
    label: str | None = f.text(120)
    tags: list[str] = f.texts()
    capabilities: list[str] = f.texts()
    machine: str | None = f.text(240)
    instance_id: str | None = f.text(160)
    meta: dict[str, Any] = f.document()
    provider_capabilities: dict[str, Any] = f.document()
    last_live_status: AgentStatus | None = f.choice(AgentStatus)
    last_seen: f.Instant | None = f.instant()
    created_at: f.Instant | None = f.instant()


@attrs.frozen(kw_only=True)
class RegisterAgent:
    """`POST /api/agents`. What is absent keeps its value when the agent is known."""

    id: str = f.text(240, required=True)
    kind: AgentKind | None = f.choice(AgentKind)
    status: AgentStatus | None = f.choice(AgentStatus)
    ready: bool | None = f.boolean()
    label: str | None = f.text(120)
    tags: list[str] | None = f.texts(default=None)
    capabilities: list[str] | None = f.texts(default=None)
    machine: str | None = f.text(240)
    instance_id: str | None = f.text(160)
    meta: dict[str, Any] | None = f.mapping(default=None)
    provider_capabilities: dict[str, Any] | None = f.mapping(default=None)


@attrs.frozen(kw_only=True)
class SetStatus:
    """`PATCH /api/agents/:id/status`. `instance_id` is the session guard (AGT-20)."""

    status: AgentStatus = f.choice(AgentStatus, required=True)
    instance_id: str | None = f.text(160)


@attrs.frozen(kw_only=True)
class SetReady:
    """`PATCH /api/agents/:id/ready`."""

    ready: bool = f.boolean(required=True)
    instance_id: str | None = f.text(160)


@attrs.frozen(kw_only=True)
class Heartbeat:
    """`POST /api/agents/:id/heartbeat`; the body may be empty."""

    instance_id: str | None = f.text(160)
    status: AgentStatus | None = f.choice(AgentStatus)
    meta: dict[str, Any] | None = f.mapping(default=None)


@attrs.frozen(kw_only=True)
class SetLabel:
    """`PATCH /api/agents/:id/label`. The member must be there; null clears the label (AGT-22)."""

    label: str | None = f.nullable_text(120)


@attrs.frozen(kw_only=True)
class SetTags:
    """`PATCH /api/agents/:id/tags`. Replaces all tags."""

    tags: list[str] = f.texts(required=True)


@attrs.frozen(kw_only=True)
class ActOnAgent:
    """`POST /api/agents/:id/actions`."""

    action: AgentVerb = f.choice(AgentVerb, required=True)


@attrs.frozen(kw_only=True)
class PromptAgent:
    """`POST /api/agents/:id/prompt`."""

    body: str = f.text(100_000, required=True)


@attrs.frozen(kw_only=True)
class DecidePermission:
    """`POST /api/agents/:id/permission-decision`: what a person says to a question that the agent has asked."""

    approval_id: str = f.text(240, required=True)
    decision: PermissionAnswer = f.choice(PermissionAnswer, required=True)
    reason: str | None = f.text(4_000)


@attrs.frozen(kw_only=True)
class OpenTerminal:
    """`POST /api/agents/:id/terminal-session`. It ends by itself after `ttl_ms`, at most after four hours."""

    ttl_ms: int | None = f.integer(1)


@attrs.frozen(kw_only=True)
class TimelineEvent:
    """`meta.timelineEvent`: what an agent's runner reports of it, besides its status (runner-orchestrator 1.17)."""

    status: str = f.text(240, required=True)
    id: str | None = f.text(240)
    timestamp: f.Instant | None = f.instant()
    metadata: dict[str, Any] | None = f.mapping(default=None)


@attrs.frozen(kw_only=True)
class TimelineEntry:
    """One entry of `GET /api/agents/:id/timeline`. `at` is what was reported, or when it was."""

    id: int = f.integer(1, required=True)
    agent_id: str = f.text(240, required=True)
    at: f.Instant | None = f.instant()
    status: str = f.text(240, required=True)
    metadata: dict[str, Any] | None = f.document(default=None)
