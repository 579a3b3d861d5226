"""Contact: how long somebody has not been heard of.

Measured on the server's own clock, from when the actor that watches was started, and anew when the server itself
was held up (stopped, suspended, overloaded): nobody is lost because the server was away. Being heard moves no timer:
an armed timer finds out by itself that it came too early, so a heartbeat costs next to nothing.

A limit is reached at the instant `last + limit`, never by comparing differences: at that instant `now - last` may be less
than the limit by a rounding error, and the rest of it be too little for a timer to move on by.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from relay.actors import Context, System, Tell

__all__ = ["HELD_UP", "Contact"]

P = TypeVar("P")

HELD_UP = 10.0  # seconds a timer may be late before silence is blamed on the server
STORED_EVERY = 30.0  # seconds between two writes of nothing but the time of the last contact


class Contact:
    """The contact of one agent or host. `limits` are the lengths of silence (seconds) that mean something."""

    def __init__(self, system: System, limits: Sequence[float]) -> None:
        self._system = system
        self._limits = limits
        self._last = self._stored = system.now()
        self._due: float | None = None

    def heard(self) -> None:
        self._last = self._system.now()

    def stored(self) -> None:
        self._stored = self._system.now()

    @property
    def storable(self) -> bool:
        """Whether the time of the last contact in the store has become too old."""
        return self._system.now() - self._stored >= STORED_EVERY

    def rang(self) -> None:
        """The tick has come; a late one is the server's fault."""
        self._forgive()
        self._due = None

    def silent(self, limit: float) -> bool:
        """Whether there was none for `limit` seconds in which the server could have heard any."""
        self._forgive()
        return self._last + limit <= self._system.now()

    def _forgive(self) -> None:
        now = self._system.now()
        if self._due is not None and now - self._due > HELD_UP:
            self._last = now

    def watch(self, context: Context[P], tick: Tell[P] | None) -> None:
        """Have `tick` sent when the next limit is reached, and again and again after the last; None ends the watch."""
        if tick is None:
            context.cancel_timer("silence")
            self._due = None
        elif self._due is None:
            now = self._system.now()
            ends = [self._last + limit for limit in self._limits]
            self._due = next((end for end in ends if end > now), now + self._limits[-1])
            context.set_timer("silence", self._due - now, tick)
