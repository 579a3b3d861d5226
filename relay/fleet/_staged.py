"""What an actor has decided and nobody can read yet.

An actor that settles decides on, while what it has decided is on its way to the disk, and the store shows only what
is durable. So the actor looks here first. What has become durable is forgotten, and read from the store again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeAlias, TypeVar

__all__ = ["Added", "Durability", "Staged"]

K = TypeVar("K")
V = TypeVar("V")

Durability: TypeAlias = Callable[[], tuple[int, int]]
"""How many decisions the actor has staged, and how many of them are durable."""

FORGOTTEN = 256  # entries between two looks at what is durable


class Staged(Generic[K, V]):
    """Values by key, the latest of each; None stands for what is gone."""

    def __init__(self, durability: Durability) -> None:
        self._durability = durability
        self._values: dict[K, tuple[int, V | None]] = {}
        self._sweep_at = FORGOTTEN

    def __contains__(self, key: K) -> bool:
        return key in self._values

    def __getitem__(self, key: K) -> V | None:
        return self._values[key][1]

    def get(self, key: K) -> V | None:
        """The value, if there is one here."""
        _, value = self._values.get(key, (0, None))
        return value

    def __iter__(self) -> Iterator[tuple[K, V | None]]:
        return iter([(key, value) for key, (_, value) in self._values.items()])

    def put(self, key: K, value: V | None) -> None:
        """The decision that is made now, and staged next, says so."""
        staged, durable = self._durability()
        self._values.pop(key, None)  # to the end: the order is that of the decisions
        self._values[key] = (staged + 1, value)
        if len(self._values) >= self._sweep_at:
            self._forget(durable)
            self._sweep_at = len(self._values) + FORGOTTEN

    def _forget(self, durable: int) -> None:
        for key, (decision, _) in list(self._values.items()):
            if decision > durable:
                return
            del self._values[key]


class Added:
    """Seconds that a decision adds to an instant of every row, until the rows have them."""

    def __init__(self, durability: Durability) -> None:
        self._durability = durability
        self._by = 0
        self._seconds = 0.0

    def add(self, seconds: float) -> None:
        """By the decision that is made now, and staged next."""
        staged, _ = self._durability()
        self._seconds, self._by = self.seconds + seconds, staged + 1

    @property
    def seconds(self) -> float:
        """What the rows lack."""
        _, durable = self._durability()
        return self._seconds if self._by > durable else 0.0
