"""Messages put aside: bounded, in order, and never lost to a restart."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import attrs
import pytest
import trio

from relay.actors import (
    Actor,
    ActorFailed,
    ActorStopped,
    Ask,
    Bounds,
    Context,
    Ref,
    System,
    Tell,
    open_system,
)

if TYPE_CHECKING:
    from trio.testing import MockClock


class Lock:
    """A lock that is handed on."""


@attrs.frozen
class Acquire(Ask[Lock, int]):
    owner: str


@attrs.frozen
class Release(Tell[Lock]):
    pass


@attrs.frozen
class Crash(Tell[Lock]):
    pass


class Mutex(Actor[Lock]):
    """Puts aside whoever comes while somebody holds it."""

    def __init__(self) -> None:
        self.held = False
        self.served = 0

    def handle(self, message: Acquire | Release | Crash, context: Context[Lock]) -> None:
        match message:
            case Acquire() if self.held:
                context.stash(message)
            case Acquire():
                self.held = True
                self.served += 1
                context.reply(message, self.served)
            case Release():
                self.held = False
                context.unstash()
            case Crash():
                raise ValueError("as told")


class SlowMutex(Mutex):
    async def handle(self, message: Acquire | Release | Crash, context: Context[Lock]) -> None:  # type: ignore[override]
        await trio.lowlevel.checkpoint()
        super().handle(message, context)


@pytest.fixture
async def system() -> AsyncIterator[System]:
    async with open_system() as system:
        yield system


@pytest.fixture(params=[Mutex, SlowMutex], ids=["plain", "async"])
async def mutex(request: pytest.FixtureRequest, system: System) -> Ref[Lock]:
    return await system.spawn(request.param, bounds=Bounds(capacity=3))


async def test_what_was_put_aside_comes_first_and_in_order(
    autojump_clock: MockClock, system: System, mutex: Ref[Lock]
) -> None:
    got: list[tuple[str, int]] = []

    async def acquire(owner: str) -> None:
        got.append((owner, await mutex.ask(Acquire(owner))))

    async with trio.open_nursery() as nursery:
        for owner in ("a", "b", "c"):
            nursery.start_soon(acquire, owner)
            await trio.sleep(1)
        for _ in range(3):
            mutex.tell(Release())
            await trio.sleep(1)
    assert got == [("a", 1), ("b", 2), ("c", 3)]
    assert system.fates.handled == 6, "putting aside is no fate"


async def test_what_was_put_aside_survives_a_restart(
    autojump_clock: MockClock, system: System, mutex: Ref[Lock]
) -> None:
    assert await mutex.ask(Acquire("a")) == 1
    async with trio.open_nursery() as nursery:
        nursery.cancel_scope.deadline = trio.current_time() + 10
        nursery.start_soon(mutex.ask, Acquire("b"))
        await trio.sleep(1)
        mutex.tell(Crash())
        await trio.sleep(1)
    assert not nursery.cancel_scope.cancelled_caught
    assert len(system.failures) == 1


async def test_who_was_put_aside_is_answered_when_the_actor_stops(
    autojump_clock: MockClock, system: System, mutex: Ref[Lock]
) -> None:
    await mutex.ask(Acquire("a"))
    async with trio.open_nursery() as nursery:

        async def acquire() -> None:
            with pytest.raises(ActorStopped):
                await mutex.ask(Acquire("b"))

        nursery.start_soon(acquire)
        await trio.sleep(1)
        await system.stop(mutex)


async def test_the_stash_is_bounded(autojump_clock: MockClock, system: System, mutex: Ref[Lock]) -> None:
    await mutex.ask(Acquire("a"))
    async with trio.open_nursery() as nursery:
        for owner in ("b", "c", "d"):
            nursery.start_soon(mutex.ask, Acquire(owner))
        await trio.sleep(1)
        with pytest.raises(ActorFailed, match="put aside 3 messages"):
            await mutex.ask(Acquire("e"))
        for _ in range(3):
            await trio.sleep(1)
            mutex.tell(Release())


async def test_an_asker_that_left_is_not_served_from_the_stash(
    autojump_clock: MockClock, system: System, mutex: Ref[Lock]
) -> None:
    await mutex.ask(Acquire("a"))
    with trio.move_on_after(1):
        await mutex.ask(Acquire("b"))
    mutex.tell(Release())
    assert await mutex.ask(Acquire("c")) == 2
    assert system.fates.abandoned == 1
