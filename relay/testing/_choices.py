"""Where the choices of a run come from: chance, priorities, a list, or all of them in turn.

Everything a simulation decides goes through one `Choices`, which records it. The record is the run: replayed, it gives
the same run again. Choice 0 is always the tame one (first come first served, no fault), so a shorter record with
smaller numbers is a simpler run.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Hashable, Sequence
from random import Random
from typing import Protocol

__all__ = ["Chance", "Choices", "Exhaustive", "Priorities", "Record", "Source", "decode", "encode"]


class Source(Protocol):
    """Decides."""

    def choose(self, number: int) -> int:
        """One of `range(number)`."""

    def pick(self, keys: Sequence[Hashable]) -> int:
        """The index of whose turn it is."""

    def happens(self, probability: float) -> bool:
        """Whether something happens that may, but need not."""


class Chance:
    """Every choice is equally likely."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    def choose(self, number: int) -> int:
        return self._random.randrange(number)

    def pick(self, keys: Sequence[Hashable]) -> int:
        return self._random.randrange(len(keys))

    def happens(self, probability: float) -> bool:
        return self._random.random() < probability


class Priorities(Chance):
    """Probabilistic concurrency testing: whoever has the highest priority goes on, until one of `changes` moments.

    Finds what needs few but long delays, which equal chances hardly ever make (Burckhardt et al., ASPLOS 2010). The
    moments are among the first `picks`, which should be as many as a run has.
    """

    def __init__(self, seed: int, changes: int = 3, picks: int = 500) -> None:
        super().__init__(seed)
        self._changes = {self._random.randrange(max(1, picks)) for _ in range(changes)}
        self._priorities: dict[Hashable, float] = {}
        self._step = 0

    def pick(self, keys: Sequence[Hashable]) -> int:
        for key in keys:
            if key not in self._priorities:
                self._priorities[key] = 1 + self._random.random()
        first = max(range(len(keys)), key=lambda index: self._priorities[keys[index]])
        if self._step in self._changes:
            self._priorities[keys[first]] = -self._step
        self._step += 1
        return first


class Record:
    """Repeats recorded choices, then chooses 0. `strayed`: a choice was not among those that there were."""

    def __init__(self, record: Sequence[int]) -> None:
        self._record = record
        self._next = 0
        self.strayed = False

    @property
    def fits(self) -> bool:
        """Whether the run that is over could be the recorded one."""
        return not self.strayed and not any(self._record[self._next :])

    def choose(self, number: int) -> int:
        if self._next >= len(self._record):
            return 0
        choice = self._record[self._next]
        self._next += 1
        self.strayed |= choice >= number
        return min(choice, number - 1)

    def pick(self, keys: Sequence[Hashable]) -> int:
        return self.choose(len(keys))

    def happens(self, probability: float) -> bool:
        return self.choose(2) == 1


class Exhaustive:
    """All choices, depth first: `next` moves on to the next run and says whether there is one.

    `strayed`: the same choices have led to another one than before, so these are not all.
    """

    def __init__(self) -> None:
        self._path: list[tuple[int, int]] = []
        self._depth = 0
        self.strayed = False

    def choose(self, number: int) -> int:
        if self._depth == len(self._path):
            self._path.append((0, number))
        choice, before = self._path[self._depth]
        self._depth += 1
        self.strayed |= before != number
        return min(choice, number - 1)

    def pick(self, keys: Sequence[Hashable]) -> int:
        return self.choose(len(keys))

    def happens(self, probability: float) -> bool:
        return self.choose(2) == 1

    def next(self) -> bool:
        while self._path and self._path[-1][0] == self._path[-1][1] - 1:
            self._path.pop()
        self._depth = 0
        if not self._path:
            return False
        choice, number = self._path[-1]
        self._path[-1] = (choice + 1, number)
        return True


class Choices:
    """The choices of one run, recorded. `picks` counts those of whose turn it is."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.record: list[int] = []
        self.picks = 0

    def choose(self, number: int) -> int:
        """One of `range(number)`; nothing is recorded where there is no choice."""
        if number < 2:
            return 0
        choice = self._source.choose(number)
        self.record.append(choice)
        return choice

    def pick(self, keys: Sequence[Hashable]) -> int:
        """The index of whose turn it is."""
        if len(keys) < 2:
            return 0
        choice = self._source.pick(keys)
        self.record.append(choice)
        self.picks += 1
        return choice

    def chance(self, probability: float) -> bool:
        """True so often. What is certain is no choice, so no simpler run goes without it."""
        if not 0 < probability < 1:
            return probability > 0
        happens = self._source.happens(probability)
        self.record.append(int(happens))
        return happens


def encode(record: Sequence[int]) -> str:
    """A record as one word of a command line. The zeros at its end go without saying."""
    record = list(record)
    while record and not record[-1]:
        record.pop()
    packed = zlib.compress(",".join(map(str, record)).encode(), 9)
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def decode(text: str) -> list[int]:
    """Raises `ValueError` when `text` is not what `encode` made."""
    try:
        packed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        numbers = zlib.decompress(packed).decode()
    except Exception as error:
        raise ValueError(f"not the record of a run: {text[:40]}") from error
    return [int(number) for number in numbers.split(",") if number]
