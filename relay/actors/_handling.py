"""Who is handling what, and whom that waits for.

An `async` handler, or hook, may ask others. While it does, the chain from handler to handler is known exactly, because
an actor does one thing at a time. A wait that would close a circle can never end: it raises `DeadlockError` in the one
who closes it, and nobody hangs. What counts as a wait: an ask, a `send` to a full mailbox, the start of a child, the
end of a child.

What a handler asks inherits the deadline of what it handles: nobody waits for it any longer than that.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, final

import trio

from ._errors import DeadlockError

if TYPE_CHECKING:
    from ._cell import Cell
    from ._reply import Reply

__all__ = ["Handling", "Hook", "current", "deadline", "handled_by_this_task"]

current: ContextVar[Handling | None] = ContextVar("relay_handling", default=None)
"""What the current task is a part of: a handler, or None."""


@final
class Hook:
    """In the place of a message: the hook that is being run."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return f"<{self._name}>"


@final
class Handling:
    """One run of an `async` handler or hook. `since` is in seconds of trio's clock."""

    __slots__ = ("_waits", "cell", "coroutine", "message", "reply", "since")

    def __init__(
        self,
        cell: Cell,
        message: object,
        reply: Reply[Any] | None = None,
        coroutine: Coroutine[Any, Any, Any] | None = None,
    ) -> None:
        self.cell = cell
        self.message = message
        self.reply = reply
        self.coroutine = coroutine
        self.since = trio.current_time()
        self._waits: list[tuple[Cell, Reply[Any] | None]] = []

    @property
    def waits_for(self) -> list[Cell]:
        """Whose handlers have to come to what this one sent them. Who has promised an answer is not in the way."""
        return [cell for cell, reply in self._waits if reply is None or not reply.promised]

    def wait_for(self, cell: Cell, reply: Reply[Any] | None = None) -> None:
        """Note that this handler waits for `cell`, and for an answer. Raises `DeadlockError` when `cell` waits for it."""
        path = _path(cell, self.cell)
        if path is not None:
            raise DeadlockError(" -> ".join(_step(one) for one in [self.cell, *path]))
        self._waits.append((cell, reply))

    def go_on(self, cell: Cell, reply: Reply[Any] | None = None) -> None:
        """That wait is over."""
        self._waits.remove((cell, reply))

    @contextmanager
    def waiting_for(self, cell: Cell) -> Iterator[None]:
        """Within the block this handler waits for `cell`."""
        self.wait_for(cell)
        try:
            yield
        finally:
            self.go_on(cell)


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


def _path(start: Cell, goal: Cell) -> list[Cell] | None:
    """The chain of waits from `start` to `goal`, if there is one."""
    came_from: dict[Cell, Cell | None] = {start: None}
    found = [start]
    for cell in found:
        if cell is goal:
            return _back(cell, came_from)
        for further in cell.handling.waits_for if cell.handling is not None else ():
            if further not in came_from:
                came_from[further] = cell
                found.append(further)
    return None


def _back(last: Cell, came_from: dict[Cell, Cell | None]) -> list[Cell]:
    path = [last]
    while (before := came_from[path[-1]]) is not None:
        path.append(before)
    return path[::-1]


def _step(cell: Cell) -> str:
    handling = cell.handling
    if handling is None:
        return cell.address
    message = handling.message
    return f"{cell.address} ({message if isinstance(message, Hook) else type(message).__name__})"
