"""What a user writes (`Actor`), and what its handlers are given (`Context`)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar, TypeVarTuple, Unpack, final

from ._errors import ActorStopped
from ._reply import PUT_ASIDE, Entry, Reply
from ._text import shown

if TYPE_CHECKING:
    from ._bounds import Bounds
    from ._cell import Cell
    from ._duties import Duties
    from ._gate import Gate
    from ._messages import Ask, Tell
    from ._ref import Ref
    from ._supervision import Supervision
    from ._system import System
    from ._watches import Exit

__all__ = ["Actor", "Context", "Step", "check_function"]

P = TypeVar("P")
Q = TypeVar("Q")
R = TypeVar("R")
Ts = TypeVarTuple("Ts")

Step = Coroutine[Any, Any, None] | None
"""What a handler or hook returns: nothing, or a coroutine that the runtime runs to its end."""


class Actor(Generic[P]):
    """One actor's behaviour and state. It understands the messages of protocol `P`.

    `handle` is plain or `async`. A plain handler is atomic: nothing else of the system runs inside it. While an
    `async` handler runs, this actor is given no other message. A plain handler may also return a coroutine for
    the few messages that have to wait.

    An exception ends the incarnation: the asker gets `ActorFailed`, the supervisor decides about the next one. A
    `Refusal` is an answer instead and changes nothing.
    """

    gate: Gate | None = None
    """While this gate is closed the actor is given no message. To be set in `__init__` or `started`."""

    def started(self, context: Context[P]) -> Step:
        """Runs before the first message of every incarnation; failing fails the start."""

    def handle(self, message: Any, context: Context[P]) -> Step:
        """Handle one message. An `Ask` is answered by `context.reply`, or later through `context.defer`."""
        raise NotImplementedError(f"{type(self).__name__}.handle")

    def stopped(self, context: Context[P]) -> Step:
        """Runs at the end of every incarnation, crashed ones too, after its children and tasks have ended."""


@final
class Context(Generic[P]):
    """One incarnation's view of the world. Once that has ended, whatever would begin something raises `ActorStopped`,
    and the rest does nothing."""

    __slots__ = ("_aside", "_cell", "_message", "_slot", "self_ref", "system")

    def __init__(self, cell: Cell, self_ref: Ref[P], system: System) -> None:
        self._cell = cell
        self._message: object = None
        self._slot: Reply[Any] | None = None  # of the message in hand, if it was asked
        self._aside: Entry = None
        self.self_ref = self_ref
        self.system = system

    @property
    def wanted(self) -> bool:
        """Whether somebody still waits for the answer to the ask that is being handled."""
        return self._slot is not None and not self._slot.done

    def reply(self, message: Ask[P, R], value: R) -> bool:
        """Answer the ask that is being handled. False, and harmless, when it was answered or nobody waits any more."""
        if message is not self._message:
            raise _not_in_hand(message)
        return self._slot is not None and self._slot.set(value)

    def defer(self, message: Ask[P, R]) -> Reply[R]:
        """Take over the duty to answer. If this incarnation fails first, the asker gets `ActorFailed`; if it is stopped,
        `ActorStopped`; and if the handler raises a `Refusal` after all, that."""
        slot: Reply[R] = self.detach(message)
        self._cell.take_on().owe(slot)
        return slot

    def detach(self, message: Ask[P, R]) -> Reply[R]:
        """As `defer`, for whoever completes the slot for certain, even after this incarnation has ended."""
        if message is not self._message:
            raise _not_in_hand(message)
        slot = self._slot
        if slot is PUT_ASIDE:
            raise ValueError(f"{shown(message)} has been put aside; answer it when it is handled again")
        if slot is None:
            slot = Reply()
            slot.done = True
        slot.promised = True
        return slot

    def stash(self, message: Ask[P, Any] | Tell[P]) -> None:
        """Put the message that is being handled aside, until `unstash`. Raises `MailboxFull` when too many are there.

        As many fit as into the mailbox. What is put aside survives a restart: the next incarnation finds it first.
        """
        if message is not self._message:
            raise _not_in_hand(message)
        slot = self._slot
        if slot is not None and (slot.promised or slot is PUT_ASIDE):
            done = "put aside" if slot is PUT_ASIDE else "deferred"
            raise ValueError(f"{shown(message)} has been {done} already")
        self._aside = message if slot is None else slot
        self._cell.stash(self._aside)
        self._slot = PUT_ASIDE

    def unstash(self) -> None:
        """Put what was put aside back before everything else in the mailbox, in its order."""
        if self._lives:
            self._cell.unstash()
            if self._cell.queue:
                self._cell.rouse()

    def watch(self, ref: Ref[Any], then: Callable[[Exit], Tell[P]]) -> None:
        """Have `then(exit)` put into the own mailbox once the actor behind `ref` has stopped for good.

        If it has already, that happens at once. A restart is no stop, nor does a family member stop when it falls
        asleep; stopping its family stops it for good. Watching again replaces `then`; a watch ends with the incarnation,
        as does its message that is still in the mailbox, and fails it if `then` raises.
        """
        self._take_on().watch(ref._cell, then)  # noqa: SLF001 - the runtime's own

    def unwatch(self, ref: Ref[Any]) -> None:
        """End a watch, also when its message is already in the mailbox; one that is not there is fine."""
        if self._lives and self._cell.duties is not None:
            self._cell.duties.unwatch(ref._cell.identity)  # noqa: SLF001 - the runtime's own

    def set_timer(self, key: str, delay: float, message: Tell[P], *, every: float | None = None) -> None:
        """Put `message` into the own mailbox after `delay` seconds, and then again `every` so many.

        There is one timer of a key, and at most one message of it in the mailbox: a periodic one leaves a time out as
        long as its last message waits there. Arming it again replaces both, and both end with the incarnation.
        """
        self._take_on().set_timer(key, delay, message, every)

    def cancel_timer(self, key: str) -> None:
        """Disarm a timer, and withdraw its message if that is still in the mailbox. Unknown keys are fine."""
        if self._lives and self._cell.duties is not None:
            self._cell.duties.cancel_timer(key)

    def start_soon(self, function: Callable[[Unpack[Ts]], Awaitable[object]], *arguments: *Ts) -> None:
        """Run `function` beside the handlers until the incarnation ends. If it fails, the incarnation does."""
        check_function("start_soon", function)
        self._take_on().start(partial(function, *arguments))

    def pipe(
        self,
        function: Callable[[Unpack[Ts]], Awaitable[R]],
        *arguments: *Ts,
        then: Callable[[R], Tell[P]],
        failed: Callable[[Exception], Tell[P]] | None = None,
    ) -> None:
        """Run `function` beside the handlers and put `then(result)` into the own mailbox.

        If it raises, `failed(error)` is put there; without `failed` the incarnation fails.
        """
        check_function("pipe", function)
        self._take_on().pipe(partial(function, *arguments), then, failed)

    async def spawn(
        self,
        factory: Callable[[Unpack[Ts]], Actor[Q]],
        *arguments: *Ts,
        name: str | None = None,
        supervision: Supervision | None = None,
        bounds: Bounds | None = None,
    ) -> Ref[Q]:
        """Start a child. It ends before this incarnation does."""
        self._check_lives()
        return await self.system.spawn_under(self._cell, factory, arguments, name, supervision, bounds)

    def stop(self) -> None:
        """End after this message. Does not wait. A permanent child is started again."""
        if self._lives:
            self._cell.leave()

    def fail(self, error: BaseException) -> None:
        """End this incarnation as if its handler had raised `error`. For callbacks from outside a handler."""
        if self._lives:
            self._cell.fail(error)

    @property
    def _lives(self) -> bool:
        """Whether this is the view of the running incarnation."""
        return self._cell.context is self and self._cell.living

    def _check_lives(self) -> None:
        if not self._lives:
            raise ActorStopped(f"this incarnation of {self._cell.address} has ended, and begins nothing more")

    def _take_on(self) -> Duties:
        self._check_lives()
        return self._cell.take_on()


def check_function(verb: str, function: object) -> None:
    """Raises `TypeError`, with what to write instead, unless `function` can be called."""
    if not callable(function):
        name = getattr(function, "__name__", None) or type(function).__name__
        raise TypeError(
            f"{shown(function)} cannot be called; give the function and its arguments: {verb}({name}, ...)"
        )
    if isinstance(function, Actor):
        name = type(function).__name__
        raise TypeError(
            f"{shown(function)} is an actor already; give its class and the arguments: {verb}({name}, ...)"
        )


def _not_in_hand(message: object) -> ValueError:
    return ValueError(f"{shown(message)} is not what is being handled")
