"""Full mailboxes: refused, dropped or coalesced, and always on record."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import attrs
import pytest
import trio

from relay.actors import (
    Actor,
    Ask,
    Bounds,
    Context,
    Gate,
    Listener,
    MailboxFull,
    Overflow,
    Overflowed,
    Ref,
    System,
    SystemEvent,
    Tell,
    open_system,
)

if TYPE_CHECKING:
    from trio.testing import MockClock


class Watching:
    """Somebody who looks at files."""


@attrs.frozen
class Changed(Tell[Watching]):
    path: str
    version: int


@attrs.frozen
class Seen(Ask[Watching, list[Changed]]):
    pass


class Viewer(Actor[Watching]):
    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.seen: list[Changed] = []

    def handle(self, message: Changed | Seen, context: Context[Watching]) -> None:
        match message:
            case Changed():
                self.seen.append(message)
            case Seen():
                context.reply(message, list(self.seen))


@pytest.fixture
async def system() -> AsyncIterator[System]:
    async with open_system() as system:
        yield system


@pytest.fixture
def gate() -> Gate:
    gate = Gate()
    gate.close()
    return gate


async def seen(system: System, viewer: Ref[Watching], gate: Gate) -> list[int]:
    gate.open()
    await system.idle()
    return [change.version for change in await viewer.ask(Seen())]


async def test_who_comes_to_a_full_mailbox_is_refused(
    autojump_clock: MockClock, system: System, gate: Gate
) -> None:
    viewer = await system.spawn(Viewer, gate, bounds=Bounds(capacity=2))
    for version in range(2):
        viewer.tell(Changed("a", version))
    with pytest.raises(MailboxFull):
        viewer.tell(Changed("a", 2))
    with trio.fail_after(1), pytest.raises(MailboxFull):
        await viewer.ask(Seen())
    assert await seen(system, viewer, gate) == [0, 1]
    assert not system.dead_letters, "whoever was refused knows"


async def test_who_waits_for_room_is_let_in_when_there_is_some(
    autojump_clock: MockClock, system: System, gate: Gate
) -> None:
    viewer = await system.spawn(Viewer, gate, bounds=Bounds(capacity=2))
    most = 0

    async def send(version: int) -> None:
        nonlocal most
        await viewer.send(Changed("a", version))
        most = max(most, len(viewer._cell.queue or ()))

    async with trio.open_nursery() as nursery:
        for version in range(6):
            nursery.start_soon(send, version)
        await trio.sleep(1)
        gate.open()
    assert sorted(await seen(system, viewer, gate)) == list(range(6))
    assert most == 2


async def test_the_oldest_makes_way(autojump_clock: MockClock, system: System, gate: Gate) -> None:
    viewer = await system.spawn(Viewer, gate, bounds=Bounds(capacity=2, overflow=Overflow.DROP_OLDEST))
    for version in range(5):
        viewer.tell(Changed("a", version))
    assert await seen(system, viewer, gate) == [3, 4]
    assert [letter.message for letter in system.dead_letters] == [
        Changed("a", version) for version in range(3)
    ]


async def test_an_asker_whose_message_makes_way_is_told(
    autojump_clock: MockClock, system: System, gate: Gate
) -> None:
    viewer = await system.spawn(Viewer, gate, bounds=Bounds(capacity=1, overflow=Overflow.DROP_OLDEST))
    async with trio.open_nursery() as nursery:

        async def ask() -> None:
            with pytest.raises(MailboxFull):
                await viewer.ask(Seen())

        nursery.start_soon(ask)
        await trio.sleep(1)
        viewer.tell(Changed("a", 1))


async def test_the_newest_is_dropped_and_an_ask_refused(
    autojump_clock: MockClock, system: System, gate: Gate
) -> None:
    viewer = await system.spawn(Viewer, gate, bounds=Bounds(capacity=2, overflow=Overflow.DROP_NEWEST))
    for version in range(5):
        viewer.tell(Changed("a", version))
    with trio.fail_after(1), pytest.raises(MailboxFull):
        await viewer.ask(Seen())
    assert await seen(system, viewer, gate) == [0, 1]
    assert system.fates.undelivered == 3


async def test_of_messages_of_one_key_the_newest_is_handled_in_the_place_of_the_oldest(
    autojump_clock: MockClock, system: System, gate: Gate
) -> None:
    bounds = Bounds(capacity=2, coalesce=lambda change: change.path)
    viewer = await system.spawn(Viewer, gate, bounds=bounds)
    for version, path in enumerate("aabab"):
        viewer.tell(Changed(path, version))
    with pytest.raises(MailboxFull):
        viewer.tell(Changed("c", 9))
    assert await seen(system, viewer, gate) == [3, 4]
    assert system.fates.superseded == 3
    assert system.fates.handled == 3


async def test_asks_never_coalesce(autojump_clock: MockClock, system: System, gate: Gate) -> None:
    viewer = await system.spawn(Viewer, gate, bounds=Bounds(coalesce=lambda _: "all the same"))
    answers: list[list[Changed]] = []
    async with trio.open_nursery() as nursery:

        async def ask() -> None:
            answers.append(await viewer.ask(Seen()))

        nursery.start_soon(ask)
        nursery.start_soon(ask)
        await trio.sleep(1)
        gate.open()
    assert answers == [[], []]


def test_a_mailbox_holds_at_least_one() -> None:
    with pytest.raises(ValueError, match="capacity"):
        Bounds(capacity=0)


@pytest.mark.keeps_dead_letters
@pytest.mark.keeps_failures
async def test_what_is_undelivered_is_given_back(
    autojump_clock: MockClock, system: System, gate: Gate
) -> None:
    returned: list[tuple[Changed, str]] = []

    def undelivered(message: Changed, reason: str) -> None:
        returned.append((message, reason))
        raise ValueError("no room here either")

    bounds = Bounds(capacity=1, overflow=Overflow.DROP_OLDEST, undelivered=undelivered)
    viewer = await system.spawn(Viewer, gate, bounds=bounds)
    viewer.tell(Changed("a", 1))
    viewer.tell(Changed("b", 2))
    await system.stop(viewer)
    assert returned == [
        (Changed("a", 1), "dropped from a full mailbox"),
        (Changed("b", 2), "the actor stopped"),
    ]
    assert [failed.address for failed in system.failures] == ["Viewer", "Viewer"]


async def test_a_mailbox_that_overflows_is_told_once(
    autojump_clock: MockClock, system: System, gate: Gate
) -> None:
    viewer = await system.spawn(Viewer, gate, bounds=Bounds(capacity=1))
    with system.listen() as events:
        for _ in range(2):
            gate.close()
            viewer.tell(Changed("a", 1))
            for _ in range(2):
                with pytest.raises(MailboxFull):
                    viewer.tell(Changed("a", 2))
            gate.open()
            await system.idle()
        told = [event async for event in _first(events, 2)]
    assert told == [Overflowed("Viewer", 1)] * 2


async def _first(events: Listener, number: int) -> AsyncIterator[SystemEvent]:
    for _ in range(number):
        yield await events.__anext__()
