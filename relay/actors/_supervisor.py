"""Groups of children that depend on each other.

A `Supervisor` starts its children in order and stops them in reverse. What happens when one fails is its strategy:

    one_for_one    that child is started again
    one_for_all    all are ended, in reverse order, and started again, in order
    rest_for_one   that child and those started after it are

A child that may not be restarted (`TEMPORARY`) ends with the others and stays away. The failures of all children count
toward one budget; when it is exhausted the supervisor itself fails, and whoever supervises it decides.

Mailboxes outlive a group restart as they do any other: what was sent meanwhile is handled afterwards.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar, TypeVarTuple, Unpack, final

import trio

from ._actor import Actor, Context
from ._bounds import Bounds
from ._errors import ActorStopped, RestartsExhausted
from ._supervision import Budget, Restart, Supervision, delay

if TYPE_CHECKING:
    from ._cell import Cell
    from ._ref import Ref

__all__ = ["AutoShutdown", "Child", "Group", "Strategy", "Supervisor"]

P = TypeVar("P")
Ts = TypeVarTuple("Ts")


class Strategy(enum.Enum):
    """Who is started again when one child fails."""

    ONE_FOR_ONE = "one_for_one"
    ONE_FOR_ALL = "one_for_all"
    REST_FOR_ONE = "rest_for_one"


class AutoShutdown(enum.Enum):
    """When a supervisor ends because significant children have ended normally."""

    NEVER = "never"
    ANY_SIGNIFICANT = "any_significant"
    ALL_SIGNIFICANT = "all_significant"


@final
class Child(Generic[P]):
    """What a supervisor starts, and the ref of what it has started."""

    def __init__(
        self,
        factory: Callable[[Unpack[Ts]], Actor[P]],
        *arguments: *Ts,
        name: str | None = None,
        restart: Restart = Restart.TRANSIENT,
        significant: bool = False,
        stop_budget: float = 5.0,
        bounds: Bounds | None = None,
    ) -> None:
        self.factory = partial(factory, *arguments)
        self.name = name or str(getattr(factory, "__name__", "child"))
        self.policy = Supervision(restart=restart, stop_budget=stop_budget)
        self.significant = significant
        self.bounds = bounds
        self._ref: Ref[P] | None = None

    @property
    def ref(self) -> Ref[P]:
        """The child. It stays the same over restarts of the child and of its group."""
        if self._ref is None:
            raise ActorStopped(f"{self.name} has not been started by a supervisor yet")
        return self._ref


class Supervising:
    """The protocol of a supervisor: it takes no messages."""


@final
class Supervisor(Actor[Supervising]):
    """Starts its children and keeps them going."""

    def __init__(
        self,
        children: Sequence[Child[Any]],
        strategy: Strategy = Strategy.ONE_FOR_ONE,
        budget: Supervision | None = None,
        auto_shutdown: AutoShutdown = AutoShutdown.NEVER,
    ) -> None:
        self._children = children
        self._strategy = strategy
        self._policy = budget or Supervision()
        self._auto_shutdown = auto_shutdown

    async def started(self, context: Context[Supervising]) -> None:
        cell = context.self_ref._cell  # noqa: SLF001 - the runtime's own
        group = Group(cell, self._strategy, self._policy, self._auto_shutdown)
        for child in self._children:
            join = partial(group.add, significant=child.significant)
            child._ref = await context.system.spawn_under(  # noqa: SLF001
                cell, child.factory, (), child.name, child.policy, child.bounds, join
            )


class Group:
    """The children of one incarnation of a supervisor."""

    def __init__(
        self, parent: Cell, strategy: Strategy, policy: Supervision, auto_shutdown: AutoShutdown
    ) -> None:
        self._parent = parent
        self._strategy = strategy
        self._policy = policy
        self._auto_shutdown = auto_shutdown
        self._budget = Budget()
        self._cells: list[Cell] = []
        self._significant: set[Cell] = set()
        self._failed: list[Cell] = []
        self._restarting = False
        self._seconds = 0.0
        self._news = trio.Event()

    def add(self, cell: Cell, *, significant: bool) -> None:
        self._cells.append(cell)
        cell.group = self
        if significant:
            self._significant.add(cell)

    def changed(self) -> None:
        """A child has started, or come to rest."""
        self._news.set()
        self._news = trio.Event()

    def failed(self, cell: Cell, error: BaseException | None) -> None:
        """A child is to be started again: it failed with `error`, or ended though it is permanent."""
        failure = self._budget.spend(error, self._policy, trio.current_time())
        if failure is None:
            exhausted = RestartsExhausted(
                f"the children of {self._parent.address} failed more than {self._policy.restarts} times "
                f"within {self._policy.within} s, {cell.address} last"
            )
            exhausted.__cause__ = error
            cell.rest_for_group()
            self._parent.fail(exhausted)
            return
        self._seconds = delay(self._policy, failure, self._parent.system.random)
        if self._strategy is Strategy.ONE_FOR_ONE:
            cell.start_in(self._seconds)
            return
        cell.rest_for_group()
        self._failed.append(cell)
        if not self._restarting and self._parent.living:
            self._restarting = True
            self._parent.take_on().start(self._restart)

    def finished(self, cell: Cell, error: BaseException | None) -> None:
        """A child has stopped for good."""
        self._cells.remove(cell)
        if cell in self._failed:
            self._failed.remove(cell)
        self.changed()
        if cell in self._significant and error is None and not cell.stopping:
            self._significant.discard(cell)
            any_counts = self._auto_shutdown is AutoShutdown.ANY_SIGNIFICANT
            all_gone = self._auto_shutdown is AutoShutdown.ALL_SIGNIFICANT and not self._significant
            if any_counts or all_gone:
                self._parent.leave()

    async def _restart(self) -> None:
        """End and start again whoever the strategy names, until all of them run."""
        try:
            while self._failed:
                affected = self._affected()
                self._failed.clear()
                await self._end(affected)
                await trio.sleep(self._seconds)
                await self._start(affected)
        finally:
            self._restarting = False

    def _affected(self) -> list[Cell]:
        if self._strategy is Strategy.ONE_FOR_ALL:
            return list(self._cells)
        first = min(self._cells.index(cell) for cell in self._failed)
        return self._cells[first:]

    async def _end(self, cells: Sequence[Cell]) -> None:
        for cell in reversed(cells):
            if cell.policy.restart is Restart.TEMPORARY:
                cell.stop()
                await cell.gone()
                continue
            cell.pause()
            while not cell.resting and not cell.closed:
                await self._news.wait()

    async def _start(self, cells: Sequence[Cell]) -> None:
        for cell in cells:
            if cell.closed:
                continue
            cell.start()
            while cell.starting:
                await self._news.wait()
            if self._failed:
                return
