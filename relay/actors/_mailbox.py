"""The mailbox: what an actor has been sent and has not handled yet.

It belongs to the cell, not to an incarnation, and survives restarts. Every accepted message meets exactly one fate:
handled, expired (its deadline passed), abandoned (its asker left), superseded (by a newer one of its key) or
undelivered (a dead letter, with the reason).
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import TYPE_CHECKING

import trio

from ._bounds import Bounds, Coalescing, Overflow
from ._ctrl_c import exposed
from ._errors import ActorStopped, DeadlineExpired, MailboxFull
from ._reply import Entry, Reply, message_of

if TYPE_CHECKING:
    from ._system import System

__all__ = ["Mailbox"]


class Mailbox:
    """A bounded queue. An empty one costs nothing."""

    __slots__ = ("bounds", "capacity", "occupied", "overflowed", "queue", "room", "stashed", "system", "used")

    def __init__(self, system: System, bounds: Bounds) -> None:
        self.system = system
        self.bounds = bounds
        self.capacity = bounds.capacity
        self.queue: deque[Entry] | Coalescing | None = None
        self.stashed: deque[Entry] | None = None
        self.room: trio.Event | None = None
        self.occupied = True
        self.overflowed = False
        self.used = True

    @property
    def address(self) -> str:
        """The path of names from the root."""
        raise NotImplementedError

    def accept(self, entry: Entry) -> None:
        """Take it, even beyond the capacity."""
        queue = self.begin_queue() if self.queue is None else self.queue
        queue.append(entry)

    def begin_queue(self) -> deque[Entry] | Coalescing:
        """The queue of a mailbox that had none, for it was empty."""
        self.overflowed = False
        key = self.bounds.coalesce
        self.queue = deque() if key is None else Coalescing(key, self.system.fates.supersede)
        return self.queue

    def place(self, entry: Entry) -> bool:
        """Whether there is a place for one more in a full mailbox, which may have been made."""
        queue = self.queue
        assert queue is not None
        if isinstance(queue, Coalescing) and queue.holds(entry):
            return True
        if not self.overflowed:
            self.overflowed = True
            self.system.overflowed(self.address, self.capacity)
        if self.bounds.overflow is Overflow.DROP_OLDEST:
            self._drop(queue.popleft())
            return True
        if self.bounds.overflow is Overflow.DROP_NEWEST and not isinstance(entry, Reply):
            self._drop(entry)
            return False
        raise MailboxFull(f"{self.address} holds {self.capacity} messages")

    def _drop(self, entry: Entry) -> None:
        if isinstance(entry, Reply):
            if self.dropped(entry):
                return
            entry.fail(MailboxFull(f"{self.address} holds {self.capacity} messages, and dropped its oldest"))
        self.bury(message_of(entry), "dropped from a full mailbox")

    def bury(self, message: object, reason: str) -> None:
        """Put on record that a message is undelivered, and give it to whoever wants it back."""
        self.system.bury(message, self.address, reason)
        if self.bounds.undelivered is not None:
            try:
                exposed(self.bounds.undelivered, message, reason)
            except Exception as error:  # noqa: BLE001 - the user's own, and the actor may be gone
                self.system.note(error, self.address)

    def notify(self, message: object) -> None:
        """Accept what the actor itself has ordered: a timer, a watch, an outcome. Orders bound it, not the capacity."""
        try:
            self.accept(message)
        except Exception as error:  # noqa: BLE001 - a key of the user's, and nobody here to tell but the actor
            self.fail(error)
        else:
            self.rouse()

    def fail(self, error: BaseException) -> None:
        """End the running incarnation as if its handler had raised `error`."""
        raise NotImplementedError

    def stash(self, entry: Entry) -> None:
        """Put aside what is being handled; it has not met its fate."""
        if self.stashed is None:
            self.stashed = deque()
        if len(self.stashed) >= self.capacity:
            raise MailboxFull(f"{self.address} has put aside {self.capacity} messages")
        self.stashed.append(entry)
        self.system.fates.handled -= 1

    def take_out(self, entry: Entry) -> Entry | None:
        """Take back what the handler of the message in hand has put aside, wherever that is by now."""
        for entries in (self.stashed, self.queue):
            left = list(entries or ())
            for place in reversed(range(len(left))):
                if left[place] is entry:
                    del left[place]
                    assert entries is not None
                    entries.clear()
                    entries.extend(left)
                    self.system.fates.handled += 1
                    return entry
        return None

    def unstash(self) -> None:
        """Put what was put aside before everything else, in its order."""
        stashed, self.stashed = self.stashed, None
        if stashed:
            queue = self.begin_queue() if self.queue is None else self.queue
            stashed.extend(queue)
            queue.clear()  # in place, for a turn may be holding it
            queue.extend(stashed)

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

    def dropped(self, reply: Reply[object]) -> bool:
        """Whether nobody waits for this any more; notes the fate."""
        if reply.order is not None:
            return not reply.order.take()
        if reply.done:
            self.system.fates.abandoned += 1
        elif reply.deadline != inf and reply.deadline < trio.current_time():
            self.system.fates.expired += 1
            reply.fail(DeadlineExpired(f"{self.address} came to it too late"))
        else:
            return False
        return True

    def discard(self, error: BaseException | None) -> None:
        """The actor is gone for good, because of `error`: what is still here is undelivered."""
        self.unstash()
        queue, self.queue = self.queue, None
        for entry in queue or ():
            if isinstance(entry, Reply) and self.dropped(entry):
                continue
            if isinstance(entry, Reply) and entry.order is None:
                self.system.fates.undelivered += 1
                stopped = ActorStopped(f"{self.address} stopped before it came to this")
                stopped.__cause__ = error
                entry.fail(stopped)
            else:
                self.bury(message_of(entry), "the actor stopped")
        self.make_room()
