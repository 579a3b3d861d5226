"""The field kinds of the contract: how a member of a JSON body is read, and what it may hold.

Each kind is a reader, given to attrs as metadata and to cattrs as the structuring hook of the field. Rules of the
specification: text is trimmed, and empty or null counts as absent (1.4, O-02); numbers are never null, never text
(O-02); lengths count UTF-16 units (VAL-1); lists of texts are trimmed, without empties and repeats (O-03).
"""

import re
from collections.abc import Callable
from enum import StrEnum
from typing import Any, TypeAlias, TypeVar

import attrs
import orjson

__all__ = [
    "ABSENT",
    "ABSOLUTE_PATH",
    "HTTP_URL",
    "SAFE",
    "Elements",
    "Form",
    "Instant",
    "boolean",
    "choice",
    "choices",
    "document",
    "documents",
    "ids",
    "instant",
    "integer",
    "integers",
    "item",
    "items",
    "length",
    "mapping",
    "text",
    "texts",
    "value",
    "values",
]

Instant: TypeAlias = float
"""Seconds since 1970; milliseconds on the wire."""

E = TypeVar("E", bound=StrEnum)
Reader = Callable[[Any], Any]

SAFE = 9_007_199_254_740_991
JSON_LIMIT = 65_536
WRAPPING = (
    32  # levels of nesting kept for what is written around an object of the sender; orjson stops at 254
)
ABSENT: Any = object()
"""What a reader returns for a value that counts as absent: the field's default stands."""


@attrs.frozen
class Form:
    """What a text must look like, and what that is called."""

    name: str
    pattern: re.Pattern[str]


HTTP_URL = Form("an http:// or https:// address", re.compile(r"https?://[^\s/?#@]+(/\S*)?$", re.IGNORECASE))
ABSOLUTE_PATH = Form("an absolute path", re.compile(r"/|[A-Za-z]:[\\/]"))


class Elements(ValueError):
    """What is wrong with the elements of a list, by their index."""

    def __init__(self, found: dict[int, Exception]) -> None:
        super().__init__()
        self.found = found


def length(value: str) -> int:
    """The length of a text in UTF-16 units."""
    return len(value) if value.isascii() else len(value) + sum(character > "\uffff" for character in value)


def _field(read: Reader, *, required: bool, default: Any, **metadata: bool) -> Any:
    metadata_ = {"read": read, **metadata}
    if required:
        return attrs.field(metadata=metadata_)
    if isinstance(default, list | dict):
        return attrs.field(factory=type(default), metadata=metadata_)
    return attrs.field(default=default, metadata=metadata_)


def text(most: int, *, form: Form | None = None, required: bool = False, default: str | None = None) -> Any:
    """A text of at most `most` characters, and of the given form."""

    def read(value: Any) -> Any:
        if value is None:
            return ABSENT
        if not isinstance(value, str):
            raise ValueError("expected a text")
        value = value.strip()
        if length(value) > most:
            raise ValueError(f"longer than {most} characters")
        if value and form is not None and not form.pattern.match(value):
            raise ValueError(f"expected {form.name}")
        return value or ABSENT

    return _field(read, required=required, default=default)


def texts(*, most: int = 100, required: bool = False, default: Any = ABSENT) -> Any:
    """A list of at most `most` texts of at most 240 characters each."""

    def read(value: Any) -> list[str]:
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise ValueError("expected a list of texts")
        trimmed = dict.fromkeys(item.strip() for item in value)
        trimmed.pop("", None)
        if len(trimmed) > most:
            raise ValueError(f"more than {most} elements")
        if any(length(item) > 240 for item in trimmed):
            raise ValueError("an element is longer than 240 characters")
        return list(trimmed)

    return _field(read, required=required, default=[] if default is ABSENT else default)


