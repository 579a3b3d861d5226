"""Durable actors: decide, commit, apply.

A handler looks at its state and a message and makes a `Decision`: the answer, the rows, the events, the messages
to other actors, the timers. The decision is staged with the store; when its transaction is durable, everything it
causes leaves, in staging order. Nobody ever sees an answer, an event or a message that a crash could take back.

1. A plain handler calls `settle` and goes on with the next message: its own state already counts the decision,
   the world hears of it after the commit. Many decisions of one actor share one sync of the disk.
2. An `async` handler calls `await self.commit(...)` and applies the decision afterwards.
3. If a commit fails, the incarnation fails: the next one starts from what is durable, and whatever was staged
   meanwhile fails too. A lost fence (`Conflict`) in `commit` undoes only that decision, which was not applied yet.
4. An incarnation ends only after everything it staged is settled, so the next one reads the truth.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import attrs
import trio

from relay.actors import Actor, ActorError, ActorFailed, Ask, Context, Ref, Reply, Step, Tell

from ._types import Conflict, Event, Owner, Write

if TYPE_CHECKING:
    from ._types import Store

__all__ = ["Decision", "Durable"]

P = TypeVar("P")
R = TypeVar("R")


@attrs.frozen(kw_only=True)
class Decision(Generic[R]):
    """What one message causes. All of `writes` and `events` become durable together, or nothing does.

    `tells` are sent after the commit. `timers` maps keys to `(seconds, message)`, or to None to disarm.
    """

    reply: R
    writes: tuple[Write, ...] = ()
    events: tuple[Event, ...] = ()
    tells: tuple[tuple[Ref[Any], Tell[Any]], ...] = ()
    timers: Mapping[str, tuple[float, Tell[Any]] | None] = attrs.field(factory=dict)


class Durable(Actor[P]):
    """An actor whose state is rows of the store. Subclasses load it in `__init__` or `started`."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.gate = store.gate
        self._owner = Owner()
        self._staged = 0
        self._in_flight = 0
        self._settled: trio.Event | None = None

    def settle(self, message: Ask[P, R] | Tell[P], decision: Decision[R], context: Context[P]) -> None:
        """Stage `decision`; answer `message` once it is durable."""
        self._set_timers(decision, context)
        slot = context.detach(message) if isinstance(message, Ask) else None
        if not self._needs_order(decision):
            _leave(decision, slot, context)
            return

        def done(error: BaseException | None) -> None:
            self._landed()
            if error is None:
                _leave(decision, slot, context)
                return
            if slot is not None:
                slot.fail(_not_committed(context, error))
            context.fail(error)

        self._stage(decision, done)

    async def commit(self, decision: Decision[R], context: Context[P]) -> R:
        """Stage `decision` and wait until it is durable. Not cancelled halfway: it takes as long as the store.

        Raises `Conflict` when a fence of the decision was lost; then nothing of it happened.
        """
        if self._needs_order(decision):
            slot: Reply[None] = Reply()

            def done(error: BaseException | None) -> None:
                self._landed()
                if error is None:
                    slot.set(None)
                else:
                    slot.fail(error)

            self._stage(decision, done)
            with trio.CancelScope(shield=True):
                try:
                    await slot.wait()
                except Conflict:
                    self._owner = Owner()
                    raise
        self._set_timers(decision, context)
        _leave(decision, None, context)
        return decision.reply

    def durability(self) -> tuple[int, int]:
        """How many decisions this incarnation has staged, and how many of them are settled: with success, if it lives."""
        return self._staged, self._staged - self._in_flight

    def stopped(self, context: Context[P]) -> Step:
        """The next incarnation must not start before what this one staged is settled."""
        return self._all_settled() if self._in_flight else None

    async def _all_settled(self) -> None:
        self._settled = trio.Event()
        await self._settled.wait()

    def _needs_order(self, decision: Decision[Any]) -> bool:
        """An answer that changes nothing still may not overtake what it was derived from."""
        return bool(decision.writes or decision.events or self._in_flight)

    def _stage(self, decision: Decision[Any], done: Any) -> None:
        self._staged += 1
        self._in_flight += 1
        self.store.stage(decision.writes, decision.events, self._owner, done)

    def _landed(self) -> None:
        self._in_flight -= 1
        if not self._in_flight and self._settled is not None:
            self._settled.set()

    def _set_timers(self, decision: Decision[Any], context: Context[P]) -> None:
        for key, timer in decision.timers.items():
            if timer is None:
                context.cancel_timer(key)
            else:
                context.set_timer(key, *timer)


def _leave(decision: Decision[R], slot: Reply[R] | None, context: Context[Any]) -> None:
    """The decision is durable: let what it causes go out."""
    if slot is not None:
        slot.set(decision.reply)
    for ref, message in decision.tells:
        try:
            ref.tell(message)
        except ActorError as error:
            context.system.bury(message, ref.address, str(error))


def _not_committed(context: Context[Any], error: BaseException) -> ActorFailed:
    failed = ActorFailed(f"{context.self_ref.address} could not commit its decision: {error}")
    failed.__cause__ = error
    return failed
