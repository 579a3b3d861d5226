"""The system: the block that owns every actor started in it.

`async with open_system() as system:` is a service nursery. Leaving the block normally lets the actors finish what
is queued (within `drain` seconds), and what is piped to become a message, then stops them in reverse order of their
start. Leaving it by an exception, or because it is cancelled, stops them at once. Nothing outlives the block. The
actors run shielded from cancellation of the block, so they are always stopped in order, within their budgets.

A failure that no supervisor forgives cancels the block and is raised from it, in an `ExceptionGroup`, with what the
block itself raised. `KeyboardInterrupt` comes out bare, wherever it hit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from contextvars import copy_context
from functools import partial
from threading import get_ident
from typing import Any, TypeVar, TypeVarTuple, Unpack, final

import attrs
import trio

from ._actor import Actor, check_function
from ._bounds import Bounds
from ._cancelled import split
from ._cell import Cell
from ._clock import Source
from ._errors import ActorFailed, ActorStopped, DeadlockError, StopOverran
from ._family import Family
from ._handling import handled_by_this_task
from ._hooks import simulation
from ._ref import Ref
from ._reply import Reply
from ._scheduler import Scheduler
from ._snapshot import ActorInfo, dumped_on, look, unfinished
from ._stream import (
    DeadLetter,
    Failed,
    Listener,
    Overflowed,
    Quarantined,
    Started,
    Stopped,
    Stream,
    SystemEvent,
)
from ._supervision import Supervision
from ._text import said, shown
from ._timers import Timers
from ._watches import Watches

__all__ = ["Fates", "System", "open_system"]

REMEMBERED = 1000

K = TypeVar("K", bound=Hashable)
P = TypeVar("P")
V = TypeVar("V")
Ts = TypeVarTuple("Ts")


@attrs.define
class Fates:
    """How many accepted messages met which fate. One at which its actor failed counts as handled.

    A message of a timer or a watch counts when it is handled; one that was withdrawn before was none.
    """

    handled: int = 0
    expired: int = 0
    abandoned: int = 0
    superseded: int = 0
    undelivered: int = 0

    def supersede(self) -> None:
        """A queued message was replaced by a newer one of its key."""
        self.superseded += 1


@final
class System:
    """Made by `open_system`. Spawns actors and keeps time, ids and chance for them."""

    def __init__(
        self, wall: Callable[[], float] | None, seed: int | None, *, inline: bool, drain: float
    ) -> None:
        self.simulation = simulated = simulation.get()
        self.scheduler = Scheduler(inline=inline) if simulated is None else simulated.scheduler()
        self.timers = Timers()
        self.fates = Fates()
        self.watches = Watches()
        self.dead_letters: deque[DeadLetter] = deque(maxlen=REMEMBERED)
        self.failures: deque[Failed] = deque(maxlen=REMEMBERED)
        self._stream = Stream(self.fail)
        self.nursery: trio.Nursery
        self.thread = get_ident()
        self.context = copy_context()
        if simulated is not None:
            simulated.opened(self)
            wall, seed = wall or simulated.wall, simulated.seed() if seed is None else seed
        self._source = Source(wall, seed)
        self._drain = drain
        self._body: trio.CancelScope | None = None
        self._fatal: list[BaseException] = []
        self._ended = trio.Event()
        self._draining = trio.CancelScope()
        self._roots: dict[str, Cell | Family[Any, Any]] = {}
        self._served = 0
        self._closed = False
        self.random = self._source.random
        self.new_id = self._source.new_id

    def now(self) -> float:
        """Seconds on trio's clock: for durations and deadlines."""
        return trio.current_time()

    def wall(self) -> float:
        """Seconds since 1970: for records, never for durations."""
        return self._source.wall()

    def fault(self, name: str) -> bool:
        """Whether a simulation wants the named thing to go wrong this time; never without one."""
        return self.simulation is not None and self.simulation.fault(name)

    async def spawn(
        self,
        factory: Callable[[Unpack[Ts]], Actor[P]],
        *arguments: *Ts,
        name: str | None = None,
        supervision: Supervision | None = None,
        bounds: Bounds | None = None,
    ) -> Ref[P]:
        """Start an actor. Returns once its `started` hook is done, and raises what the start raises.

        Raises `ValueError` if there is an actor of that name, `TypeError` if its handler misses a message of its
        protocol, `ActorStopped` when the block is being left.
        """
        return await self.spawn_under(None, factory, arguments, name, supervision, bounds)

    def family(
        self,
        factory: Callable[[K], Actor[P]],
        *,
        name: str | None = None,
        idle: float = 60.0,
        supervision: Supervision | None = None,
        bounds: Bounds | None = None,
    ) -> Family[K, P]:
        """Actors by key, started on demand and passivated after `idle` seconds without a message."""
        self._check_open()
        check_function("family", factory)
        if not idle > 0:
            raise ValueError(
                f"idle is {idle}, and should be a number of seconds above 0; math.inf is for ever"
            )
        name = self._free(name, factory, self._roots)
        family = Family(self, name, factory, idle, _given(supervision, Supervision), _given(bounds, Bounds))
        self._roots[name] = family
        return family

    async def stop(self, ref: Ref[Any]) -> None:
        """Stop an actor. Returns once its children, its tasks and its `stopped` hook are done.

        Raises `ActorFailed` when it failed while it stopped, and `DeadlockError` when it is the very one that asks for
        this, or above that one: `context.stop()` does not wait.
        """
        cell = ref._cell.now_active()  # noqa: SLF001 - the runtime's own
        handling = handled_by_this_task()
        if handling is not None and cell in handling.cell.lineage():
            raise DeadlockError(
                f"{handling.cell.address} waits for the end of {cell.address}, which waits for it"
            )
        cell.stop()
        await trio.lowlevel.checkpoint()
        await cell.gone()
        error = cell.stop_error
        if error is not None:
            raise ActorFailed(f"{cell.address} failed while it stopped: {said(error)}") from error

    def snapshot(self) -> list[ActorInfo]:
        """Every actor at this moment: single ones with their children, then the active members of families."""
        roots = list(self._roots.values())
        cells = [root for root in roots if isinstance(root, Cell)]
        members = [cell for root in roots if isinstance(root, Family) for cell in root.cells()]
        return [look(cell) for cell in [*cells, *members]]

    def listen(self, limit: int = REMEMBERED) -> AbstractContextManager[Listener]:
        """What happens from now on: `with system.listen() as events: async for event in events: ...`."""
        return self._stream.listen(limit)

    def on_event(self, listener: Callable[[SystemEvent], None]) -> AbstractContextManager[None]:
        """Within the `with` block `listener` is called with whatever happens. It must neither block nor raise."""
        return self._stream.call(listener)

    async def idle(self) -> None:
        """Wait until no message is queued or being handled. Timers and background tasks do not count."""
        await self.scheduler.idle()

    # -- for the runtime's own parts

    async def spawn_under(
        self,
        parent: Cell | None,
        factory: Callable[..., Actor[P]],
        arguments: tuple[Any, ...],
        name: str | None,
        supervision: Supervision | None,
        bounds: Bounds | None,
        join: Callable[[Cell], None] | None = None,
    ) -> Ref[P]:
        self._check_open()
        check_function("spawn", factory)
        siblings: dict[str, Any] = self._roots
        if parent is not None:
            if parent.closed:
                raise ActorStopped(f"{parent.address} has stopped, and starts no more children")
            siblings = parent.children = parent.children if parent.children is not None else {}
        name = self._free(name, factory, siblings)
        made = partial(factory, *arguments)
        cell = Cell(self, parent, name, made, _given(supervision, Supervision), _given(bounds, Bounds))
        siblings[name] = cell
        cell.start_report = report = Reply[None]()
        if join is not None:
            join(cell)  # before it can fail
        self.scheduler.context.run(cell.start)
        handling = handled_by_this_task()
        try:
            await trio.lowlevel.checkpoint()
            with nullcontext() if handling is None else handling.waiting_for(cell):
                await report.wait()
        except BaseException:
            cell.stop()
            raise
        return Ref(cell)

    def start_task(
        self, function: Callable[[Unpack[Ts]], Awaitable[object]], *arguments: *Ts, name: str
    ) -> None:
        """Run a task of the runtime's, in the context of `open_system`, whoever asks for it."""
        self.context.run(partial(self.nursery.start_soon, function, *arguments, name=name))

    def forget(self, cell: Cell) -> None:
        if cell.family is not None:
            cell.family.forget(cell)
        elif cell.parent is not None:
            assert cell.parent.children is not None
            del cell.parent.children[cell.name]
        else:
            del self._roots[cell.name]
        if cell.stopping or not cell.passive:
            self._stream.publish(Stopped(cell.address, cell.failure))
            self.watches.tell(cell)

    def quarantined(self, cell: Cell) -> None:
        assert cell.failure is not None
        self._stream.publish(Quarantined(cell.address, cell.failure))

    def forget_family(self, name: str) -> None:
        self._roots.pop(name, None)

    def bury(self, message: object, address: str, reason: str) -> None:
        self.fates.undelivered += 1
        letter = DeadLetter(message, address, reason)
        self.dead_letters.append(letter)
        self._stream.publish(letter)

    def note(self, error: BaseException, address: str) -> None:
        """Keep a failure on record; who deals with it is decided elsewhere."""
        failed = Failed(address, error)
        self.failures.append(failed)
        self._stream.publish(failed)

    def overflowed(self, address: str, capacity: int) -> None:
        self._stream.publish(Overflowed(address, capacity))

    def started(self, cell: Cell) -> None:
        if self._stream.listeners:
            self._stream.publish(Started(cell.address, cell.incarnation))

    def fail(self, error: BaseException) -> None:
        """A failure nobody forgave: end the block."""
        self._fatal.append(error)
        if self._body is not None:
            self._body.cancel()

    def _check_open(self) -> None:
        if self._closed:
            raise ActorStopped("the system has stopped, and starts no more actors")

    def _free(self, name: str | None, factory: object, siblings: dict[str, Any]) -> str:
        """The name of a new actor: the given one, or one made from the factory's."""
        if name is not None:
            _check_name(name)
            if name in siblings:
                raise ValueError(f"the name {name!r} is taken; stop its actor first, or choose another")
            return name
        made = first = str(getattr(factory, "__name__", "actor"))
        while made in siblings:
            self._served += 1
            made = f"{first}-{self._served}"
        return made

    async def _serve(self, task_status: trio.TaskStatus[None]) -> None:
        try:
            with trio.CancelScope(shield=True):
                async with trio.open_nursery() as nursery:
                    self.nursery = nursery
                    nursery.start_soon(self.timers.run)
                    nursery.start_soon(self.scheduler.run)
                    task_status.started()
        finally:
            self._ended.set()

    async def _shut(self, *, drain: bool) -> None:
        """Have everybody stopped, and wait for it. Ctrl-C ends the draining; once more, and nobody is waited for."""
        interrupted: KeyboardInterrupt | None = None
        with trio.CancelScope(shield=True):
            if drain and self.simulation is not None:
                await self.simulation.leaving()
            if not self._ended.is_set():
                self.start_task(self._stop_all, drain, name="stop all actors")
            while not self._ended.is_set():
                try:
                    await self._ended.wait()
                except KeyboardInterrupt as error:
                    if interrupted is not None:
                        self.nursery.cancel_scope.cancel(reason="Ctrl-C came a second time")
                    self._draining.cancel(reason="Ctrl-C")
                    interrupted = error
        if interrupted is not None:
            raise interrupted

    async def _stop_all(self, drain: bool) -> None:
        if drain:
            self._draining.deadline = trio.current_time() + self._drain
            with self._draining:
                await self.scheduler.drained()
            if self._draining.cancelled_caught:
                self._name_the_unfinished()
        self._closed = True
        for root in reversed(list(self._roots.values())):
            await self._stop_root(root)
        self.nursery.cancel_scope.cancel(reason="the system has stopped")

    async def _stop_root(self, root: Cell | Family[Any, Any]) -> None:
        if isinstance(root, Family):
            self._fatal.extend(await root.end())
            return
        root.stop()
        await root.gone()
        if root.stop_error is not None:
            self._fatal.append(root.stop_error)

    def _name_the_unfinished(self) -> None:
        for info in self.snapshot():
            for each in unfinished(info):
                self.note(
                    StopOverran(f"the drain's {self._drain} s were not enough for {each}"), info.address
                )


