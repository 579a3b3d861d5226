"""What one incarnation has taken on beside its mailbox: timers, watches, answers it owes, tasks in the background.

Most actors have none of these, so a cell makes its duties when the first is taken on and drops them with the
incarnation. While an actor has duties it is not idle.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Hashable
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from ._background import Background
from ._ctrl_c import exposed, exposed_async
from ._orders import Orders
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

    __slots__ = ("_background", "_cell", "_exits", "_many", "_owed", "_ticks", "_timers", "_watched")

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._timers: dict[str, Timer] = {}
        self._ticks = Orders()
        self._watched: dict[Hashable, Callable[[Exit], object]] = {}
        self._exits = Orders()
        self._owed: list[Reply[Any]] = []
        self._many = MANY
        self._background: Background | None = None

    @property
    def none(self) -> bool:
        """Whether nothing is left to do."""
        if self._timers or self._watched or (self._background is not None and self._background.count):
            return False
        return all(slot.done for slot in self._owed)

    @property
    def tasks(self) -> int:
        """How many tasks run in the background."""
        return 0 if self._background is None else self._background.count

    @property
    def timers(self) -> int:
        """How many timers are armed."""
        return len(self._timers)

    @property
    def running(self) -> bool:
        """Whether ending it takes time."""
        return self._background is not None

    def owe(self, reply: Reply[Any]) -> None:
        if len(self._owed) >= self._many:
            self._owed = [slot for slot in self._owed if not slot.done]
            self._many = MANY + 2 * len(self._owed)
        self._owed.append(reply)

    def set_timer(self, key: str, delay: float, message: object, every: float | None) -> None:
        if math.isnan(delay):
            raise ValueError(f"the delay of timer {key!r} must be a number of seconds, and is nan")
        if every is not None and not every > 0:
            raise ValueError(f"timer {key!r} must ring every so many seconds, more than 0, and not {every!r}")
        self.cancel_timer(key)
        self._arm(key, trio.current_time() + delay, message, every)

    def cancel_timer(self, key: str) -> None:
        self._ticks.withdraw(key)
        if key in self._timers:
            self._timers.pop(key).cancel()

    def _arm(self, key: str, due: float, message: object, every: float | None) -> None:
        self._timers[key] = self._cell.system.timers.at(due, partial(self._ring, key, due, message, every))

    def _ring(self, key: str, due: float, message: object, every: float | None) -> None:
        del self._timers[key]
        if every is not None:
            now = trio.current_time()
            self._arm(key, due + every if due + every > now else now + every, message, every)
            if key in self._ticks:
                return  # the last one has not been handled yet
        self._cell.notify(self._ticks.place(key, message))

    def watch(self, target: Cell, then: Callable[[Exit], object]) -> None:
        """Be told, once, when `target` has stopped for good."""
        if target.system is not self._cell.system:
            raise ValueError(f"{target.address} lives in another system, and can only be watched there")
        if target.closed and (target.family is None or target.family.stopping):
            self._notice(target.identity, exposed(then, Exit(target.address, target.failure)))
            return
        self._watched[target.identity] = then
        self._cell.system.watches.add(target, self)

    def unwatch(self, target: Hashable) -> None:
        """End the watch of who has this identity."""
        self._exits.withdraw(target)
        if self._watched.pop(target, None) is not None:
            self._cell.system.watches.remove(target, self)

    def departed(self, target: Hashable, exit_: Exit) -> None:
        """Who was watched has stopped."""
        then = self._watched.pop(target)
        try:
            message = exposed(then, exit_)
        except BaseException as error:  # noqa: BLE001 - the watcher's own, and not of whoever stops
            self._cell.fail(error)
        else:
            self._notice(target, message)

    def _notice(self, target: Hashable, message: object) -> None:
        self._cell.notify(self._exits.place(target, message))

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
        scheduler = self._cell.system.scheduler

        async def run() -> None:
            try:
                try:
                    outcome = exposed(then, await exposed_async(function))
                except Exception as error:
                    if failed is None:
                        raise
                    outcome = exposed(failed, error)
                self._cell.notify(outcome)
            finally:
                scheduler.came()

        self.start(run)
        scheduler.expect()

    def disarm(self) -> None:
        """No timer rings and no watch is told any more, and what they have put into the mailbox is withdrawn."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        for target in list(self._watched):
            self.unwatch(target)
        self._ticks.withdraw_all()
        self._exits.withdraw_all()

    async def close(self) -> None:
        """End what runs in the background."""
        if self._background is not None:
            await self._background.close()

    def fail(self, kind: type[ActorError], cause: BaseException | None) -> None:
        """The incarnation has ended: whoever still waits for an answer gets such an error."""
        self.disarm()
        for slot in self._owed:
            error = kind(f"{self._cell.address} ended before it answered")
            error.__cause__ = cause
            slot.fail(error)


async def _patiently(function: Callable[[], Awaitable[object]], cell: Cell) -> None:
    await patiently(exposed_async(function), cell)
