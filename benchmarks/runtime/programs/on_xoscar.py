"""The cases on xoscar: actors in a pool within the process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import count as numbers
from typing import Any

import xoscar
from harness import BURST, FLOODED, FULL, PAUSE, Flood, Growth, Latch, Mailbox, Pings, Repeat, bursts, main

NUMBERS = numbers()
HOME: dict[str, Any] = {}


class Counter(xoscar.StatelessActor):
    def __init__(self) -> None:
        super().__init__()
        self.number = 0

    def count(self) -> None:
        self.number += 1

    def last(self, latch: Latch) -> None:
        self.number += 1
        latch.arrive()

    def total(self) -> int:
        return self.number

    def flood(self, flood: Flood) -> None:
        flood.handle()


class Node(xoscar.StatelessActor):
    following: Any

    def join(self, following: Any) -> None:
        self.following = following

    async def hop(self, left: int) -> None:
        if left:
            await self.following.hop.tell(left - 1)
        else:
            HOME["there"].set()


async def spawn(address: str, number: int, kind: type = Counter) -> list[Any]:
    return [
        await xoscar.create_actor(kind, address=address, uid=f"actor-{next(NUMBERS)}") for _ in range(number)
    ]


async def tell(address: str, seconds: float, number: int) -> float:
    actors = await spawn(address, number)
    burst = actors * (BURST // number)
    repeat = Repeat(seconds)
    for count in repeat:
        for _ in range(count // BURST - 1):
            for actor in burst:
                await actor.count.tell()
        for actor in burst[number:]:
            await actor.count.tell()
        done = asyncio.Event()
        latch = Latch(number, done.set)
        for actor in actors:
            await actor.last.tell(latch)
        await done.wait()
    assert sum([await actor.total() for actor in actors]) == repeat.sum
    return repeat.rate


async def ask(address: str, seconds: float, number: int) -> float:
    (actor,) = await spawn(address, 1)
    repeat = Repeat(seconds)
    for count in repeat:
        for _ in range(count):
            await actor.total()
    return repeat.rate


async def ask_at_once(address: str, seconds: float, number: int) -> float:
    async def asker(actor: Any, times: int) -> None:
        for _ in range(times):
            await actor.total()

    actors = await spawn(address, number)
    repeat = Repeat(seconds)
    for count in repeat:
        await asyncio.gather(*[asyncio.create_task(asker(actor, count // number)) for actor in actors])
    return repeat.rate


async def ring(address: str, seconds: float, number: int) -> float:
    nodes = await spawn(address, number, Node)
    for node, following in zip(nodes, nodes[1:] + nodes[:1], strict=True):
        await node.join(following)
    repeat = Repeat(seconds)
    for count in repeat:
        HOME["there"] = asyncio.Event()
        await nodes[0].hop.tell(count)
        await HOME["there"].wait()
    return repeat.rate


async def spawn_stop(address: str, seconds: float, number: int) -> float:
    repeat = Repeat(seconds)
    for count in repeat:
        for _ in range(count // BURST):
            for actor in await spawn(address, BURST):
                await xoscar.destroy_actor(actor)
    return repeat.rate


async def memory(address: str, seconds: float, number: int) -> float:
    growth = Growth()
    actors = await spawn(address, number)
    return growth.per(len(actors))


async def memory_used(address: str, seconds: float, number: int) -> float:
    growth = Growth()
    actors = await spawn(address, number)
    for burst in bursts(actors):
        done = asyncio.Event()
        latch = Latch(len(burst), done.set)
        for actor in burst:
            await actor.last.tell(latch)
        await done.wait()
    return growth.per(len(actors))


async def flooded(address: str, seconds: float, number: int) -> Pings:
    async def flood(actor: Any) -> None:
        mailbox = Mailbox()
        while True:
            if mailbox.told - mailbox.handled < FULL:
                mailbox.told += 1
                await actor.flood.tell(Flood(mailbox))
            else:
                await asyncio.sleep(PAUSE)

    idle, *busy = await spawn(address, 1 + FLOODED)
    flooding = [asyncio.create_task(flood(actor)) for actor in busy]
    await asyncio.sleep(10 * PAUSE)
    pings = Pings(seconds)
    for ping in pings:
        await asyncio.sleep(PAUSE)
        ping.asks()
        await idle.total()
    for task in flooding:
        task.cancel()
    return pings


async def ping(address: str, seconds: float, number: int) -> float:
    return (await flooded(address, seconds, number)).asked.quantile(0.99)


async def ping_due(address: str, seconds: float, number: int) -> float:
    return (await flooded(address, seconds, number)).due.quantile(0.99)


def run(case: Callable[[str, float, int], Awaitable[float]]) -> Callable[[float, int], float]:
    async def within(seconds: float, number: int) -> float:
        pool = await xoscar.create_actor_pool("127.0.0.1", n_process=0)
        async with pool:
            return await case(pool.external_address, seconds, number)

    return lambda seconds, number: asyncio.run(within(seconds, number))


CASES = {
    "tell": tell,
    "ask": ask,
    "ask_at_once": ask_at_once,
    "ring": ring,
    "spawn_stop": spawn_stop,
    "memory": memory,
    "memory_used": memory_used,
    "ping": ping,
    "ping_due": ping_due,
}
main(
    {name: run(case) for name, case in CASES.items()},
    {"restart": "it restarts processes, not actors"},
)
