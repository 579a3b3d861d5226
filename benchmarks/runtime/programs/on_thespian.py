"""The cases on thespian, with the system base that runs all actors in the process that calls: its fastest."""

from datetime import timedelta
from typing import Any

from harness import BURST, Count, Growth, Hop, Last, Latch, Repeat, Total, main
from thespian.actors import Actor, ActorExitRequest, ActorSystem

LIMIT = timedelta(seconds=30)


class Counter(Actor):
    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def receiveMessage(self, message: Any, sender: Any) -> None:  # noqa: N802 - thespian calls it so
        match message:
            case Count():
                self.total += 1
            case Total():
                self.send(sender, self.total)
            case Last():
                self.total += 1
                message.latch.arrive()


class Node(Actor):
    following: Any
    home: Latch

    def receiveMessage(self, message: Any, sender: Any) -> None:  # noqa: N802 - thespian calls it so
        if isinstance(message, tuple):
            self.home, self.following = message
        elif not isinstance(message, Hop):
            return
        elif message.left:
            self.send(self.following, Hop(message.left - 1))
        else:
            self.home.arrive()


system = ActorSystem("simpleSystemBase", logDefs={"version": 1, "disable_existing_loggers": True})


def spawn(number: int) -> list[Any]:
    return [system.createActor(Counter) for _ in range(number)]


def tell(seconds: float, number: int) -> float:
    actors = spawn(number)
    burst = actors * (BURST // number)
    repeat = Repeat(seconds)
    for count in repeat:
        for _ in range(count // BURST - 1):
            for actor in burst:
                system.tell(actor, Count())
        for actor in burst[number:]:
            system.tell(actor, Count())
        done: list[bool] = []
        latch = Latch(number, lambda done=done: done.append(True))
        for actor in actors:
            system.tell(actor, Last(latch))
        assert done
    assert sum(system.ask(actor, Total(), LIMIT) for actor in actors) == repeat.sum
    return repeat.rate


def ask(seconds: float, number: int) -> float:
    (actor,) = spawn(1)
    repeat = Repeat(seconds)
    for count in repeat:
        for _ in range(count):
            system.ask(actor, Total(), LIMIT)
    return repeat.rate


def ring(seconds: float, number: int) -> float:
    done: list[bool] = []
    latch = Latch(1, lambda: done.append(True))
    nodes = [system.createActor(Node) for _ in range(number)]
    for node, following in zip(nodes, nodes[1:] + nodes[:1], strict=True):
        system.tell(node, (latch, following))
    repeat = Repeat(seconds)
    for count in repeat:
        done.clear()
        system.tell(nodes[0], Hop(count))
        while not done:
            system.tell(nodes[0], "go on")
    return repeat.rate


def spawn_stop(seconds: float, number: int) -> float:
    repeat = Repeat(seconds)
    for count in repeat:
        for _ in range(count // BURST):
            for actor in spawn(BURST):
                system.tell(actor, ActorExitRequest())
    return repeat.rate


def memory(seconds: float, number: int) -> float:
    growth = Growth()
    actors = spawn(number)
    return growth.per(len(actors))


def memory_used(seconds: float, number: int) -> float:
    growth = Growth()
    actors = spawn(number)
    latch = Latch(number)
    for actor in actors:
        system.tell(actor, Last(latch))
    return growth.per(len(actors))


CASES = {
    "tell": tell,
    "ask": ask,
    "ring": ring,
    "spawn_stop": spawn_stop,
    "memory": memory,
    "memory_used": memory_used,
}
ALONE = "in process, actors run only while one caller waits"
main(
    CASES,
    {
        "ask_at_once": ALONE,
        "restart": "an actor that fails goes on as it is",
        "ping": ALONE,
        "ping_due": ALONE,
    },
)
