"""Between JSON and the classes of the contract, in both directions.

Names are snake_case here and camelCase there. A member that is unknown is ignored; an absent one takes its default;
one of the wrong type is refused, and all problems of a body are reported at once, each with its path. What is absent
(None) is left out of what is written, except where a class says that null means something.
"""

from collections.abc import Hashable, Iterator
from enum import StrEnum
from functools import cache
from typing import Any, TypeVar, cast

import attrs
import orjson
from cattrs import Converter
from cattrs.errors import ClassValidationError
from cattrs.gen import make_dict_structure_fn, override

from ._fields import ABSENT, Elements

__all__ = ["Invalid", "decode", "encode", "nested", "to_json"]

T = TypeVar("T")


class Invalid(ValueError):
    """A body that does not fit; `problems` has one line for each thing that is wrong with it."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


_converter = Converter(detailed_validation=True)


@cache
def _json_name(name: str) -> str:
    first, *rest = name.rstrip("_").split("_")
    return first + "".join(part.title() for part in rest)


def _hook(field: "attrs.Attribute[Any]") -> Any:
    read, default = field.metadata["read"], field.default

    def hook(value: Any, _: Any) -> Any:
        result = read(value)
        if result is not ABSENT:
            return result
        if default is attrs.NOTHING:
            raise ValueError("is required")
        factory = getattr(default, "factory", None)
        return default if factory is None else factory()

    return hook


@cache
def _structure(kind: type[Any]) -> Any:
    overrides: Any = {
        field.name: override(rename=_json_name(field.name), struct_hook=_hook(field))
        for field in attrs.fields(kind)
    }
    return make_dict_structure_fn(kind, _converter, _cattrs_detailed_validation=True, **overrides)


def decode(kind: type[T], data: object) -> T:
    """The `kind` that `data` (JSON text, or what was parsed from it) describes; raises `Invalid`."""
    if isinstance(data, bytes | str):
        try:
            data = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise Invalid([f"the body is not JSON: {error}"]) from None
    if not isinstance(data, dict):
        raise Invalid(["body must be an object"])
    try:
        return cast("T", _structure(cast(Hashable, kind))(data, kind))
    except ClassValidationError as error:
        raise Invalid(list(_problems(error))) from None


def nested(value: Any, kind: type[T]) -> T:
    """As `decode`, for an object within a body."""
    if not isinstance(value, dict):
        raise ValueError("expected an object")
    return cast("T", _structure(cast(Hashable, kind))(value, kind))


def _problems(error: BaseException, path: str = "") -> Iterator[str]:
    if isinstance(error, Elements):
        for index, each in error.found.items():
            yield from _problems(each, f"{path}[{index}]")
        return
    if not isinstance(error, ClassValidationError):
        yield f"{path}: {_said(error)}"
        return
    noted, others = error.group_exceptions()
    for each, note in noted:
        name = _json_name(note.name)
        yield from _problems(each, f"{path}.{name}" if path else name)
    for other in others:
        yield from _problems(other, path or "body")


def _said(error: BaseException) -> str:
    if isinstance(error, KeyError):
        return "is required"
    if isinstance(error, Invalid):
        return str(error)
    return str(error.args[0]) if error.args else type(error).__name__


@cache
def _members(kind: type[Any]) -> tuple[tuple[str, str, bool, bool], ...]:
    return tuple(
        (
            field.name,
            _json_name(field.name),
            field.metadata.get("instant", False),
            field.metadata.get("null", False),
        )
        for field in attrs.fields(kind)
    )


_PLAIN = frozenset({str, int, float, bool, type(None)})


def to_json(value: object) -> Any:
    """What `value` is on the wire, made of dicts, lists, texts and numbers."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if isinstance(value, dict):
        return {key: to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if isinstance(value, StrEnum):
        return value.value
    return {
        name: member if type(member) in _PLAIN else to_json(member)
        for name, member in _shallow(value).items()
    }


def _shallow(value: object) -> dict[str, Any]:
    """The members of a record under their JSON names, as they are."""
    result: dict[str, Any] = {}
    for name, json_name, instant, null in _members(cast(Hashable, type(value))):
        member = getattr(value, name)
        if member is not None:
            result[json_name] = round(member * 1000) if instant else member
        elif null:
            result[json_name] = None
    return result


def encode(value: Any) -> bytes:
    """The JSON text of `value`."""
    return orjson.dumps(value, default=_shallow)
