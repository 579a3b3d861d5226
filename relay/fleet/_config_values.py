"""What the values of the namespaces that relay itself reads must be. All others hold what they like."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs

from relay import wire

__all__ = [
    "AGENT_PROFILE",
    "MAINTENANCE",
    "RETENTION",
    "SPAWN_POLICY",
    "STEWARD",
    "STEWARD_KEY",
    "checked",
    "wrapped",
]

SPAWN_POLICY, STEWARD, AGENT_PROFILE = "spawn-policy", "steward", "agent-profile"
STEWARD_KEY = "global"
MAINTENANCE, RETENTION = "maintenance", "retention"

LONGEST_NAME = 120  # characters of a policy's or profile's name: what commands and rosters have room for


def checked(namespace: str, key: str, value: Any) -> Any:
    """The value as it is stored; raises `wire.Invalid`, with what is wrong and where."""
    check = VALUES.get(namespace)
    return value if check is None else check(key, value)


def wrapped(body: Any) -> wire.SetConfig:
    """A value with who changes it, or the bare value, which may name that beside its own members (POL-4)."""
    by = wire.decode(wire.UpdatedBy, body).updated_by if isinstance(body, dict) else None
    if isinstance(body, dict) and "value" in body:
        value = body["value"]
    elif isinstance(body, dict):
        value = {name: member for name, member in body.items() if name != "updatedBy"}
    else:
        value = body
    given = wire.decode(wire.SetConfig, {"value": value})
    return attrs.evolve(given, updated_by=by)


def _policy(key: str, value: Any) -> dict[str, Any]:
    policy = wire.decode(wire.SpawnPolicy, value)
    return _named("a policy", key, policy.name, value)


def _profile(key: str, value: Any) -> dict[str, Any]:
    profile = wire.decode(wire.AgentProfile, value)
    return _named("a profile", key, profile.name, value)


def _named(what: str, key: str, name: str | None, value: dict[str, Any]) -> dict[str, Any]:
    """The value with the name that it goes by."""
    if wire.length(key) > LONGEST_NAME:
        raise wire.Invalid([f"key: the name of {what} has at most {LONGEST_NAME} characters"])
    if name not in (None, key):
        raise wire.Invalid([f"name: expected {key!r}, which is what it is stored under; or leave it out"])
    return {**value, "name": key}


def _steward(key: str, value: Any) -> dict[str, Any]:
    if key != STEWARD_KEY:
        raise wire.Invalid([f"key: {STEWARD} has one entry, {STEWARD_KEY!r}"])
    return _only(wire.StewardConfig, STEWARD_MEMBERS, value)


def _retention(key: str, value: Any) -> dict[str, Any]:
    if key != RETENTION:
        raise wire.Invalid([f"key: {MAINTENANCE} has one entry, {RETENTION!r}"])
    return _only(wire.Retention, RETENTION_MEMBERS, value)


def _only(kind: type[Any], known: tuple[str, ...], value: Any) -> dict[str, Any]:
    """The value, if it is one of the kind and has no other members."""
    wire.decode(kind, value)
    unknown = [f"{name}: unknown; expected one of {', '.join(known)}" for name in value if name not in known]
    if unknown:
        raise wire.Invalid(unknown)
    return dict(value)


RETENTION_MEMBERS = tuple(wire.to_json(wire.Retention()))
STEWARD_MEMBERS = tuple(wire.to_json(wire.StewardConfig(instructions="-")))

VALUES: Mapping[str, Callable[[str, Any], Any]] = {
    SPAWN_POLICY: _policy,
    STEWARD: _steward,
    AGENT_PROFILE: _profile,
    MAINTENANCE: _retention,
}
