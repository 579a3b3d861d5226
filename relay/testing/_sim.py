"""One simulated run, as the scenario sees it: its choices, its faults, and what must hold."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import trio

from relay.actors import describe, virtual_wall
from relay.actors._cell import State
from relay.actors._hooks import simulation
from relay.actors._reply import message_of

from ._failures import ActorsFailed
from ._faults import Faults, InjectedFault, Misfortune
from ._network import Unreliable
from ._properties import Properties
from ._scheduler import SimulatedScheduler
from ._trio import interrupt

if TYPE_CHECKING:
    from trio.lowlevel import Task

    from relay.actors import Ref, System
    from relay.actors._cell import Cell
    from relay.actors._scheduler import Scheduler

    from ._choices import Choices

__all__ = ["MOST_STEPS", "Abandoned", "Sim", "SimulationStalled"]

MOST_STEPS = 500_000  # of tasks and of actors, in one run
LAST_STEPS = 1_000  # of them, those that are looked at to see who does not come to an end
GRACE = 20_000  # steps for winding up, before tasks are interrupted where they stand

ADDRESS = re.compile(r"0x[0-9a-fA-F]+|id='?\d+")
"""What the same object is not called in another run."""

P = TypeVar("P")


class SimulationStalled(AssertionError):
    """The scenario waits for something that can never happen, or never comes to an end."""


class Abandoned(BaseException):
    """Ends the tasks of a run that does not end by being cancelled: shielded ones, and those whose time stands still."""


class Sim:
    """The first argument of a simulated scenario."""

    def __init__(
        self,
        choices: Choices,
        faults: Faults,
        seed: int,
        *,
        most: int = MOST_STEPS,
        exposure: float = 0.0,
        close: bool = False,
        keeps_failures: bool = False,
    ) -> None:
        self._choices = choices
        self._seed = seed
        self._wall_offset = 0.0
        self._wall = virtual_wall()
        self._opened: list[System] = []
        self._most = most
        self._last: Counter[str] = Counter()
        self._close = close
        self._keeps_failures = keeps_failures
        self.misfortune = Misfortune(choices, faults, exposure)
        self.properties = Properties(self.fail)
        self.steps = 0
        self.task_steps = 0
        self.endless = False
        self.log: list[str] = []
        self.said: list[str] = []
        self.failed: BaseException | None = None
        self.scope = trio.CancelScope()

    # -- properties

    def always(self, holds: Callable[[], bool], name: str = "") -> None:
        """`holds()` must be true after every step, of an actor or of a task."""
        self.properties.always(holds, name)

    def sometimes(self, happens: Callable[[], bool], name: str = "") -> None:
        """`happens()` must be true after some step of some run, or the runs have not shown what they are for."""
        self.properties.sometimes(happens, name)

    def eventually(self, holds: Callable[[], bool], within: float, name: str = "") -> None:
        """`holds()` must become true within so many seconds without faults, once the block of a system is left (its
        actors live on for that time), or else after the scenario."""
        self.properties.eventually(holds, within, name)

    # -- choices

    def choose(self, number: int) -> int:
        """One of `range(number)`; 0 is the tame one."""
        return self._choices.choose(number)

    def pick(self, keys: list[Any]) -> int:
        """The index of whose turn it is."""
        return self._choices.pick(keys)

    async def pause(self, longest: float) -> None:
        """Whoever calls it is held up, perhaps: nothing, or up to `longest` seconds. For paused holders of leases."""
        await trio.sleep(longest * self.choose(5) / 4)

    def jump_wall(self, seconds: float) -> None:
        """Set the wall clock forward or back. Durations are not concerned."""
        self._wall_offset += seconds

    def unreliable(self, ref: Ref[P]) -> Unreliable[P]:
        """The way to `ref` over a network that loses, delays and repeats messages, as `Faults` says."""
        return Unreliable(self.misfortune, ref)

    # -- for the runtime

    def scheduler(self) -> Scheduler:
        return SimulatedScheduler(self)

    def opened(self, system: System) -> None:
        self._opened.append(system)

    def seed(self) -> int:
        return self._seed + len(self._opened)

    def wall(self) -> float:
        return self._wall() + self._wall_offset

    def fault(self, name: str) -> bool:
        return self.misfortune.named(name)

    def crashes(self, cell: Cell) -> bool:
        """Whether the actor fails now."""
        return cell.state is State.RUNNING and self.misfortune.crashes(cell.address)

    def delays(self, cell: Cell) -> float:
        """How long the actor is kept from its turn, in seconds."""
        return self.misfortune.delays(cell.address)

    def fault_error(self, cell: Cell) -> InjectedFault:
        return InjectedFault(f"{cell.address} crashes, says the simulation")

    # -- steps

    def step(self, cell: Cell) -> None:
        """An actor is about to take a turn."""
        message = message_of(next(iter(cell.queue))) if cell.queue else None
        kind = type(message).__name__ if cell.queue else "-"
        self.log.append(f"{trio.current_time():.6f} {cell.address} {kind}")
        if self._close:
            self.said.append(
                f"{trio.current_time():.6f} {cell.address} {_repr(message) if cell.queue else '-'}"
            )
        self.steps += 1
        self._spend(cell.address)

    def tasks(self, batch: Sequence[Task]) -> None:
        """These tasks are about to take a step each. Time may stand still meanwhile, and no actor be concerned."""
        self.task_steps += len(batch)
        left = self._spend(*(task.name for task in batch))
        if left < -GRACE:
            for task in batch:
                if task.context.get(simulation) is self:
                    interrupt(task, Abandoned(f"no end {GRACE} steps after the run was to end"))

    def _spend(self, *names: str) -> int:
        """Who took how many steps; how many are left."""
        left = self._most - self.steps - self.task_steps
        if left <= LAST_STEPS:
            self._last.update(names)
        if left <= 0 and not self.endless:
            self.endless = True
            self.fail(SimulationStalled(self._who_spins()))
        return left

    def fail(self, error: BaseException) -> None:
        """End the run with `error`, wherever it was noticed."""
        if self.failed is None:
            self.failed = error
            self.scope.cancel()

    async def watch_over(self, limit: float) -> None:
        """End the run when nothing but this happens any more."""
        await trio.sleep(limit)
        self.fail(
            SimulationStalled(f"everybody waits, and nothing has ended it for {limit:g} s\n{self._actors()}")
        )

    async def leaving(self) -> None:
        """A system is about to drain: what must hold in the end gets its time, without faults."""
        if self.failed is None and self.properties.pending:
            self.misfortune.calm = True
            await self.properties.come_true()
            self.misfortune.calm = False

    async def finish(self) -> None:
        """The scenario is over."""
        await self.leaving()
        self.properties.end()
        failures = [failed for system in self._opened for failed in system.failures]
        real = [failed for failed in failures if not self.misfortune.caused(failed.error)]
        if real and not self._keeps_failures:
            self.fail(ActorsFailed.of(real))

    def _who_spins(self) -> str:
        often = ", ".join(f"{name} {number}" for name, number in self._last.most_common(5))
        step = f"; the last of an actor was {self.log[-1]}" if self.log else ""
        return (
            f"no end after {self._most} steps, at {trio.current_time():.6f} s{step}\n"
            f"  of the last {self._last.total()}: {often}\n{self._actors()}"
        )

    def _actors(self) -> str:
        return "\n".join(describe(system.snapshot(), "  ") for system in self._opened)


def _repr(message: object) -> str:
    """What another run of the same choices must say, too."""
    try:
        return ADDRESS.sub("...", repr(message))
    except Exception:  # noqa: BLE001 - the message's own
        return type(message).__name__
