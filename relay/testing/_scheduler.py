"""The run queue of a simulated system: one message at a time, to whom the simulation says, with the faults it wants."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

from trio.lowlevel import checkpoint, enable_ki_protection

from relay.actors._scheduler import Scheduler

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from relay.actors._cell import Cell

    from ._sim import Sim

__all__ = ["SimulatedScheduler"]


class SimulatedScheduler(Scheduler):
    """Takes every decision from a simulation."""

    def __init__(self, sim: Sim) -> None:
        super().__init__()
        self._sim = sim

    @property
    def inline(self) -> bool:
        """Whether the next ask of an idle actor is answered in the asker's task."""
        return not self._sim.choose(2)

    @inline.setter
    def inline(self, value: bool) -> None: ...

    @property
    def hold(self) -> float:  # type: ignore[override]
        """Whether a burst gives way after its next message; how long that really takes must not matter."""
        return -inf if self._sim.choose(2) else inf

    def breathe(self) -> bool:
        return super().breathe() or bool(self._sim.choose(2))

    @enable_ki_protection
    async def run(self) -> None:
        while True:
            if not self._ready and not self._bulk:
                await self._park()
            cell = self._next()
            if not self._delayed(cell):
                coroutine = self.turn(cell, 1)
                if coroutine is not None:
                    self._start_burst(cell, coroutine)
            if not self._sim.choose(2):
                await checkpoint()

    def turn(self, cell: Cell, budget: int = 1) -> Coroutine[Any, Any, None] | None:
        """One step of one actor, with what goes wrong before and after it."""
        self._sim.step(cell)
        if self._sim.crashes(cell):
            cell.fail(self._sim.fault_error(cell))
        coroutine = super().turn(cell, budget)
        if coroutine is None and self._sim.crashes(cell):
            cell.fail(self._sim.fault_error(cell))
        self._sim.properties.check()
        return coroutine

    def _next(self) -> Cell:
        waiting = [*self._ready, *self._bulk]
        cell = waiting[self._sim.pick([one.address for one in waiting])]
        (self._ready if cell in self._ready else self._bulk).remove(cell)
        return cell

    def _delayed(self, cell: Cell) -> bool:
        """Keep the cell from its turn for a while, if the simulation says so. It stays occupied."""
        seconds = self._sim.delays(cell)
        if not seconds:
            return False
        system = cell.system
        self.begin()
        system.timers.at(system.now() + seconds, lambda: self._back(cell))
        return True

    def _back(self, cell: Cell) -> None:
        self._ready.append(cell)
        self._wake()
        self.finish()
