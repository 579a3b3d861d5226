"""Secrets in a configuration: kept, given to whom they are for, and shown to nobody."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from ._errors import Invalid

__all__ = ["MASK", "masked", "masked_end", "restored", "secrets_in"]

SECRET = re.compile(
    r"token|secret|passw|passphrase|pwd|credential|authorization|bearer|cookie"
    r"|(api|private|access|signing|encryption)[-_]?key",
    re.IGNORECASE,
)
MASK = "********"
SHORTEST = 6  # characters; shorter ones would be found by accident in any text


def _hidden(name: object, value: Any) -> bool:
    return value is not None and not isinstance(value, bool) and SECRET.search(str(name)) is not None


def masked(value: Any, secrets: tuple[str, ...] = ()) -> Any:
    """The value as it may be seen: members whose names look like secrets, and `secrets` anywhere, are masked."""
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, MASK)
        return value
    if isinstance(value, dict):
        return {
            masked(name, secrets): MASK if _hidden(name, member) else masked(member, secrets)
            for name, member in value.items()
        }
    if isinstance(value, list):
        return [masked(each, secrets) for each in value]
    return MASK if _is_number(value) and str(value) in secrets else value


def masked_end(text: str, secrets: tuple[str, ...]) -> str:
    """As `masked`, for the end of a longer text: it may begin in the middle of a secret, or of a character."""
    text = text.lstrip("\N{REPLACEMENT CHARACTER}")
    broken = max((_common(secret, text) for secret in secrets), default=0)
    return (MASK if broken else "") + str(masked(text[broken:], secrets))


def _common(secret: str, text: str) -> int:
    """How many characters the text begins with that the secret ends with, but is not."""
    most = min(len(secret) - 1, len(text))
    return next((n for n in range(most, SHORTEST - 1, -1) if secret.endswith(text[:n])), 0)


def restored(given: Mapping[str, Any], before: Any, path: str = "config") -> dict[str, Any]:
    """What somebody gives back who was shown `before` masked. Raises `Invalid` where a mask stands for nothing."""
    known = before if isinstance(before, dict) else {}
    found: dict[str, Any] = {}
    for name, member in given.items():
        if member == MASK and _hidden(name, member):
            if name not in known:
                raise Invalid(f"{path}.{name}: {MASK} is no value, but what hides one")
            found[name] = known[name]
        else:
            found[name] = _restored(member, known.get(name), f"{path}.{name}")
    return found


def _restored(given: Any, before: Any, path: str) -> Any:
    if isinstance(given, dict):
        return restored(given, before, path)
    if isinstance(given, list):
        known = before if isinstance(before, list) else []
        if given == masked(known):
            return known
        shown: dict[bytes, list[Any]] = {}
        for each in known:
            shown.setdefault(_look(masked(each)), []).append(each)
        return [_element(each, shown, f"{path}[{index}]") for index, each in enumerate(given)]
    return given


def _element(given: Any, shown: Mapping[bytes, list[Any]], path: str) -> Any:
    """What an element stands for: the one that was shown so, wherever it was."""
    alike = shown.get(_look(given))
    if alike is None:
        return _restored(given, None, path)
    if any(each != alike[0] for each in alike):
        raise Invalid(f"{path}: {MASK} may stand for what several elements hide; give it anew")
    return alike[0]


def _look(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


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
    elif hidden and (isinstance(value, str) or _is_number(value)):
        yield str(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
