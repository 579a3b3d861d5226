"""Kinds of tokens: what each may do, and for how long.

A profile is for a purpose, and names its role, its scopes and its lives; a role alone gives what the contract says (TOK-4).
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

__all__ = [
    "AGENT",
    "EVERYTHING",
    "HOST",
    "INTERACTIVE",
    "PROFILES",
    "ROLE_SCOPES",
    "Profile",
]

EVERYTHING = "*"
"""The scope that stands for all of them."""

HOUR, DAY = 3_600, 86_400  # seconds

READING = (
    "activity:read",
    "agent:read",
    "channel:read",
    "command:read",
    "config:read",
    "connector:read",
    "event:read",
    "integration:read",
    "message:read",
    "orchestrator:read",
    "pair:read",
    "policy:read",
    "provider:read",
    "recipe:read",
    "automation:read",
    "steward:read",
    "system:read",
    "task:read",
    "workspace:read",
)
PROVIDER = ("agent:write", "message:send", "message:read", "command:read", "command:write")
AGENT_SCOPES = (
    *PROVIDER,
    "activity:write",
    "agent:read",
    "channel:read",
    "event:read",
    "pair:read",
    "pair:write",
    "recipe:read",
    "task:read",
    "task:write",
    "workspace:read",
)

ROLE_SCOPES: Mapping[str, tuple[str, ...]] = {
    "admin": (EVERYTHING,),
    "provider": PROVIDER,
    "orchestrator": (*PROVIDER, "orchestrator:write"),
}
"""What a token of a role may do when it has no profile and its scopes are not named (TOK-4); of all others: nothing."""


@attrs.frozen
class Profile:
    """Lives are in seconds: `life` if none is asked for, `longest` at most. One that is `renewable` can be replaced by
    whoever has it, before it expires."""

    role: str
    scopes: tuple[str, ...]
    life: int
    longest: int
    renewable: bool = False


HOST, AGENT, INTERACTIVE = "orchestrator", "provider-agent", "provider-interactive"

PROFILES: Mapping[str, Profile] = {
    "admin": Profile("admin", (EVERYTHING,), 30 * DAY, 365 * DAY),
    HOST: Profile(
        "orchestrator",
        (*AGENT_SCOPES, "orchestrator:read", "orchestrator:write"),
        30 * DAY,
        365 * DAY,
        renewable=True,
    ),
    AGENT: Profile("provider", AGENT_SCOPES, DAY, 7 * DAY, renewable=True),
    INTERACTIVE: Profile("provider", AGENT_SCOPES, DAY, 7 * DAY, renewable=True),
    "integration": Profile("integration", ("integration:write",), 365 * DAY, 5 * 365 * DAY),
    "observer": Profile("observer", READING, 90 * DAY, 365 * DAY),
    "dashboard": Profile("dashboard", (EVERYTHING,), 12 * HOUR, 30 * DAY),
}