def integer(least: int, most: int = SAFE, *, required: bool = False, default: int | None = None) -> Any:
    """An integer within bounds. Null is refused."""

    def read(value: Any) -> int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ValueError(f"expected an integer from {least} to {most}")
        return value

    return _field(read, required=required, default=default)


def integers(least: int, *, most: int) -> Any:
    """A list of at most `most` integers, all of at least `least`; None when absent."""
    read_one = integer(least).metadata["read"]

    def read(value: Any) -> list[int]:
        if not isinstance(value, list) or len(value) > most:
            raise ValueError(f"expected a list of at most {most} integers")
        return [read_one(each) for each in value]

    return _field(read, required=False, default=None)


def ids(kind: type[int | str]) -> Any:
    """A tuple of numbers or names, as many as there are."""

    def read(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list) or not all(type(each) is kind for each in value):
            raise ValueError("expected a list of ids")
        return tuple(value)

    return _field(read, required=False, default=())


def boolean(*, required: bool = False, default: bool | None = None) -> Any:
    """True or false, and nothing that resembles them."""

    def read(value: Any) -> Any:
        if value is None and not required:
            return ABSENT
        if not isinstance(value, bool):
            raise ValueError("expected true or false")
        return value

    return _field(read, required=required, default=default)


def choice(kind: type[E], *, required: bool = False, default: E | None = None) -> Any:
    """One of an enumeration's values."""

    def read(value: Any) -> Any:
        if value is None and not required:
            return ABSENT
        return _member(kind, value)

    return _field(read, required=required, default=default)


def choices(kind: type[E], default: Callable[[], list[E] | None]) -> Any:
    """A list of values of an enumeration."""

    def read(value: Any) -> list[E]:
        if not isinstance(value, list):
            raise ValueError(f"expected a list of {_names(kind)}")
        return list(dict.fromkeys(_member(kind, item) for item in value))

    return attrs.field(factory=default, metadata={"read": read})


def mapping(*, default: Any = ABSENT) -> Any:
    """An object whose compact JSON text has at most 65 536 characters."""

    def read(value: Any) -> Any:
        if value is None:
            return ABSENT
        if not isinstance(value, dict):
            raise ValueError("expected an object")
        _measure(value)
        return value

    return _field(read, required=False, default={} if default is ABSENT else default)


def document(*, default: Any = ABSENT) -> Any:
    """An object within a record: what it was made of was measured when it came."""

    def read(value: Any) -> Any:
        if value is None:
            return ABSENT
        if not isinstance(value, dict):
            raise ValueError("expected an object")
        return value

    return _field(read, required=False, default={} if default is ABSENT else default)


def documents(*, most: int = 100) -> Any:
    """A list of at most `most` objects, whose compact JSON text has at most 65 536 characters; None when absent."""

    def read(value: Any) -> Any:
        if value is None:
            return ABSENT
        if (
            not isinstance(value, list)
            or len(value) > most
            or not all(isinstance(each, dict) for each in value)
        ):
            raise ValueError(f"expected a list of at most {most} objects")
        _measure(value)
        return value

    return _field(read, required=False, default=None)


def value() -> Any:
    """Any JSON whose compact text has at most 65 536 characters. It must be given, and may be null."""

    def read(given: Any) -> Any:
        _measure(given)
        return given

    return attrs.field(metadata={"read": read, "null": True})


def values(*, most: int = 100) -> Any:
    """A list of at most `most` values of any kind."""

    def read(given: Any) -> Any:
        if not isinstance(given, list) or len(given) > most:
            raise ValueError(f"expected a list of at most {most} elements")
        _measure(given)
        return given

    return _field(read, required=False, default=[])


def _measure(value: Any) -> None:
    """Raises `ValueError` when the value is too long, or so deep that it could not be written within others."""
    wrapped: Any = value
    for _ in range(WRAPPING):
        wrapped = (wrapped,)
    try:
        text = orjson.dumps(wrapped)
    except orjson.JSONEncodeError as error:
        nested = str(error).startswith("Recursion")
        raise ValueError("is nested too deeply" if nested else f"is no JSON: {error}") from None
    room = JSON_LIMIT + 2 * WRAPPING
    if len(text) > room and length(text.decode()) > room:
        raise ValueError(f"its JSON text is longer than {JSON_LIMIT} characters")