@asynccontextmanager
async def open_system(
    *,
    wall: Callable[[], float] | None = None,
    seed: int | None = None,
    inline: bool = True,
    drain: float = 5.0,
    dump_on: int | None = None,
) -> AsyncGenerator[System]:
    """The block in which actors live.

    `wall` gives the wall time in seconds (default: the machine's); `seed` fixes ids and jitter; `inline=False`
    makes every ask go through the run queue; `drain` is how long (seconds) queued messages may still be handled
    when the block is left. On the signal `dump_on`, such as `signal.SIGUSR1`, what every actor is doing is printed on
    standard error; that works only in the main thread.
    """
    if not drain >= 0:
        raise ValueError(f"drain is {drain}, and should be a number of seconds, 0 or more")
    system = System(wall, seed, inline=inline, drain=drain)
    raised: list[BaseException] = []
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(system._serve)  # noqa: SLF001 - this is its constructor
            system._body = nursery.cancel_scope  # noqa: SLF001
            cancelled: BaseException | None = None
            try:
                with dumped_on(dump_on, system.snapshot):
                    yield system
            except BaseException as error:  # noqa: BLE001 - all are raised below
                cancelled, own = split(error)
                if own is not None:
                    raised.append(own)
            try:
                await system._shut(drain=not raised and cancelled is None and not system._fatal)  # noqa: SLF001
            except BaseException as error:  # noqa: BLE001
                raised.append(error)
            if cancelled is not None:
                raise cancelled  # first, to whichever scope it belongs to: ours, if an actor has failed
    except BaseException as error:  # noqa: BLE001
        raised.append(error)
    _raise(system._fatal, raised)  # noqa: SLF001


