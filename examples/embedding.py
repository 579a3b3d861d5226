"""Actors in a trio program: a typed protocol, one actor, tell and ask.

python examples/embedding.py
"""

import attrs
import trio

from relay.actors import Actor, Ask, Context, Tell, open_system


class Counting:
    """The protocol. `Ref[Counting]` accepts the messages below and nothing else; mypy knows what an ask returns."""


@attrs.frozen
class Add(Tell[Counting]):
    amount: int


@attrs.frozen
class Total(Ask[Counting, int]):
    pass


class Counter(Actor[Counting]):
    """One message at a time: `total` needs no lock."""

    def __init__(self) -> None:
        self.total = 0

    def handle(self, message: Add | Total, context: Context[Counting]) -> None:
        match message:
            case Add(amount):
                self.total += amount
            case Total():
                context.reply(message, self.total)


async def main() -> None:
    async with open_system() as system:
        counter = await system.spawn(Counter, name="counter")
        for amount in (1, 2, 3):
            counter.tell(Add(amount))  # never waits; raises MailboxFull when the actor cannot keep up
        with trio.fail_after(1):  # the caller's scope is the timeout
            total = await counter.ask(Total())
        print("total", total)


if __name__ == "__main__":
    trio.run(main)
