"""When an automation is to be looked at next, on the server's own clock; and how often events may begin its runs."""

from __future__ import annotations

from collections import deque

from relay import wire
from relay.actors import System

from ._automation_rows import Row
from ._automation_rules import PER_MINUTE

__all__ = ["Pace"]

MINUTE = 60.0
CLOSE = 0.0005  # seconds: half of what instants are kept with


class Pace:
    """What one incarnation knows of time. An interval is measured here, so that it lasts as long whatever becomes of the wall
    clock; all other times are those of the wall clock."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._begun: deque[float] = deque()  # by events within the last minute
        self._next: float | None = None  # the next run that is measured here
        self._rings = 0.0  # when that is there

    def may_begin(self) -> bool:
        """Whether an event may begin a run now."""
        now = self._system.now()
        while self._begun and self._begun[0] + MINUTE <= now:
            self._begun.popleft()
        return len(self._begun) < PER_MINUTE

    def begins(self) -> None:
        """An event has begun a run."""
        self._begun.append(self._system.now())

    def is_due(self, at: wire.Instant) -> bool:
        """Whether the next run, at this time, is to begin."""
        by_own = self._next == at and self._system.now() >= self._rings
        return by_own or self._system.wall() >= at - CLOSE

    def delay(self, row: Row | None) -> float | None:
        """Seconds until there is something to begin; None if nothing is planned."""
        if row is None:
            return None
        if row.waiting is not None and self._begun:
            return self._begun[0] + MINUTE - self._system.now()
        at = row.record.next_run_at
        if at is None:
            return None
        left = at - self._system.wall()
        if isinstance(row.record.schedule, wire.IntervalSchedule):
            left = min(left, self._measured(at, min(left, row.record.schedule.seconds)))
        return max(0.0, left)

    def _measured(self, at: wire.Instant, seconds: float) -> float:
        if self._next != at:
            self._next, self._rings = at, self._system.now() + seconds
        return self._rings - self._system.now()
