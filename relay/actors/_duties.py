"""What one incarnation has taken on beside its mailbox: timers, answers it owes, tasks in the background.

Most actors have none of these, so a cell makes its duties when the first is taken on and drops them with the
incarnation. While an actor has duties it is not idle.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import trio

from ._background import Background

if TYPE_CHECKING:
    from ._cell import Cell
    from ._errors import ActorError
    from ._reply import Reply
    from ._timers import Timer

__all__ = ["Duties"]

MANY = 64  # owed answers, from which on the completed ones are looked for and forgotten


class Duties:
    """The duties of a cell's running incarnation."""

    __slots__ = ("_background", "_cell", "_many", "_owed", "_timers")

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._timers: dict[str, Timer] = {}
        self._owed: list[Reply[Any]] = []
        self._many = MANY
        self._background: Background | None = None

    @property
    def none(self) -> bool:
        """Whether nothing is left to do."""
        if self._timers or (self._background is not None and self._background.busy):
            return False
        return all(slot.done for slot in self._owed)

    @property
    def running(self) -> bool:
        """Whether ending it takes time."""
        return self._background is not None

    def owe(self, reply: Reply[Any]) -> None:
        if len(self._owed) >= self._many:
            self._owed = [slot for slot in self._owed if not slot.done]
            self._many = MANY + 2 * len(self._owed)
        self._owed.append(reply)

    def set_timer(self, key: str, seconds: float, message: object) -> None:
        self.cancel_timer(key)
        system = self._cell.system
        self._timers[key] = system.timers.at(trio.current_time() + seconds, lambda: self._ring(key, message))

    def cancel_timer(self, key: str) -> None:
        if key in self._timers:
            self._timers.pop(key).cancel()

    def _ring(self, key: str, message: object) -> None:
        """A timer is due. Keys bound the number of ticks, so they may exceed the mailbox's capacity."""
        del self._timers[key]
        self._cell.accept(message, None)
        self._cell.rouse()

    def start(self, function: Callable[[], Awaitable[object]]) -> None:
        cell = self._cell
        if self._background is None:
            self._background = Background(cell.system.context, cell.fail)
            cell.system.start_task(self._background.run, name=f"{cell.address} background")
        self._background.start(function)

    def disarm(self) -> None:
        """No timer rings any more."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    async def close(self) -> None:
        """End what runs in the background."""
        if self._background is not None:
            await self._background.close()

    def fail(self, error: Callable[[], ActorError]) -> None:
        """The incarnation has ended: whoever still waits for an answer gets this error."""
        self.disarm()
        for slot in self._owed:
            slot.fail(error())
