"""The cases on bare trio: a task behind a memory channel, an Event for each answer, a loop that restarts it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from time import perf_counter

import trio
from harness import (
    BURST,
    FLOODED,
    PAUSE,
    Count,
    Fail,
    Flood,
    Growth,
    Hop,
    Last,
    Latch,
    Latencies,
    Pings,
    Repeat,
    Tide,
    Total,
    bursts,
    main,
)


class Answer:
    def __init__(self) -> None:
        self.value = 0
        self.there = trio.Event()


class Counter:
    def __init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[object](10**9)
        self.stopped = trio.Event()
        self.total = 0

    def tell(self, message: object) -> None:
        self._send.send_nowait(message)

    async def ask(self) -> int:
        answer = Answer()
        await self._send.send((Total(), answer))
        await answer.there.wait()
        return answer.value

    def stop(self) -> None:
        self._send.close()

    async def run(self) -> None:
        while True:
            try:
                await self._receive_all()
            except RuntimeError:
                self.total = 0
            else:
                self.stopped.set()
                return

    async def _receive_all(self) -> None:
        async for message in self._receive:
            match message:
                case Count():
                    self.total += 1
                case (Total(), answer):
                    answer.value = self.total
                    answer.there.set()
                case Last():
                    self.total += 1
                    message.latch.arrive()
                case Flood():
                    message.handle()
                case Fail():
                    raise RuntimeError("as told")


class Node:
    following: Node

    def __init__(self, home: Latch) -> None:
        self._home = home
        self._send, self._receive = trio.open_memory_channel[Hop](10**9)

    def tell(self, message: Hop) -> None:
        self._send.send_nowait(message)

    async def run(self) -> None:
        async for message in self._receive:
            if message.left:
                self.following.tell(Hop(message.left - 1))
            else:
                self._home.arrive()


async def spawn(nursery: trio.Nursery, number: int) -> list[Counter]:
    actors = [Counter() for _ in range(number)]
    for actor in actors:
        nursery.start_soon(actor.run)
    for _ in range(2):  # trio runs what is ready in an order of its own, so one might come before them
        await trio.lowlevel.checkpoint()
    return actors


async def tell(nursery: trio.Nursery, seconds: float, number: int) -> float:
    actors = await spawn(nursery, number)
    burst = actors * (BURST // number)
    repeat = Repeat(seconds)
    for count in repeat:
        for _ in range(count // BURST - 1):
            for actor in burst:
                actor.tell(Count())
            await trio.lowlevel.checkpoint()
        for actor in burst[number:]:
            actor.tell(Count())
        done = trio.Event()
        latch = Latch(number, done.set)
        for actor in actors:
            actor.tell(Last(latch))
        await done.wait()
    assert sum([await actor.ask() for actor in actors]) == repeat.sum
    return repeat.rate


async def ask(nursery: trio.Nursery, seconds: float, number: int) -> float:
    (actor,) = await spawn(nursery, 1)
    repeat = Repeat(seconds)
    for count in repeat:
        for _ in range(count):
            await actor.ask()
    return repeat.rate


async def ask_at_once(nursery: trio.Nursery, seconds: float, number: int) -> float:
    async def asker(actor: Counter, times: int) -> None:
        for _ in range(times):
            await actor.ask()

    actors = await spawn(nursery, number)
    repeat = Repeat(seconds)
    for count in repeat:
        async with trio.open_nursery() as askers:
            for actor in actors:
                askers.start_soon(asker, actor, count // number)
    return repeat.rate


async def ring(nursery: trio.Nursery, seconds: float, number: int) -> float:
    latch = Latch(1)
    nodes = [Node(latch) for _ in range(number)]
    for node, following in zip(nodes, nodes[1:] + nodes[:1], strict=True):
        node.following = following
        nursery.start_soon(node.run)
    repeat = Repeat(seconds)
    for count in repeat:
        home = trio.Event()
        latch.opened = home.set
        nodes[0].tell(Hop(count))
        await home.wait()
    return repeat.rate


async def spawn_stop(nursery: trio.Nursery, seconds: float, number: int) -> float:
    repeat = Repeat(seconds)
    for count in repeat:
        for _ in range(count // BURST):
            actors = await spawn(nursery, BURST)
            for actor in actors:
                actor.stop()
            for actor in actors:
                await actor.stopped.wait()
    return repeat.rate


async def memory(nursery: trio.Nursery, seconds: float, number: int) -> float:
    growth = Growth()
    actors = await spawn(nursery, number)
    return growth.per(len(actors))


async def memory_used(nursery: trio.Nursery, seconds: float, number: int) -> float:
    growth = Growth()
    actors = await spawn(nursery, number)
    for burst in bursts(actors):
        done = trio.Event()
        latch = Latch(len(burst), done.set)
        for actor in burst:
            actor.tell(Last(latch))
        await done.wait()
    return growth.per(len(actors))


async def restart(nursery: trio.Nursery, seconds: float, number: int) -> float:
    (actor,) = await spawn(nursery, 1)
    latencies = Latencies()
    end = perf_counter() + seconds
    while perf_counter() < end:
        start = perf_counter()
        actor.tell(Fail())
        await actor.ask()
        latencies.add(perf_counter() - start)
    return latencies.quantile(0.5) * 1e3


async def flooded(nursery: trio.Nursery, seconds: float, number: int) -> Pings:
    async def flood() -> None:
        while True:
            tide.rise()
            await trio.lowlevel.checkpoint()

    idle, *busy = await spawn(nursery, 1 + FLOODED)
    tide = Tide([actor.tell for actor in busy])
    tide.rise()
    nursery.start_soon(flood)
    await trio.sleep(10 * PAUSE)
    pings = Pings(seconds)
    for ping in pings:
        await trio.sleep(PAUSE)
        ping.asks()
        await idle.ask()
    return pings


async def ping(nursery: trio.Nursery, seconds: float, number: int) -> float:
    return (await flooded(nursery, seconds, number)).asked.quantile(0.99)


async def ping_due(nursery: trio.Nursery, seconds: float, number: int) -> float:
    return (await flooded(nursery, seconds, number)).due.quantile(0.99)


def run(
    case: Callable[[trio.Nursery, float, int], Awaitable[float]],
) -> Callable[[float, int], float]:
    async def within(seconds: float, number: int) -> float:
        async with trio.open_nursery() as nursery:
            value = await case(nursery, seconds, number)
            nursery.cancel_scope.cancel()
        return value

    return partial(trio.run, within)


CASES = {
    "tell": tell,
    "ask": ask,
    "ask_at_once": ask_at_once,
    "ring": ring,
    "spawn_stop": spawn_stop,
    "memory": memory,
    "memory_used": memory_used,
    "restart": restart,
    "ping": ping,
    "ping_due": ping_due,
}
main({name: run(case) for name, case in CASES.items()}, {})
