"""Groups of children that depend on each other.

A `Supervisor` starts its children in order and stops them in reverse. What happens when one fails is its strategy:

    one_for_one    that child is started again
    one_for_all    all are ended, in reverse order, and started again, in order
    rest_for_one   that child and those started after it are

A child that may not be restarted (`TEMPORARY`) ends with the others and stays away. The failures of all children count
toward one budget; when it is exhausted the supervisor itself fails, and whoever supervises it decides. A child that was
given its own `Supervision` has a budget of its own: when that is exhausted it alone is stopped, and published as
`Quarantined`, and the others live. So it is with pools of children that have nothing to do with each other.

What fails while the supervisor is still starting its children is started again when it has started them all.

Mailboxes outlive a group restart as they do any other: what was sent meanwhile is handled afterwards.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Generic, TypeVar, TypeVarTuple, Unpack, final

import trio

from ._actor import Actor, Context
from ._bounds import Bounds
from ._errors import ActorStopped
from ._supervision import Budget, Restart, Supervision, exhausted

if TYPE_CHECKING:
    from ._cell import Cell
    from ._ref import Ref

__all__ = ["AutoShutdown", "Child", "Group", "Strategy", "Supervisor"]

DEFAULT = Supervision()

P = TypeVar("P")
Ts = TypeVarTuple("Ts")


class Strategy(enum.Enum):
    """Who is started again when one child fails."""

    ONE_FOR_ONE = "one_for_one"
    ONE_FOR_ALL = "one_for_all"
    REST_FOR_ONE = "rest_for_one"


class AutoShutdown(enum.Enum):
    """When a supervisor ends because significant children have ended: by themselves, and for good.

    A stop from outside ends no supervisor; an end that is followed by a restart does not count.
    """

    NEVER = "never"
    ANY_SIGNIFICANT = "any_significant"
    ALL_SIGNIFICANT = "all_significant"


@final
class Child(Generic[P]):
    """What a supervisor starts, and the ref of what it has started.

    With `supervision` it has a budget of its own, and `restart` and `stop_budget` stand there.
    """

    def __init__(
        self,
        factory: Callable[[Unpack[Ts]], Actor[P]],
        *arguments: *Ts,
        name: str | None = None,
        restart: Restart | None = None,
        significant: bool = False,
        stop_budget: float | None = None,
        bounds: Bounds | None = None,
        supervision: Supervision | None = None,
    ) -> None:
        _check_made(factory)
        _check("bounds", bounds, Bounds, optional=True)
        _check("supervision", supervision, Supervision, optional=True)
        if supervision is not None and not (restart is None and stop_budget is None):
            raise ValueError("give restart and stop_budget to the Supervision of this child, not beside it")
        self.factory = partial(factory, *arguments)
        self.name = name or str(getattr(factory, "__name__", "child"))
        self.policy = supervision or Supervision(
            restart=Restart.TRANSIENT if restart is None else restart,
            stop_budget=DEFAULT.stop_budget if stop_budget is None else stop_budget,
        )
        self.quarantines = supervision is not None
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
    """Starts its children and keeps them going.

    Of `budget` count how many failures are forgiven within what time, and the delays of restarts; `restart` and
    `stop_budget` are each child's own, and refused here.
    """

    def __init__(
        self,
        children: Sequence[Child[Any]],
        strategy: Strategy = Strategy.ONE_FOR_ONE,
        budget: Supervision | None = None,
        auto_shutdown: AutoShutdown = AutoShutdown.NEVER,
    ) -> None:
        for child in children:
            _check("every child", child, Child)
        _check("strategy", strategy, Strategy)
        _check("budget", budget, Supervision, optional=True)
        _check("auto_shutdown", auto_shutdown, AutoShutdown)
        if budget is not None and (
            budget.restart is not DEFAULT.restart or budget.stop_budget != DEFAULT.stop_budget
        ):
            raise ValueError("restart and stop_budget are each child's own: give them to Child(...)")
        self._children = children
        self._strategy = strategy
        self._policy = budget or DEFAULT
        self._auto_shutdown = auto_shutdown

    async def started(self, context: Context[Supervising]) -> None:
        cell = context.self_ref._cell  # noqa: SLF001 - the runtime's own
        group = Group(cell, self._strategy, self._policy, self._auto_shutdown)
        for child in self._children:
            join = partial(group.add, significant=child.significant, quarantines=child.quarantines)
            child._ref = await context.system.spawn_under(  # noqa: SLF001
                cell, child.factory, (), child.name, child.policy, child.bounds, join
            )
        group.complete()


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
        self._own_budgets: dict[Cell, Budget] = {}
        self._cells: list[Cell] = []
        self._significant: set[Cell] = set()
        self._failed: list[Cell] = []
        self._whole = False
        self._restarting = False
        self._seconds = 0.0
        self._news = trio.Event()

    def add(self, cell: Cell, *, significant: bool, quarantines: bool) -> None:
        self._cells.append(cell)
        cell.group = self
        if significant:
            self._significant.add(cell)
        if quarantines:
            self._own_budgets[cell] = Budget()

    def complete(self) -> None:
        """All children have been started once."""
        self._whole = True
        self._restart_soon()

    def changed(self) -> None:
        """A child has started, or come to rest."""
        self._news.set()
        self._news = trio.Event()

    def failed(self, cell: Cell, error: BaseException | None) -> None:
        """A child is to be started again: it failed with `error`, or ended though it is permanent."""
        own = self._own_budgets.get(cell)
        policy = self._policy if own is None else cell.policy
        now, random = trio.current_time(), self._parent.system.random
        seconds = (own or self._budget).spend(error, policy, now, random)
        if seconds is None:
            self._give_up(cell, error)
        elif self._strategy is Strategy.ONE_FOR_ONE:
            cell.start_in(seconds)
        else:
            self._seconds = seconds
            cell.rest_for_group()
            self._failed.append(cell)
            self._restart_soon()

    def _give_up(self, cell: Cell, error: BaseException | None) -> None:
        """There were too many failures: of this one, or of all."""
        if cell in self._own_budgets:
            cell.give_up(error)
            return
        children = f"the children of {self._parent.address}, {cell.address} last,"
        cell.rest_for_group()
        self._parent.fail(exhausted(children, self._policy, error))

    def finished(self, cell: Cell) -> None:
        """A child has stopped for good."""
        self._cells.remove(cell)
        if cell in self._failed:
            self._failed.remove(cell)
        self.changed()
        if cell in self._significant:
            self._significant.discard(cell)
            if not cell.stopping and self._purpose_gone():
                self._parent.leave()

    def _purpose_gone(self) -> bool:
        """Whether the end of a significant child ends the supervisor."""
        if self._auto_shutdown is AutoShutdown.ALL_SIGNIFICANT:
            return not self._significant
        return self._auto_shutdown is AutoShutdown.ANY_SIGNIFICANT

    def _restart_soon(self) -> None:
        if self._failed and self._whole and not self._restarting and self._parent.living:
            self._restarting = True
            self._parent.take_on().start(self._restart)

    async def _restart(self) -> None:
        """End and start again whoever the strategy names, until all of them run."""
        try:
            while self._failed:
                affected = self._affected()
                await self._end(affected)
                self._failed = [cell for cell in self._failed if cell not in affected]
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
            await self._decided(before=cell)
            if self._failed:
                return  # whom this one may depend on is down
            if not cell.closed:
                cell.start()
        await self._decided()

    async def _decided(self, before: Cell | None = None) -> None:
        """Wait until nobody before that one is starting or ending."""
        while any(cell.starting for cell in takewhile(lambda cell: cell is not before, self._cells)):
            await self._news.wait()


def _check_made(factory: object) -> None:
    if isinstance(factory, Actor):
        kind = type(factory).__name__
        raise TypeError(f"{kind}() is an actor: give the class and its arguments: Child({kind}, ...)")
    if not callable(factory):
        raise TypeError(f"what makes a child must be callable, such as its class, and is {factory!r}")


def _check(what: str, value: object, kind: type, *, optional: bool = False) -> None:
    if not (isinstance(value, kind) or (optional and value is None)):
        raise TypeError(f"{what} must be a {kind.__name__}, and is {value!r}")
