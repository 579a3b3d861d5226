"""How user code is awaited: as `await` does, but not for ever.

Code that swallows `Cancelled` at every checkpoint would keep its task, and the block with it, for ever. The runtime
gives it up when its cell has lost patience: it is closed, which runs its `finally` blocks, and never resumed.
"""

from __future__ import annotations

import types
from collections.abc import Coroutine, Generator
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING, Any, TypeVar

import trio

from ._text import shown

if TYPE_CHECKING:
    from ._cell import Cell

__all__ = ["patiently"]

R = TypeVar("R")


@types.coroutine
def patiently(coroutine: Coroutine[Any, Any, R], cell: Cell) -> Generator[Any, Any, R]:
    """Await `coroutine`, a part of `cell`'s incarnation. Raises `Cancelled` when it was given up."""
    send = getattr(coroutine, "send", None)
    if send is None:
        raise TypeError(
            f"{type(cell.actor).__name__} returned {shown(coroutine)}; answer with context.reply(message, value)"
        )
    try:
        trap = send(None)
        while True:
            try:
                outcome = yield trap  # trio sends what came of the wait, also when that is an exception
            except GeneratorExit:
                raise
            except BaseException as error:  # noqa: BLE001 - only for a wait that is not trio's
                trap = coroutine.throw(error)
                continue
            if cell.patience < inf and _given_up(outcome, cell):
                with suppress(BaseException):
                    coroutine.close()
                raise outcome.error
            trap = send(outcome)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    except GeneratorExit:
        coroutine.close()
        raise


def _given_up(outcome: Any, cell: Cell) -> bool:
    cancelled = isinstance(getattr(outcome, "error", None), trio.Cancelled)
    return cancelled and trio.current_time() > cell.patience
