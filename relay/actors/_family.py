"""Families: actors that are found by key and started on demand.

At most one activation of a key lives at a time. A member that has been idle for a while is passivated: it ends,
its cell is dropped, and the next message starts a new one, so a hundred thousand known keys cost nothing in
memory. A member with an armed timer, a child, a background task or an unanswered ask is not idle.

Looking a member up starts nothing: until there is a message for it, its ref holds an `Asleep` in the place of a cell.

A member that exhausts its restarts is put in quarantine: for `within` seconds it is refused as stopped, then
tried again. Its neighbours go on.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast, final

import trio

from ._cell import Cell
from ._errors import ActorFailed, ActorStopped, DeadlockError
from ._handling import handled_by_this_task
from ._protocols import check_factory
from ._ref import Ref
from ._text import said

if TYPE_CHECKING:
    from ._actor import Actor
    from ._bounds import Bounds
    from ._supervision import Supervision
    from ._system import System

__all__ = ["Family"]

K = TypeVar("K", bound=Hashable)
P = TypeVar("P")


@final
class Asleep:
    """What a ref holds of a member that may be asleep. To a ref it is a cell that has stopped, and will be renewed."""

    __slots__ = ("family", "key")

    closed = True
    failure = None
    stop_error = None

    def __init__(self, family: Family[Any, Any], key: Hashable) -> None:
        self.family = family
        self.key = key

    @property
    def system(self) -> System:
        return self.family.system

    @property
    def address(self) -> str:
        return f"{self.family.name}/{self.key}"

    @property
    def identity(self) -> Hashable:
        return self.family, self.key

    def now_active(self) -> Cell:
        return self.family.member(self.key)

    def stop(self) -> None:
        """There is nothing to end, but whoever watches is told: being asleep is nobody else's business."""
        self.system.watches.tell(cast("Cell", self))

    async def gone(self) -> None:
        """There is nothing to wait for."""

    def __repr__(self) -> str:
        return f"<{self.address} asleep>"


@final
class Family(Generic[K, P]):
    """`family[key]` is the ref of that member. The first message starts it."""

    def __init__(
        self,
        system: System,
        name: str,
        factory: Callable[[K], Actor[P]],
        idle: float,
        policy: Supervision,
        bounds: Bounds,
    ) -> None:
        if not idle > 0:
            raise ValueError(f"idle must be a number of seconds above 0, and is {idle!r}")
        check_factory(factory)
        self.name = name
        self.system = system
        self._factory = factory
        self._idle = idle
        self.policy = policy
        self._bounds = bounds
        self._cells: dict[K, Cell] = {}
        self._names: dict[str, K] = {}
        self._quarantined: dict[K, float] = {}
        self._sweeping = False
        self.stopping = False

    def __getitem__(self, key: K) -> Ref[P]:
        return Ref(self.member(key))

    def wake(self, key: K) -> Ref[P]:
        """Start that member without a message. Does not wait; raises `ActorStopped` when it is in quarantine."""
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

    def member(self, key: K) -> Cell:
        """Its live cell, or what stands for one while it is asleep."""
        return self._cells.get(key) or cast("Cell", Asleep(self, key))

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
        """Stop all members, refuse new ones, and give the name back.

        Raises `ActorFailed` when a member failed while it stopped, and `DeadlockError` when a member asks for this.
        """
        handling = handled_by_this_task()
        if handling is not None and any(cell.family is self for cell in handling.cell.lineage()):
            raise DeadlockError(
                f"{handling.cell.address} waits for the end of {self.name}, which waits for it"
            )
        errors = await self.end()
        if errors:
            raise ActorFailed(
                f"a member of {self.name} failed while it stopped: {said(errors[0])}"
            ) from errors[0]

    async def end(self) -> list[BaseException]:
        """Stop; what members failed with meanwhile."""
        self.stopping = True
        self.system.watches.family_stopped(self)
        cells = self.cells()
        for cell in cells:
            cell.stop()
        try:
            for cell in cells:
                await cell.gone()
        finally:
            self.system.forget_family(self.name)
        return [cell.stop_error for cell in cells if cell.stop_error is not None]

    def _activate(self, key: K) -> Cell:
        if self.stopping:
            raise ActorStopped(f"{self.name} has stopped")
        until = self._quarantined.get(key)
        if until is not None and trio.current_time() < until:
            raise ActorStopped(f"{self.name}/{key} failed too often and is in quarantine")
        factory: Callable[[], Actor[Any]] = partial(self._factory, key)
        cell = Cell(self.system, None, str(key), factory, self.policy, self._bounds)
        if cell.name in self._names:
            raise ValueError(f"{key!r} and {self._names[cell.name]!r} look alike: {self.name}/{cell.name}")
        cell.family, cell.key = self, key
        self._cells[key] = cell
        self._names[cell.name] = key
        cell.signalled = True  # it starts at its first turn, not inside whoever called it up
        self.system.scheduler.schedule(cell)
        self._sweep_later()
        return cell

    def _sweep_later(self) -> None:
        if not self._sweeping:
            self._sweeping = True
            self.system.timers.at(trio.current_time() + self._idle, self._sweep)

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
