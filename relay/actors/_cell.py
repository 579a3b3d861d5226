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
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, final

import trio

from ._actor import Actor, Context, Step
from ._duties import Duties
from ._errors import (
    ActorError,
    ActorFailed,
    ActorStopped,
    StopOverran,
)
from ._mailbox import Mailbox
from ._patience import patiently
from ._protocols import check_handler
from ._ref import Ref
from ._reply import Reply, message_of
from ._supervision import Budget, Restart, Supervision, exhausted

if TYPE_CHECKING:
    from ._bounds import Bounds
    from ._errors import Refusal
    from ._family import Family
    from ._gate import Gate
    from ._handling import Handling
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
        "_scope",
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
        self.patience = inf  # until when code that ignores its cancellation is waited for, in trio's seconds
        self.start_report: Reply[None] | None = None
        self.start_error: BaseException | None = None
        self._factory = factory
        self._restart_timer: Timer | None = None
        self._budget: Budget | None = None
        self._scope: trio.CancelScope | None = None
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

    def rouse(self) -> None:
        if not self.occupied:
            self.system.scheduler.schedule(self)

    def refuse(self, message: object, refusal: Refusal) -> None:
        assert self.context is not None
        slot = self.context._slot  # noqa: SLF001 - the context is the runtime's to fill
        if slot is not None:
            slot.fail(refusal)
        else:
            self.system.bury(message, self.address, f"refused: {refusal}")

    # -- start

    def start(self) -> None:
        """Begin an incarnation."""
        self.state = State.STARTING
        self.system.scheduler.started(self)
        self.incarnation += 1
        self.signalled = self.stopping
        self.failure = None
        self.patience = inf
        self.unstash()
        try:
            self.actor = actor = self._factory()
            check_handler(type(actor))
            self.context = Context(self, Ref(self), self.system)
            self.handler = actor.handle
            hook = actor.started(self.context)
        except Exception as error:  # noqa: BLE001 - the supervisor is its owner
            self._start_failed(error)
            return
        if hook is None:
            self._running()
        else:
            self.system.scheduler.begin()
            self.system.start_task(self._finish_start, hook, name=f"{self.address} start")

    async def _finish_start(self, hook: Coroutine[Any, Any, None]) -> None:
        try:
            with self.busy() as scope:
                await patiently(hook, self)
            if scope.cancelled_caught:
                self._start_failed(
                    self.failure or ActorStopped(f"{self.address} was stopped while it started")
                )
                return
        except Exception as error:  # noqa: BLE001 - the supervisor is its owner
            self._start_failed(error)
        else:
            self._running()
        finally:
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
        else:
            self.end(error)

    # -- signals

    def stop(self) -> None:
        """Ask it to end for good. Idempotent."""
        if not self.stopping and self.state is not State.STOPPED:
            self.stopping = True
            self._signal()
            self._limit()

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
            self._limit()

    def _limit(self) -> None:
        """Cut short, once the budget is used up, what it is at."""
        if self._scope is not None:
            due = trio.current_time() + self.policy.stop_budget
            self.system.timers.at(due, partial(self._overran, self._scope))

    def _overran(self, scope: trio.CancelScope) -> None:
        if self._scope is scope:
            late = StopOverran(f"{self.address} did not stop within {self.policy.stop_budget} s")
            self.system.note(late, self.address)
            self.patience = trio.current_time() + self.policy.stop_budget
            scope.cancel()

    def fail(self, error: BaseException) -> None:
        """End the running incarnation as if its handler had raised `error`."""
        if self.living and self.failure is None:
            self.failure = error
            if self._scope is not None:
                self.patience = trio.current_time() + 2 * self.policy.stop_budget
                self._scope.cancel()
            self._signal()

    def _signal(self) -> None:
        self.signalled = True
        if self.state is State.BACKOFF:
            if self._restart_timer is not None:
                self._restart_timer.cancel()
            self._finish(None)
        elif self.held:
            self.held = False
            self.system.scheduler.schedule(self)
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

    def busy(self) -> trio.CancelScope:
        """The scope around what the runtime may have to cut short."""
        self._scope = scope = trio.CancelScope()
        return scope

    def free(self) -> None:
        self._scope = None

    def interrupted(self) -> None:
        """A handler was cancelled by `stop` or `fail`."""
        self._take_back()
        if self.failure is not None:
            self.crash(self.failure)
            return
        self._break_off(ActorStopped(f"{self.address} was stopped while it handled this"))
        self.end(None)

    # -- end

    def handler_failed(self, error: BaseException) -> None:
        """The handler of the message in hand raised `error`."""
        self._take_back()
        self.crash(error)

    def _take_back(self) -> None:
        """A message that its handler had put aside before it was cut short has met its fate all the same."""
        assert self.context is not None
        if self.stashed and message_of(self.stashed[-1]) is self.context._message:  # noqa: SLF001
            entry = self.stashed.pop()
            self.context._slot = entry if isinstance(entry, Reply) else None  # noqa: SLF001
            self.system.fates.handled += 1

    def crash(self, error: BaseException) -> None:
        """The incarnation failed: answer whoever waits for it, then end it."""
        failed = ActorFailed(f"{self.address} failed: {error!r}")
        failed.__cause__ = error
        self._break_off(failed)
        self.end(error)

    def _break_off(self, answer: ActorError) -> None:
        assert self.context is not None
        slot, self.context._slot = self.context._slot, None  # noqa: SLF001
        if slot is not None:
            slot.fail(answer)

    def end(self, error: BaseException | None) -> None:
        """End the incarnation, then restart or stop."""
        self.state = State.ENDING
        self.occupied = True
        self.signalled = False
        self._scope = None
        if self.duties is not None:
            self.duties.disarm()
        if self.children or (self.duties is not None and self.duties.running):
            self._wind_up_soon(error, None)
            return
        hook = None
        try:
            hook = self._hook()
        except Exception as later:  # noqa: BLE001 - the supervisor is its owner
            error = error or later
        if hook is None:
            self._ended(error)
        else:
            self._wind_up_soon(error, hook)

    def _wind_up_soon(self, error: BaseException | None, hook: Step) -> None:
        self.system.scheduler.begin()
        self.system.start_task(self._wind_up, error, hook, name=f"{self.address} end")

    def _hook(self) -> Step:
        if self.actor is None or self.context is None:
            return None
        return self.actor.stopped(self.context)

    async def _wind_up(self, error: BaseException | None, hook: Step) -> None:
        """Children, then background tasks, then the hook; all within the budget."""
        self.patience = trio.current_time() + 2 * self.policy.stop_budget
        try:
            with trio.move_on_after(self.policy.stop_budget, shield=True) as budget:
                for child in reversed(list((self.children or {}).values())):
                    child.stop()
                    await child.gone()
                if self.duties is not None:
                    await self.duties.close()
                hook = hook or self._hook()
                if hook is not None:
                    await patiently(hook, self)
            if budget.cancelled_caught:
                late = StopOverran(f"{self.address} did not end within {self.policy.stop_budget} s")
                self.system.note(late, self.address)
        except Exception as later:  # noqa: BLE001 - the supervisor is its owner
            error = error or later
        self._ended(error)
        self.system.scheduler.finish()

    def _ended(self, error: BaseException | None) -> None:
        if self.duties is not None:
            answer = ActorFailed if error is not None else ActorStopped
            self.duties.fail(partial(answer, f"{self.address} ended before it answered"))
            self.duties = None
        if error is not None:
            self.last_failure = error
            self.system.note(error, self.address)
        self.actor = self.context = self.handler = self.gate = None
        restart = self.policy.restart
        awakened = self.passive and self.queue and not self.stopping
        if awakened:
            self.passive = False  # somebody wrote to it while it was falling asleep
        if awakened and error is None:
            self.start()
        elif self.stopping or self.passive or restart is Restart.TEMPORARY:
            self._finish(error)
        elif self.pausing:
            self.rest_for_group()
        elif error is not None or restart is Restart.PERMANENT:
            self._restart(error)
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
