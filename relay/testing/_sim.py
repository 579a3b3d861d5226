"""One simulated run, as the scenario sees it: its choices, its faults, and what must hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any

import attrs
import trio

from relay.actors import describe, virtual_wall
from relay.actors._cell import State
from relay.actors._hooks import simulation
from relay.actors._reply import message_of

from ._scheduler import SimulatedScheduler
from ._trio import interrupt

if TYPE_CHECKING:
    from trio.lowlevel import Task

    from relay.actors import Ref, System, Tell
    from relay.actors._cell import Cell
    from relay.actors._scheduler import Scheduler

    from ._choices import Choices

__all__ = [
    "Abandoned",
    "Faults",
    "InjectedFault",
    "PropertyViolated",
    "Sim",
    "SimulationStalled",
    "Unreliable",
]

MOST_STEPS = 500_000  # of tasks, in one run
LAST_STEPS = 1_000  # of them, those that are looked at to see who does not come to an end
GRACE = 20_000  # steps for winding up, before tasks are interrupted where they stand


class PropertyViolated(AssertionError):
    """Something that must always hold, or must hold in the end, does not."""


class SimulationStalled(AssertionError):
    """The scenario waits for something that can never happen, or never comes to an end."""


class Abandoned(BaseException):
    """Ends the tasks of a run that does not end by being cancelled: shielded ones, and those whose time stands still."""


class InjectedFault(Exception):
    """What a simulated crash is made of."""


def _probable(_: object, attribute: attrs.Attribute[float], value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{attribute.name} is a probability, from 0 to 1, not {value}")


def _all_probable(_: object, attribute: attrs.Attribute[dict[str, float]], value: dict[str, float]) -> None:
    for name, probability in value.items():
        if not 0 <= probability <= 1:
            raise ValueError(f"{attribute.name}[{name!r}] is a probability, from 0 to 1, not {probability}")


@attrs.frozen(kw_only=True)
class Faults:
    """What goes wrong, and how often: probabilities, from 0 to 1.

    `crash`: an actor fails, before a message and again after it. `delay`: an actor is kept from a turn, up to `longest`
    seconds. `lose`, `duplicate`: what becomes of a message over `Sim.unreliable`. `named`: the faults that code asks for
    by name with `System.fault`, such as `{"store.commit": 0.05}`. At most `most` faults happen in one run. Only actors
    whose address fits one of the patterns `only` crash and are delayed. Raises `ValueError` for what is no probability.
    """

    crash: float = attrs.field(default=0.0, validator=_probable)
    delay: float = attrs.field(default=0.0, validator=_probable)
    longest: float = 10.0
    lose: float = attrs.field(default=0.0, validator=_probable)
    duplicate: float = attrs.field(default=0.0, validator=_probable)
    named: dict[str, float] = attrs.field(factory=dict, validator=_all_probable)
    most: int = 5
    only: tuple[str, ...] = ("*",)


class Sim:
    """The first argument of a simulated scenario."""

    def __init__(self, choices: Choices, faults: Faults, seed: int, most: int = MOST_STEPS) -> None:
        self._choices = choices
        self._faults = faults
        self._seed = seed
        self._happened = 0
        self._always: list[tuple[str, Callable[[], bool]]] = []
        self._sometimes: list[tuple[str, Callable[[], bool]]] = []
        self._eventually: list[tuple[str, Callable[[], bool], float]] = []
        self._wall_offset = 0.0
        self._wall = virtual_wall()
        self._opened: list[System] = []
        self._most = most
        self._last: Counter[str] = Counter()
        self.steps = 0
        self.task_steps = 0
        self.seen: set[str] = set()
        self.log: list[str] = []
        self.failed: BaseException | None = None
        self.scope = trio.CancelScope()

    # -- properties

    def always(self, holds: Callable[[], bool], name: str = "") -> None:
        """`holds()` must be true after every step."""
        self._always.append((name or _name(holds), holds))

    def sometimes(self, happens: Callable[[], bool], name: str = "") -> None:
        """`happens()` must be true after some step of some run, or the runs have not shown what they are for."""
        self._sometimes.append((name or _name(happens), happens))

    def eventually(self, holds: Callable[[], bool], within: float, name: str = "") -> None:
        """`holds()` must become true within so many seconds without faults, once the block of a system is left (its
        actors live on for that time), or else after the scenario."""
        self._eventually.append((name or _name(holds), holds, within))

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

    def unreliable(self, ref: Ref[Any]) -> Unreliable:
        """The way to `ref` over a network that loses and repeats messages, as `Faults` says."""
        return Unreliable(self, ref)

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
        return self._happens(self._faults.named.get(name, 0.0))

    def loses(self) -> bool:
        return self._happens(self._faults.lose)

    def duplicates(self) -> bool:
        return self._happens(self._faults.duplicate)

    def crashes(self, cell: Cell) -> bool:
        """Whether the actor fails now."""
        if self._faults.crash <= 0 or cell.state is not State.RUNNING:
            return False
        return self._concerned(cell) and self._happens(self._faults.crash)

    def delays(self, cell: Cell) -> float:
        """How long the actor is kept from its turn, in seconds."""
        if self._faults.delay <= 0 or not self._concerned(cell) or not self._happens(self._faults.delay):
            return 0.0
        return self._faults.longest * (1 + self.choose(4)) / 4

    def fault_error(self, cell: Cell) -> InjectedFault:
        return InjectedFault(f"{cell.address} crashes, says the simulation")

    def step(self, cell: Cell) -> None:
        """An actor is about to take a turn."""
        message = type(message_of(next(iter(cell.queue)))).__name__ if cell.queue else "-"
        self.log.append(f"{trio.current_time():.6f} {cell.address} {message}")
        self.steps += 1

    def tasks(self, batch: Sequence[Task]) -> None:
        """These tasks are about to take a step each. Time may stand still meanwhile, and no actor be concerned."""
        self.task_steps += len(batch)
        left = self._most - self.task_steps
        if left > LAST_STEPS:
            return
        self._last.update(task.name for task in batch)
        if left > 0:
            return
        if self.failed is None:
            self.fail(SimulationStalled(self._who_spins()))
        if left < -GRACE:
            for task in batch:
                if task.context.get(simulation) is self:
                    interrupt(task, Abandoned(f"no end {GRACE} steps after the run was to end"))

    def check(self) -> None:
        """What must always hold, now."""
        for name, holds in self._always:
            if not holds():
                self.fail(PropertyViolated(f"always: {name}"))
        for name, happens in self._sometimes:
            if name not in self.seen and happens():
                self.seen.add(name)

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
        if self.failed is not None:
            return
        awaited, self._eventually = self._eventually, []
        faults, self._faults = self._faults, Faults() if awaited else self._faults
        for name, holds, within in awaited:
            with trio.move_on_after(within):
                while not holds():
                    await trio.sleep(within / 100)
            if not holds():
                self.fail(PropertyViolated(f"eventually: {name}, within {within:g} s"))
        self._faults = faults

    async def finish(self) -> None:
        """The scenario is over."""
        await self.leaving()
        self._faults = Faults()
        self.check()

    @property
    def expected(self) -> set[str]:
        """The names of what should happen sometimes."""
        return {name for name, _ in self._sometimes}

    def _who_spins(self) -> str:
        often = ", ".join(f"{name} {number}" for name, number in self._last.most_common(5))
        step = f"; the last of an actor was {self.log[-1]}" if self.log else ""
        return (
            f"no end after {self._most} steps of tasks, at {trio.current_time():.6f} s{step}\n"
            f"  of the last {self._last.total()}: {often}\n{self._actors()}"
        )

    def _actors(self) -> str:
        return "\n".join(describe(system.snapshot(), "  ") for system in self._opened)

    def _happens(self, probability: float) -> bool:
        if probability <= 0 or self._happened >= self._faults.most or not self._choices.chance(probability):
            return False
        self._happened += 1
        return True

    def _concerned(self, cell: Cell) -> bool:
        return any(fnmatch(cell.address, pattern) for pattern in self._faults.only)


class Unreliable:
    """A ref behind a bad network. Only telling goes over it: whoever needs an answer has to be asked again."""

    def __init__(self, sim: Sim, ref: Ref[Any]) -> None:
        self._sim = sim
        self._ref = ref

    def tell(self, message: Tell[Any]) -> None:
        """As `Ref.tell`, if the network will."""
        if self._sim.loses():
            return
        self._ref.tell(message)
        if self._sim.duplicates():
            self._ref.tell(message)


def _name(predicate: Callable[[], bool]) -> str:
    code = getattr(predicate, "__code__", None)
    where = f" (line {code.co_firstlineno})" if code is not None else ""
    return f"{getattr(predicate, '__name__', repr(predicate))}{where}"
