"""The address of an actor, and the three ways to talk to it."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING, Any, Generic, TypeVar, final

import trio
from trio.lowlevel import checkpoint, checkpoint_if_cancelled

from ._errors import ActorStopped, DeadlineExpired, MailboxFull
from ._handling import Handling, current, deadline, handled_by_this_task
from ._reply import Reply

if TYPE_CHECKING:
    from ._cell import Cell
    from ._messages import Question, Tell

__all__ = ["Ref"]

P_contra = TypeVar("P_contra", contravariant=True)
R = TypeVar("R")


@final
class Ref(Generic[P_contra]):
    """Stays valid over restarts, and for a family member over passivation.

    Messages from one sender to one actor arrive in the order they were sent, and a message is in the mailbox when
    the sending call returns, so what it causes comes after it.
    """

    __slots__ = ("_cell",)

    def __init__(self, cell: Cell) -> None:
        self._cell = cell

    @property
    def address(self) -> str:
        """The path of names from the root, such as `agents/a1`."""
        return self._cell.address

    def tell(self, message: Tell[P_contra]) -> None:
        """Put `message` into the mailbox. Never blocks; raises `MailboxFull` or `ActorStopped`.

        Another thread calls it through trio: `trio.from_thread.run_sync(ref.tell, message)`.
        """
        cell = self._cell
        if get_ident() != cell.system.thread:
            raise _elsewhere(cell)
        if cell.closed:
            cell = self._renewed()
        queue = cell.queue
        if queue is None:
            queue = cell.begin_queue()
        elif len(queue) >= cell.capacity and not cell.place(message):
            return
        queue.append(message)
        if not cell.occupied:
            cell.system.scheduler.schedule(cell)

    async def send(self, message: Tell[P_contra]) -> None:
        """As `tell`, but waits for room instead of raising `MailboxFull`."""
        await checkpoint()
        while True:
            try:
                return self.tell(message)
            except MailboxFull:
                await self._has_room()

    async def _has_room(self) -> None:
        handling, cell = handled_by_this_task(), self._cell
        with nullcontext() if handling is None else handling.waiting_for(cell):
            await cell.has_room()

    async def ask(self, message: Question[P_contra, R]) -> R:
        """Put `message` into the mailbox and wait for the answer.

        The surrounding cancel scope is the time limit. It travels along, also to what the handler asks in turn: a
        request nobody waits for any more is dropped before it costs work. Raises what the actor refuses with, or an
        `ActorError`; `DeadlockError` at once if the answer could never come.
        """
        cell = self._cell
        if get_ident() != cell.system.thread:
            raise _elsewhere(cell)
        if cell.closed:
            cell = self._renewed()
        handling = None if current.get() is None else handled_by_this_task()
        reply: Reply[Any] = Reply(message)
        if handling is not None:
            handling.wait_for(cell, reply)
        try:
            scheduler = cell.system.scheduler
            if cell.occupied or not scheduler.inline:
                reply.deadline = deadline(handling)
                self.tell(reply)  # type: ignore[arg-type]  # what stands in a mailbox for an ask
                return await _answered(reply, cell, handling)  # type: ignore[no-any-return]
            # An idle actor may as well answer in the asker's task: that saves two switches of task.
            await checkpoint_if_cancelled()
            scheduler.answer(cell, reply)
            if reply.done and not scheduler.breathe():
                return reply.result()  # type: ignore[no-any-return]
            if reply.done:
                await checkpoint()
                return reply.result()  # type: ignore[no-any-return]
            reply.deadline = deadline(handling)  # none for an answer that is there at once: half its cost
            return await _answered(reply, cell, handling)  # type: ignore[no-any-return]
        except DeadlineExpired:
            await checkpoint()  # the asker's own scope, if it was that, ends the wait as it ends any other
            raise
        finally:
            if handling is not None:
                handling.go_on(cell, reply)

    def _renewed(self) -> Cell:
        """The cell behind this address now: a passivated family member has a new one."""
        cell = self._cell
        if cell.family is None:
            raise ActorStopped(f"{cell.address} has stopped")
        self._cell = cell = cell.family.cell(cell.key)
        return cell

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ref) and other._cell.identity == self._cell.identity

    def __hash__(self) -> int:
        return hash(self._cell.identity)

    def __repr__(self) -> str:
        return f"<Ref {self._cell!r}>"


async def _answered(reply: Reply[Any], cell: Cell, handling: Handling | None) -> Any:
    """Wait for the answer; a handler no longer than whoever asked it does."""
    if handling is None or reply.deadline >= trio.current_effective_deadline():
        return await reply.wait()
    late = DeadlineExpired(f"{cell.address} did not answer before whoever asked {handling.cell.address} left")
    timer = cell.system.timers.at(reply.deadline, partial(_give_up, reply, late))
    try:
        return await reply.wait()
    finally:
        timer.cancel()


def _give_up(reply: Reply[Any], late: DeadlineExpired) -> None:
    reply.fail(late)


def _elsewhere(cell: Cell) -> RuntimeError:
    return RuntimeError(
        f"{cell.address} lives in another thread: reach it with trio.from_thread.run_sync(ref.tell, message)"
    )
