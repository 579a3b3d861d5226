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

from ._ctrl_c import expose
from ._errors import StopOverran
from ._text import shown

if TYPE_CHECKING:
    from ._cell import Cell

__all__ = ["patiently"]

DEAFEST = 1000
"""How often a part that has to end may be cancelled and go on while no time passes, as it does not in tests."""

R = TypeVar("R")


@expose
@types.coroutine
def patiently(coroutine: Coroutine[Any, Any, R], cell: Cell) -> Generator[Any, Any, R]:
    """Await `coroutine`, a part of `cell`'s incarnation. Raises `Cancelled` when it was given up."""
    send = getattr(coroutine, "send", None)
    if send is None:
        raise TypeError(
            f"{type(cell.actor).__name__} returned {shown(coroutine)}; answer with context.reply(message, value)"
        )
    deaf, now = 0, -inf
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
            if cell.patience < inf and isinstance(getattr(outcome, "error", None), trio.Cancelled):
                before, now = now, trio.current_time()
                deaf = deaf + 1 if now == before else 0
                if deaf == DEAFEST:
                    late = StopOverran(f"{cell.address} is cancelled again and again, and goes on")
                    cell.system.note(late, cell.address)
                if deaf == DEAFEST or now > cell.patience:
                    raise outcome.error
            trap = send(outcome)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    finally:
        with suppress(BaseException):
            coroutine.close()  # it has ended, or is given up, or Ctrl-C has hit between its steps
