"""Actors against what one writes on bare trio: a task that receives from a memory channel, and an Event per answer.

Both count what they handle; both mailboxes hold everything that is in flight. Tells are sent in bursts of 1 000, with
a checkpoint after each.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from time import perf_counter
from typing import Protocol

import attrs
import trio
from _interleaved import interleaved
from rows import Row

from relay.actors import Actor, Ask, Bounds, Context, Ref, Tell, open_system

TELLS = 100_000
ASKS = 20_000
MANY = 1_000
BURST = 1_000


class Counting:
    """Messages of the counters."""


@attrs.frozen
class Count(Tell[Counting]):
    pass


@attrs.frozen
class Total(Ask[Counting, int]):
    pass


class Counter(Protocol):
    def tell(self) -> None: ...

    async def ask(self) -> int: ...


class CountingActor(Actor[Counting]):
    def __init__(self) -> None:
        self.total = 0

    def handle(self, message: Count | Total, context: Context[Counting]) -> None:
        match message:
            case Count():
                self.total += 1
            case Total():
                context.reply(message, self.total)


class Relay:
    def __init__(self, ref: Ref[Counting]) -> None:
        self._ref = ref

    def tell(self) -> None:
        self._ref.tell(Count())

    async def ask(self) -> int:
        return await self._ref.ask(Total())


class Answer:
    def __init__(self) -> None:
        self.value = 0
        self.there = trio.Event()


class Channel:
    """The baseline: a task behind a memory channel."""

    def __init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[Count | tuple[Total, Answer]](TELLS)

    def tell(self) -> None:
        self._send.send_nowait(Count())

    async def ask(self) -> int:
        answer = Answer()
        await self._send.send((Total(), answer))
        await answer.there.wait()
        return answer.value

    async def run(self) -> None:
        total = 0
        async for message in self._receive:
            match message:
                case Count():
                    total += 1
                case (_, answer):
                    answer.value = total
                    answer.there.set()


Counters = AbstractAsyncContextManager[Sequence[Counter]]


@asynccontextmanager
async def relay(number: int) -> AsyncIterator[Sequence[Counter]]:
    async with open_system() as system:
        yield [Relay(await system.spawn(CountingActor, bounds=Bounds(capacity=TELLS))) for _ in range(number)]


@asynccontextmanager
async def channels(number: int) -> AsyncIterator[Sequence[Counter]]:
    async with trio.open_nursery() as nursery:
        made = [Channel() for _ in range(number)]
        for channel in made:
            nursery.start_soon(channel.run)
        yield made
        nursery.cancel_scope.cancel()


async def tells(counters: Counters) -> float:
    """Messages per second, from the first tell until all are handled."""
    async with counters as told:
        start = perf_counter()
        for sent in range(0, TELLS, BURST):
            for index in range(sent, sent + BURST):
                told[index % len(told)].tell()
            await trio.lowlevel.checkpoint()
        totals = [await counter.ask() for counter in told]
        elapsed = perf_counter() - start
    assert sum(totals) == TELLS
    return TELLS / elapsed


async def asks_in_turn(counters: Counters) -> float:
    async with counters as (counter,):
        start = perf_counter()
        for _ in range(ASKS):
            await counter.ask()
        return ASKS / (perf_counter() - start)


async def asks_at_once(counters: Counters) -> float:
    """An asker per actor, all at the same time."""

    async def ask(counter: Counter) -> None:
        for _ in range(ASKS // MANY):
            await counter.ask()

    async with counters as asked:
        start = perf_counter()
        async with trio.open_nursery() as nursery:
            for counter in asked:
                nursery.start_soon(ask, counter)
        return ASKS / (perf_counter() - start)


CASES = (
    ("tell, 1 actor", tells, 1),
    ("tell, 1 000 actors", tells, MANY),
    ("ask, one after the other", asks_in_turn, 1),
    ("ask, 1 000 at once", asks_at_once, MANY),
)


def rows() -> Iterator[Row]:
    for case, measure, number in CASES:
        systems = {"relay": relay, "task and channel": channels}
        yield from interleaved(
            "actors",
            case,
            "messages/s",
            {name: partial(_sample, measure, opened, number) for name, opened in systems.items()},
        )


async def _sample(measure, opened, number: int) -> float:
    return await measure(opened(number))
