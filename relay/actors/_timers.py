"""Timers: one heap and one task for a whole system.

A timer does one thing: it puts a message into a mailbox. Re-arming a key replaces it; a timer of an incarnation
that has ended is void. What is armed by what rings waits for the next round, so that timers without any delay leave
room for everybody else. Cancelled entries stay in the heap until they surface, and are thrown out early when they
outnumber the live ones.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from math import inf

import trio

__all__ = ["Timer", "Timers"]


class Timer:
    """One armed timer. `cancel` is idempotent."""

    __slots__ = ("_timers", "action", "due")

    def __init__(self, timers: Timers, due: float, action: Callable[[], None]) -> None:
        self._timers = timers
        self.due = due
        self.action: Callable[[], None] | None = action

    def cancel(self) -> None:
        if self.action is not None:
            self.action = None
            self._timers.forget()


class Timers:
    """All timers of a system."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        self._order = count()
        self._void = 0
        self._sleep = trio.CancelScope()

    def at(self, due: float, action: Callable[[], None]) -> Timer:
        """Run `action` (which must not block) once trio's clock shows `due`."""
        timer = Timer(self, due, action)
        heapq.heappush(self._heap, (due, next(self._order), timer))
        if self._heap[0][2] is timer:
            self._sleep.cancel()
        return timer

    def forget(self) -> None:
        self._void += 1
        if self._void > 64 and self._void * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].action is not None]
            heapq.heapify(self._heap)
            self._void = 0

    async def run(self) -> None:
        """Fire what is due, for ever."""
        while True:
            self._sleep = trio.CancelScope()
            with self._sleep:
                await trio.sleep_until(self._heap[0][0] if self._heap else inf)
            self._fire(trio.current_time())
            await trio.lowlevel.checkpoint()

    def _fire(self, now: float) -> None:
        for timer in self._due(now):
            action, timer.action = timer.action, None
            if action is not None:  # or it was cancelled by one that rang before it
                action()

    def _due(self, now: float) -> list[Timer]:
        """Take those off the heap whose time has come."""
        due = []
        while self._heap and self._heap[0][0] <= now:
            timer = heapq.heappop(self._heap)[2]
            if timer.action is None:
                self._void = max(0, self._void - 1)
            else:
                due.append(timer)
        return due
