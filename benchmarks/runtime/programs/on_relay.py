"""The cases on relay. Nothing is tuned but the bounds of mailboxes, which must hold what others hold without bounds."""

from __future__ import annotations

import tracemalloc
from collections.abc import Awaitable, Callable
from functools import partial
from time import perf_counter
from typing import Generic, NamedTuple, TypeVar

import harness
import relay_variants as variants
import trio
from harness import BURST, FLOODED, PAUSE, Growth, Latch, Latencies, Pings, Repeat, Tide, bursts, main

from relay.actors import Actor, Ask, Bounds, Context, Ref, Supervision, System, Tell, open_system

P = TypeVar("P")

UNBOUNDED = Bounds(capacity=10**9)
AT_ONCE = Supervision(restarts=10**9, within=0.01, backoff=0.0)


class Counting:
    """Messages of the counters: those of everybody else, marked as theirs."""


class Count(harness.Count, Tell[Counting]):
    __slots__ = ()


class Last(harness.Last, Tell[Counting]):
    __slots__ = ()


class Flood(harness.Flood, Tell[Counting]):
    __slots__ = ()


class Fail(harness.Fail, Tell[Counting]):
    __slots__ = ()


class Total(harness.Total, Ask[Counting, int]):
    __slots__ = ()


class Counter(Actor[Counting]):
    def __init__(self, key: str = "") -> None:
        self.total = 0

    def handle(self, message: Count | Last | Flood | Fail | Total, context: Context[Counting]) -> None:
        match message:
            case Count():
                self.total += 1
            case Total():
                context.reply(message, self.total)
            case Last():
                self.total += 1
                message.latch.arrive()
            case Flood():
                message.handle()
            case Fail():
                raise RuntimeError("as told")


class Ringing:
    """Messages of a ring."""


class Join(Tell[Ringing]):
    __slots__ = ("following",)

    def __init__(self, following: Ref[Ringing]) -> None:
        self.following = following


class Hop(harness.Hop, Tell[Ringing]):
    __slots__ = ()


class Node(Actor[Ringing]):
    def __init__(self, home: Latch) -> None:
        self.home = home
        self.following: Ref[Ringing]

    def handle(self, message: Join | Hop, context: Context[Ringing]) -> None:
        match message:
            case Hop() if message.left:
                self.following.tell(Hop(message.left - 1))
            case Hop():
                self.home.arrive()
            case Join():
                self.following = message.following


async def spawn(system: System, number: int) -> list[Ref[Counting]]:
    return [await system.spawn(Counter, bounds=UNBOUNDED) for _ in range(number)]


async def tell(system: System, seconds: float, number: int) -> float:
    return await told(await spawn(system, number), seconds, Messages(Count, Last, Total))


async def tell_attrs(system: System, seconds: float, number: int) -> float:
    actors = [await system.spawn(variants.Adder, bounds=UNBOUNDED) for _ in range(number)]
    return await told(actors, seconds, Messages(partial(variants.Add, 1), variants.AddLast, variants.Sum))


async def tell_async(system: System, seconds: float, number: int) -> float:
    actors = [await system.spawn(variants.Asynchronous, bounds=UNBOUNDED) for _ in range(number)]
    return await told(actors, seconds, Messages(variants.Count, variants.Last, variants.Total))


async def tell_awaiting(system: System, seconds: float, number: int) -> float:
    actors = [await system.spawn(variants.Awaiting, bounds=UNBOUNDED) for _ in range(number)]
    return await told(actors, seconds, Messages(variants.Count, variants.Last, variants.Total))


class Messages(NamedTuple, Generic[P]):
    count: Callable[[], Tell[P]]
    last: Callable[[Latch], Tell[P]]
    total: Callable[[], Ask[P, int]]


