"""Ctrl-C hits users' code, as in any trio program, and never the runtime's own.

Every function of this package is protected; `KeyboardInterrupt` waits until the next wait of the main task. Whatever
calls users' code does so through `exposed`, or `patiently`, or it is a `handle`, which is marked by itself.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

from trio.lowlevel import disable_ki_protection, enable_ki_protection

__all__ = ["expose", "exposed", "exposed_async", "protect"]

F = TypeVar("F", bound=Callable[..., object])
R = TypeVar("R")

_exposed: set[Callable[..., object]] = set()


def expose(function: F) -> F:
    """Mark a function of the runtime through which users' code is run."""
    _exposed.add(function)
    disable_ki_protection(function)
    return function


@disable_ki_protection
def exposed(function: Callable[..., R], *arguments: object) -> R:
    """Call a function of the user's."""
    return function(*arguments)


@disable_ki_protection
async def exposed_async(function: Callable[[], Awaitable[R]]) -> R:
    """Call an `async` function of the user's."""
    return await function()


def protect(module: types.ModuleType) -> None:
    """Protect every function, method and property of `module` that is not marked yet, and what is defined inside."""
    for function in _functions(module):
        if function not in _exposed:
            _protect(function.__code__)


def _protect(code: types.CodeType) -> None:
    enable_ki_protection(
        types.FunctionType(code, {}, closure=tuple(types.CellType() for _ in code.co_freevars))
    )
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            _protect(constant)


def _functions(owner: types.ModuleType | type) -> Iterator[types.FunctionType]:
    name = owner.__name__ if isinstance(owner, types.ModuleType) else owner.__module__
    for value in vars(owner).values():
        if isinstance(value, type) and value.__module__ == name:
            yield from _functions(value)
            continue
        function = value.fget if isinstance(value, property) else value
        plain = inspect.unwrap(function) if callable(function) else function
        if isinstance(plain, types.FunctionType) and plain.__module__ == name:
            yield plain
