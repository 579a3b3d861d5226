"""What a decision needs besides state and message: the instant it is made at, and numbers nobody else has."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import attrs

from relay import wire
from relay.actors import System
from relay.store import Store

__all__ = ["Moment"]


@attrs.frozen
class Moment:
    """`at` is epoch seconds. `next_id(sequence)` and `new_id(prefix)` are the store's and the system's."""

    at: wire.Instant
    next_id: Callable[[str], int]
    new_id: Callable[[str], str]

    @classmethod
    def now(cls, system: System, store: Store, *, after: Moment | None = None) -> Moment:
        """The present millisecond, or the one following `after` when the clock has not moved on.

        So the records of one actor carry increasing instants, and ids that are made of instants differ.
        """
        ms = int(system.wall() * 1000)
        if after is not None:
            ms = max(ms, after.ms + 1)
        return cls(wire.Instant(ms / 1000), store.next_id, system.new_id)

    def new_spawn_request(self) -> str:
        """What an agent that is being started is to register with: `sp_`, and a UUID (M-190)."""
        digits = hashlib.sha256(self.new_id("sp").encode()).hexdigest()
        cuts = (digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:32])
        return f"sp_{'-'.join(cuts)}"

    @property
    def ms(self) -> int:
        """The instant in epoch milliseconds, as rows and audit ids have it."""
        return round(self.at * 1000)
