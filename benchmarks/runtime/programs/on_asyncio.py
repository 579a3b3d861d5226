"""The cases on bare asyncio: a task behind a queue, a future for each answer, a loop that restarts it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import perf_counter

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


class Counter:
    def __init__(self) -> None:
        self._queue: asyncio.Queue[object] = asyncio.Queue()
        self.total = 0
        self.task = asyncio.create_task(self._run())

    def tell(self, message: object) -> None:
        self._queue.put_nowait(message)

    async def ask(self) -> int:
        answer = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((Total(), answer))
        return await answer

    def stop(self) -> None:
        self._queue.put_nowait(None)

    async def _run(self) -> None:
        while True:
            try:
                return await self._receive_all()
            except RuntimeError:
                self.total = 0

    async def _receive_all(self) -> None:
        while (message := await self._queue.get()) is not None:
            match message:
                case Count():
                    self.total += 1
                case (Total(), answer):
                    answer.set_result(self.total)
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
        self._queue: asyncio.Queue[Hop] = asyncio.Queue()
        self.task = asyncio.create_task(self._run())

    def tell(self, message: Hop) -> None:
        self._queue.put_nowait(message)

    async def _run(self) -> None:
        while True:
            message = await self._queue.get()
            if message.left:
                self.following.tell(Hop(message.left - 1))
            else:
                self._home.arrive()


async def spawn(number: int) -> list[Counter]:
    actors = [Counter() for _ in range(number)]
    await asyncio.sleep(0)
    return actors


async def tell(seconds: float, number: int) -> float:
    actors = await spawn(number)
    burst = actors * (BURST // number)
    repeat = Repeat(seconds)
    for count in repeat:
        for _ in range(count // BURST - 1):
            for actor in burst:
                actor.tell(Count())
            await asyncio.sleep(0)
        for actor in burst[number:]:
            actor.tell(Count())
        done = asyncio.Event()
        latch = Latch(number, done.set)
        for actor in actors:
            actor.tell(Last(latch))
        await done.wait()
    assert sum([await actor.ask() for actor in actors]) == repeat.sum
    return repeat.rate


async def ask(seconds: float, number: int) -> float:
    (actor,) = await spawn(1)
    repeat = Repeat(seconds)
    for count in repeat:
        for _ in range(count):
            await actor.ask()
    return repeat.rate


async def ask_at_once(seconds: float, number: int) -> float:
    async def asker(actor: Counter, times: int) -> None:
        for _ in range(times):
            await actor.ask()

    actors = await spawn(number)
    repeat = Repeat(seconds)
    for count in repeat:
        await asyncio.gather(*[asyncio.create_task(asker(actor, count // number)) for actor in actors])
    return repeat.rate


async def ring(seconds: float, number: int) -> float:
    latch = Latch(1)
    nodes = [Node(latch) for _ in range(number)]
    for node, following in zip(nodes, nodes[1:] + nodes[:1], strict=True):
        node.following = following
    repeat = Repeat(seconds)
    for count in repeat:
        home = asyncio.Event()
        latch.opened = home.set
        nodes[0].tell(Hop(count))
        await home.wait()
    return repeat.rate


async def spawn_stop(seconds: float, number: int) -> float:
    repeat = Repeat(seconds)
    for count in repeat:
        for _ in range(count // BURST):
            actors = await spawn(BURST)
            for actor in actors:
                actor.stop()
            for actor in actors:
                await actor.task
    return repeat.rate


async def memory(seconds: float, number: int) -> float:
    growth = Growth()
    actors = await spawn(number)
    return growth.per(len(actors))


async def memory_used(seconds: float, number: int) -> float:
    growth = Growth()
    actors = await spawn(number)
    for burst in bursts(actors):
        done = asyncio.Event()
        latch = Latch(len(burst), done.set)
        for actor in burst:
            actor.tell(Last(latch))
        await done.wait()
    return growth.per(len(actors))


async def restart(seconds: float, number: int) -> float:
    (actor,) = await spawn(1)
    latencies = Latencies()
    end = perf_counter() + seconds
    while perf_counter() < end:
        start = perf_counter()
        actor.tell(Fail())
        await actor.ask()
        latencies.add(perf_counter() - start)
    return latencies.quantile(0.5) * 1e3


async def flooded(seconds: float, number: int) -> Pings:
    async def flood() -> None:
        while True:
            tide.rise()
            await asyncio.sleep(0)

    idle, *busy = await spawn(1 + FLOODED)
    tide = Tide([actor.tell for actor in busy])
    tide.rise()
    flooding = asyncio.create_task(flood())
    await asyncio.sleep(10 * PAUSE)
    pings = Pings(seconds)
    for ping in pings:
        await asyncio.sleep(PAUSE)
        ping.asks()
        await idle.ask()
    flooding.cancel()
    return pings


async def ping(seconds: float, number: int) -> float:
    return (await flooded(seconds, number)).asked.quantile(0.99)


async def ping_due(seconds: float, number: int) -> float:
    return (await flooded(seconds, number)).due.quantile(0.99)


def run(case: Callable[[float, int], Awaitable[float]]) -> Callable[[float, int], float]:
    async def within(seconds: float, number: int) -> float:
        value = await case(seconds, number)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        return value

    return lambda seconds, number: asyncio.run(within(seconds, number))


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
