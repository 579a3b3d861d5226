"""The cell: what stays of an actor while its incarnations come and go.

A cell holds the mailbox, the supervision and the place in the tree. Rules:

1. The mailbox belongs to the cell and survives restarts. Every accepted message meets exactly one fate: handled,
   expired (its deadline passed), abandoned (its asker left) or undelivered (a dead letter, with the reason).
2. An incarnation starts, runs and ends. It has ended when its children, its background tasks and its `stopped`
   hook have; only then may the next one start.
3. A message that was being handled when its incarnation ended is never handed out again.
4. Signals (stop, failure from outside) are flags, obeyed before the next message.

    state      start    started   fail/crash   stop      wound up
    STARTING   -        RUNNING   ENDING       ENDING    -
    RUNNING    -        -         ENDING       ENDING    -
    ENDING     -        -         -            -         BACKOFF, STARTING or STOPPED
    BACKOFF    STARTING -         -            STOPPED   -
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, final

import trio

from ._actor import Actor, Context, Step
from ._background import Background
from ._errors import (
    ActorError,
    ActorFailed,
    ActorStopped,
    DeadlineExpired,
    MailboxFull,
    RestartsExhausted,
    StopOverran,
)
from ._ref import Ref
from ._reply import Reply
from ._supervision import Budget, Restart, Supervision, delay

if TYPE_CHECKING:
    from ._errors import Refusal
    from ._family import Family
    from ._gate import Gate
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
class Cell:
    """See the module's rules. Only the runtime touches cells."""

    __slots__ = (
        "_background",
        "_budget",
        "_factory",
        "_gone",
        "_owed",
        "_scope",
        "_timers",
        "actor",
        "capacity",
        "children",
        "closed",
        "context",
        "failure",
        "family",
        "gate",
        "handled",
        "handler",
        "held",
        "incarnation",
        "key",
        "name",
        "occupied",
        "parent",
        "passive",
        "policy",
        "queue",
        "room",
        "signalled",
        "start_report",
        "state",
        "stopping",
        "system",
        "used",
    )

    def __init__(
        self,
        system: System,
        parent: Cell | None,
        name: str,
        factory: Callable[[], Actor[Any]],
        policy: Supervision,
        capacity: int,
    ) -> None:
        self.system = system
        self.parent = parent
        self.name = name
        self.policy = policy
        self.capacity = capacity
        self.family: Family[Any, Any] | None = None
        self.key: Any = None
        self.actor: Actor[Any] | None = None
        self.context: Context[Any] | None = None
        self.handler: Callable[[Any, Context[Any]], Step] | None = None
        self.gate: Gate | None = None
        self.queue: deque[tuple[object, Reply[Any] | None]] | None = None
        self.room: trio.Event | None = None
        self.children: dict[str, Cell] | None = None
        self.state = State.STARTING
        self.incarnation = 0
        self.handled = 0
        self.occupied = True
        self.used = True
        self.held = False
        self.closed = False
        self.signalled = False
        self.stopping = False
        self.passive = False
        self.failure: BaseException | None = None
        self.start_report: Reply[None] | None = None
        self._factory = factory
        self._timers: dict[str, Timer] | None = None
        self._owed: dict[Reply[Any], None] | None = None
        self._background: Background | None = None
        self._budget: Budget | None = None
        self._scope: trio.CancelScope | None = None
        self._gone: trio.Event | None = None

    @property
    def address(self) -> str:
        above = self.parent.address if self.parent else self.family.name if self.family else ""
        return f"{above}/{self.name}" if above else self.name

    def __repr__(self) -> str:
        depth = len(self.queue) if self.queue else 0
        return f"<{self.address} {self.state.value} incarnation={self.incarnation} mailbox={depth}/{self.capacity}>"

    # -- the mailbox

    def put(self, message: object, reply: Reply[Any] | None) -> None:
        """Accept a message from outside, within the capacity."""
        if self.queue is not None and len(self.queue) >= self.capacity:
            raise MailboxFull(f"{self.address} holds {self.capacity} messages")
        self.accept(message, reply)
        if not self.occupied:
            self.system.scheduler.schedule(self)

    def accept(self, message: object, reply: Reply[Any] | None) -> None:
        if self.queue is None:
            self.queue = deque()
        self.queue.append((message, reply))

    async def has_room(self) -> None:
        if self.room is None:
            self.room = trio.Event()
        await self.room.wait()

    def make_room(self) -> None:
        room, self.room = self.room, None
        if room is not None:
            room.set()

    def dropped(self, reply: Reply[Any]) -> bool:
        """Whether nobody waits for this answer any more; notes the fate."""
        if reply.done:
            self.system.fates.abandoned += 1
        elif reply.deadline < trio.current_time():
            self.system.fates.expired += 1
            reply.fail(DeadlineExpired(f"{self.address} came to it too late"))
        else:
            return False
        return True

    def rest(self) -> None:
        """The mailbox is empty: free it. An idle actor should cost as little as possible."""
        self.queue = None
        self.occupied = False
        self.used = True
        self.system.fates.handled += self.handled
        self.handled = 0

    # -- duties of an incarnation

    def owe(self, reply: Reply[Any]) -> None:
        if self._owed is None:
            self._owed = {}
        elif len(self._owed) > 64:
            self._owed = {slot: None for slot in self._owed if not slot.done}
        self._owed[reply] = None

    def set_timer(self, key: str, seconds: float, message: object) -> None:
        self.cancel_timer(key)
        if self._timers is None:
            self._timers = {}
        due = trio.current_time() + seconds
        self._timers[key] = self.system.timers.at(due, lambda: self._ring(key, message))

    def cancel_timer(self, key: str) -> None:
        if self._timers is not None and key in self._timers:
            self._timers.pop(key).cancel()

    def _ring(self, key: str, message: object) -> None:
        """A timer is due. Keys bound the number of ticks, so they may exceed the mailbox's capacity."""
        assert self._timers is not None
        del self._timers[key]
        self.accept(message, None)
        if not self.occupied:
            self.system.scheduler.schedule(self)

    def start_background(self, function: Callable[[], Awaitable[object]]) -> None:
        if self._background is None:
            self._background = Background(self.fail)
            self.system.nursery.start_soon(self._background.run, name=f"{self.address} background")
        self._background.start(function)

    def refuse(self, message: object, refusal: Refusal) -> None:
        assert self.context is not None
        slot = self.context._slot  # noqa: SLF001 - the context is the runtime's to fill
        if slot is not None:
            slot.fail(refusal)
        else:
            self.system.bury(message, self.address, f"refused: {refusal}")

    @property
    def quiet(self) -> bool:
        """Whether passivating it now loses nothing."""
        return not (self.occupied or self._timers or self.children or self._background) and not (
            self._owed and any(not slot.done for slot in self._owed)
        )

    # -- start

    def start(self) -> None:
        """Begin an incarnation."""
        self.state = State.STARTING
        self.incarnation += 1
        self.signalled = self.stopping
        self.failure = None
        try:
            self.actor = actor = self._factory()
            self.context = Context(self, Ref(self), self.system)
            self.handler = actor.handle
            self.gate = actor.gate
            hook = actor.started(self.context)
        except Exception as error:  # noqa: BLE001 - the supervisor is its owner
            self._start_failed(error)
            return
        if hook is None:
            self._running()
        else:
            self.system.nursery.start_soon(self._finish_start, hook, name=f"{self.address} start")

    async def _finish_start(self, hook: Coroutine[Any, Any, None]) -> None:
        try:
            with self.busy() as scope:
                await hook
            if scope.cancelled_caught:
                self.end(self.failure or ActorStopped(f"{self.address} was stopped while it started"))
                return
        except Exception as error:  # noqa: BLE001 - the supervisor is its owner
            self._start_failed(error)
        else:
            self._running()

    def _running(self) -> None:
        self.state = State.RUNNING
        if self.start_report is not None:
            self.start_report.set(None)
            self.start_report = None
        if self.queue or self.signalled:
            self.system.scheduler.schedule(self)
        else:
            self.rest()

    def _start_failed(self, error: Exception) -> None:
        if self.start_report is not None:
            self.start_report.fail(error)
            self.start_report = None
            self.stopping = True  # whoever spawned it knows, and decides
        self.end(error)

    # -- signals

    def stop(self) -> None:
        """Ask it to end for good. Idempotent."""
        if not self.stopping and self.state is not State.STOPPED:
            self.stopping = True
            self._signal()
            if self._scope is not None:
                budget = trio.current_time() + self.policy.stop_budget
                self.system.timers.at(budget, self._scope.cancel)

    def leave(self) -> None:
        """End the running incarnation; the policy decides whether there is another."""
        if self.state in (State.STARTING, State.RUNNING):
            self._signal()

    def fail(self, error: BaseException) -> None:
        """End the running incarnation as if its handler had raised `error`."""
        if self.state in (State.STARTING, State.RUNNING) and self.failure is None:
            self.failure = error
            if self._scope is not None:
                self._scope.cancel()
            self._signal()

    def _signal(self) -> None:
        self.signalled = True
        if self.state is State.BACKOFF:
            self.cancel_timer("restart")
            self._finish(None)
        elif self.held:
            self.held = False
            self.system.scheduler.schedule(self)
        elif not self.occupied:
            self.system.scheduler.schedule(self)

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
        if self.failure is not None:
            self.crash(self.failure)
            return
        late = StopOverran(f"{self.address} did not stop within {self.policy.stop_budget} s")
        self.system.note(late)
        self._break_off(ActorStopped(f"{self.address} was stopped while it handled this"))
        self.end(None)

    # -- end

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
        for key in list(self._timers or ()):
            self.cancel_timer(key)
        if self.children or self._background:
            self.system.nursery.start_soon(self._wind_up, error, None, name=f"{self.address} end")
            return
        hook = None
        try:
            hook = self._hook()
        except Exception as later:  # noqa: BLE001 - the supervisor is its owner
            error = error or later
        if hook is None:
            self._ended(error)
        else:
            self.system.nursery.start_soon(self._wind_up, error, hook, name=f"{self.address} end")

    def _hook(self) -> Step:
        if self.actor is None or self.context is None:
            return None
        return self.actor.stopped(self.context)

    async def _wind_up(self, error: BaseException | None, hook: Step) -> None:
        """Children, then background tasks, then the hook; all within the budget."""
        try:
            with trio.move_on_after(self.policy.stop_budget, shield=True) as budget:
                for child in reversed(list((self.children or {}).values())):
                    child.stop()
                    await child.gone()
                if self._background is not None:
                    await self._background.close()
                hook = hook or self._hook()
                if hook is not None:
                    await hook
            if budget.cancelled_caught:
                self.system.note(
                    StopOverran(f"{self.address} did not end within {self.policy.stop_budget} s")
                )
        except Exception as later:  # noqa: BLE001 - the supervisor is its owner
            error = error or later
        self._background = None
        self._ended(error)

    def _ended(self, error: BaseException | None) -> None:
        owed, self._owed = self._owed, None
        answer = ActorFailed if error is not None else ActorStopped
        for slot in owed or ():
            slot.fail(answer(f"{self.address} ended before it answered"))
        self.actor = self.context = self.handler = self.gate = None
        restart = self.policy.restart
        if error is None and self.passive and self.queue and not self.stopping:
            self.passive = False
            self.start()  # somebody wrote to it while it was falling asleep
        elif self.stopping or self.passive or restart is Restart.TEMPORARY:
            self._finish(error)
        elif error is not None or restart is Restart.PERMANENT:
            self._restart(error)
        else:
            self._finish(None)

    def _restart(self, error: BaseException | None) -> None:
        failure: int | None = 1  # an end without failure costs nothing of the budget
        if error is not None:
            if self._budget is None:
                self._budget = Budget()
            failure = self._budget.spend(self.policy, trio.current_time())
            self.system.note(error)
        if failure is None:
            self._escalate(error)
            return
        self.state = State.BACKOFF
        if self._timers is None:
            self._timers = {}
        due = trio.current_time() + delay(self.policy, failure, self.system.random)
        self._timers["restart"] = self.system.timers.at(due, self._start_again)

    def _start_again(self) -> None:
        self._timers = None
        self.start()

    def _escalate(self, error: BaseException | None) -> None:
        exhausted = RestartsExhausted(
            f"{self.address} failed more than {self.policy.restarts} times within {self.policy.within} s"
        )
        exhausted.__cause__ = error
        self._finish(exhausted)
        if self.family is not None:
            self.family.quarantine(self.key)
        elif self.parent is not None:
            self.parent.fail(exhausted)
        else:
            self.system.fail(exhausted)

    def _finish(self, error: BaseException | None) -> None:
        """Stop for good: whatever is still queued is undelivered."""
        self.state = State.STOPPED
        self.closed = self.occupied = True
        self._timers = None
        queue, self.queue = self.queue, None
        for message, reply in queue or ():
            if reply is None:
                self.system.bury(message, self.address, "the actor stopped")
            else:
                self.system.fates.undelivered += 1
                stopped = ActorStopped(f"{self.address} stopped before it came to this")
                stopped.__cause__ = error
                reply.fail(stopped)
        self.make_room()
        self.system.forget(self)
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
