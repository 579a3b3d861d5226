"""Which messages belong to which protocol, and whether a handler knows them all.

Types say who may send what; they cannot say that a `handle` covers its protocol. That is checked once per class, when
its first actor starts: every message class of the protocol must be among those in the annotation of `handle`'s first
parameter. A `handle` that is annotated with `Any` or `object` answers for itself.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin
from weakref import WeakKeyDictionary, WeakSet, WeakValueDictionary

if TYPE_CHECKING:
    from ._actor import Actor

__all__ = ["check_handler", "register"]

_messages: WeakKeyDictionary[type, WeakValueDictionary[str, type]] = WeakKeyDictionary()
"""Protocol -> its message classes, by full name: decorators make a class anew, and the last one counts."""

_checked: WeakSet[type] = WeakSet()


def register(message: type) -> None:
    """Note a message class under its protocol."""
    for base in message.__dict__.get("__orig_bases__", ()):
        for protocol in get_args(base)[:1]:
            if isinstance(protocol, type):
                known = _messages.setdefault(protocol, WeakValueDictionary())
                known[f"{message.__module__}.{message.__qualname__}"] = message


def check_handler(kind: type[Actor[Any]]) -> None:
    """Raises `TypeError` when `kind.handle` misses a message of its protocol."""
    if kind in _checked:
        return
    taken = _taken(kind)
    if taken is not None:
        missed = [
            message.__name__
            for protocol in _spoken(kind)
            for message in _messages.get(protocol, WeakValueDictionary()).values()
            if not issubclass(message, taken)
        ]
        if missed:
            raise TypeError(
                f"{kind.__qualname__}.handle does not take {', '.join(missed)}; "
                "name every message of the protocol in the annotation of its first parameter"
            )
    _checked.add(kind)


def _spoken(kind: type) -> Iterator[type]:
    """The protocols of an actor class: what it gave to `Actor[...]`, itself or by a base."""
    for base in (base for one in kind.__mro__ for base in one.__dict__.get("__orig_bases__", ())):
        for argument in get_args(base):
            yield from (member for member in _members(argument) if isinstance(member, type))


def _taken(kind: type) -> tuple[type, ...] | None:
    """The classes in the annotation of the handler's message; None when it cannot be known."""
    handle: Any = kind.handle  # type: ignore[attr-defined]
    annotations = dict(getattr(handle, "__annotations__", {}))
    annotations.pop("return", None)
    if not annotations:
        return None
    annotation = next(iter(annotations.values()))
    if isinstance(annotation, str):
        module = sys.modules.get(handle.__module__)
        try:
            annotation = eval(annotation, vars(module) if module else {}, _enclosed(handle))  # noqa: S307 - the module's own text
        except Exception:  # noqa: BLE001 - a name for type checkers only, or of an enclosing function
            return None
    members = list(_members(annotation))
    if not all(isinstance(member, type) for member in members) or {object, Any} & set(members):
        return None
    return tuple(members)  # type: ignore[arg-type]


def _enclosed(handle: Any) -> dict[str, Any]:
    """What the handler sees of the function that it was written in."""
    cells = handle.__closure__ or ()
    return dict(zip(handle.__code__.co_freevars, (cell.cell_contents for cell in cells), strict=False))


def _members(annotation: Any) -> Iterator[object]:
    """The members of a union, an alias of one, or the class itself."""
    annotation = getattr(annotation, "__value__", annotation)
    if get_origin(annotation) in (Union, types.UnionType):
        for member in get_args(annotation):
            yield from _members(member)
    else:
        yield get_origin(annotation) or annotation
