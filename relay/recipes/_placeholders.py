"""Placeholders in the texts of a recipe: `{{input}}`, `{{cwd}}`, `{{recipe}}`, `{{instance}}` and `{{role.NAME}}`, which is an
address for messages to the agent of that role. Other braces are the text's own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

__all__ = ["GENERAL", "fill", "placeholders", "unknown"]

GENERAL = ("input", "cwd", "recipe", "instance")
_PLACEHOLDER = re.compile(r"\{\{\s*([^{}]*?)\s*\}\}")


def placeholders(text: str) -> Iterator[str]:
    """The names of the placeholders in the text."""
    return (found[1] for found in _PLACEHOLDER.finditer(text))


def unknown(text: str, roles: Iterable[str]) -> list[str]:
    """Those that stand for nothing in a recipe with these roles."""
    known = {*GENERAL, *(f"role.{role}" for role in roles)}
    return [name for name in dict.fromkeys(placeholders(text)) if name not in known]


def fill(text: str, values: Mapping[str, str]) -> str:
    """The text with their values in place of placeholders; what a value holds is not looked at again."""
    return _PLACEHOLDER.sub(lambda found: values[found[1]], text)
