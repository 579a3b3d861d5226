"""What a runner makes of its agent's profile (1.23).

Relay is told what kind of profile it is, and how much of what; never the texts, definitions and values that it holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["projection", "system_prompt", "uses_host_globals"]

HOST = "host"
"""The base of a profile whose agents run as whoever is on the host would run them."""

Profile = Mapping[str, Any] | None


def uses_host_globals(profile: Profile) -> bool:
    """Whether the agent gets what the provider's configuration has for all agents of the host (1.23-4)."""
    return profile is None or profile.get("base", HOST) == HOST


def system_prompt(profile: Profile, appended: str | None) -> str | None:
    """What the profile says, and then what was asked for."""
    instructions = _object(profile or {}, "instructions")
    parts = [instructions.get("system"), *_list(instructions, "append"), appended]
    return "\n\n".join(part for part in parts if isinstance(part, str) and part) or None


def projection(profile: Profile) -> dict[str, Any] | None:
    """The profile as relay is told of it (1.23-1)."""
    if profile is None:
        return None
    instructions = _object(profile, "instructions")
    told = {
        "name": profile.get("name"),
        "base": profile.get("base"),
        "provider": profile.get("provider") or "any",
        "relay": profile.get("relay"),
        "instructions": {
            "repoInstructions": instructions.get("repoInstructions"),
            "globalInstructions": instructions.get("globalInstructions"),
            "appendCount": len(_list(instructions, "append")),
            "hasSystem": bool(instructions.get("system")),
        },
        "skills": _enabled(_list(profile, "skills")),
        "plugins": _enabled(_list(profile, "plugins")),
        "mcp": {"mode": _object(profile, "mcp").get("mode")},
        "hooks": {"mode": _object(profile, "hooks").get("mode")},
        "permissions": profile.get("permissions"),
    }
    return {name: value for name, value in told.items() if value is not None}


def _enabled(given: list[Any]) -> int:
    return sum(not isinstance(each, Mapping) or each.get("enabled") is not False for each in given)


def _object(profile: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = profile.get(name)
    return value if isinstance(value, Mapping) else {}


def _list(profile: Mapping[str, Any], name: str) -> list[Any]:
    value = profile.get(name)
    return value if isinstance(value, list) else []
