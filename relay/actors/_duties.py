"""What one incarnation has taken on beside its mailbox: timers, watches, answers it owes, tasks in the background.

Most actors have none of these, so a cell makes its duties when the first is taken on and drops them with the
incarnation. While an actor has duties it is not idle.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from ._background import Background
from ._patience import patiently
from ._watches import Exit

if TYPE_CHECKING:
    from ._cell import Cell
    from ._errors import ActorError
    from ._reply import Reply
    from ._timers import Timer

__all__ = ["Duties"]

MANY = 64  # owed answers, from which on the completed ones are looked for and forgotten


class Duties:
    """The duties of a cell's running incarnation."""

    __slots__ = ("_background", "_cell", "_many", "_owed", "_timers", "_watched")

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._timers: dict[str, Timer] = {}
        self._watched: dict[str, Callable[[Exit], object]] = {}
        self._owed: list[Reply[Any]] = []
        self._many = MANY
        self._background: Background | None = None

    @property
    def none(self) -> bool:
        """Whether nothing is left to do."""
        if self._timers or self._watched or (self._background is not None and self._background.busy):
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
        del self._timers[key]
        self._cell.notify(message)

    def watch(self, target: Cell, then: Callable[[Exit], object]) -> None:
        """Be told, once, when `target` has stopped for good."""
        if target.closed and target.family is None:
            self._cell.notify(then(Exit(target.address, target.failure)))
            return
        self._watched[target.address] = then
        self._cell.system.watches.add(target.address, self)

    def unwatch(self, address: str) -> None:
        if self._watched.pop(address, None) is not None:
            self._cell.system.watches.remove(address, self)

    def departed(self, exit_: Exit) -> None:
        """Who was watched has stopped."""
        then = self._watched.pop(exit_.address)
        try:
            message = then(exit_)
        except Exception as error:  # noqa: BLE001 - the watcher's own, and not of whoever stops
            self._cell.fail(error)
        else:
            self._cell.notify(message)

    def start(self, function: Callable[[], Awaitable[object]]) -> None:
        cell = self._cell
        if self._background is None:
            self._background = Background(cell.system.context, cell.fail)
            cell.system.start_task(self._background.run, name=f"{cell.address} background")
        self._background.start(partial(_patiently, function, cell))

    def pipe(
        self,
        function: Callable[[], Awaitable[Any]],
        then: Callable[[Any], object],
        failed: Callable[[Exception], object] | None,
    ) -> None:
        """Run `function` in the background and put its outcome into the mailbox."""

        async def run() -> None:
            try:
                outcome = then(await function())
            except Exception as error:
                if failed is None:
                    raise
                outcome = failed(error)
            self._cell.notify(outcome)

        self.start(run)

    def disarm(self) -> None:
        """No timer rings and no watch is told any more."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        for address in list(self._watched):
            self.unwatch(address)

    async def close(self) -> None:
        """End what runs in the background."""
        if self._background is not None:
            await self._background.close()

    def fail(self, error: Callable[[], ActorError]) -> None:
        """The incarnation has ended: whoever still waits for an answer gets this error."""
        self.disarm()
        for slot in self._owed:
            slot.fail(error())


async def _patiently(function: Callable[[], Awaitable[object]], cell: Cell) -> None:
    async def run() -> None:
        await function()

    await patiently(run(), cell)
