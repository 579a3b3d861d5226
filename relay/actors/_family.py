"""Families: actors that are found by key and started on demand.

At most one activation of a key lives at a time. A member that has been idle for a while is passivated: it ends,
its cell is dropped, and the next message starts a new one, so a hundred thousand known keys cost nothing in
memory. A member with an armed timer, a child, a background task or an unanswered ask is not idle.

A member that exhausts its restarts is put in quarantine: for `within` seconds it is refused as stopped, then
tried again. Its neighbours go on.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar, final

import trio

from ._cell import Cell
from ._errors import ActorStopped
from ._ref import Ref

if TYPE_CHECKING:
    from ._actor import Actor
    from ._bounds import Bounds
    from ._supervision import Supervision
    from ._system import System

__all__ = ["Family"]

K = TypeVar("K", bound=Hashable)
P = TypeVar("P")


@final
class Family(Generic[K, P]):
    """`family[key]` is the ref of that member."""

    def __init__(
        self,
        system: System,
        name: str,
        factory: Callable[[K], Actor[P]],
        idle: float,
        policy: Supervision,
        bounds: Bounds,
    ) -> None:
        self.name = name
        self._system = system
        self._factory = factory
        self._idle = idle
        self.policy = policy
        self._bounds = bounds
        self._cells: dict[K, Cell] = {}
        self._names: dict[str, K] = {}
        self._quarantined: dict[K, float] = {}
        self._sweeping = False
        self._stopping = False

    def __getitem__(self, key: K) -> Ref[P]:
        return Ref(self.cell(key))

    def __len__(self) -> int:
        """How many members are active."""
        return len(self._cells)

    def __iter__(self) -> Iterator[K]:
        """The keys of the active members."""
        return iter(list(self._cells))

    def cell(self, key: K) -> Cell:
        """The live cell of `key`, activated if need be."""
        cell = self._cells.get(key)
        return cell if cell is not None else self._activate(key)

    def active(self, key: K) -> Cell | None:
        """The live cell of `key`, if it is awake."""
        return self._cells.get(key)

    def cells(self) -> list[Cell]:
        return list(self._cells.values())

    def forget(self, cell: Cell) -> None:
        del self._cells[cell.key]
        del self._names[cell.name]

    def quarantine(self, key: K) -> None:
        now = trio.current_time()
        self._quarantined = {k: until for k, until in self._quarantined.items() if until > now}
        self._quarantined[key] = now + self.policy.within

    async def stop(self) -> None:
        """Stop all members, refuse new ones, and give the name back."""
        self._stopping = True
        for cell in self.cells():
            cell.stop()
        for cell in self.cells():
            await cell.gone()
        self._system.forget_family(self.name)

    def _activate(self, key: K) -> Cell:
        if self._stopping:
            raise ActorStopped(f"{self.name} has stopped")
        until = self._quarantined.get(key)
        if until is not None and trio.current_time() < until:
            raise ActorStopped(f"{self.name}/{key} failed too often and is in quarantine")
        factory: Callable[[], Actor[Any]] = partial(self._factory, key)
        cell = Cell(self._system, None, str(key), factory, self.policy, self._bounds)
        if cell.name in self._names:
            raise ValueError(f"{key!r} and {self._names[cell.name]!r} look alike: {self.name}/{cell.name}")
        cell.family, cell.key = self, key
        self._cells[key] = cell
        self._names[cell.name] = key
        cell.signalled = True  # it starts at its first turn, not inside whoever called it up
        self._system.scheduler.schedule(cell)
        self._sweep_later()
        return cell

    def _sweep_later(self) -> None:
        if not self._sweeping:
            self._sweeping = True
            self._system.timers.at(trio.current_time() + self._idle, self._sweep)

    def _sweep(self) -> None:
        """Passivate what has not been used since the last sweep."""
        self._sweeping = False
        for cell in self.cells():
            if cell.used or not cell.quiet:
                cell.used = False
            else:
                cell.passivate()
        if self._cells:
            self._sweep_later()