def _raise(fatal: list[BaseException], raised: list[BaseException]) -> None:
    """Raise what came of a block: an error of its own as it is, with what actors failed with in a group; Ctrl-C bare."""
    errors = [*fatal, *raised]
    interrupt = next(filter(None, map(_interrupt, errors)), None)
    if interrupt is not None:
        others = [error for error in errors if error is not interrupt]
        raise interrupt from BaseExceptionGroup("beside Ctrl-C", others) if others else None
    if fatal or len(raised) > 1:
        raise BaseExceptionGroup("actors failed for good" if fatal else "several errors", errors)
    if raised:
        raise raised[0]


def _interrupt(error: BaseException) -> KeyboardInterrupt | None:
    """The Ctrl-C in an error, if there is one."""
    if isinstance(error, BaseExceptionGroup):
        return next(filter(None, map(_interrupt, error.exceptions)), None)
    return error if isinstance(error, KeyboardInterrupt) else None


def _given(value: V | None, kind: type[V]) -> V:
    """`value`, or what `kind` is by default."""
    if value is None:
        return kind()
    if not isinstance(value, kind):
        raise TypeError(f"{shown(value)} is no {kind.__name__}; give {kind.__name__}(...)")
    return value


def _check_name(name: object) -> None:
    if not isinstance(name, str):
        raise TypeError(f"the name {shown(name)} should be a str")
    if not name or "/" in name:
        raise ValueError(f"the name {name!r} should be some text without a slash, which stands between names")
