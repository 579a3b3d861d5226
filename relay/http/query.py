"""The query string of a request, read with bounds: what lies outside of them is 400, and names the member."""

from enum import StrEnum
from typing import TypeVar
from urllib.parse import parse_qsl

from .errors import Refused

__all__ = ["LARGEST", "NO_QUERY", "Query"]

MOST_MEMBERS = 64  # of a query string
LARGEST = 9_007_199_254_740_991  # the largest integer that JSON readers agree on (VAL-3)

E = TypeVar("E", bound=StrEnum)


class Query:
    """The query string. Every accessor takes the bounds of its value and refuses what lies outside with 400."""

    def __init__(self, text: bytes) -> None:
        self.raw = text
        """As it came."""
        try:
            pairs = parse_qsl(
                text.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MOST_MEMBERS
            )
        except ValueError as error:
            raise Refused(400, "the query string is not valid") from error
        self._values = dict(pairs)

    def text(self, name: str, *, longest: int = 240) -> str | None:
        """The value without surrounding space; None when absent or empty."""
        value = self._values.get(name, "").strip()
        if len(value) > longest:
            raise Refused(400, f"{name}: longer than {longest} characters")
        return value or None

    def integer(self, name: str, least: int, most: int) -> int | None:
        value = self._values.get(name)
        if value is None:
            return None
        # str.isdecimal alone accepts other scripts' digits, int() alone accepts "1_0" and " 1".
        if value.isascii() and value.isdecimal() and len(value) < 20 and least <= int(value) <= most:
            return int(value)
        raise Refused(400, f"{name}: expected an integer from {least} to {most}")

    def choice(self, name: str, kind: type[E]) -> E | None:
        """One of the values of an enumeration; an empty text counts as absent (CMD-4)."""
        value = self._values.get(name)
        if not value:
            return None
        try:
            return kind(value)
        except ValueError:
            raise Refused(400, f"{name}: expected one of {', '.join(kind)}") from None

    def flag(self, name: str) -> bool:
        value = self._values.get(name, "false").lower()
        if value in ("1", "true", ""):
            return True
        if value in ("0", "false"):
            return False
        raise Refused(400, f"{name}: expected true or false")


NO_QUERY = Query(b"")
