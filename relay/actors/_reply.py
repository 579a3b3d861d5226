"""The slot an answer is put into. It is completed once; whoever waits for it is woken directly."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Final, Generic, TypeVar, final

from trio.lowlevel import Abort, RaiseCancelT, Task, current_task, reschedule, wait_task_rescheduled

if TYPE_CHECKING:
    from ._orders import Order

__all__ = ["PUT_ASIDE", "Entry", "Reply", "message_of"]

R = TypeVar("R")

Entry = object
"""What stands in a mailbox: a told message as it is, an asked one as the `Reply` that waits for its answer, and what the
actor ordered itself as a `Reply` with an `order`, which nobody waits for."""


@final
class Reply(Generic[R]):
    """Where the answer to one ask goes: what was asked, until when it is of use (seconds of trio's clock), the answer."""

    __slots__ = ("_error", "_task", "_value", "deadline", "done", "left", "message", "order", "promised")

    def __init__(self, message: object = None, order: Order | None = None) -> None:
        self.message = message
        self.order = order
        self.deadline = inf
        self.done = False  # answered, or abandoned
        self.promised = False  # whoever took it over answers later, and no handler is in the way
        self.left: Callable[[], object] | None = None  # called when the asker leaves before the answer
        self._value: R | None = None
        self._error: BaseException | None = None
        self._task: Task | None = None

    def set(self, value: R) -> bool:
        """Answer. False when there is already an answer, or nobody waits for one any more."""
        if self.done:
            return False
        self._value = value
        if self._task is not None:
            self._wake()
        self.done = True
        return True

    def fail(self, error: BaseException) -> bool:
        """Make the ask raise `error`. False as for `set`."""
        if self.done:
            return False
        self._error = error
        if self._task is not None:
            self._wake()
        self.done = True
        return True

    def result(self) -> R:
        """The answer of a completed slot."""
        if self._error is None:
            return self._value  # type: ignore[return-value]  # a cast costs a call
        try:
            raise self._error
        finally:
            self._error = None  # an exception that holds its own slot would be a reference cycle

    async def wait(self) -> R:
        """Wait for the answer; being cancelled abandons the ask."""
        if not self.done:
            self._task = current_task()
            await wait_task_rescheduled(self._abort)
        return self.result()

    def _wake(self) -> None:
        """Before the slot is done, for this raises in a thread that is not trio's."""
        assert self._task is not None
        reschedule(self._task)
        self._task = None

    def _abort(self, _: RaiseCancelT) -> Abort:
        self.done = True
        self._task = None
        if self.left is not None:
            self.left()
        return Abort.SUCCEEDED


PUT_ASIDE: Final[Reply[object]] = Reply()
"""In the place of the slot of a message that its handler has put aside: there is no answering it now."""
PUT_ASIDE.done = True


def message_of(entry: Entry) -> object:
    """The message of an entry."""
    return entry.message if isinstance(entry, Reply) else entry