async def told(actors: list[Ref[P]], seconds: float, messages: Messages[P]) -> float:
    count_one, last, total = messages
    number = len(actors)
    burst = actors * (BURST // number)
    repeat = Repeat(seconds)
    for count in repeat:
        for _ in range(count // BURST - 1):
            for actor in burst:
                actor.tell(count_one())
            await trio.lowlevel.checkpoint()
        for actor in burst[number:]:
            actor.tell(count_one())
        done = trio.Event()
        latch = Latch(number, done.set)
        for actor in actors:
            actor.tell(last(latch))
        await done.wait()
    assert sum([await actor.ask(total()) for actor in actors]) == repeat.sum
    return repeat.rate


async def ask(system: System, seconds: float, number: int) -> float:
    (actor,) = await spawn(system, 1)
    repeat = Repeat(seconds)
    for count in repeat:
        for _ in range(count):
            await actor.ask(Total())
    return repeat.rate


async def ask_at_once(system: System, seconds: float, number: int) -> float:
    async def asker(actor: Ref[Counting], times: int) -> None:
        for _ in range(times):
            await actor.ask(Total())

    actors = await spawn(system, number)
    repeat = Repeat(seconds)
    for count in repeat:
        async with trio.open_nursery() as nursery:
            for actor in actors:
                nursery.start_soon(asker, actor, count // number)
    return repeat.rate


async def ring(system: System, seconds: float, number: int) -> float:
    latch = Latch(1)
    nodes = [await system.spawn(Node, latch) for _ in range(number)]
    for node, following in zip(nodes, nodes[1:] + nodes[:1], strict=True):
        node.tell(Join(following))
    repeat = Repeat(seconds)
    for count in repeat:
        home = trio.Event()
        latch.opened = home.set
        nodes[0].tell(Hop(count))
        await home.wait()
    return repeat.rate


async def spawn_stop(system: System, seconds: float, number: int) -> float:
    repeat = Repeat(seconds)
    for count in repeat:
        for _ in range(count // BURST):
            for actor in await spawn(system, BURST):
                await system.stop(actor)
    return repeat.rate


async def memory(system: System, seconds: float, number: int) -> float:
    growth = Growth()
    actors = [await system.spawn(Counter) for _ in range(number)]
    await system.idle()
    return growth.per(len(actors))


async def memory_used(system: System, seconds: float, number: int) -> float:
    growth = Growth()
    actors = [await system.spawn(Counter) for _ in range(number)]
    await tell_each(system, actors)
    return growth.per(len(actors))


async def tell_each(system: System, actors: list[Ref[Counting]]) -> None:
    for burst in bursts(actors):
        done = trio.Event()
        latch = Latch(len(burst), done.set)
        for actor in burst:
            actor.tell(Last(latch))
        await done.wait()
    await system.idle()


async def memory_traced(system: System, seconds: float, number: int) -> float:
    tracemalloc.start()
    before = traced()
    actors = [await system.spawn(Counter) for _ in range(number)]
    await tell_each(system, actors)
    return (traced() - before) / len(actors)


async def family(system: System, seconds: float, number: int) -> float:
    """Members that have answered once and wait for more; their keys count in."""
    members = system.family(Counter, idle=3600.0)
    growth = Growth()
    for index in range(number):
        await members[f"member-{index:08}"].ask(Total())
    assert len(members) == number
    return growth.per(number)


async def passive(system: System, seconds: float, number: int) -> float:
    """Members that have answered once and were passivated. As many went before them: tables do not shrink."""

    async def come_and_go(offset: int) -> int:
        for index in range(offset, offset + number):
            await members[f"member-{index:08}"].ask(Total())
        while len(members):
            await trio.sleep(0.01)
        return traced()

    tracemalloc.start()
    members = system.family(Counter, idle=0.5)
    before = await come_and_go(0)
    return (await come_and_go(number) - before) / number


def traced() -> int:
    Growth()  # collects
    return tracemalloc.get_traced_memory()[0]


async def restart(system: System, seconds: float, number: int) -> float:
    actor = await system.spawn(Counter, supervision=AT_ONCE)
    latencies = Latencies()
    end = perf_counter() + seconds
    while perf_counter() < end:
        start = perf_counter()
        actor.tell(Fail())
        await actor.ask(Total())
        latencies.add(perf_counter() - start)
    return latencies.quantile(0.5) * 1e3


async def flooded(system: System, seconds: float, number: int) -> Pings:
    async def flood() -> None:
        while True:
            tide.rise()
            await trio.lowlevel.checkpoint()

    idle, *busy = await spawn(system, 1 + FLOODED)
    tide = Tide([actor.tell for actor in busy], Flood)
    tide.rise()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(flood)
        await trio.sleep(10 * PAUSE)
        pings = Pings(seconds)
        for ping in pings:
            await trio.sleep(PAUSE)
            ping.asks()
            await idle.ask(Total())
        nursery.cancel_scope.cancel()
    return pings


async def ping(system: System, seconds: float, number: int) -> float:
    return (await flooded(system, seconds, number)).asked.quantile(0.99)


async def ping_due(system: System, seconds: float, number: int) -> float:
    return (await flooded(system, seconds, number)).due.quantile(0.99)


def run(case: Callable[[System, float, int], Awaitable[float]]) -> Callable[[float, int], float]:
    async def within(seconds: float, number: int) -> float:
        async with open_system() as system:
            return await case(system, seconds, number)

    return lambda seconds, number: trio.run(within, seconds, number)


CASES = {
    "tell": tell,
    "tell_attrs": tell_attrs,
    "tell_async": tell_async,
    "tell_awaiting": tell_awaiting,
    "ask": ask,
    "ask_at_once": ask_at_once,
    "ring": ring,
    "spawn_stop": spawn_stop,
    "memory": memory,
    "memory_used": memory_used,
    "memory_traced": memory_traced,
    "family": family,
    "passive": passive,
    "restart": restart,
    "ping": ping,
    "ping_due": ping_due,
}
main({name: run(case) for name, case in CASES.items()}, {})
