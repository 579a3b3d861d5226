"""One actor: a protocol of messages, the actor that handles them one at a time, and how to talk to it.

python examples/hello.py
"""

import attrs
import trio

from relay.actors import Actor, Ask, Context, Ref, Tell, open_system


class Greeting:
    """The protocol. A `Ref[Greeting]` takes the two messages below and no other."""


@attrs.frozen
class Greet(Ask[Greeting, str]):
    """Answered with a `str`; mypy and pyright know."""

    name: str


@attrs.frozen
class Use(Tell[Greeting]):
    """A message without an answer."""

    phrase: str


class Greeter(Actor[Greeting]):
    def __init__(self, phrase: str) -> None:
        self.phrase = phrase
        self.greeted = 0  # needs no lock: nobody else can reach it

    def handle(self, message: Greet | Use, context: Context[Greeting]) -> None:
        match message:
            case Greet(name):
                self.greeted += 1
                context.reply(message, f"{self.phrase}, {name}! You are number {self.greeted}.")
            case Use(phrase):
                self.phrase = phrase


async def main() -> None:
    async with open_system() as system:  # leaving the block stops every actor in it
        greeter: Ref[Greeting] = await system.spawn(Greeter, "Hello", name="greeter")
        print(await greeter.ask(Greet("Ada")))
        greeter.tell(Use("Bonjour"))  # does not wait
        with trio.fail_after(1):  # the time limit of an ask is the scope around it
            print(await greeter.ask(Greet("Blaise")))


if __name__ == "__main__":
    trio.run(main)
