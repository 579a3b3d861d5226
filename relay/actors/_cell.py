"""The cell: what stays of an actor while its incarnations come and go.

A cell is a mailbox with a place in the tree, a policy of supervision, and one incarnation at a time. Rules:

1. An incarnation starts, runs and ends. It has ended when its children, its background tasks and its `stopped`
   hook have; only then may the next one start.
2. A message that was being handled when its incarnation ended is never handed out again.
3. Signals (stop, failure from outside) are flags, obeyed before the next message.

    state      start    started   fail/crash   stop      wound up
    STARTING   -        RUNNING   ENDING       ENDING    -
    RUNNING    -        -         ENDING       ENDING    -
    ENDING     -        -         -            -         BACKOFF, STARTING or STOPPED
    BACKOFF    STARTING -         -            STOPPED   -
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Coroutine, Hashable
from math import inf
from typing import TYPE_CHECKING, Any, final

import trio

from ._actor import Actor, Context, Step
from ._cancelled import as_failure
from ._ctrl_c import exposed
from ._duties import Duties
from ._errors import ActorFailed, ActorStopped
from ._in_hand import break_off, take_back
from ._limit import Limit
from ._mailbox import Mailbox
from ._protocols import check_handler
from ._ref import Ref
from ._supervision import Budget, Restart, Supervision, exhausted
from ._text import shown
from ._winding_up import run_hook, wind_up

if TYPE_CHECKING:
    from ._bounds import Bounds
    from ._family import Family
    from ._gate import Gate
    from ._handling import Handling
    from ._reply import Reply
    from ._supervisor import Group
    from ._system import System
    from ._timers import Timer

__all__ = ["Cell", "State"]


class State(enum.Enum):
    STARTING = "starting"
    RUNNING = "running"
    ENDING = "ending"
    BACKOFF = "backoff"
    STOPPED = "stopped"


@final
class Cell(Mailbox):
    """See the module's rules. Only the runtime touches cells."""

    __slots__ = (
        "_budget",
        "_factory",
        "_gone",
        "_restart_timer",
        "actor",
        "children",
        "closed",
        "context",
        "duties",
        "failure",
        "family",
        "gate",
        "group",
        "handler",
        "handling",
        "held",
        "incarnation",
        "key",
        "last_failure",
        "limit",
        "name",
        "parent",
        "passive",
        "patience",
        "pausing",
        "policy",
        "signalled",
        "start_error",
        "start_report",
        "state",
        "stop_error",
        "stopping",
    )

    def __init__(
        self,
        system: System,
        parent: Cell | None,
        name: str,
        factory: Callable[[], Actor[Any]],
        policy: Supervision,
        bounds: Bounds,
    ) -> None:
        super().__init__(system, bounds)
        self.parent = parent
        self.name = name
        self.policy = policy
        self.group: Group | None = None
        self.family: Family[Any, Any] | None = None
        self.key: Any = None
        self.actor: Actor[Any] | None = None
        self.context: Context[Any] | None = None
        self.handler: Callable[[Any, Context[Any]], Step] | None = None
        self.gate: Gate | None = None
        self.duties: Duties | None = None
        self.handling: Handling | None = None
        self.children: dict[str, Cell] | None = None
        self.state = State.STARTING
        self.incarnation = 0
        self.held = False
        self.closed = False
        self.signalled = False
        self.stopping = False
        self.passive = False
        self.pausing = False
        self.failure: BaseException | None = None
        self.last_failure: BaseException | None = None
        self.limit: Limit | None = None
        self.patience = inf  # until when code that ignores its cancellation is waited for, in trio's seconds
        self.start_report: Reply[None] | None = None
        self.start_error: BaseException | None = None
        self.stop_error: BaseException | None = None
        self._factory = factory
        self._restart_timer: Timer | None = None
        self._budget: Budget | None = None
        self._gone: trio.Event | None = None

    @property
    def address(self) -> str:
        if self.family is not None:
            return f"{self.family.name}/{self.name}"
        return f"{self.parent.address}/{self.name}" if self.parent is not None else self.name

    @property
    def identity(self) -> Hashable:
        """What tells it from all others: the text of an address may be that of two, for keys may hold a slash."""
        return self if self.family is None else (self.family, self.key)

    def lineage(self) -> list[Cell]:
        """The cell and those above it."""
        return [self, *(self.parent.lineage() if self.parent is not None else ())]

    def __repr__(self) -> str:
        depth = len(self.queue) if self.queue else 0
        return f"<{self.address} {self.state.value} incarnation={self.incarnation} mailbox={depth}/{self.capacity}>"

    @property
    def quiet(self) -> bool:
        """Whether passivating it now loses nothing."""
        return not (self.occupied or self.children or self.stashed) and (
            self.duties is None or self.duties.none
        )

    def now_active(self) -> Cell:
        """Who goes by this address now: a member of a family may have slept since."""
        return self.family.member(self.key) if self.closed and self.family is not None else self

    def take_on(self) -> Duties:
        """The duties of this incarnation."""
        if self.duties is None:
            self.duties = Duties(self)
        return self.duties

    def take_time(self) -> Limit:
        """The limit of this incarnation, for what takes time."""
        if self.limit is None:
            self.limit = Limit(self)
        return self.limit

    def rouse(self) -> None:
        if not self.occupied:
            self.system.scheduler.schedule(self)

    # -- start

    def start(self) -> None:
        """Begin an incarnation."""
        self.state = State.STARTING
        self.system.scheduler.started(self)
        self.incarnation += 1
        self.signalled = self.stopping
        self.failure = None
        self.limit = None
        self.patience = inf
        if self.stopping:
            self.take_time().end()
        self.unstash()
        try:
            self.actor = actor = exposed(self._factory)
            check_handler(type(actor))
            self.context = Context(self, Ref(self), self.system)
            self.handler = actor.handle
            hook = exposed(actor.started, self.context)
            self.gate = actor.gate
        except BaseException as error:  # noqa: BLE001 - the supervisor is its owner
            self._start_failed(as_failure(error))
            return
        if hook is None and self.failure is not None:
            self._start_failed(self.failure)
        elif hook is None:
            self._running()
        else:
            self.system.scheduler.begin()
            self.system.start_task(self._finish_start, hook, name=f"{self.address} start")

    async def _finish_start(self, hook: Coroutine[Any, Any, None]) -> None:
        limit = self.take_time()
        failed: BaseException | None = None
        try:
            with limit.scope() as scope:
                await run_hook(self, "started", hook)
        except BaseException as error:  # noqa: BLE001 - the supervisor is its owner
            failed = as_failure(error)
        else:
            if scope.cancelled_caught:
                failed = self.failure or ActorStopped(f"{self.address} was stopped while it started")
        limit.over()
        if failed is None:
            self._running()
        else:
            self._start_failed(failed)
        self.system.scheduler.finish()

    def _running(self) -> None:
        assert self.actor is not None
        self.state = State.RUNNING
        self.gate = self.actor.gate
        if self.start_report is not None:
            self.start_report.set(None)
            self.start_report = None
        self.system.started(self)
        if self.group is not None:
            self.group.changed()
        if self.queue or self.signalled:
            self.system.scheduler.schedule(self)
        else:
            self.occupied = False
            self.used = True

    @property
    def starting(self) -> bool:
        """Whether its start is not decided yet."""
        return self.state in (State.STARTING, State.ENDING)

    @property
    def living(self) -> bool:
        """Whether its incarnation may still begin something."""
        return self.state in (State.STARTING, State.RUNNING)

    @property
    def resting(self) -> bool:
        """Whether it has ended and will be started again."""
        return self.state is State.BACKOFF

    def _start_failed(self, error: BaseException) -> None:
        if self.start_report is not None:
            self.start_error = error
            self.stopping = True
            self.end(None)  # whoever spawned it is told once it has ended, and decides
        elif self.stopping and isinstance(error, ActorStopped):
            self.end(None)
        else:
            self.end(error)

    # -- signals

    def stop(self) -> None:
        """Ask it to end for good. Idempotent."""
        if not self.stopping and self.state is not State.STOPPED:
            self.stopping = True
            self._signal()
            self.take_time().end()

    def leave(self) -> None:
        """End the running incarnation; the policy decides whether there is another."""
        if self.living:
            self._signal()

    def pause(self) -> None:
        """End the running incarnation; the group starts the next one."""
        if self.state is State.BACKOFF and self._restart_timer is not None:
            self._restart_timer.cancel()
        elif self.state is not State.BACKOFF:
            self.pausing = True
            self.leave()
            self.take_time().end()

    def fail(self, error: BaseException) -> None:
        """End the running incarnation as if its handler had raised `error`."""
        if not self.living or self.failure is not None:
            self._also(error)
            return
        self.failure = error
        if self.limit is not None:
            self.limit.cut()
        self._signal()

    def _signal(self) -> None:
        self.signalled = True
        if self.state is State.BACKOFF:
            if self._restart_timer is not None:
                self._restart_timer.cancel()
            self._finish(None)
        elif self.held:
            self.held = False
            if self.gate is not None:
                self.gate.forget(self)
            self.system.scheduler.let_go(self)
        else:
            self.rouse()

    def obey(self) -> None:
        """Act on the signals, in the scheduler."""
        if self.state is State.STARTING:
            self.start()
        elif self.failure is not None:
            self.crash(self.failure)
        else:
            self.end(None)

    # -- the message in hand

    def interrupted(self) -> None:
        """A handler was cancelled by `stop` or `fail`."""
        take_back(self)
        if self.failure is not None:
            self.crash(self.failure)
            return
        break_off(self, ActorStopped(f"{self.address} was stopped while it handled this"))
        self.end(None)

    def handler_failed(self, error: BaseException) -> None:
        """The handler of the message in hand raised `error`."""
        take_back(self)
        error = as_failure(error)
        if self.failure is not None and self.failure is not error:
            self._also(error)
            error = self.failure
        self.crash(error)

    def crash(self, error: BaseException) -> None:
        """The incarnation failed: answer whoever waits for it, then end it."""
        failed = ActorFailed(f"{self.address} failed: {shown(error)}")
        failed.__cause__ = error
        break_off(self, failed)
        self.end(error)

    # -- end

    def end(self, error: BaseException | None) -> None:
        """End the incarnation, then restart or stop."""
        self.state = State.ENDING
        self.occupied = True
        self.signalled = False
        self.limit = None
        if self.duties is not None:
            self.duties.disarm()
        if self.children or (self.duties is not None and self.duties.running):
            self._wind_up_soon(error, None)
            return
        hook = None
        try:
            hook = self.call_stopped()
        except BaseException as later:  # noqa: BLE001 - the supervisor is its owner
            error = self._first(error, later)
        if hook is None:
            self._ended(error)
        else:
            self._wind_up_soon(error, hook)

    def _first(self, error: BaseException | None, later: BaseException) -> BaseException:
        """The failure that counts; one that followed it is on record. Whoever asked for the end hears of the later one."""
        later = as_failure(later)
        if self.stopping:
            self.stop_error = later
        if error is not None:
            self._also(later)
        return error or later

    def _also(self, error: BaseException) -> None:
        """A failure beside the one that ends the incarnation: on record, and no less fatal if it is."""
        self.system.note(error, self.address)
        if not isinstance(error, Exception):
            self.system.fail(error)

    def call_stopped(self) -> Step:
        """The `stopped` hook, begun."""
        if self.actor is None or self.context is None:
            return None
        return exposed(self.actor.stopped, self.context)

    def _wind_up_soon(self, error: BaseException | None, hook: Step) -> None:
        self.system.scheduler.begin()
        self.system.start_task(self._wind_up, error, hook, name=f"{self.address} end")

    async def _wind_up(self, error: BaseException | None, hook: Step) -> None:
        try:
            await wind_up(self, hook)
        except BaseException as later:  # noqa: BLE001 - the supervisor is its owner
            error = self._first(error, later)
        self._ended(error)
        self.system.scheduler.finish()

    def _ended(self, error: BaseException | None) -> None:
        if self.duties is not None:
            self.duties.fail(ActorStopped if error is None else ActorFailed, error)
            self.duties = None
        if error is not None:
            self.last_failure = error
            self.system.note(error, self.address)
        self.actor = self.context = self.handler = self.gate = None
        restart = self.policy.restart
        awakened = self.passive and self.queue and not self.stopping
        if awakened:
            self.passive = False  # somebody wrote to it while it was falling asleep
        if error is not None and not isinstance(error, Exception):
            self.system.fail(error)  # Ctrl-C, or an exit: no supervisor forgives that
            self._finish(error)
        elif awakened and error is None:
            self.start()
        elif self.stopping or self.passive or restart is Restart.TEMPORARY:
            self._finish(error)
        elif self.pausing:
            self.rest_for_group()
        elif error is not None or restart is Restart.PERMANENT:
            self._restart(error)
        elif self.queue and self.family is not None:
            self.start()  # a member's end is no end for those who write to its key
        else:
            self._finish(None)

    def rest_for_group(self) -> None:
        """Wait for the group to start the next incarnation."""
        assert self.group is not None
        self.pausing = False
        self._rest_until_started()
        self.group.changed()

    def start_in(self, seconds: float) -> None:
        """Start the next incarnation after `seconds`."""
        self._rest_until_started()
        self._restart_timer = self.system.timers.at(trio.current_time() + seconds, self.start)

    def _rest_until_started(self) -> None:
        self.state = State.BACKOFF
        self.system.scheduler.await_start(self)

    def _restart(self, error: BaseException | None) -> None:
        if self.group is not None:
            self.group.failed(self, error)
            return
        if self._budget is None:
            self._budget = Budget()
        seconds = self._budget.spend(error, self.policy, trio.current_time(), self.system.random)
        if seconds is None:
            self.give_up(error)
        else:
            self.start_in(seconds)

    def give_up(self, error: BaseException | None) -> None:
        """Stop for good, because of a failure beyond the budget, and pass it on to whoever is to know."""
        failure = exhausted(self.address, self.policy, error)
        self._finish(failure)
        if self.family is not None:
            self.family.quarantine(self.key)
            self.system.quarantined(self)
        elif self.group is not None:
            self.system.quarantined(self)
        elif self.parent is not None:
            self.parent.fail(failure)
        else:
            self.system.fail(failure)

    def _finish(self, error: BaseException | None) -> None:
        """Stop for good: whatever is still queued is undelivered."""
        self.state = State.STOPPED
        self.failure = error
        self.closed = self.occupied = True
        self.discard(error)
        self.system.scheduler.started(self)
        self.system.forget(self)
        if self.group is not None:
            self.group.finished(self)
        if self.start_report is not None:
            self.start_report.fail(self.start_error or ActorStopped(f"{self.address} was stopped"))
        if self._gone is not None:
            self._gone.set()

    def passivate(self) -> None:
        """End an idle family member; the next message starts a new activation."""
        assert self.quiet
        self.passive = True
        self.leave()

    async def gone(self) -> None:
        """Wait until it has stopped for good."""
        if self.state is not State.STOPPED:
            if self._gone is None:
                self._gone = trio.Event()
            await self._gone.wait()
