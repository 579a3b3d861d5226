"""Time, ids and chance, in the one place where they may come from.

Durations are measured on trio's clock, so virtual time works; wall time is only ever recorded. Ids and jitter are
drawn from one seeded source, so a run can be repeated.
"""

import random
import time
from collections.abc import Callable

import trio

__all__ = ["Source", "virtual_wall"]

_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no letter that looks like a digit


def virtual_wall(epoch: float = 1_700_000_000.0) -> Callable[[], float]:
    """Wall time that follows trio's clock from `epoch` (seconds since 1970), for tests under a mock clock."""
    return lambda: epoch + trio.current_time()


class Source:
    """Where a system takes time, ids and chance from."""

    def __init__(self, wall: Callable[[], float] | None = None, seed: int | None = None) -> None:
        self.wall = wall or time.time
        self.random = random.Random(seed)

    def new_id(self, prefix: str) -> str:
        """A fresh id such as `cmd_01j9…`: 48 bits of milliseconds, then 80 random bits, so ids sort by age."""
        number = int(self.wall() * 1000) << 80 | self.random.getrandbits(80)
        return f"{prefix}_" + "".join(_DIGITS[number >> shift & 31] for shift in range(125, -1, -5))
