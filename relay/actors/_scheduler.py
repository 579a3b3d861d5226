"""The run queue: which actor comes next, and for how long.

Ready actors stand in a deque. One task takes them off it and calls their plain handlers directly, so a message
costs a call and not a switch of task. Rules:

1. An actor's turn is at most `TURN` messages; a task that runs actors gives way to others every `SLICE` seconds.
2. There are two queues. Whoever used up a turn goes to the bulk queue, which gets one turn in eight while fresh
   actors wait, so a flooded actor cannot delay an idle one.
3. A handler that returns a coroutine gets a task for it. The task goes on with the actor's next messages, so a
   burst of them costs one task.
4. `occupied` says that a cell is in a queue, in a task, or must not run now. Only an unoccupied cell is scheduled.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Coroutine
from contextvars import copy_context
from functools import partial
from math import inf
from time import perf_counter  # noqa: TID251 - how long a turn may hold the loop; says nothing to actors
from typing import TYPE_CHECKING, Any

import trio
from trio.lowlevel import (
    Abort,
    RaiseCancelT,
    Task,
    cancel_shielded_checkpoint,
    checkpoint,
    current_task,
    reschedule,
    wait_task_rescheduled,
)

from ._cancelled import split
from ._errors import DeadlineExpired, Refusal
from ._handling import Handling, current
from ._in_hand import check_answered, refused
from ._patience import patiently
from ._reply import Entry, Reply

if TYPE_CHECKING:
    from ._cell import Cell

__all__ = ["Scheduler"]

TURN = 32
SLICE = 0.0005
BULK_TURN = 8
BREATH = 64


class Scheduler:
    """Runs the actors of one system. `hold` is how long (seconds) a burst may hold the loop."""

    hold = SLICE

    def __init__(self, *, inline: bool = True) -> None:
        self.inline = inline
        self._busy = 0
        self.context = copy_context()  # of plain code that runs on the spot, whoever caused it
        self._waiting: dict[Cell, None] = {}
        self._held: dict[Cell, None] = {}
        self._coming = 0
        self._ready: deque[Cell] = deque()
        self._bulk: deque[Cell] = deque()
        self._parked: Task | None = None
        self._quiet: list[trio.Event] = []
        self._spare: deque[Entry] = deque()
        self._answers = 0

    def schedule(self, cell: Cell) -> None:
        """Give `cell` a turn soon. It must not be in a queue or a task already."""
        cell.occupied = True
        self._ready.append(cell)
        if self._parked is not None:
            self._wake()

    async def run(self) -> None:
        """Run whatever is ready, for ever."""
        ready, bulk = self._ready, self._bulk
        fresh = 0
        while True:
            if not ready and not bulk:
                await self._park()
            stop = perf_counter() + SLICE
            while True:
                if bulk and (fresh >= BULK_TURN or not ready):
                    cell = bulk.popleft()
                    fresh = 0
                elif ready:
                    cell = ready.popleft()
                    fresh += 1
                else:
                    break
                coroutine = self.turn(cell)
                if coroutine is not None:
                    self._start_burst(cell, coroutine)
                if perf_counter() > stop:
                    break
            await checkpoint()

    def turn(self, cell: Cell, budget: int = TURN) -> Coroutine[Any, Any, None] | None:
        """Hand `cell` its next messages, until the budget is used up or a handler has to wait.

        Returns the coroutine of the handler that has to wait; the caller runs it.
        """
        if cell.signalled:
            cell.obey()
            return None
        queue, gate, context, handle = cell.queue, cell.gate, cell.context, cell.handler
        assert context is not None
        assert handle is not None
        fates = cell.system.fates
        if cell.room is not None:
            cell.make_room()
        while queue and budget:
            if gate is not None and gate.closed:
                cell.held = True
                self._held[cell] = None
                gate.hold(cell)
                return None
            message = queue.popleft()
            reply = None
            if type(message) is Reply:
                reply = message
                if (reply.order is not None or reply.done or reply.deadline != inf) and cell.dropped(reply):
                    continue
                message = reply.message
                if reply.order is not None:
                    reply = None
            budget -= 1
            context._message = message  # noqa: SLF001 - the context is the scheduler's to fill
            context._slot = reply  # noqa: SLF001
            try:
                coroutine = handle(message, context)
            except Refusal as refusal:
                refused(cell, message, refusal)
            except BaseException as error:  # noqa: BLE001 - the supervisor is its owner
                fates.handled += 1
                cell.handler_failed(error)
                return None
            else:
                if coroutine is not None:
                    return coroutine
                if reply is not None and not reply.done:
                    check_answered(cell, reply)
            fates.handled += 1
            if cell.signalled:
                self._ready.append(cell)
                self._wake()
                return None
        if queue:
            self._bulk.append(cell)
            self._wake()  # the turn may have been taken in another task than the scheduler's
        else:
            cell.queue = None
            cell.occupied = False
            cell.used = True
        return None

    def answer(self, cell: Cell, asked: Reply[Any]) -> None:
        """Let an idle `cell` handle what is `asked` here and now."""
        cell.occupied = True
        if cell.bounds.coalesce is None:
            queue = cell.queue = self._spare  # a new one would cost a tenth of the answer
            queue.append(asked)
        else:
            queue = None
            cell.accept(asked)
        coroutine = self.context.run(self.turn, cell, 1)
        if cell.queue is queue:
            self._spare = deque()
        if coroutine is not None:
            self._start_burst(cell, coroutine)

    def breathe(self) -> bool:
        """Whether it is time to let other tasks run: every so many answers given without a switch."""
        self._answers = (self._answers + 1) % BREATH
        return not self._answers

    async def idle(self) -> None:
        """Wait until no actor has anything to do: no message queued or being handled."""
        await checkpoint()
        while self._parked is None or not self._at_rest():
            await self._change()

    async def drained(self) -> None:
        """Wait until none has, nor is held back, nor waits for an outcome that is to come."""
        await self.idle()
        while self._coming or any(cell.held and cell.queue for cell in self._held):
            await self._change()
            await self.idle()

    async def _change(self) -> None:
        event = trio.Event()
        self._quiet.append(event)
        await event.wait()
        await checkpoint()

    def expect(self) -> None:
        """Something is begun whose outcome will be a message."""
        self._coming += 1

    def came(self) -> None:
        """The outcome is in the mailbox, or will not come."""
        self._coming -= 1
        self._announce_quiet()

    def begin(self) -> None:
        """Something is being done for an actor outside of its turns."""
        self._busy += 1

    def finish(self) -> None:
        """What was begun is done."""
        self._busy -= 1
        self._announce_quiet()

    def await_start(self, cell: Cell) -> None:
        """`cell` is between two incarnations: what is queued for it is still to be handled."""
        self._waiting[cell] = None

    def started(self, cell: Cell) -> None:
        """`cell` waits for an incarnation no longer."""
        if self._waiting.pop(cell, self) is None:
            self._announce_quiet()

    def let_go(self, cell: Cell) -> None:
        """`cell` is held back no longer."""
        self._held.pop(cell, None)
        self.schedule(cell)

    def _start_burst(self, cell: Cell, first: Coroutine[Any, Any, None]) -> None:
        self.begin()
        cell.system.start_task(self._burst, cell, first, name=cell.address)

    async def _burst(self, cell: Cell, first: Coroutine[Any, Any, None]) -> None:
        coroutine: Coroutine[Any, Any, None] | None = first
        limit = cell.take_time()
        try:
            with limit.scope() as scope:
                stop = perf_counter() + self.hold
                while coroutine is not None:
                    if not await self._finished(cell, coroutine):
                        break
                    if perf_counter() > stop:
                        await cancel_shielded_checkpoint()
                        stop = perf_counter() + self.hold
                    coroutine = self.turn(cell)
        except BaseException as error:  # noqa: BLE001 - what was left when the scope took its Cancelled, or a stray one
            limit.over()
            cell.handler_failed(error)
        else:
            limit.over()
            if scope.cancelled_caught:
                cell.interrupted()
        self.finish()

    async def _finished(self, cell: Cell, coroutine: Coroutine[Any, Any, None]) -> bool:
        """Run one handler to its end. False when the incarnation ended with it."""
        context = cell.context
        assert context is not None
        message, reply = context._message, context._slot  # noqa: SLF001
        cell.handling = handling = Handling(cell, message, reply, coroutine)
        current.set(handling)
        try:
            if reply is not None and getattr(message, "cancellable", False):
                await _while_wanted(coroutine, cell, reply)
            else:
                await patiently(coroutine, cell)
        except Refusal as refusal:
            refused(cell, message, refusal)
        except BaseException as error:
            if split(error)[0] is not None:
                raise  # to the scope that it belongs to, which leaves what does not
            if not _expired(error, reply):
                cell.handler_failed(error)
                return False
        else:
            if reply is not None and not reply.done:
                check_answered(cell, reply)
        finally:
            cell.handling = None
            cell.system.fates.handled += 1
        return True

    async def _park(self) -> None:
        self._parked = current_task()
        self._announce_quiet()
        await wait_task_rescheduled(self._abort)

    def _abort(self, _: RaiseCancelT) -> Abort:
        self._parked = None
        return Abort.SUCCEEDED

    def _wake(self) -> None:
        task, self._parked = self._parked, None
        if task is not None:
            reschedule(task)

    def _at_rest(self) -> bool:
        return not (self._ready or self._bulk or self._busy or any(cell.queue for cell in self._waiting))

    def _announce_quiet(self) -> None:
        if self._quiet and self._at_rest():
            waiting, self._quiet = self._quiet, []
            for event in waiting:
                event.set()


async def _while_wanted(coroutine: Coroutine[Any, Any, None], cell: Cell, reply: Reply[Any]) -> None:
    """Run a handler that may be cancelled when its asker leaves, which is no failure."""
    with trio.CancelScope(deadline=reply.deadline) as scope:
        reply.left = partial(scope.cancel, reason="nobody waits for the answer any more")
        if reply.done:
            reply.left()
        await patiently(coroutine, cell)
    if scope.cancelled_caught:
        reply.fail(DeadlineExpired(f"{cell.address} was not done in time"))


def _expired(error: BaseException, reply: Reply[Any] | None) -> bool:
    """Whether the handler ran into the deadline of the one who asked it, which is no failure; answers that one."""
    if not isinstance(error, DeadlineExpired) or reply is None or reply.deadline > trio.current_time():
        return False
    reply.fail(error)
    return True
