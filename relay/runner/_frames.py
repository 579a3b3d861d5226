"""Reading frames of the line protocol: one JSON object with a `type` per line (1.33.3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

__all__ = ["Invalid", "optional", "parse", "present", "required"]


class Invalid(ValueError):
    """A line is no frame of the protocol, or a frame lacks what it needs."""


def parse(line: bytes | None) -> dict[str, Any]:
    """The frame on a line; None stands for a line that was too long."""
    if line is None:
        raise Invalid("longer than 1 MiB")
    try:
        frame = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise Invalid(f"not JSON: {error}") from None
    if not isinstance(frame, dict) or not isinstance(frame.get("type"), str):
        raise Invalid("expected an object with a type")
    return frame


def optional(frame: Mapping[str, Any], name: str, kind: type[Any]) -> Any:
    """The member, or None when it is absent, null or an empty text."""
    value = frame.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, kind) or isinstance(value, bool):
        raise Invalid(f"{name}: expected {kind.__name__}")
    return value


def required(frame: Mapping[str, Any], name: str, kind: type[Any]) -> Any:
    value = optional(frame, name, kind)
    if value is None:
        raise Invalid(f"{name}: is required")
    return value


def present(**members: Any) -> dict[str, Any]:
    """A frame without the members that are None."""
    return {name: value for name, value in members.items() if value is not None}
