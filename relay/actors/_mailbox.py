"""The mailbox: what an actor has been sent and has not handled yet.

It belongs to the cell, not to an incarnation, and survives restarts. Every accepted message meets exactly one fate:
handled, expired (its deadline passed), abandoned (its asker left), superseded (by a newer one of its key) or
undelivered (a dead letter, with the reason).
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import TYPE_CHECKING, Any

import trio

from ._bounds import Bounds, Coalescing, Overflow
from ._errors import ActorStopped, DeadlineExpired, MailboxFull

if TYPE_CHECKING:
    from ._reply import Reply
    from ._system import System

__all__ = ["Mailbox"]


class Mailbox:
    """A bounded queue of `(message, reply slot)`. An empty one costs nothing."""

    __slots__ = ("bounds", "capacity", "handled", "occupied", "queue", "room", "stashed", "system", "used")

    def __init__(self, system: System, bounds: Bounds) -> None:
        self.system = system
        self.bounds = bounds
        self.capacity = bounds.capacity
        self.queue: deque[tuple[object, Reply[Any] | None]] | Coalescing | None = None
        self.stashed: deque[tuple[object, Reply[Any] | None]] | None = None
        self.room: trio.Event | None = None
        self.occupied = True
        self.used = True
        self.handled = 0

    @property
    def address(self) -> str:
        """The path of names from the root."""
        raise NotImplementedError

    def put(self, message: object, reply: Reply[Any] | None) -> None:
        """Accept a message from outside, within the capacity."""
        queue = self.queue
        if queue is None:
            self.accept(message, reply)
        elif len(queue) < self.capacity or self._place(message, reply):
            queue.append((message, reply))
        else:
            return
        if not self.occupied:
            self.rouse()

    def accept(self, message: object, reply: Reply[Any] | None) -> None:
        if self.queue is None:
            self.queue = self._new_queue()
        self.queue.append((message, reply))

    def _new_queue(self) -> deque[tuple[object, Reply[Any] | None]] | Coalescing:
        key = self.bounds.coalesce
        return deque() if key is None else Coalescing(key, self.system.fates.supersede)

    def _place(self, message: object, reply: Reply[Any] | None) -> bool:
        """Whether there is a place for one more in a full mailbox, which may have been made."""
        queue = self.queue
        assert queue is not None
        if isinstance(queue, Coalescing) and reply is None and queue.holds(message):
            return True
        if self.bounds.overflow is Overflow.DROP_OLDEST:
            self._drop(*queue.popleft())
            return True
        if self.bounds.overflow is Overflow.DROP_NEWEST and reply is None:
            self._drop(message, None)
            return False
        raise MailboxFull(f"{self.address} holds {self.capacity} messages")

    def _drop(self, message: object, reply: Reply[Any] | None) -> None:
        self.system.bury(message, self.address, "dropped from a full mailbox")
        if reply is not None:
            reply.fail(MailboxFull(f"{self.address} holds {self.capacity} messages, and dropped its oldest"))

    def notify(self, message: object) -> None:
        """Accept what the actor itself has ordered: a timer, a watch, an outcome. Orders bound it, not the capacity."""
        try:
            self.accept(message, None)
        except Exception as error:  # noqa: BLE001 - a key of the user's, and nobody here to tell but the actor
            self.fail(error)
        else:
            self.rouse()

    def fail(self, error: BaseException) -> None:
        """End the running incarnation as if its handler had raised `error`."""
        raise NotImplementedError

    def stash(self, message: object, reply: Reply[Any] | None) -> None:
        """Put aside what is being handled; it has not met its fate."""
        if self.stashed is None:
            self.stashed = deque()
        if len(self.stashed) >= self.capacity:
            raise MailboxFull(f"{self.address} has put aside {self.capacity} messages")
        self.stashed.append((message, reply))
        self.handled -= 1

    def unstash(self) -> None:
        """Put what was put aside before everything else, in its order."""
        stashed, self.stashed = self.stashed, None
        if stashed:
            if self.queue is None:
                self.queue = self._new_queue()
            stashed.extend(self.queue)
            self.queue.clear()  # in place, for a turn may be holding it
            self.queue.extend(stashed)

    def rouse(self) -> None:
        """See to it that the actor gets a turn."""
        raise NotImplementedError

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
        elif reply.deadline != inf and reply.deadline < trio.current_time():
            self.system.fates.expired += 1
            reply.fail(DeadlineExpired(f"{self.address} came to it too late"))
        else:
            return False
        return True

    def rest(self) -> None:
        """All is handled: free the queue."""
        self.queue = None
        self.occupied = False
        self.used = True
        self._count()

    def _count(self) -> None:
        self.system.fates.handled += self.handled
        self.handled = 0

    def discard(self, error: BaseException | None) -> None:
        """The actor is gone for good, because of `error`: what is still here is undelivered."""
        self._count()
        self.unstash()
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
