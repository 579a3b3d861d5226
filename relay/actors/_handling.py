"""Who is handling what, and whom that waits for.

An `async` handler may ask others. While it does, the chain from handler to handler is known exactly, because an actor
handles one message at a time. An ask, or a `send` to a full mailbox, that would close a circle can never end: it
raises `DeadlockError` in the one who closes it, and nobody hangs.

What a handler asks inherits the deadline of what it handles: nobody waits for it any longer than that.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, final

import trio

from ._errors import DeadlockError

if TYPE_CHECKING:
    from ._cell import Cell
    from ._reply import Reply

__all__ = ["Handling", "current", "deadline", "handled_by_this_task"]

current: ContextVar[Handling | None] = ContextVar("relay_handling", default=None)
"""What the current task is a part of: a handler, or None."""


@final
class Handling:
    """One run of an `async` handler. `since` is in seconds of trio's clock."""

    __slots__ = ("_waits", "cell", "message", "reply", "since")

    def __init__(self, cell: Cell, message: object, reply: Reply[Any] | None) -> None:
        self.cell = cell
        self.message = message
        self.reply = reply
        self.since = trio.current_time()
        self._waits: list[tuple[Cell, Reply[Any] | None]] = []

    @property
    def waits_for(self) -> list[Cell]:
        """Whose handlers have to come to what this one sent them. Who has promised an answer is not in the way."""
        return [cell for cell, reply in self._waits if reply is None or not reply.promised]

    def wait_for(self, cell: Cell, reply: Reply[Any] | None = None) -> None:
        """Note that this handler waits for `cell`, and for an answer. Raises `DeadlockError` when `cell` waits for it."""
        path = _path(cell, self.cell, set())
        if path is not None:
            raise DeadlockError(" -> ".join(_step(one) for one in [self.cell, *path]))
        self._waits.append((cell, reply))

    def go_on(self, cell: Cell, reply: Reply[Any] | None = None) -> None:
        """That wait is over."""
        self._waits.remove((cell, reply))


def handled_by_this_task() -> Handling | None:
    """The handler that the current task belongs to, unless it has returned and only left the task behind."""
    handling = current.get()
    return handling if handling is not None and handling.cell.handling is handling else None


def deadline(handling: Handling | None) -> float:
    """Until when an ask of this task can still be of use, in seconds of trio's clock."""
    own = trio.current_effective_deadline()
    if handling is None or handling.reply is None:
        return own
    return min(own, handling.reply.deadline)


def _path(start: Cell, goal: Cell, seen: set[Cell]) -> list[Cell] | None:
    """The chain of waits from `start` to `goal`, if there is one."""
    if start is goal:
        return [start]
    seen.add(start)
    for further in start.handling.waits_for if start.handling is not None else ():
        rest = None if further in seen else _path(further, goal, seen)
        if rest is not None:
            return [start, *rest]
    return None


def _step(cell: Cell) -> str:
    handling = cell.handling
    return f"{cell.address} ({type(handling.message).__name__})" if handling is not None else cell.address
