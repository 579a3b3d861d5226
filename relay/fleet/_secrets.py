"""Secrets in a configuration: kept, given to whom they are for, and shown to nobody."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ._errors import Invalid

__all__ = ["MASK", "masked", "restored", "secrets_in"]

SECRET = re.compile(
    r"token|secret|passw|credential|authorization|cookie|(api|private|access)[-_]?key", re.IGNORECASE
)
MASK = "********"
SHORTEST = 6  # characters; shorter ones would be found by accident in any text


def _hidden(name: object, value: Any) -> bool:
    return value is not None and not isinstance(value, bool) and SECRET.search(str(name)) is not None


def masked(value: Any, secrets: tuple[str, ...] = ()) -> Any:
    """The value as it may be seen: members whose names look like secrets, and `secrets` in texts, are masked."""
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, MASK)
        return value
    if isinstance(value, dict):
        return {
            name: MASK if _hidden(name, member) else masked(member, secrets) for name, member in value.items()
        }
    if isinstance(value, list):
        return [masked(each, secrets) for each in value]
    return value


def restored(given: Mapping[str, Any], before: Any, path: str = "config") -> dict[str, Any]:
    """What somebody gives back who was shown `before` masked. Raises `Invalid` where a mask stands for nothing."""
    known = before if isinstance(before, dict) else {}
    found: dict[str, Any] = {}
    for name, member in given.items():
        if member == MASK and _hidden(name, member):
            if name not in known:
                raise Invalid(f"{path}.{name}: {MASK} is no value, but what hides one")
            member = known[name]
        elif isinstance(member, dict):
            member = restored(member, known.get(name), f"{path}.{name}")
        found[name] = member
    return found


def secrets_in(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The texts that nobody may see, the longest first."""
    return tuple(sorted({each for each in _secrets(config) if len(each) >= SHORTEST}, key=len, reverse=True))


def _secrets(value: Any, *, hidden: bool = False) -> Iterator[str]:
    if isinstance(value, dict):
        for name, member in value.items():
            yield from _secrets(member, hidden=hidden or _hidden(name, member))
    elif isinstance(value, list):
        for each in value:
            yield from _secrets(each, hidden=hidden)
    elif isinstance(value, str) and hidden:
        yield value
