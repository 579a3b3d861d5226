"""The cases on pykka: a thread per actor."""

import logging
import threading
import time
from typing import Any

import pykka
from harness import (
    BURST,
    FLOODED,
    PAUSE,
    Count,
    Flood,
    Growth,
    Hop,
    Last,
    Latch,
    Missing,
    Pings,
    Repeat,
    Tide,
    Total,
    bursts,
    main,
)

MOST = 10_000

logging.disable(logging.CRITICAL)


class Counter(pykka.ThreadingActor):
    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def on_receive(self, message: Any) -> Any:
        match message:
            case Count():
                self.total += 1
            case Total():
                return self.total
            case Last():
                self.total += 1
                message.latch.arrive()
            case Flood():
                message.handle()
        return None


class Node(pykka.ThreadingActor):
    def __init__(self, home: Latch) -> None:
        super().__init__()
        self.home = home
        self.following: Any = None

    def on_receive(self, message: Any) -> Any:
        if not isinstance(message, Hop):
            self.following = message
        elif message.left:
            self.following.tell(Hop(message.left - 1))
        else:
            self.home.arrive()


def spawn(number: int) -> list[Any]:
    return [Counter.start() for _ in range(number)]


def tell(seconds: float, number: int) -> float:
    actors = spawn(number)
    burst = actors * (BURST // number)
    repeat = Repeat(seconds)
    for count in repeat:
        for _ in range(count // BURST - 1):
            for actor in burst:
                actor.tell(Count())
        for actor in burst[number:]:
            actor.tell(Count())
        done = threading.Event()
        latch = Latch(number, done.set)
        for actor in actors:
            actor.tell(Last(latch))
        done.wait()
    assert sum(actor.ask(Total()) for actor in actors) == repeat.sum
    return repeat.rate


def ask(seconds: float, number: int) -> float:
    (actor,) = spawn(1)
    repeat = Repeat(seconds)
    for count in repeat:
        for _ in range(count):
            actor.ask(Total())
    return repeat.rate


def ask_at_once(seconds: float, number: int) -> float:
    """All are asked, then all answers are awaited: pykka's own way, and cheaper than a thousand threads that ask."""
    actors = spawn(number)
    repeat = Repeat(seconds)
    for count in repeat:
        for _ in range(count // number):
            pykka.get_all([actor.ask(Total(), block=False) for actor in actors])
    return repeat.rate


def ring(seconds: float, number: int) -> float:
    latch = Latch(1)
    nodes = [Node.start(latch) for _ in range(number)]
    for node, following in zip(nodes, nodes[1:] + nodes[:1], strict=True):
        node.ask(following)
    repeat = Repeat(seconds)
    for count in repeat:
        home = threading.Event()
        latch.opened = home.set
        nodes[0].tell(Hop(count))
        home.wait()
    return repeat.rate


def spawn_stop(seconds: float, number: int) -> float:
    repeat = Repeat(seconds)
    for count in repeat:
        for _ in range(count // BURST):
            for actor in spawn(BURST):
                actor.stop()
    return repeat.rate


def memory(seconds: float, number: int) -> float:
    if number > MOST:
        raise Missing(f"more than {MOST} threads")
    growth = Growth()
    actors = spawn(number)
    return growth.per(len(actors))


def memory_used(seconds: float, number: int) -> float:
    if number > MOST:
        raise Missing(f"more than {MOST} threads")
    growth = Growth()
    actors = spawn(number)
    for burst in bursts(actors):
        done = threading.Event()
        latch = Latch(len(burst), done.set)
        for actor in burst:
            actor.tell(Last(latch))
        done.wait()
    return growth.per(len(actors))


def flooded(seconds: float, number: int) -> Pings:
    def flood() -> None:
        while True:
            tide.rise()
            time.sleep(PAUSE)

    idle, *busy = spawn(1 + FLOODED)
    tide = Tide([actor.tell for actor in busy])
    tide.rise()
    threading.Thread(target=flood, daemon=True).start()
    time.sleep(10 * PAUSE)
    pings = Pings(seconds)
    for ping in pings:
        time.sleep(PAUSE)
        ping.asks()
        idle.ask(Total())
    return pings


def ping(seconds: float, number: int) -> float:
    return flooded(seconds, number).asked.quantile(0.99)


def ping_due(seconds: float, number: int) -> float:
    return flooded(seconds, number).due.quantile(0.99)


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
main(CASES, {"restart": "an actor that fails is gone"})