def item(
    kind: type[Any],
    read_item: Callable[[Any, type[Any]], Any],
    *,
    required: bool = False,
    default: Callable[[], Any] | None = None,
) -> Any:
    """An object of one kind; `default` makes what stands for an absent one."""

    def read(value: Any) -> Any:
        if value is None and not required:
            return ABSENT
        return read_item(value, kind)

    if default is not None:
        return attrs.field(factory=default, metadata={"read": read})
    return _field(read, required=required, default=None)


def items(
    kind: type[Any],
    read_item: Callable[[Any, type[Any]], Any],
    *,
    most: int = 1_000,
    required: bool = False,
    default: Any = ABSENT,
) -> Any:
    """A list of objects of one kind."""

    def read(value: Any) -> Any:
        if value is None and not required:
            return ABSENT
        if not isinstance(value, list) or len(value) > most:
            raise ValueError(f"expected a list of at most {most} objects")
        found: list[Any] = []
        wrong: dict[int, Exception] = {}
        for index, each in enumerate(value):
            try:
                found.append(read_item(each, kind))
            except Exception as error:  # noqa: BLE001 - all are told, with their places
                wrong[index] = error
        if wrong:
            raise Elements(wrong)
        return found

    return _field(read, required=required, default=[] if default is ABSENT else default)


def instant(*, required: bool = False) -> Any:
    """A point in time: milliseconds on the wire, seconds here."""

    def read(value: Any) -> Any:
        if value is None and not required:
            return ABSENT
        if isinstance(value, bool) or not isinstance(value, int | float) or not -SAFE <= value <= SAFE:
            raise ValueError("expected milliseconds since 1970")
        return Instant(value / 1000)

    return _field(read, required=required, default=None, instant=True)


def _member(kind: type[E], value: Any) -> E:
    if isinstance(value, str):
        try:
            return kind(value)
        except ValueError:
            pass
    raise ValueError(f"expected one of {_names(kind)}")


def _names(kind: type[StrEnum]) -> str:
    return ", ".join(member.value for member in kind)


def nullable_text(most: int) -> Any:
    """A text that must be given, and may be null."""

    def read(value: Any) -> str | None:
        if value is None:
            return None
        if not isinstance(value, str) or length(value.strip()) > most:
            raise ValueError(f"expected null or a text of at most {most} characters")
        return value.strip() or None

    return attrs.field(metadata={"read": read, "null": True})


def not_false() -> Any:
    """True unless it is exactly `false` (11.1 of agents-workspaces)."""
    return attrs.field(default=True, metadata={"read": lambda value: value is not False})


def anything() -> Any:
    """A value that whoever uses it looks at."""
    return attrs.field(default=None, metadata={"read": lambda value: value})


def one_of(*words: str) -> Any:
    """One of a few words."""

    def read(value: Any) -> str:
        if value not in words:
            raise ValueError(f"expected one of {', '.join(words)}")
        return str(value)

    return attrs.field(metadata={"read": read})


def environment() -> Any:
    """Environment variables: an object of texts."""

    def read(value: Any) -> dict[str, str]:
        if not isinstance(value, dict):
            raise ValueError("expected an object of texts")
        wrong = [str(name) for name, each in value.items() if not isinstance(each, str)]
        if wrong:
            raise ValueError(f"the values of {', '.join(wrong)} are no texts")
        unfit = [name for name, each in value.items() if not name or "=" in name or "\0" in name + each]
        if unfit:
            raise ValueError(f"{unfit[0]!r} is no name of a variable, or its value has a NUL")
        return value

    return attrs.field(default=None, metadata={"read": read})
