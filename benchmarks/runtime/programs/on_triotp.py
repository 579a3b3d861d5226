"""The cases on triotp: generic servers with names. Its mailboxes hold nothing, so a cast waits until it is received."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from time import perf_counter
from types import ModuleType
from typing import Any

import trio
import trio.testing
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
    Mailbox,
    Missing,
    Pings,
    Repeat,
    Total,
    bursts,
    main,
)
from triotp import gen_server, mailbox, supervisor

MOST = 10_000


class State:
    def __init__(self) -> None:
        self.total = 0


async def init(_: object) -> State:
    return State()


async def handle_call(message: Any, _: Any, state: State) -> Any:
    return gen_server.Reply(state.total), state


async def handle_cast(message: Any, state: State) -> Any:
    match message:
        case Count():
            state.total += 1
        case Last():
            state.total += 1
            message.latch.arrive()
        case Flood():
            message.handle()
        case Fail():
            raise RuntimeError("as told")
        case None:
            return gen_server.Stop(), state
    return gen_server.NoReply(), state


async def terminate(reason: Any, state: State) -> None:
    """Without it the reason is logged."""


COUNTER = ModuleType("counter")
vars(COUNTER).update(init=init, handle_call=handle_call, handle_cast=handle_cast, terminate=terminate)


async def join(home_and_following: Any) -> Any:
    return home_and_following


async def hop(message: Hop, state: Any) -> Any:
    home, following = state
    if message.left:
        await gen_server.cast(following, Hop(message.left - 1))
    else:
        home.arrive()
    return gen_server.NoReply(), state


NODE = ModuleType("node")
vars(NODE).update(init=join, handle_cast=hop)


async def spawn(nursery: trio.Nursery, number: int) -> list[str]:
    names = [f"counter-{index}" for index in range(number)]
    for name in names:
        nursery.start_soon(gen_server.start, COUNTER, None, name)
    await trio.testing.wait_all_tasks_blocked()
    return names


async def tell(nursery: trio.Nursery, seconds: float, number: int) -> float:
    actors = await spawn(nursery, number)
    burst = actors * (BURST // number)
    repeat = Repeat(seconds)
    for count in repeat:
        for _ in range(count // BURST - 1):
            for actor in burst:
                await gen_server.cast(actor, Count())
        for actor in burst[number:]:
            await gen_server.cast(actor, Count())
        done = trio.Event()
        latch = Latch(number, done.set)
        for actor in actors:
            await gen_server.cast(actor, Last(latch))
        await done.wait()
    assert sum([await gen_server.call(actor, Total()) for actor in actors]) == repeat.sum
    return repeat.rate


async def ask(nursery: trio.Nursery, seconds: float, number: int) -> float:
    (actor,) = await spawn(nursery, 1)
    repeat = Repeat(seconds)
    for count in repeat:
        for _ in range(count):
            await gen_server.call(actor, Total())
    return repeat.rate


async def ask_at_once(nursery: trio.Nursery, seconds: float, number: int) -> float:
    async def asker(actor: str, times: int) -> None:
        for _ in range(times):
            await gen_server.call(actor, Total())

    actors = await spawn(nursery, number)
    repeat = Repeat(seconds)
    for count in repeat:
        async with trio.open_nursery() as askers:
            for actor in actors:
                askers.start_soon(asker, actor, count // number)
    return repeat.rate


async def ring(nursery: trio.Nursery, seconds: float, number: int) -> float:
    latch = Latch(1)
    for index in range(number):
        following = f"node-{(index + 1) % number}"
        nursery.start_soon(gen_server.start, NODE, (latch, following), f"node-{index}")
    await trio.testing.wait_all_tasks_blocked()
    repeat = Repeat(seconds)
    for count in repeat:
        home = trio.Event()
        latch.opened = home.set
        await gen_server.cast("node-0", Hop(count))
        await home.wait()
    return repeat.rate


async def spawn_stop(nursery: trio.Nursery, seconds: float, number: int) -> float:
    repeat = Repeat(seconds)
    for count in repeat:
        for _ in range(count // BURST):
            async with trio.open_nursery() as actors:
                for actor in await spawn(actors, BURST):
                    await gen_server.cast(actor, None)
    return repeat.rate


async def memory(nursery: trio.Nursery, seconds: float, number: int) -> float:
    few_enough(number)
    growth = Growth()
    actors = await spawn(nursery, number)
    return growth.per(len(actors))


async def memory_used(nursery: trio.Nursery, seconds: float, number: int) -> float:
    few_enough(number)
    growth = Growth()
    for burst in bursts(await spawn(nursery, number)):
        done = trio.Event()
        latch = Latch(len(burst), done.set)
        for actor in burst:
            await gen_server.cast(actor, Last(latch))
        await done.wait()
    return growth.per(number)


def few_enough(number: int) -> None:
    if number > MOST:
        raise Missing(f"more than {MOST} take minutes: a start takes the longer the more there are")


async def restart(nursery: trio.Nursery, seconds: float, number: int) -> float:
    async def asked() -> None:
        while True:
            try:
                await gen_server.call("counter", Total())
            except (mailbox.MailboxDoesNotExist, trio.ClosedResourceError, trio.BrokenResourceError):
                await trio.lowlevel.checkpoint()
            else:
                return

    child = supervisor.child_spec(id="counter", task=gen_server.start, args=[COUNTER, None, "counter"])
    await nursery.start(supervisor.start, [child], supervisor.options(max_restarts=10**9))
    await asked()
    latencies = Latencies()
    end = perf_counter() + seconds
    while perf_counter() < end:
        start = perf_counter()
        await gen_server.cast("counter", Fail())
        await asked()
        latencies.add(perf_counter() - start)
    return latencies.quantile(0.5) * 1e3


async def flooded(nursery: trio.Nursery, seconds: float, number: int) -> Pings:
    async def flood(actor: str) -> None:
        while True:
            await gen_server.cast(actor, Flood(Mailbox()))

    idle, *busy = await spawn(nursery, 1 + FLOODED)
    for actor in busy:
        nursery.start_soon(flood, actor)
    await trio.sleep(10 * PAUSE)
    pings = Pings(seconds)
    for ping in pings:
        await trio.sleep(PAUSE)
        ping.asks()
        await gen_server.call(idle, Total())
    return pings


async def ping(nursery: trio.Nursery, seconds: float, number: int) -> float:
    return (await flooded(nursery, seconds, number)).asked.quantile(0.99)


async def ping_due(nursery: trio.Nursery, seconds: float, number: int) -> float:
    return (await flooded(nursery, seconds, number)).due.quantile(0.99)


def run(
    case: Callable[[trio.Nursery, float, int], Awaitable[float]],
) -> Callable[[float, int], float]:
    async def within(seconds: float, number: int) -> float:
        mailbox._init()  # noqa: SLF001 - what its own node does first
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
