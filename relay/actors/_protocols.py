"""Which messages belong to which protocol, and whether a handler knows them all.

Types say who may send what; they cannot say that a `handle` covers its protocol. That is checked once per class, when
its first actor starts, or a family of it is made: every message class of the protocol must be among those in the
annotation of `handle`'s first parameter. A `handle` that is annotated with `Any` or `object` answers for itself, and
so does one whose annotation cannot be evaluated at run time, such as a name that is imported for type checkers only.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from functools import partial
from typing import Any, Union, get_args, get_origin
from weakref import WeakKeyDictionary, WeakSet, WeakValueDictionary

from trio.lowlevel import disable_ki_protection

from ._actor import Actor

__all__ = ["IncompleteHandler", "check_factory", "check_handler", "register"]


class IncompleteHandler(TypeError):
    """A class has to be mended: no restart helps."""


_messages: WeakKeyDictionary[type, WeakValueDictionary[str, type]] = WeakKeyDictionary()
"""Protocol -> its message classes, by full name: decorators make a class anew, and the last one counts."""

_checked: WeakSet[type] = WeakSet()

_spoken_by_some: WeakSet[type] = WeakSet()
"""The protocols of the classes that were checked."""


def register(message: type) -> None:
    """Note a message class under its protocol."""
    for base in message.__dict__.get("__orig_bases__", ()):
        for protocol in get_args(base)[:1]:
            if isinstance(protocol, type):
                known = _messages.setdefault(protocol, WeakValueDictionary())
                known[f"{message.__module__}.{message.__qualname__}"] = message


def check_factory(factory: object) -> None:
    """As `check_handler`, as far as it can be told what the factory will make."""
    while isinstance(factory, partial):
        factory = factory.func
    if isinstance(factory, type) and issubclass(factory, Actor):
        check_handler(factory)


def check_handler(kind: type[Actor[Any]]) -> None:
    """Raises `IncompleteHandler`, a `TypeError`, when `kind.handle` misses a message of its protocol."""
    if kind in _checked:
        return
    _spoken_by_some.update(_spoken(kind))
    for protocol in _spoken(kind):
        _check_unrelated(protocol)
    taken = _taken(kind)
    if taken is not None:
        missed = [
            message.__name__
            for protocol in _spoken(kind)
            for message in _messages.get(protocol, WeakValueDictionary()).values()
            if not issubclass(message, taken)
        ]
        if missed:
            raise IncompleteHandler(
                f"{kind.__qualname__}.handle does not take {', '.join(missed)}; "
                "name every message of the protocol in the annotation of its first parameter"
            )
    if hasattr(kind.handle, "__code__") and kind.handle is not Actor.handle:
        disable_ki_protection(kind.handle)  # marked by itself, for that costs nothing for each message
    _checked.add(kind)


def _check_unrelated(protocol: type) -> None:
    """Protocols are combined by unions. One that derives from another would be taken for it: whoever has a ref that was
    narrowed to the base could send what belongs to the derived one, and no type checker would mind."""
    for other in {*_messages, *_spoken_by_some} - {object, protocol}:
        derived, base = (protocol, other) if other in protocol.__mro__ else (other, protocol)
        if base in derived.__mro__:
            raise TypeError(
                f"the protocol {derived.__qualname__} derives from the protocol {base.__qualname__}; "
                f"combine them by a union instead, as in Actor[{base.__qualname__} | {derived.__qualname__}]"
            )


def _spoken(kind: type) -> Iterator[type]:
    """The protocols of an actor class: what it gave to `Actor[...]`, itself or by a base."""
    for base in (base for one in kind.__mro__ for base in one.__dict__.get("__orig_bases__", ())):
        for argument in get_args(base):
            yield from (member for member in _members(argument) if isinstance(member, type))


def _taken(kind: type) -> tuple[type, ...] | None:
    """The classes in the annotation of the handler's message; None when it cannot be known."""
    handle: Any = kind.handle  # type: ignore[attr-defined]
    if handle is Actor.handle:
        return ()
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
