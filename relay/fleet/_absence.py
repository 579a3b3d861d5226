"""Absence: when the server was not there, and who is still to get the time that was missed.

It notices by a timer that rings late, and by a wall clock that ran ahead of the server's own: it was stopped, suspended or
overloaded, or somebody set the clock. It lives as long as the fleet, so that a crash on the way takes nobody's time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import attrs

from relay.actors import System

from ._contact import HELD_UP

__all__ = ["NOTHING", "Absence", "Missed"]


@attrs.frozen
class Missed:
    """Seconds that nobody can answer for: those the server was held up, and those the wall clock ran `ahead` besides."""

    held_up: float = 0.0
    ahead: float = 0.0

    @property
    def by_wall(self) -> float:
        """What a time to come on the wall clock is to be put off by."""
        return self.held_up + self.ahead

    def and_also(self, other: Missed) -> Missed:
        return Missed(self.held_up + other.held_up, self.ahead + other.ahead)


NOTHING = Missed()


class Absence:
    """What was missed, and the steps of maintenance that are to make up for it."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._due = math.inf
        self._ahead = self._how_far_ahead()
        self._leapt = 0.0
        self._owed: dict[str, Missed] = {}

    def _how_far_ahead(self) -> float:
        """The wall clock, of the server's own."""
        return self._system.wall() - self._system.now()

    def leapt(self) -> float:
        """Seconds by which the wall clock was set forward since the fleet was started, in all."""
        return self._leapt + self._unseen().ahead

    def look(self, steps: Iterable[str], *, again_in: float) -> None:
        """Each of the steps is owed what was missed since the last look. Whoever looks later than `again_in` (seconds) was
        held up."""
        missed = self._unseen()
        self._leapt += missed.ahead
        if missed != NOTHING:
            for step in steps:
                self._owed[step] = self.owed(step).and_also(missed)
        self._ahead, self._due = self._how_far_ahead(), self._system.now() + again_in

    def _unseen(self) -> Missed:
        """Since the last look."""
        return Missed(_gap(self._system.now() - self._due), _gap(self._how_far_ahead() - self._ahead))

    def owed(self, step: str) -> Missed:
        return self._owed.get(step, NOTHING)

    def wall_for(self, step: str) -> float:
        """The wall clock for whatever ends by it and is put off by that step: what is still to be put off does not end yet."""
        return self._system.wall() - self.owed(step).and_also(self._unseen()).by_wall

    def now_for(self, step: str) -> float:
        """The same of the server's own clock."""
        return self._system.now() - self.owed(step).and_also(self._unseen()).held_up

    def paid(self, step: str) -> None:
        """The step has made up for all that it owed."""
        self._owed.pop(step, None)


def _gap(seconds: float) -> float:
    """Clocks differ a little, and timers are a little late."""
    return seconds if seconds > HELD_UP else 0.0
