"""What happens in a system can be listened to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest
import trio
from protocols import Add, Counting, Crash, Refused

from relay.actors import (
    Actor,
    ActorStopped,
    Context,
    DeadLetter,
    Failed,
    Refusal,
    Started,
    Stopped,
    System,
    open_system,
)

if TYPE_CHECKING:
    from trio.testing import MockClock


class Frail(Actor[Counting]):
    def handle(self, message: object, context: Context[Counting]) -> None:
        match message:
            case Crash():
                raise ValueError("as told")
            case Add():
                raise Refusal("no more")


@pytest.fixture
async def system() -> AsyncIterator[System]:
    async with open_system() as system:
        yield system


async def test_starts_failures_dead_letters_and_stops_are_told_in_order(
    autojump_clock: MockClock, system: System
) -> None:
    with system.listen() as events:
        frail = await system.spawn(Frail, name="frail")
        frail.tell(Crash())
        frail.tell(Add())
        await trio.sleep(5)
        await system.stop(frail)
        with trio.fail_after(1):
            told = [await anext(events) for _ in range(5)]
    match told:
        case [
            Started("frail", 1),
            Failed("frail", ValueError()),
            Started("frail", 2),
            DeadLetter(Add(), "frail", "refused: no more"),
            Stopped("frail", None),
        ]:
            pass
        case _:
            pytest.fail(f"{told}")


async def test_a_listener_hears_only_its_time(autojump_clock: MockClock, system: System) -> None:
    with system.listen() as events:
        pass
    await system.spawn(Frail)
    with pytest.raises(IndexError):
        events.take()


async def test_a_slow_listener_loses_the_oldest_and_knows_how_many(
    autojump_clock: MockClock, system: System
) -> None:
    frail = await system.spawn(Frail, name="frail")
    with system.listen(limit=2) as events:
        for amount in range(5):
            frail.tell(Add(amount))
        await system.idle()
        assert events.dropped == 3
        first = await anext(events)
        assert isinstance(first, DeadLetter)
        assert first.message == Add(3)


async def test_waiting_for_an_event(autojump_clock: MockClock, system: System) -> None:
    with system.listen() as events, trio.fail_after(3):
        async with trio.open_nursery() as nursery:

            async def spawn() -> None:
                await trio.sleep(1)
                await system.spawn(Frail, name="late")

            nursery.start_soon(spawn)
            async for event in events:
                assert event == Started("late", 1)
                break


async def test_a_name_is_given_once(autojump_clock: MockClock, system: System) -> None:
    first = await system.spawn(Frail, name="frail")
    with pytest.raises(ValueError, match="the name 'frail' is taken"):
        await system.spawn(Frail, name="frail")
    await system.stop(first)
    second = await system.spawn(Frail, name="frail")
    assert second.address == "frail"
    assert {(await system.spawn(Frail)).address for _ in range(3)} == {"Frail", "Frail-1", "Frail-2"}


async def test_after_the_end_nothing_starts_and_nothing_is_taken(autojump_clock: MockClock) -> None:
    async with open_system() as system:
        frail = await system.spawn(Frail, name="frail")
        family = system.family(lambda _: Frail(), name="f")
        member = family["a"]
    with pytest.raises(ActorStopped, match="starts no more actors"):
        await system.spawn(Frail)
    with pytest.raises(ActorStopped, match="starts no more actors"):
        system.family(lambda _: Frail())
    for ref in (frail, member):
        with pytest.raises(ActorStopped):
            ref.tell(Add())
        with pytest.raises(ActorStopped):
            await ref.ask(Refused())
    with pytest.raises(ActorStopped):
        family["b"].tell(Add())
